//! `conv1d` against etude's f64 oracle, finite differences and candle's own.

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::{close, gradient, normal, oracle, places, relative, tensor, tensor_at, values};
use etude::ops::conv1d as ops;
use etude_candle::{ConvOptions1d, conv1d};

/// Shapes of x and w, whether there is a bias, and the options.
type Case = ([usize; 3], [usize; 3], bool, ConvOptions1d);

fn cases() -> Vec<Case> {
    let plain = ConvOptions1d::default();
    vec![
        ([1, 1, 1], [1, 1, 1], false, plain),
        ([2, 3, 17], [5, 3, 3], true, plain),
        ([3, 2, 40], [4, 2, 7], false, ConvOptions1d { stride: 3, ..plain }),
        (
            [3, 4, 23],
            [6, 2, 5],
            true,
            ConvOptions1d { stride: 2, padding: 3, dilation: 2, groups: 2, ..plain },
        ),
        ([2, 4, 9], [4, 1, 3], false, ConvOptions1d { padding: 1, groups: 4, ..plain }),
    ]
}

/// x, w, b and the upstream gradient of a case.
fn data((x, w, _, options): &Case) -> [Vec<f64>; 4] {
    let reach = options.dilation * (w[2] - 1) + 1;
    let out = (x[2] + 2 * options.padding - reach) / options.stride + 1;
    let lens = [x.iter().product(), w.iter().product(), w[0], x[0] * w[0] * out];
    std::array::from_fn(|i| normal(i as u64, lens[i]))
}

#[test]
fn as_the_oracle() -> Result<()> {
    for case in cases() {
        let [x, w, b, dy] = data(&case);
        let (x_shape, w_shape, with_bias, options) = case;
        let b_shape = [w_shape[0]];
        let mut leaves: Vec<(&[f64], &[usize])> = vec![(&x, &x_shape), (&w, &w_shape)];
        if with_bias {
            leaves.push((&b, &b_shape));
        }
        let expected = oracle(&leaves, &[], Some(&dy), |g, leaves, _| {
            ops::conv1d(g, leaves[0], leaves[1], leaves.get(2).copied(), options)
        })
        .unwrap();

        for place in places()? {
            let vars = leaves.iter().map(|(v, s)| Var::from_tensor(&tensor_at(&place, v, s)?));
            let vars = vars.collect::<Result<Vec<_>>>()?;
            let y = conv1d(&vars[0], &vars[1], vars.get(2).map(|b| b.as_tensor()), options)?;
            let dy = tensor_at(&place, &dy, y.dims())?;
            let loss = (&y * &dy)?.sum_all()?;
            // f64 runs the oracle's own loops. In f32 at most 66 products are added, each within 2⁻²³.
            let tolerance = if place.1 == DType::F64 { 0.0 } else { 2e-6 };
            let what = format!("{case:?} {place:?}");
            assert_eq!(y.dtype(), place.1);
            close(&format!("y of {what}"), &values(&y)?, &expected[0], tolerance);
            for (i, var) in vars.iter().enumerate() {
                close(
                    &format!("gradient {i} of {what}"),
                    &gradient(&loss, var)?,
                    &expected[i + 1],
                    tolerance,
                );
            }
        }
    }
    Ok(())
}

#[test]
fn finite_differences() -> Result<()> {
    for case in cases() {
        let [x, w, b, _] = data(&case);
        let (x_shape, w_shape, with_bias, options) = case;
        let shapes: [&[usize]; 3] = [&x_shape, &w_shape, &[w_shape[0]]];
        let loss = |args: &[Tensor]| {
            conv1d(&args[0], &args[1], with_bias.then(|| &args[2]), options)?.sqr()?.sum_all()
        };
        let all = [x, w, b];
        let vars: Vec<Var> =
            all.iter().zip(shapes).map(|(v, s)| Var::from_tensor(&tensor(v, s)?)).collect::<Result<_>>()?;
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let gradients = loss(&tensors)?;
        for i in 0..if with_bias { 3 } else { 2 } {
            let gradient = gradient(&gradients, &vars[i])?;
            // The loss is a parabola in every argument: central differences are exact but for rounding.
            let h = 0.5;
            let difference = |at: usize| {
                let moved = |by: f64| {
                    let mut values = all[i].clone();
                    values[at] += by;
                    let mut args = tensors.clone();
                    args[i] = tensor(&values, shapes[i])?;
                    loss(&args)?.to_scalar::<f64>()
                };
                Result::Ok((moved(h)? - moved(-h)?) / (2.0 * h))
            };
            let differences = (0..all[i].len()).map(difference).collect::<Result<Vec<_>>>()?;
            close(&format!("argument {i} of {case:?}"), &gradient, &differences, 1e-12);
        }
    }
    Ok(())
}

/// candle's gradient by the weight is wrong on the CPU wherever the gradient that it is given has more than one sample and
/// channel: `conv1d` makes a contiguous copy of a transposed kernel and then does not use it
/// (<https://github.com/huggingface/candle/pull/3836>, <https://github.com/huggingface/candle/pull/3758>). When the last
/// assertion here falls, candle is repaired: turn it round.
#[test]
fn right_where_candle_is_wrong() -> Result<()> {
    let case: Case = ([2, 2, 8], [2, 2, 3], false, ConvOptions1d::default());
    let [x, w, _, dy] = data(&case);
    let (x_shape, w_shape, _, options) = case;
    let leaves: &[(&[f64], &[usize])] = &[(&x, &x_shape), (&w, &w_shape)];
    let expected =
        oracle(leaves, &[], Some(&dy), |g, l, _| ops::conv1d(g, l[0], l[1], None, options)).unwrap();

    let (x, w) = (tensor(&x, &x_shape)?, Var::from_tensor(&tensor(&w, &w_shape)?)?);
    let [ours, theirs] = [conv1d(&x, &w, None, options)?, x.conv1d(&w, 0, 1, 1, 1)?];
    close("forward", &values(&ours)?, &values(&theirs)?, 1e-14);
    let by_w = |y: Tensor| gradient(&(&y * tensor(&dy, y.dims())?)?.sum_all()?, &w);
    close("our gradient", &by_w(ours)?, &expected[2], 0.0);
    let error = relative(&by_w(theirs)?, &expected[2]);
    assert!(error > 0.1, "candle's gradient by the weight is right now, within {error:e}");
    Ok(())
}

#[test]
fn constants_get_no_gradient() -> Result<()> {
    let (x, w) =
        (tensor(&normal(1, 18), &[1, 2, 9])?, Var::from_tensor(&tensor(&normal(2, 6), &[1, 2, 3])?)?);
    let gradients = conv1d(&x, &w, None, ConvOptions1d::default())?.backward()?;
    assert!(gradients.get(&w).is_some() && gradients.get(&x).is_none());
    Ok(())
}

#[test]
fn strides_and_offsets() -> Result<()> {
    let options = ConvOptions1d { padding: 1, ..Default::default() };
    // Time outermost, channels innermost, and one sample more than the convolution sees.
    let seen = |base: &Tensor| base.permute((1, 2, 0))?.narrow(0, 1, 3);
    for place in places()? {
        let at = |values: &[f64], shape: &[usize]| tensor_at(&place, values, shape);
        let base = Var::from_tensor(&at(&normal(1, 10 * 4 * 3), &[10, 4, 3])?)?;
        let w = Var::from_tensor(&at(&normal(2, 3 * 3 * 5), &[3, 5, 3])?)?;
        let strided = conv1d(&seen(&base)?, &w.permute((1, 0, 2))?, None, options)?;
        let x_copy = Var::from_tensor(&seen(&base)?.copy()?)?;
        let w_copy = Var::from_tensor(&w.permute((1, 0, 2))?.copy()?)?;
        let plain = conv1d(&x_copy, &w_copy, None, options)?;
        assert_eq!(values(&strided)?, values(&plain)?);

        // A gradient that comes transposed, and one that is one number for all.
        let transposed = at(&normal(3, 3 * 5 * 10), &[10, 5, 3])?.permute((2, 1, 0))?;
        for upstream in [transposed, at(&[2.0], &[1, 1, 1])?] {
            let loss = |y: &Tensor| y.broadcast_mul(&upstream)?.sum_all();
            let (strided, plain) = (loss(&strided)?, loss(&plain)?);
            let by_base = tensor(&gradient(&strided, &base)?, &[10, 4, 3])?;
            assert_eq!(values(&seen(&by_base)?.contiguous()?)?, gradient(&plain, &x_copy)?);
            let by_w = tensor(&gradient(&strided, &w)?, &[3, 5, 3])?;
            assert_eq!(values(&by_w.permute((1, 0, 2))?.contiguous()?)?, gradient(&plain, &w_copy)?);
        }
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let of = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu);
    let (x, w) = (of(&[2, 4, 9], DType::F32)?, of(&[6, 4, 3], DType::F32)?);
    let plain = ConvOptions1d::default;
    refused(conv1d(&of(&[2, 4, 9], DType::BF16)?, &w, None, plain()), &["x", "BF16", "F32, F64", "to_dtype"]);
    refused(conv1d(&x, &of(&[6, 4, 3], DType::F64)?, None, plain()), &["weight", "F64", "F32"]);
    refused(conv1d(&x, &w, Some(&of(&[6], DType::U8)?), plain()), &["bias", "U8", "F32"]);
    refused(
        conv1d(&of(&[4, 9], DType::F32)?, &w, None, plain()),
        &["x", "[batch, channels, time]", "[4, 9]"],
    );
    refused(conv1d(&x, &of(&[6, 4], DType::F32)?, None, plain()), &["weight", "taps", "[6, 4]"]);
    refused(conv1d(&x, &of(&[6, 3, 3], DType::F32)?, None, plain()), &["weight", "[2, 4, 9]", "[6, 3, 3]"]);
    refused(conv1d(&x, &w, Some(&of(&[5], DType::F32)?), plain()), &["bias", "[5]", "[6]"]);
    refused(conv1d(&x, &w, None, ConvOptions1d { stride: 0, ..plain() }), &["stride", "at least 1"]);
    refused(conv1d(&x, &w, None, ConvOptions1d { groups: 3, ..plain() }), &["groups", "3"]);
    refused(conv1d(&x, &of(&[6, 4, 10], DType::F32)?, None, plain()), &["weight", "10 taps", "9 positions"]);
    refused(conv1d(&of(&[0, 4, 9], DType::F32)?, &w, None, plain()), &["x", "empty"]);
    Ok(())
}

#[track_caller]
fn refused(result: Result<Tensor>, words: &[&str]) {
    let message = result.expect_err("must be refused").to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{words:?} not all in: {message}");
}
