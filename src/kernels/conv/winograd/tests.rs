//! Tiles against the f64 oracle, whether shapes make them worth it or not.

use super::plan::Plan;
use super::{bwd_w, bwd_x, fwd};
use crate::kernel::{Args, Binding, Kernel, Memory, Params, Real, Work};
use crate::kernels::conv::geometry::{Axis, Geometry};
use crate::kernels::conv::oracle;
use crate::kernels::conv1d;
use crate::simd::Simd;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The error of a result relative to what its terms could sum to at most.
const WORST: f64 = 1e-6;
/// The norm of the errors relative to that of the results.
const NORM: f64 = 2e-6;
/// Channels, so that a sum has sixteen terms: of two terms it may err by 1.2e-6, and results so few cancel in the norm.
const LEAST: usize = 8;

fn axis(input: usize, kernel: usize, padding: usize) -> Axis {
    Axis { input, output: input + 2 * padding + 1 - kernel, kernel, stride: 1, padding, dilation: 1 }
}

fn geometry(batch: usize, [cin, cout]: [usize; 2], axes: [Axis; 2], bias: bool) -> Geometry {
    Geometry { batch, groups: 1, cin, cout, axes, bias, exact: false, splits: 1 }
}

/// Calls a twin on `inputs` and an output.
fn call<F: Real>(
    bindings: &'static [Binding],
    inputs: &[&[F]],
    out: &mut [F],
    work: Work,
    twin: impl FnOnce(Args<'_, F>),
) {
    let mut memory: Vec<Memory> =
        inputs.iter().map(|v| Memory::new(v.as_ptr().cast_mut().cast(), v.len())).collect();
    memory.push(Memory::new(out.as_mut_ptr().cast(), out.len()));
    let params = Params::new(&[0u32; 1]);
    // SAFETY: inputs are read, `out` is written, and all outlive the call.
    twin(unsafe { Args::new(&params, bindings, &memory, work) });
}

/// Output, gradient of the input and of the weight, in f64 by the oracle.
fn plain(g: &Geometry, [x, w, b, dy]: [&[f64]; 4]) -> [Vec<f64>; 3] {
    let work = Work { threads: 1, simd: Simd::Portable };
    let [mut y, mut dx, mut dw] = [dy, x, w].map(|like| vec![f64::NAN; like.len()]);
    call(conv1d::FWD.bindings, &[x, w, b], &mut y, work, |args| oracle::fwd(args, g));
    call(conv1d::BWD_X.bindings, &[dy, w], &mut dx, work, |args| oracle::bwd_x(args, g));
    call(conv1d::BWD_W.bindings, &[x, dy, &[0.0]], &mut dw, work, |args| oracle::bwd_w(args, g));
    [y, dx, dw]
}

/// The same by tiles.
fn tiles(g: &Geometry, values: [&[f64]; 4], work: Work) -> [Vec<f32>; 3] {
    let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
    let [x, w, b, dy] = &values.map(narrow);
    let [mut y, mut dx, mut dw] = [dy, x, w].map(|like| vec![f32::NAN; like.len()]);
    let (along, against) = (Plan::along(g).expect("has tiles"), Plan::against(g).expect("has tiles"));
    call(conv1d::FWD.bindings, &[x, w, b], &mut y, work, |args| fwd(args, g, along));
    call(conv1d::BWD_X.bindings, &[dy, w], &mut dx, work, |args| bwd_x(args, against));
    call(conv1d::BWD_W.bindings, &[x, dy, &[0.0]], &mut dw, work, |args| bwd_w(args, along));
    [y, dx, dw]
}

/// `n` values: normal, about ten, of alternating signs, or one in `n` a thousand times as large.
fn values(seed: u64, n: usize, kind: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || (0..12).map(|_| f64::from(rng.random::<f32>())).sum::<f64>() - 6.0;
    let of = |(i, v): (usize, f64)| match kind {
        0 => v,
        1 => 10.0 + v,
        2 if i % 2 == 0 => v.abs(),
        2 => -v.abs(),
        _ if i < n.div_ceil(9) => 1000.0 * v,
        _ => v,
    };
    (0..n).map(|i| (i, normal())).map(of).map(|v| f64::from(v as f32)).collect()
}

/// Fails where tiles on any instruction set err more than [`WORST`] and [`NORM`].
fn check(g: &Geometry, kind: usize) -> Result<(), TestCaseError> {
    let [x, w, y] = g.elements();
    let x = values(1, x, kind);
    let [w, b, dy] = [(2, w), (3, g.channels()), (4, y)].map(|(seed, n)| values(seed, n, 0));
    let wants = plain(g, [&x, &w, &b, &dy]);
    // What each sum could be at most, were there no padding: a tile errs by all that it is made of.
    let largest = |v: &[f64]| v.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let taps = g.product(|a| a.kernel);
    let (mut of_y, mut of_dx, mut of_dw) = (vec![0.0; g.cout], vec![0.0; g.cin], vec![0.0; g.cout]);
    for (i, w) in w.iter().enumerate() {
        of_y[i / g.terms()] += largest(&x) * w.abs();
        of_dx[i / taps % g.cin] += largest(&dy) * w.abs();
    }
    for (i, dy) in dy.iter().enumerate() {
        of_dw[i / g.outputs() % g.cout] += largest(&x) * dy.abs();
    }
    for (y, b) in of_y.iter_mut().zip(&b).filter(|_| g.bias) {
        *y += b.abs();
    }
    for simd in Simd::supported() {
        let got = tiles(g, [&x, &w, &b, &dy], Work { threads: 1, simd });
        let bounds = [(&of_y, g.outputs()), (&of_dx, g.inputs()), (&of_dw, g.terms())];
        for (name, ((got, want), (bound, each))) in
            ["y", "dx", "dw"].into_iter().zip(got.iter().zip(&wants).zip(bounds))
        {
            let error = |i: usize| (f64::from(got[i]) - want[i]).abs();
            for i in 0..got.len() {
                let share = error(i) / bound[i / each % bound.len()];
                prop_assert!(share <= WORST, "{name} {i} of {g:?}, {kind}, on {simd:?}: {share:e}");
            }
            if kind == 0 {
                let norm = |of: &dyn Fn(usize) -> f64| (0..got.len()).map(|i| of(i).powi(2)).sum::<f64>();
                let relative = (norm(&error) / norm(&|i| want[i])).sqrt();
                prop_assert!(relative <= NORM, "{name} of {g:?} on {simd:?}: {relative:e}");
            }
        }
        let shared = tiles(g, [&x, &w, &b, &dy], Work { threads: 3, simd });
        prop_assert!(got == shared, "{g:?} on {simd:?}: other bits on more threads");
    }
    Ok(())
}

/// A kernel's taps, and padding to beyond what keeps the length.
fn taps(most: usize) -> impl Strategy<Value = (usize, usize)> {
    (1..=most).prop_flat_map(|k| (Just(k), 0..k + 2))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequences(
        batch in 1..5usize, c in (LEAST..40, LEAST..70), t in 22..150usize, (k, padding) in taps(7), bias: bool,
        kind in 0..4usize,
    ) {
        prop_assume!(k > 1);
        check(&geometry(batch, c.into(), [Axis::ONE, axis(t, k, padding)], bias), kind)?;
    }

    #[test]
    fn images(
        batch in 1..4usize, c in (LEAST..36, LEAST..36), (h, w) in (8..24usize, 8..24usize),
        (rows, columns) in (taps(5), taps(5)), bias: bool, kind in 0..4usize,
    ) {
        prop_assume!(rows.0 * columns.0 > 1);
        check(&geometry(batch, c.into(), [axis(h, rows.0, rows.1), axis(w, columns.0, columns.1)], bias), kind)?;
    }
}

/// Sums of fewer terms than the bound is of are never taken by tiles.
#[test]
fn short_sums_stay_plain() {
    for (few, many, k) in (1..LEAST).flat_map(|c| (2..8).map(move |k| (c, 4096, k))) {
        if few * k < 2 * LEAST {
            let of = |channels| geometry(64, channels, [Axis::ONE, axis(4096, k, 0)], false);
            assert!(Plan::forward(&of([few, many])).is_none(), "{few} channels, {k} taps");
            assert!(Plan::backward(&of([many, few])).is_none(), "{few} channels, {k} taps, backward");
        }
    }
}

/// Many tiles: several blocks, runs and shares, and rows that end early in one.
#[test]
fn many_blocks() {
    check(&geometry(3, [17, 50], [Axis::ONE, axis(611, 3, 1)], true), 0).unwrap();
    check(&geometry(2, [3, 5], [Axis::ONE, axis(3003, 5, 2)], true), 1).unwrap();
    check(&geometry(3, [33, 18], [axis(21, 3, 1), axis(47, 3, 1)], false), 0).unwrap();
    check(&geometry(1, [2, 3], [axis(6, 3, 1), axis(1201, 3, 0)], false), 2).unwrap();
}

/// What is no number shows wherever it should.
#[test]
fn what_is_no_number_is_not_lost() {
    let g = geometry(2, [18, 20], [Axis::ONE, axis(60, 5, 2)], true);
    let [x, w, y] = g.elements();
    for bad in [f64::NAN, f64::INFINITY] {
        let [mut x, w, b, dy] = [x, w, g.channels(), y].map(|n| values(5, n, 0));
        x[18 * 60 + 7 * 60 + 31] = bad;
        let wants = plain(&g, [&x, &w, &b, &dy]);
        let got = tiles(&g, [&x, &w, &b, &dy], Work { threads: 1, simd: Simd::best() });
        for i in [0, 2] {
            let lost = got[i].iter().zip(&wants[i]).filter(|(g, w)| g.is_finite() && !w.is_finite());
            assert_eq!(lost.count(), 0);
            assert!(wants[i].iter().any(|v| !v.is_finite()));
        }
        // The other sample's results are what they were.
        assert!(got[0][..20 * 60].iter().all(|v| v.is_finite()));
    }
}

/// The cost of a row counts the sum's operations, and the products of tiles where the CPU takes them.
#[test]
fn costs_say_which_form_runs() {
    let cost = |row: &Kernel, stride: u32, tf32: u32| {
        let (t, k, padding) = (512, 5, 2);
        let out = (t + 2 * padding - k) / stride + 1;
        (row.cost)(&Params::new(&conv1d::Conv1dParams {
            batch: 32,
            cin: 64,
            cout: 128,
            groups: 1,
            t,
            k,
            out,
            stride,
            padding,
            dilation: 1,
            bias: 0,
            splits: 1,
            tf32,
        }))
    };
    for row in [&conv1d::FWD, &conv1d::BWD_X, &conv1d::BWD_W] {
        let tiles = cost(row, 1, 0);
        assert_eq!(tiles.flops, 2 * 32 * 512 * 64 * 128 * 5);
        assert_eq!(tiles.cpu_flops, 2 * 32 * (512 / 4 * 8) * 64 * 128, "eight products for four outputs");
        assert_eq!(tiles.on_cpu().flops, tiles.cpu_flops);
        for plain in [cost(row, 3, 0), cost(row, 1, 2)] {
            assert_eq!(plain.cpu_flops, plain.flops);
        }
    }
}

/// Neither small shapes, nor such as have more channels than a task can hold, nor what asks for exact products have tiles.
#[test]
fn shapes_decide() {
    let wide = geometry(32, [64, 128], [Axis::ONE, axis(512, 5, 2)], true);
    let all = |g: &Geometry| [Plan::forward(g), Plan::backward(g), Plan::weights(g)].map(|p| p.is_some());
    assert_eq!(all(&wide), [true; 3]);
    assert_eq!(all(&geometry(32, [64, 64], [axis(56, 3, 1); 2], true)), [true; 3]);
    assert_eq!(all(&Geometry { exact: true, ..wide }), [false; 3]);
    let strided = Axis { stride: 3, output: 171, ..axis(512, 5, 2) };
    assert_eq!(all(&Geometry { axes: [Axis::ONE, strided], ..wide }), [false; 3]);
    let dilated = Axis { dilation: 2, output: 508, ..axis(512, 5, 2) };
    assert_eq!(all(&Geometry { axes: [Axis::ONE, dilated], ..wide }), [false; 3]);
    assert_eq!(all(&Geometry { groups: 2, ..wide }), [false; 3]);
    assert_eq!(all(&geometry(512, [4, 8], [Axis::ONE, axis(332, 7, 0)], true)), [false; 3]);
    assert_eq!(all(&geometry(32, [64, 128], [Axis::ONE, axis(512, 1, 0)], true)), [false; 3]);
    assert_eq!(all(&geometry(1, [64, 64], [Axis::ONE, axis(17, 5, 2)], true)), [false; 3]);
    // A block of tiles has all channels, which a gigabyte of scratch would be.
    assert_eq!(all(&geometry(32, [1 << 20, 64], [Axis::ONE, axis(512, 5, 2)], true)), [false; 3]);
}
