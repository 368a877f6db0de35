//! Convolutions of any shape and options: gradients, parity on every instruction set, and errors.

use etude::cases::{Case, Input};
use etude::device::Cpu;
use etude::graph::{Graph, Var};
use etude::kernel::Elem;
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::conv2d::{ConvOptions2d, conv2d};
use etude::simd::Simd;
use proptest::prelude::*;
use std::sync::LazyLock;

type Device = Cpu<f32>;

/// One device for every instruction set that the processor has.
static DEVICES: LazyLock<Vec<(Simd, Device)>> =
    LazyLock::new(|| Simd::supported().map(|s| (s, Cpu::with_simd(2, s).unwrap())).collect());

/// An axis on which at least one output exists: input, taps, stride, padding, dilation.
fn axis(longest: usize) -> impl Strategy<Value = [usize; 5]> {
    (1..=longest, 1..6usize, 1..6usize, 0..8usize, 1..6usize).prop_map(
        |(mut input, taps, stride, padding, dilation)| {
            let reach = (taps - 1) * dilation + 1;
            input += reach.saturating_sub(input + 2 * padding);
            [input, taps, stride, padding, dilation]
        },
    )
}

/// Groups, input and output channels of each.
fn channels() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![
        (1..2usize, 1..6usize, 1..20usize),
        (1..4usize, 1..4usize, 1..4usize),
        (1..9usize, 1..2usize, 1..3usize)
    ]
    .prop_map(|(g, i, o)| [g, i, o])
}

fn inputs(x: &[usize], w: &[usize], bias: bool) -> Vec<Input> {
    let mut inputs = vec![Input::normal(1, x), Input::normal(2, w)];
    if bias {
        inputs.push(Input::normal(3, &[w[0]]));
    }
    inputs
}

fn case1d(batch: usize, [groups, ci, co]: [usize; 3], a: [usize; 5], bias: bool) -> Case {
    let [t, taps, stride, padding, dilation] = a;
    let options = ConvOptions1d { stride, padding, dilation, groups, ..Default::default() };
    let (x, w) = ([batch, ci * groups, t], [co * groups, ci, taps]);
    let name = format!("x{x:?} w{w:?} {options:?}");
    Case::new("conv1d", name, inputs(&x, &w, bias), move |g, v| {
        conv1d(g, v[0], v[1], v.get(2).copied(), options)
    })
}

fn case2d(batch: usize, [groups, ci, co]: [usize; 3], a: [[usize; 5]; 2], bias: bool) -> Case {
    let pair = |i: usize| [a[0][i], a[1][i]];
    let options =
        ConvOptions2d { stride: pair(2), padding: pair(3), dilation: pair(4), groups, ..Default::default() };
    let (x, w) = ([batch, ci * groups, a[0][0], a[1][0]], [co * groups, ci, a[0][1], a[1][1]]);
    let name = format!("x{x:?} w{w:?} {options:?}");
    Case::new("conv2d", name, inputs(&x, &w, bias), move |g, v| {
        conv2d(g, v[0], v[1], v.get(2).copied(), options)
    })
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let error = case.gradient_error().unwrap();
    prop_assert!(error <= 1e-6, "{}: gradient {error:e}", case.name);
    for (simd, device) in DEVICES.iter() {
        let (error, at) = case.parity(device).unwrap();
        // Sums of a few hundred terms; where all of them cancel, relative to less.
        prop_assert!(error <= 5e-6, "{} on {simd:?}: {error:e} at {at}", case.name);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv1d_of_any_shape(batch in 1..20usize, c in channels(), a in axis(60), bias: bool) {
        check(&case1d(batch, c, a, bias))?;
    }

    #[test]
    fn conv2d_of_any_shape(batch in 1..6usize, c in channels(), a in axis(14), b in axis(14), bias: bool) {
        check(&case2d(batch, c, [a, b], bias))?;
    }
}

/// What the oracle makes of `op` on the inputs: the output and the gradients of all but constants.
fn oracle(
    inputs: Vec<Input>,
    op: impl Fn(&mut Graph, &[Var]) -> etude::Result<Var> + Send + Sync + 'static,
) -> Vec<Vec<f64>> {
    // One name, hence one upstream gradient.
    let case = Case::new("conv", "identity", inputs, op);
    case.run(&Cpu::<f64>::new(1).unwrap()).unwrap().into_iter().map(|o| o.1).collect()
}

/// Groups are a dense weight with zeros between them.
#[test]
fn groups_are_blocks_of_a_dense_weight() {
    let (groups, ci, co, taps) = (3, 2, 4, 5);
    let grouped = Input::normal(2, &[groups * co, ci, taps]);
    let etude::cases::Data::Real(values) = grouped.data.clone() else { unreachable!() };
    let mut dense = vec![0.0; groups * co * groups * ci * taps];
    let place = |c: usize, i: usize, k: usize| (c * groups * ci + c / co * ci + i) * taps + k;
    for (at, &v) in values.iter().enumerate() {
        dense[place(at / taps / ci, at / taps % ci, at % taps)] = v;
    }
    let dense = Input::real(&[groups * co, groups * ci, taps], dense, etude::cases::Role::Grad);
    let x = || Input::normal(1, &[2, groups * ci, 17]);
    let o = ConvOptions1d { stride: 2, padding: 3, dilation: 2, ..Default::default() };
    let want = oracle(vec![x(), dense], move |g, v| conv1d(g, v[0], v[1], None, o));
    let got =
        oracle(vec![x(), grouped], move |g, v| conv1d(g, v[0], v[1], None, ConvOptions1d { groups, ..o }));
    assert!(etude::cases::relative(&got[0], &want[0]) < 1e-14);
    assert!(etude::cases::relative(&got[1], &want[1]) < 1e-14);
    let blocks: Vec<f64> =
        (0..values.len()).map(|at| want[2][place(at / taps / ci, at / taps % ci, at % taps)]).collect();
    assert!(etude::cases::relative(&got[2], &blocks) < 1e-14);
}

/// An image one row high, or one column wide, is a sequence.
#[test]
fn thin_images_are_sequences() {
    for groups in [1, 2] {
        let o = ConvOptions1d { stride: 3, padding: 4, dilation: 2, groups, ..Default::default() };
        let inputs =
            |x: &[usize], w: &[usize]| vec![Input::normal(1, x), Input::normal(2, w), Input::normal(3, &[6])];
        let ci = 4 / groups;
        let want = oracle(inputs(&[3, 4, 31], &[6, ci, 5]), move |g, v| conv1d(g, v[0], v[1], Some(v[2]), o));
        for across in [0, 1] {
            let pair = |along: usize, other: usize| if across == 0 { [other, along] } else { [along, other] };
            let two = ConvOptions2d {
                stride: pair(o.stride, 1),
                padding: pair(o.padding, 0),
                dilation: pair(o.dilation, 1),
                groups,
                ..Default::default()
            };
            let ([h, w], [kh, kw]) = (pair(31, 1), pair(5, 1));
            let got = oracle(inputs(&[3, 4, h, w], &[6, ci, kh, kw]), move |g, v| {
                conv2d(g, v[0], v[1], Some(v[2]), two)
            });
            for (got, want) in got.iter().zip(&want) {
                assert!(etude::cases::relative(got, want) < 1e-14);
            }
        }
    }
}

/// Taps so far apart that sixteen tiles do not fit in scratch: the f32 device's plain loops.
#[test]
fn taps_far_apart_are_right_too() {
    let far = 2_000_000;
    check(&case1d(1, [1, 1, 1], [10, 2, far, far - 3, far], true)).unwrap();
    check(&case2d(1, [1, 2, 1], [[3, 1, 1, 0, 1], [5, 2, far, far - 3, far]], true)).unwrap();
}

/// Records `op` on inputs of these shapes; its error's text.
fn refusal(shapes: &[&[usize]], op: impl Fn(&mut Graph, &[Var]) -> etude::Result<Var>) -> String {
    let mut g = Graph::new();
    let vars: Vec<Var> = shapes.iter().map(|s| g.temp(s)).collect();
    op(&mut g, &vars).expect_err("must be refused").to_string()
}

#[test]
fn what_does_not_fit_is_an_error_that_names_it() {
    let plain = ConvOptions1d::default();
    let try1d = |x: &[usize], w: &[usize], b: Option<&[usize]>, options: ConvOptions1d, wants: &str| {
        let shapes: Vec<&[usize]> = [x, w].into_iter().chain(b).collect();
        let text = refusal(&shapes, |g, v| conv1d(g, v[0], v[1], v.get(2).copied(), options));
        assert!(text.starts_with(&format!("conv1d: {wants}: ")), "{text}");
        if x.len() == 3 && w.len() == 3 && wants != "output" && !text.contains("2^32 - 1 elements") {
            assert!(text.contains(&format!("{x:?}")) && text.contains(&format!("{w:?}")), "{text}");
        }
    };
    let (x, w): (&[usize], &[usize]) = (&[2, 4, 9], &[6, 4, 3]);
    try1d(&[2, 4], w, None, plain, "x");
    try1d(x, &[6, 4], None, plain, "weight");
    try1d(x, &[6, 3, 3], None, plain, "weight");
    try1d(x, w, None, ConvOptions1d { groups: 2, ..plain }, "weight");
    try1d(x, w, None, ConvOptions1d { groups: 0, ..plain }, "groups");
    try1d(x, w, None, ConvOptions1d { groups: 3, ..plain }, "groups");
    try1d(x, &[6, 1, 3], None, ConvOptions1d { groups: 4, ..plain }, "groups");
    try1d(x, w, Some(&[5]), plain, "bias");
    try1d(x, w, Some(&[6, 1]), plain, "bias");
    try1d(x, w, None, ConvOptions1d { stride: 0, ..plain }, "stride");
    try1d(x, w, None, ConvOptions1d { dilation: 0, ..plain }, "dilation");
    try1d(x, w, None, ConvOptions1d { dilation: 5, ..plain }, "weight");
    try1d(x, &[6, 4, 10], None, plain, "weight");
    try1d(&[0, 4, 9], w, None, plain, "x");
    try1d(&[2, 4, 0], w, None, ConvOptions1d { padding: 5, ..plain }, "x");
    try1d(x, &[0, 4, 3], None, plain, "weight");
    try1d(x, &[6, 4, 0], None, plain, "weight");
    try1d(x, w, None, ConvOptions1d { padding: usize::MAX, ..plain }, "padding");
    try1d(x, w, None, ConvOptions1d { padding: 1 << 31, ..plain }, "padding");
    try1d(x, w, None, ConvOptions1d { dilation: usize::MAX, ..plain }, "weight");
    try1d(x, &[6, 4, 1], None, ConvOptions1d { dilation: 1 << 32, ..plain }, "dilation");
    try1d(x, w, None, ConvOptions1d { stride: usize::MAX, ..plain }, "stride");
    try1d(&[1 << 20, 1 << 10, 8], &[1, 1 << 10, 3], None, plain, "x");
    try1d(&[usize::MAX, 2, 8], &[1, 2, 3], None, plain, "x");
    try1d(&[1 << 20, 1, 9], &[1 << 12, 1, 1], None, plain, "output");

    let plain = ConvOptions2d::default();
    let try2d = |x: &[usize], w: &[usize], options: ConvOptions2d, wants: &str| {
        let text = refusal(&[x, w], |g, v| conv2d(g, v[0], v[1], None, options));
        assert!(text.starts_with(&format!("conv2d: {wants}: ")), "{text}");
    };
    let (x, w): (&[usize], &[usize]) = (&[2, 4, 9, 8], &[6, 4, 3, 2]);
    try2d(&[2, 4, 9], w, plain, "x");
    try2d(x, &[6, 4, 3], plain, "weight");
    try2d(x, &[6, 3, 3, 2], plain, "weight");
    try2d(x, &[6, 4, 3, 9], plain, "weight");
    try2d(x, &[6, 4, 10, 2], plain, "weight");
    try2d(x, w, ConvOptions2d { groups: 3, ..plain }, "groups");
    try2d(x, w, ConvOptions2d { stride: [1, 0], ..plain }, "stride");
    try2d(x, w, ConvOptions2d { dilation: [0, 1], ..plain }, "dilation");
    try2d(&[2, 4, 0, 8], w, plain, "x");
    try2d(x, w, ConvOptions2d { padding: [30_000, 30_000], ..plain }, "output");
}

/// Elements are what `bind` counts: an index buffer is no input.
#[test]
fn an_index_buffer_is_refused() {
    let device = Cpu::<f32>::new(1).unwrap();
    let device: &dyn etude::device::Device = &device;
    let mut g = Graph::new();
    let x = g.bind(&device.alloc(Elem::Index, 8).unwrap(), &[1, 1, 8]).unwrap();
    let w = g.temp(&[1, 1, 3]);
    assert!(conv1d(&mut g, x, w, None, ConvOptions1d::default()).is_err());
}
