//! Similarity matrices beyond the case table: every kind at random shapes against a plain definition, on
//! every instruction set; corners; one value on both sides; and what is refused.

use etude::Error;
use etude::cases::{normal, relative};
use etude::device::{Cpu, Device};
use etude::graph::{Graph, Var};
use etude::kernels::Elem;
use etude::kernels::simd::Simd;
use etude::ops::similarity::{Similarity, similarity};
use proptest::prelude::*;

const KINDS: [Similarity; 4] =
    [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean];

fn devices() -> impl Iterator<Item = (Simd, [Cpu<f32>; 2])> {
    [Simd::Portable, Simd::Avx2, Simd::Avx512]
        .into_iter()
        .filter(|s| s.is_supported())
        .map(|s| (s, [1, 2].map(|threads| Cpu::with_simd(threads, s).unwrap())))
}

/// Output and both gradients for the upstream `dy`.
fn run(device: &dyn Device, kind: Similarity, d: usize, a: &[f64], b: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
    let (n, m) = (a.len() / d, b.len() / d);
    let mut g = Graph::new();
    let av = g.leaf(&device.upload(a).unwrap(), None, &[n, d]).unwrap();
    let bv = g.leaf(&device.upload(b).unwrap(), None, &[m, d]).unwrap();
    let up = g.bind(&device.upload(dy).unwrap(), &[n, m]).unwrap();
    let y = similarity(&mut g, av, bv, kind).unwrap();
    g.backward_from(y, up).unwrap();
    let keep = [y, g.grad(av).unwrap(), g.grad(bv).unwrap()];
    let mut step = g.compile(device, &keep).unwrap();
    step.poison(device).unwrap();
    step.run().unwrap();
    keep.map(|v| device.download_f64(step.buf(v).unwrap()).unwrap())
}

/// One entry, as the definition says it.
fn entry(kind: Similarity, a: &[f64], b: &[f64]) -> f64 {
    let sum = |f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(&a, &b)| f(a, b)).sum::<f64>();
    match kind {
        Similarity::Dot => sum(|a, b| a * b),
        Similarity::Cosine => {
            let norms = sum(|a, _| a * a).sqrt() * sum(|_, b| b * b).sqrt();
            if norms > 0.0 { sum(|a, b| a * b) / norms } else { 0.0 }
        }
        Similarity::SquaredEuclidean => sum(|a, b| (a - b).powi(2)),
        Similarity::Euclidean => sum(|a, b| (a - b).powi(2)).sqrt(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..Default::default() })]

    #[test]
    fn every_kind_matches_its_definition(
        n in 1usize..110, m in 1usize..110, d in 1usize..150, kind in 0usize..4, seed in any::<u32>(),
    ) {
        let kind = KINDS[kind];
        let seed = u64::from(seed);
        let (a, b, dy) = (normal(seed, n * d), normal(seed + 1, m * d), normal(seed + 2, n * m));
        let exact = run(&Cpu::<f64>::new(1).unwrap(), kind, d, &a, &b, &dy);
        let want: Vec<f64> = a
            .chunks(d)
            .flat_map(|a| b.chunks(d).map(move |b| entry(kind, a, b)))
            .collect();
        prop_assert!(relative(&exact[0], &want) < 1e-12);
        for (simd, [one, two]) in devices() {
            let got = run(&one, kind, d, &a, &b, &dy);
            prop_assert_eq!(&got, &run(&two, kind, d, &a, &b, &dy), "threads change bits");
            for (what, (got, want)) in ["y", "da", "db"].iter().zip(got.iter().zip(&exact)) {
                let off = relative(got, want);
                // A cosine in one dimension is ±1: its gradient is 0 but for rounding.
                let floor = want.iter().map(|v| v * v).sum::<f64>().sqrt() < 1e-9;
                let tolerance = if d == 1 { 1e-4 } else { 1e-5 };
                prop_assert!(off < tolerance || floor, "{simd:?} {kind:?} {what}: {off:e}");
            }
        }
    }
}

#[test]
fn zero_duplicate_and_near_rows_have_the_defined_gradient() {
    let (n, d) = (60, 9);
    for spread in [0.0, 1e-6, 1e-3] {
        let (mut a, noise) = (normal(1, n * d), normal(2, n * d));
        a[..2 * d].fill(0.0);
        a.iter_mut().for_each(|v| *v = f64::from(*v as f32));
        let b: Vec<f64> = a.iter().zip(&noise).map(|(a, e)| f64::from((a + spread * e) as f32)).collect();
        // Only near pairs count.
        let dy: Vec<f64> = (0..n * n).map(|e| if e / n == e % n { 1.0 } else { 0.0 }).collect();
        for kind in KINDS {
            if kind == Similarity::Cosine && spread > 0.0 {
                continue; // nothing but rounding: a cosine is flat where rows are parallel
            }
            let want = run(&Cpu::<f64>::new(1).unwrap(), kind, d, &a, &b, &dy);
            assert!(want.iter().flatten().all(|v| v.is_finite()));
            for (simd, [device, _]) in devices() {
                let got = run(&device, kind, d, &a, &b, &dy);
                for (what, (got, want)) in ["y", "da", "db"].iter().zip(got.iter().zip(&want)) {
                    let off: f64 = got.iter().zip(want).map(|(g, w)| (g - w).powi(2)).sum::<f64>().sqrt();
                    let norm: f64 = want.iter().map(|w| w * w).sum::<f64>().sqrt();
                    // Where these are smooth their gradient vanishes with the distance, and what is left is
                    // the rounding of rows about 1 long.
                    let smooth = matches!(kind, Similarity::Cosine | Similarity::SquaredEuclidean);
                    let floor = if smooth && *what != "y" { 2e-6 } else { 0.0 };
                    assert!(
                        off <= 1e-3 * norm + floor,
                        "{simd:?} {kind:?} {spread:e} {what}: {off:e} of {norm:e}"
                    );
                }
            }
        }
    }
}

/// The gradient of one value on both sides is the sum of the two sides' gradients, also in a leaf's own memory.
#[test]
fn one_value_on_both_sides() {
    let device = Cpu::<f64>::new(1).unwrap();
    let device: &dyn Device = &device;
    let (n, d) = (11, 5);
    let (z, dy) = (normal(1, n * d), normal(2, n * n));
    for kind in KINDS {
        let [_, da, db] = run(device, kind, d, &z, &z, &dy);
        let want: Vec<f64> = da.iter().zip(&db).map(|(a, b)| a + b).collect();
        for own in [false, true] {
            let home = device.alloc(Elem::Real, n * d).unwrap();
            let mut g = Graph::new();
            let zv = g.leaf(&device.upload(&z).unwrap(), own.then_some(&home), &[n, d]).unwrap();
            let up = g.bind(&device.upload(&dy).unwrap(), &[n, n]).unwrap();
            let y = similarity(&mut g, zv, zv, kind).unwrap();
            g.backward_from(y, up).unwrap();
            let dz = g.grad(zv).unwrap();
            let mut step = g.compile(device, &[dz]).unwrap();
            step.poison(device).unwrap();
            step.run().unwrap();
            let got = device.download_f64(if own { &home } else { step.buf(dz).unwrap() }).unwrap();
            assert!(relative(&got, &want) < 1e-14, "{kind:?} own memory: {own}");
        }
    }
}

/// A constant side takes no gradient and is in nobody's way.
#[test]
fn one_side_constant() {
    let device = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &device;
    let (a, b, dy) = (normal(1, 12), normal(2, 8), normal(3, 6));
    for kind in KINDS {
        let [_, da, _] = run(device, kind, 4, &a, &b, &dy);
        let mut g = Graph::new();
        let av = g.leaf(&device.upload(&a).unwrap(), None, &[3, 4]).unwrap();
        let bv = g.bind(&device.upload(&b).unwrap(), &[2, 4]).unwrap();
        let up = g.bind(&device.upload(&dy).unwrap(), &[3, 2]).unwrap();
        let y = similarity(&mut g, av, bv, kind).unwrap();
        g.backward_from(y, up).unwrap();
        assert!(g.grad(bv).is_none());
        let grad = g.grad(av).unwrap();
        let mut step = g.compile(device, &[grad]).unwrap();
        step.run().unwrap();
        assert_eq!(device.download_f64(step.buf(grad).unwrap()).unwrap(), da);
    }
}

#[test]
fn refusals_name_the_argument_and_both_shapes() {
    let device = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &device;
    type Row<'a> = (&'a [usize], &'a [usize], &'a str, &'a [&'a str]);
    let table: [Row<'_>; 5] = [
        (&[3, 4], &[5, 2], "b", &["[5, 2]", "[3, 4]"]),
        (&[3], &[5, 2], "a", &["[3]"]),
        (&[3, 2], &[5, 2, 1], "b", &["[5, 2, 1]"]),
        (&[0, 2], &[5, 2], "a", &["[0, 2]"]),
        (&[3, 0], &[5, 0], "a", &["[3, 0]"]),
    ];
    for (a, b, argument, says) in table {
        let mut g = Graph::new();
        let mut bind = |shape: &[usize]| -> Var {
            g.bind(&device.upload(&vec![0f32; shape.iter().product()]).unwrap(), shape).unwrap()
        };
        let (av, bv) = (bind(a), bind(b));
        match similarity(&mut g, av, bv, Similarity::Dot) {
            Err(Error::Shape { op: "similarity", argument: at, message }) => {
                assert_eq!(at, argument, "{message}");
                assert!(says.iter().all(|s| message.contains(s)), "{message}");
            }
            other => panic!("{a:?} {b:?}: {other:?}"),
        }
    }
}
