//! The loss against etude's f64 oracle and finite differences, through candle's autograd.

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::{Place, close, gradient, normal, oracle, places, tensor, tensor_at, values};
use etude::ops::contrastive as ops;
use etude_candle::{ContrastiveOptions, Metric, Samples, contrastive, contrastive_cross};

const N: usize = 37;
const M: usize = 21;
const D: usize = 5;

/// Ratings in five bins, some rows alike.
fn labels(n: usize) -> Vec<f64> {
    (0..n).map(|i| (i * 7 % 5) as f64).collect()
}

/// Weights of which some are 0.
fn weights(n: usize) -> Vec<f64> {
    (0..n).map(|i| (i % 4) as f64 * 0.5).collect()
}

fn options(metric: Metric) -> ContrastiveOptions {
    ContrastiveOptions { metric, margin: 0.5, ..Default::default() }
}

/// f64 runs the oracle's own loops, and times an upstream of 1 nothing is rounded. In f32 each of the 700 terms is within a
/// few 2⁻²⁴, and in the gradient they partly cancel.
fn tolerance((_, dtype): &Place) -> f64 {
    if *dtype == DType::F64 { 0.0 } else { 2e-6 }
}

#[test]
fn all_pairs_as_the_oracle() -> Result<()> {
    let (z, labels, weights) = (normal(1, N * D), labels(N), weights(N));
    for (place, metric, weighted) in cases()? {
        let constants: &[(&[f64], &[usize])] = &[(&labels, &[N]), (&weights, &[N])];
        let expected = oracle(&[(&z, &[N, D])], constants, None, |g, leaves, constants| {
            let facts = match weighted {
                false => constants[0].into(),
                true => ops::Labels::weighted(constants[0], constants[1]),
            };
            ops::contrastive(g, leaves[0], facts, options(metric))
        })
        .unwrap();

        let z = Var::from_tensor(&tensor_at(&place, &z, &[N, D])?)?;
        let (labels, weights) = (tensor_at(&place, &labels, &[N])?, tensor_at(&place, &weights, &[N])?);
        let samples = Samples::new(&z, &labels);
        let samples = if weighted { samples.weighted(&weights) } else { samples };
        let loss = contrastive(samples, options(metric))?;
        assert_eq!((loss.dims(), loss.dtype()), (&[][..], place.1));
        let what = format!("{place:?} {metric:?} weighted {weighted}");
        close(&what, &values(&loss)?, &expected[0], tolerance(&place));
        close(&what, &gradient(&loss, &z)?, &expected[1], tolerance(&place));
    }
    Ok(())
}

#[test]
fn cross_pairs_as_the_oracle() -> Result<()> {
    let (z, others) = (normal(1, N * D), normal(2, M * D));
    let facts = [labels(N), weights(N), labels(M), weights(M)];
    for (place, metric, weighted) in cases()? {
        let constants: Vec<(&[f64], &[usize])> =
            facts.iter().zip([&[N], &[N], &[M], &[M]]).map(|(f, s)| (&f[..], &s[..])).collect();
        let leaves: &[(&[f64], &[usize])] = &[(&z, &[N, D]), (&others, &[M, D])];
        let expected = oracle(leaves, &constants, None, |g, leaves, constants| {
            let of_z = match weighted {
                false => constants[0].into(),
                true => ops::Labels::weighted(constants[0], constants[1]),
            };
            let of_o = ops::Labels::weighted(constants[2], constants[3]);
            ops::contrastive_cross(g, leaves[0], of_z, leaves[1], of_o, options(metric))
        })
        .unwrap();

        let [z, others] = [(&z, N), (&others, M)]
            .map(|(values, rows)| Var::from_tensor(&tensor_at(&place, values, &[rows, D])?));
        let (z, others) = (z?, others?);
        let facts = facts.iter().map(|f| tensor_at(&place, f, &[f.len()]));
        let facts = facts.collect::<Result<Vec<_>>>()?;
        let samples = Samples::new(&z, &facts[0]);
        let samples = if weighted { samples.weighted(&facts[1]) } else { samples };
        let loss = contrastive_cross(
            samples,
            Samples::new(&others, &facts[2]).weighted(&facts[3]),
            options(metric),
        )?;
        let what = format!("{place:?} {metric:?} weighted {weighted}");
        close(&what, &values(&loss)?, &expected[0], tolerance(&place));
        close(&what, &gradient(&loss, &z)?, &expected[1], tolerance(&place));
        close(&what, &gradient(&loss, &others)?, &expected[2], tolerance(&place));
    }
    Ok(())
}

type Case = (Place, Metric, bool);

/// Every place with every metric, without weights and with them.
fn cases() -> Result<Vec<Case>> {
    let options =
        [Metric::Euclidean, Metric::Cosine].map(|metric| [false, true].map(|weighted| (metric, weighted)));
    let of = |place: Place| {
        options.into_iter().flatten().map(move |(metric, weighted)| (place.clone(), metric, weighted))
    };
    Ok(places()?.into_iter().flat_map(of).collect())
}

#[test]
fn finite_differences() -> Result<()> {
    let (values_z, labels) = (normal(3, N * D), tensor(&labels(N), &[N])?);
    let loss = |z: &Tensor| contrastive(Samples::new(z, &labels), options(Metric::Euclidean));
    let z = Var::from_tensor(&tensor(&values_z, &[N, D])?)?;
    let gradient = gradient(&loss(&z)?, &z)?;
    // The loss bends only where a negative pair is exactly at its margin: central differences are right to some h² = 1e-10.
    let h = 1e-5;
    for at in 0..N * D {
        let moved = |by: f64| {
            let mut values = values_z.clone();
            values[at] += by;
            loss(&tensor(&values, &[N, D])?)?.to_scalar::<f64>()
        };
        let difference = (moved(h)? - moved(-h)?) / (2.0 * h);
        assert!((difference - gradient[at]).abs() < 1e-8, "{at}: {difference} against {}", gradient[at]);
    }
    Ok(())
}

/// The gradient goes on through candle's ops below the loss, and what comes from above multiplies it.
#[test]
fn a_link_of_a_chain() -> Result<()> {
    let labels = tensor(&labels(N), &[N])?;
    let x = tensor(&normal(4, N * 3), &[N, 3])?;
    let w = Var::from_tensor(&tensor(&normal(5, 3 * D), &[3, D])?)?;
    let total = |w: &Tensor| {
        let z = x.matmul(w)?;
        let euclidean = contrastive(Samples::new(&z, &labels), options(Metric::Euclidean))?;
        let cosine = contrastive(Samples::new(&z, &labels), options(Metric::Cosine))?;
        (euclidean * 3.0)? + cosine.sqr()?
    };
    let gradient = gradient(&total(&w)?, &w)?;
    let h = 1e-5;
    for (at, gradient) in gradient.iter().enumerate() {
        let moved = |by: f64| {
            let mut values = values(&w)?;
            values[at] += by;
            total(&tensor(&values, &[3, D])?)?.to_scalar::<f64>()
        };
        let difference = (moved(h)? - moved(-h)?) / (2.0 * h);
        assert!((difference - gradient).abs() < 1e-8, "{at}: {difference} against {gradient}");
    }
    Ok(())
}

#[test]
fn the_gradient_is_that_of_the_values_that_made_the_loss() -> Result<()> {
    let labels = tensor(&labels(N), &[N])?;
    let z = Var::from_tensor(&tensor(&normal(6, N * D), &[N, D])?)?;
    let loss = |z: &Tensor| contrastive(Samples::new(z, &labels), options(Metric::Euclidean));
    let expected = gradient(&loss(&z)?, &z)?;
    let first = loss(&z)?;
    z.set(&tensor(&normal(7, N * D), &[N, D])?)?;
    let second = loss(&z)?;
    assert_eq!(gradient(&first, &z)?, expected);
    assert_ne!(gradient(&second, &z)?, expected);
    assert_eq!(gradient(&first, &z)?, expected, "backward may be called again");
    Ok(())
}

#[test]
fn rows_at_distance_zero_have_finite_gradients() -> Result<()> {
    for place in places()? {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            // Two equal rows and two rows of zeros, in one bin and in different ones.
            let z = [1.0, 2.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0];
            let z = Var::from_tensor(&tensor_at(&place, &z, &[5, 2])?)?;
            let labels = tensor_at(&place, &[0.0, 0.0, 1.0, 2.0, 3.0], &[5])?;
            let loss = contrastive(Samples::new(&z, &labels), options(metric))?;
            let all = [values(&loss)?, gradient(&loss, &z)?].concat();
            assert!(all.iter().all(|v| v.is_finite()), "{place:?} {metric:?}: {all:?}");
        }
    }
    Ok(())
}

#[test]
fn constants_get_no_gradient() -> Result<()> {
    let (z, bank) =
        (Var::from_tensor(&tensor(&normal(9, N * D), &[N, D])?)?, tensor(&normal(10, M * D), &[M, D])?);
    let (of_z, of_bank) = (tensor(&labels(N), &[N])?, tensor(&labels(M), &[M])?);
    let (samples, others) = (Samples::new(&z, &of_z), Samples::new(&bank, &of_bank));
    let gradients = contrastive_cross(samples, others, options(Metric::Euclidean))?.backward()?;
    assert!(gradients.get(&z).is_some() && gradients.get(&bank).is_none());
    Ok(())
}

#[test]
fn strides_and_offsets() -> Result<()> {
    let loss = |z: &Tensor, labels: &Tensor| contrastive(Samples::new(z, labels), options(Metric::Euclidean));
    // One column more on the left and one row more on top than the loss sees, and transposed.
    let seen = |base: &Tensor| base.t()?.narrow(0, 1, N)?.narrow(1, 1, D);
    for place in places()? {
        let at = |values: &[f64], shape: &[usize]| tensor_at(&place, values, shape);
        let base = Var::from_tensor(&at(&normal(8, (N + 1) * (D + 1)), &[D + 1, N + 1])?)?;
        let plain_labels = at(&labels(N), &[N])?;
        let strided_labels =
            Tensor::stack(&[&plain_labels, &plain_labels], 1)?.narrow(1, 0, 1)?.squeeze(1)?;
        assert!(!strided_labels.is_contiguous());

        let copy = Var::from_tensor(&seen(&base)?.copy()?)?;
        let (plain, strided) = (loss(&copy, &plain_labels)?, loss(&seen(&base)?, &strided_labels)?);
        assert_eq!(values(&plain)?, values(&strided)?);
        let strided = tensor(&gradient(&strided, &base)?, &[D + 1, N + 1])?;
        assert_eq!(gradient(&plain, &copy)?, values(&seen(&strided)?.contiguous()?)?);

        // Contiguous, but not at the start of its storage.
        let rows = Tensor::cat(&[at(&[9.0; D], &[1, D])?, copy.copy()?], 0)?.narrow(0, 1, N)?;
        assert!(rows.is_contiguous());
        assert_eq!(values(&loss(&rows, &plain_labels)?)?, values(&plain)?);
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let z = Tensor::zeros((4, 3), DType::F32, &Device::Cpu)?;
    let labels = Tensor::zeros(4, DType::F32, &Device::Cpu)?;
    let of = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu);
    let defaults = ContrastiveOptions::default;
    let all = |samples: Samples<'_>| contrastive(samples, defaults());
    let cross = |others: Samples<'_>| contrastive_cross(Samples::new(&z, &labels), others, defaults());

    refused(
        all(Samples::new(&of(&[4, 3], DType::F16)?, &labels)),
        &["embeddings", "F16", "F32, F64", "to_dtype"],
    );
    refused(all(Samples::new(&of(&[4], DType::F32)?, &labels)), &["embeddings", "[rows, columns]", "[4]"]);
    refused(all(Samples::new(&z, &of(&[4], DType::U32)?)), &["labels", "U32", "F32", "to_dtype"]);
    refused(all(Samples::new(&z, &of(&[4, 1], DType::F32)?)), &["labels", "[rows]", "[4, 1]"]);
    refused(all(Samples::new(&z, &of(&[5], DType::F32)?)), &["labels", "5", "[4, 3]"]);
    refused(all(Samples::new(&z, &labels).weighted(&of(&[3], DType::F32)?)), &["weights", "3", "[4, 3]"]);
    refused(all(Samples::new(&z, &labels).weighted(&of(&[4], DType::F64)?)), &["weights", "F64", "F32"]);
    refused(
        all(Samples::new(&of(&[1, 3], DType::F32)?, &of(&[1], DType::F32)?)),
        &["embeddings", "two rows"],
    );
    refused(all(Samples::new(&of(&[0, 3], DType::F32)?, &of(&[0], DType::F32)?)), &["embeddings", "[0, 3]"]);
    refused(all(Samples::new(&of(&[4, 0], DType::F32)?, &labels)), &["embeddings", "[4, 0]"]);
    refused(
        cross(Samples::new(&of(&[2, 4], DType::F32)?, &of(&[2], DType::F32)?)),
        &["others", "[2, 4]", "[4, 3]"],
    );
    refused(
        cross(Samples::new(&of(&[2, 3], DType::F64)?, &of(&[2], DType::F64)?)),
        &["others' embeddings", "F64", "F32"],
    );
    refused(
        cross(Samples::new(&of(&[2, 3], DType::F32)?, &of(&[3], DType::F32)?)),
        &["others' labels", "3", "[2, 3]"],
    );
    refused(
        contrastive(Samples::new(&z, &labels), ContrastiveOptions { margin: 0.0, ..defaults() }),
        &["margin", "positive"],
    );
    Ok(())
}

#[track_caller]
fn refused(result: Result<Tensor>, words: &[&str]) {
    let message = result.expect_err("must be refused").to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{words:?} not all in: {message}");
}
