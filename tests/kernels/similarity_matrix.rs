//! Similarity matrices beyond the case table: every kind at random shapes against a plain definition, on
//! every instruction set; corners; one value on both sides; and what is refused.

use etude::Error;
use etude::cases::{normal, relative};
use etude::device::{Cpu, Device};
use etude::graph::{Graph, Var};
use etude::kernel::Elem;
use etude::ops::similarity::{Similarity, similarity};
use etude::simd::Simd;
use etude::similarity::{CpuSimilarity, DeviceBlock, DeviceTopK, block, top_k};
use proptest::prelude::*;

const KINDS: [Similarity; 4] =
    [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean];

fn devices() -> impl Iterator<Item = (Simd, [Cpu<f32>; 2])> {
    Simd::supported().map(|s| (s, [1, 2].map(|threads| Cpu::with_simd(threads, s).unwrap())))
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
    let n = 60;
    // Distances from differences, and from products.
    for (d, spread) in [9, 40].into_iter().flat_map(|d| [0.0, 1e-6, 1e-3].map(|spread| (d, spread))) {
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
                        "{simd:?} {kind:?} {d} {spread:e} {what}: {off:e} of {norm:e}"
                    );
                }
            }
        }
    }
}

/// Rows among which a distance is easily lost, by name: their places, and those of the other side.
fn treacherous(d: usize) -> Vec<(&'static str, Vec<f64>, Vec<f64>)> {
    let n = 50;
    let (a, noise) = (normal(1, n * d), normal(2, n * d));
    let rounded = |v: Vec<f64>| v.into_iter().map(|v| f64::from(v as f32)).collect::<Vec<_>>();
    let moved = |spread: f64| a.iter().zip(&noise).map(|(a, e)| a + spread * e).collect::<Vec<_>>();
    let scaled = |v: &[f64], by: f64| v.iter().map(|v| v * by).collect::<Vec<_>>();
    let far = |v: &[f64]| v.iter().enumerate().map(|(i, v)| v + 1e4 * noise[i % d]).collect::<Vec<_>>();
    let classes = |seed| {
        let noise = normal(seed, n * d);
        (0..n * d).map(|i| 3.0 * a[i / d % 5 * d + i % d] + 0.05 * noise[i]).collect::<Vec<_>>()
    };
    let mut holes = a.clone();
    holes.chunks_mut(d).step_by(3).for_each(|row| row.fill(0.0));
    let mut mixed = a.clone();
    for (i, row) in mixed.chunks_mut(d).enumerate() {
        row.iter_mut().for_each(|v| *v *= [1e18, 1e-20, 1.0][i % 3]);
    }
    let sets = [
        ("themselves", a.clone(), a.clone()),
        ("1e-3 away", a.clone(), moved(1e-3)),
        ("1e-5 away", a.clone(), moved(1e-5)),
        ("1e-7 away", a.clone(), moved(1e-7)),
        ("far from the origin", far(&a), far(&noise)),
        ("far, themselves", far(&a), far(&a)),
        ("five classes", classes(3), classes(4)),
        ("zero rows", holes.clone(), holes),
        ("tiny", scaled(&a, 1e-20), scaled(&noise, 1e-20)),
        ("huge", scaled(&a, 1e18), scaled(&noise, 1e18)),
        ("of every size", mixed.clone(), mixed),
    ];
    sets.into_iter().map(|(name, a, b)| (name, rounded(a), rounded(b))).collect()
}

/// Each distance to its last digits, whatever cancels in `‖a‖² + ‖b‖² − 2a·b`.
#[test]
fn every_distance_is_exact() {
    for d in [1, 3, 16, 17, 25, 40, 64, 131, 300] {
        for (name, a, b) in treacherous(d) {
            let dy = vec![0.0; 50 * 50];
            for (simd, [device, _]) in devices() {
                for kind in [Similarity::Euclidean, Similarity::SquaredEuclidean] {
                    let [got, ..] = run(&device, kind, d, &a, &b, &dy);
                    for (i, a) in a.chunks(d).enumerate() {
                        for (j, b) in b.chunks(d).enumerate() {
                            let (got, want) = (got[i * 50 + j], entry(kind, a, b));
                            if kind == Similarity::SquaredEuclidean && !(1e-30..1e38).contains(&want) {
                                continue; // beyond what f32 holds of a square
                            }
                            // A square keeps 16 of its own roundings where a product gives it, and those of a sum.
                            assert!(
                                (got - want).abs() <= 2e-6 * want,
                                "{simd:?} {kind:?} {d} columns, {name}: {got:e} for {want:e} at {i}, {j}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// What is infinite or no number in a row is so in its distances, and in no others.
#[test]
fn no_number_stays_in_its_row() {
    let (n, m) = (9, 60);
    for d in [5, 40] {
        for bad in [f64::NAN, f64::INFINITY] {
            let (mut a, mut b) = (normal(1, n * d), normal(2, m * d));
            a[4 * d + 2] = bad;
            b[50 * d + 4] = bad;
            for kind in [Similarity::Euclidean, Similarity::SquaredEuclidean] {
                for (simd, [device, _]) in devices() {
                    let [got, ..] = run(&device, kind, d, &a, &b, &vec![0.0; n * m]);
                    for (e, got) in got.into_iter().enumerate() {
                        let want = entry(kind, &a[e / m * d..][..d], &b[e % m * d..][..d]);
                        let same = got.is_nan() == want.is_nan() && got.is_infinite() == want.is_infinite();
                        assert!(same, "{simd:?} {kind:?} {d} columns: {got} for {want} at {e}");
                    }
                }
            }
        }
    }
}

/// Beyond a slab of rows, of few columns and of others, and beyond the terms that are taken at once, in rows and in columns.
#[test]
fn sums_over_many_rows_and_columns() {
    for (n, m, d) in [(2400, 30, 3), (2300, 18, 33), (30, 1100, 50), (530, 1045, 16)] {
        let (a, b, dy) = (normal(1, n * d), normal(2, m * d), normal(3, n * m));
        for kind in KINDS {
            let want = run(&Cpu::<f64>::new(1).unwrap(), kind, d, &a, &b, &dy);
            for (simd, [one, two]) in devices() {
                let got = run(&one, kind, d, &a, &b, &dy);
                assert_eq!(got, run(&two, kind, d, &a, &b, &dy), "threads change bits");
                for (what, (got, want)) in ["y", "da", "db"].iter().zip(got.iter().zip(&want)) {
                    let off = relative(got, want);
                    assert!(off < 2e-6, "{simd:?} {kind:?} {n} {m} {d} {what}: {off:e}");
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

fn floats(seed: u64, n: usize) -> Vec<f32> {
    normal(seed, n).into_iter().map(|v| v as f32).collect()
}

#[test]
fn blocks_are_rows_of_the_matrix() {
    let (n, m) = (150, 70);
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    // Distances from differences, and from products.
    for (d, kind) in [13, 40].into_iter().flat_map(|d| KINDS.map(|kind| (d, kind))) {
        let (a, b) = (floats(1, n * d), floats(2, m * d));
        let (on_a, on_b) = (device.upload(&a).unwrap(), device.upload(&b).unwrap());
        let mut whole = vec![f32::NAN; n * m];
        block(&a, &b, d, kind, 0..n, &mut whole).unwrap();
        for (i, a) in a.chunks(d).enumerate() {
            for (j, b) in b.chunks(d).enumerate() {
                let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
                let (got, want) = (f64::from(whole[i * m + j]), entry(kind, &wide(a), &wide(b)));
                assert!(
                    (got - want).abs() <= 1e-5 * (1.0 + want.abs()),
                    "{kind:?} {i} {j}: {got} for {want}"
                );
            }
        }
        for rows in [0..1, 3..51, 149..150, 48..150] {
            let mut part = vec![f32::NAN; rows.len() * m];
            block(&a, &b, d, kind, rows.clone(), &mut part).unwrap();
            assert_eq!(part, whole[rows.start * m..rows.end * m], "{kind:?} {rows:?}");
            let mut resident = DeviceBlock::compile(device, d, &on_a, &on_b, kind, rows.clone()).unwrap();
            resident.run().unwrap();
            assert_eq!(device.download(resident.out()).unwrap(), part, "{kind:?} {rows:?}");
        }
    }
}

/// What sorting a row of the matrix gives, ties by the lower index.
fn sorted(kind: Similarity, row: &[f32], k: usize) -> (Vec<f32>, Vec<u32>) {
    let nearest = matches!(kind, Similarity::SquaredEuclidean | Similarity::Euclidean);
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    order.sort_by(|&x, &y| {
        let (x, y) = (row[x as usize], row[y as usize]);
        if nearest { x.total_cmp(&y) } else { y.total_cmp(&x) }
    });
    order.truncate(k);
    (order.iter().map(|&j| row[j as usize]).collect(), order)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..Default::default() })]

    #[test]
    fn top_k_is_what_sorting_the_matrix_gives(
        n in 1usize..110, m in 1usize..150, d in 1usize..70, kind in 0usize..4, k in 1usize..40,
        ties in any::<bool>(), seed in any::<u32>(),
    ) {
        let (kind, k) = (KINDS[kind], k.min(m));
        let (mut a, mut b) = (floats(seed.into(), n * d), floats(u64::from(seed) + 1, m * d));
        if ties {
            // Few different values: many equal similarities, and some rows are zero.
            a.iter_mut().chain(&mut b).for_each(|v| *v = v.round().clamp(-1.0, 1.0));
        }
        for (simd, devices) in devices() {
            for cpu in devices {
                let device: &dyn Device = &cpu;
                let (on_a, on_b) = (device.upload(&a).unwrap(), device.upload(&b).unwrap());
                let mut resident = DeviceTopK::compile(device, d, &on_a, &on_b, kind, k).unwrap();
                resident.run().unwrap();
                let values = device.download(resident.values()).unwrap();
                let mut indices = vec![0u32; n * k];
                device.read(resident.indices(), (&mut indices).into()).unwrap();
                let cpu = CpuSimilarity::on(cpu);
                let mut matrix = vec![0.0; n * m];
                cpu.block(&a, &b, d, kind, 0..n, &mut matrix).unwrap();
                for (i, row) in matrix.chunks(m).enumerate() {
                    let (want, order) = sorted(kind, row, k);
                    prop_assert_eq!(&values[i * k..][..k], &want, "{:?} {:?} row {}", simd, kind, i);
                    prop_assert_eq!(&indices[i * k..][..k], &order, "{:?} {:?} row {}", simd, kind, i);
                }
                let (mut v, mut at) = (vec![0.0; n * k], vec![0; n * k]);
                cpu.top_k(&a, &b, d, kind, k, (&mut v, &mut at)).unwrap();
                prop_assert_eq!((v, at), (values, indices));
            }
        }
    }
}

#[test]
fn blocks_and_top_k_refuse_what_does_not_fit() {
    let (a, b) = (floats(1, 12), floats(2, 20));
    let refused = |result: etude::Result<()>, argument: &str, says: &str| match result {
        Err(Error::Shape { argument: at, message, .. }) => {
            assert_eq!(at, argument, "{message}");
            assert!(message.contains(says), "{says:?} in: {message}");
        }
        other => panic!("{argument}: {other:?}"),
    };
    let kind = Similarity::Dot;
    let top = |a: &[f32], d, k| top_k(a, &b, d, kind, k).map(drop);
    refused(block(&a, &b, 4, kind, 2..4, &mut [0.0; 10]), "rows", "2..4");
    refused(block(&a, &b, 4, kind, 2..2, &mut []), "rows", "2..2");
    refused(block(&a, &b, 4, kind, 1..3, &mut [0.0; 9]), "out", "9 elements");
    refused(block(&a, &b, 5, kind, 0..1, &mut [0.0; 4]), "a", "12 elements");
    refused(block(&a, &b[1..], 4, kind, 0..1, &mut [0.0; 4]), "b", "19 elements");
    refused(block(&a, &b, 0, kind, 0..1, &mut [0.0; 4]), "a", "rows of 0");
    refused(block(&[], &b, 4, kind, 0..1, &mut [0.0; 5]), "a", "[0, 4]");
    refused(top(&a, 4, 0), "k", "is 0");
    refused(top(&a, 4, 6), "k", "from 1 to b's 5 rows, is 6");
    refused(top(&a, 4, usize::MAX), "k", "from 1 to b's 5 rows");
    let mut bad = a.clone();
    bad[6] = f32::NAN;
    refused(top(&bad, 4, 2), "a", "row 1, column 2 is NaN");
    refused(top_k(&a, &[f32::INFINITY; 4], 4, kind, 1).map(drop), "b", "row 0, column 0 is inf");
    let cpu = CpuSimilarity::new(1).unwrap();
    refused(cpu.top_k(&a, &b, 4, kind, 2, (&mut [0.0; 6], &mut [0; 5])), "indices", "5 elements");
    refused(cpu.top_k(&a, &b, 4, kind, 2, (&mut [0.0; 7], &mut [0; 6])), "values", "7 elements");
}

/// What is NaN, or infinitely bad, is not among the best: the list ends in NaN.
#[test]
fn lists_with_less_than_k_end_in_nan() {
    let device = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &device;
    let a = device.upload(&[1.0f32]).unwrap();
    let b = device.upload(&[f32::NAN, 3.0, f32::NEG_INFINITY, 5.0]).unwrap();
    let mut top = DeviceTopK::compile(device, 1, &a, &b, Similarity::Dot, 3).unwrap();
    top.run().unwrap();
    let values = device.download(top.values()).unwrap();
    assert!(values[..2] == [5.0, 3.0] && values[2].is_nan(), "{values:?}");
    let mut indices = vec![0u32; 3];
    device.read(top.indices(), (&mut indices).into()).unwrap();
    assert_eq!(indices, [3, 1, u32::MAX]);
}
