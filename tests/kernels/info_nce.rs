//! InfoNCE weighted by label distances against the formula as it stands, in f64.

use etude::cases::{normal, relative, uniform};
use etude::device::{Buf, Cpu, Device};
use etude::embed;
use etude::kernel::Elem;
use etude::ops::info_nce::InfoNceOptions;
use proptest::prelude::*;

/// Rows with their labels.
type Set<'a> = (&'a [f64], &'a [f64]);

/// The loss and its gradients by both sets, of one set all in the first; and how large these would be if nothing cancelled.
fn plain((z, y): Set<'_>, others: Option<Set<'_>>, sigma: f64, t: f64) -> (f64, [Vec<f64>; 2], f64) {
    let (n, d) = (y.len(), z.len() / y.len());
    let (o, of_o) = others.unwrap_or((z, y));
    let row = |z: &[f64], i: usize| z[i * d..][..d].to_vec();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let unit = |z: Vec<f64>| {
        let length = dot(&z, &z).sqrt();
        (z.iter().map(|v| if length > 0.0 { v / length } else { 0.0 }).collect::<Vec<_>>(), length)
    };
    let (mut loss, mut dz, mut d_others) = (0.0, vec![0.0; z.len()], vec![0.0; o.len()]);
    let mut uncancelled = 0.0;
    for i in 0..n {
        let columns: Vec<usize> = (0..of_o.len()).filter(|&k| others.is_some() || k != i).collect();
        let (u, length) = unit(row(z, i));
        let s: Vec<f64> = columns.iter().map(|&k| dot(&u, &unit(row(o, k)).0) / t).collect();
        let squares: Vec<f64> =
            columns.iter().map(|&k| (y[i] - of_o[k]).powi(2) / (2.0 * sigma * sigma)).collect();
        let (top, least) =
            (s.iter().copied().fold(f64::MIN, f64::max), squares.iter().copied().fold(f64::MAX, f64::min));
        let log = top + s.iter().map(|s| (s - top).exp()).sum::<f64>().ln();
        let weights: Vec<f64> = squares.iter().map(|v| (least - v).exp()).collect();
        let all: f64 = weights.iter().sum();
        for ((&k, s), w) in columns.iter().zip(&s).zip(weights) {
            loss += w / all * (log - s) / n as f64;
            let by_cosine = ((s - log).exp() - w / all) / (n as f64 * t);
            let (v, of_v) = unit(row(o, k));
            let lengths = [length, of_v].into_iter().filter(|&length| length > 0.0);
            uncancelled +=
                ((s - log).exp() + w / all) / (n as f64 * t) * lengths.map(f64::recip).sum::<f64>();
            for c in 0..d {
                let cosine = s * t;
                let along = |a: &[f64], b: &[f64], length: f64| {
                    if length > 0.0 { by_cosine * (b[c] - cosine * a[c]) / length } else { 0.0 }
                };
                dz[i * d + c] += along(&u, &v, length);
                let to = if others.is_some() { &mut d_others } else { &mut dz };
                to[k * d + c] += along(&v, &u, of_v);
            }
        }
    }
    (loss, [dz, d_others], uncancelled)
}

/// As a single call on a device.
fn run(
    device: &dyn Device,
    (z, y): Set<'_>,
    others: Option<Set<'_>>,
    sigma: f32,
    t: f32,
) -> (f64, [Vec<f64>; 2]) {
    let shape = [y.len(), z.len() / y.len()];
    let up = |v: &[f64]| device.upload(v).unwrap();
    let like = |v: &[f64]| device.alloc(Elem::Real, v.len()).unwrap();
    let (of_z, of_y, loss, dz) = (up(z), up(y), like(&[0.0]), like(z));
    let of_others: Option<(usize, [Buf; 2], Buf)> = others.map(|(o, y)| (y.len(), [up(o), up(y)], like(o)));
    let read = of_others.as_ref().map(|(m, [o, y], _)| (*m, [o, y]));
    let options = InfoNceOptions { sigma, temperature: t };
    let call = |to: [Option<&Buf>; 2]| {
        embed::info_nce(device, shape, [&of_z, &of_y], read, options, &loss, to).unwrap();
        device.download_f64(&loss).unwrap()[0]
    };
    let d_others = of_others.as_ref().map(|(_, _, to)| to);
    let value = call([Some(&dz), d_others]);
    let gradients = [Some(&dz), d_others].map(|v| v.map_or(vec![], |v| device.download_f64(v).unwrap()));
    // Without a gradient, or with one of them, the same.
    assert_eq!(call([None; 2]).to_bits(), value.to_bits());
    if let Some(to) = d_others {
        assert_eq!(call([None, Some(to)]).to_bits(), value.to_bits());
        assert_eq!(device.download_f64(to).unwrap(), gradients[1]);
    }
    (value, gradients)
}

/// Both CPU instances against the formula, the f32 one on any number of threads with the same bits.
fn check(own: Set<'_>, others: Option<Set<'_>>, sigma: f32, t: f32, within: f64) {
    let round = |v: &[f64]| v.iter().map(|&v| f64::from(v as f32)).collect::<Vec<_>>();
    let (z, y, o) = (round(own.0), round(own.1), others.map(|(o, y)| (round(o), round(y))));
    let (own, others) = ((&z[..], &y[..]), o.as_ref().map(|(o, y)| (&o[..], &y[..])));
    let (loss, gradients, uncancelled) = plain(own, others, sigma.into(), t.into());
    let near = |(value, got): &(f64, [Vec<f64>; 2]), within: f64| {
        assert!((value - loss).abs() <= within * (1.0 + loss.abs()), "{value} is not {loss}");
        for (got, want) in got.iter().zip(&gradients).filter(|(got, _)| !got.is_empty()) {
            let zeros = vec![0.0; want.len()];
            let off: Vec<f64> = got.iter().zip(want).map(|(a, b)| a - b).collect();
            let (off, size) = (relative(&off, &zeros), relative(want, &zeros));
            // What cancels is rounding there: in one column, all of it.
            let size = size.max(uncancelled / 10.0);
            assert!(off <= within * size, "{off:e} of {size:e}: {got:?}, want {want:?}");
        }
    };
    near(&run(&Cpu::<f64>::new(2).unwrap(), own, others, sigma, t), 1e-12);
    let ours = run(&Cpu::<f32>::new(1).unwrap(), own, others, sigma, t);
    near(&ours, within);
    let again = run(&Cpu::<f32>::new(3).unwrap(), own, others, sigma, t);
    assert_eq!((ours.0.to_bits(), ours.1), (again.0.to_bits(), again.1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever the shape, the labels and the options, of one set or of two.
    #[test]
    fn any_rows_and_labels(
        seed: u64,
        (n, m, d) in (2usize..60, 1usize..60, 1usize..20),
        two_sets: bool,
        sigma in 0.02f32..3.0,
        t in 0.05f32..2.0,
    ) {
        let (z, y) = (normal(seed, n * d), uniform(seed ^ 1, n));
        let (o, of_o) = (normal(seed ^ 2, m * d), uniform(seed ^ 3, m));
        check((&z, &y), two_sets.then_some((&o, &of_o)), sigma, t, 2e-5);
    }
}

/// Every count of columns around that of a vector's lanes, the anchor's own at every place.
#[test]
fn columns_of_every_count() {
    for n in 2..36 {
        let (z, y) = (normal(n as u64, n * 3), uniform(n as u64 + 100, n));
        check((&z, &y), None, 0.3, 0.2, 2e-5);
        check((&z[..3], &y[..1]), Some((&z, &y)), 0.3, 0.2, 2e-5);
    }
}

#[test]
fn labels_of_any_kind() {
    let z = normal(1, 30 * 4);
    let of = |f: &dyn Fn(f64) -> f64| uniform(2, 30).into_iter().map(f).collect::<Vec<_>>();
    // All alike; two grades; negative ones; many sigmas apart, even from the nearest; of any size.
    check((&z, &of(&|_| 3.0)), None, 0.1, 0.1, 2e-5);
    check((&z, &of(&|y| y.round())), None, 0.1, 0.1, 2e-5);
    check((&z, &of(&|y| y - 4.0)), None, 0.1, 0.1, 2e-5);
    check((&z, &of(&|y| (1000.0 * y).round())), None, 0.05, 0.1, 2e-5);
    check((&z, &(0..30).map(|i| f64::from(i * i)).collect::<Vec<_>>()), None, 0.5, 0.1, 2e-5);
    check((&z, &of(&|y| y * 1e30)), None, 1e29, 0.1, 2e-5);
    check((&z, &of(&|y| y * 1e-30)), None, 1e-31, 0.1, 2e-5);
}

/// With labels of which none is near another's but its like, it is the supervised contrastive loss (Khosla et al., NeurIPS 2020).
#[test]
fn of_classes_it_is_the_supervised_contrastive_loss() {
    let (n, d, t) = (24, 5, 0.2);
    let (z, y) = (normal(3, n * d), (0..n).map(|i| (i % 4) as f64).collect::<Vec<_>>());
    let unit = |i: usize| {
        let row = &z[i * d..][..d];
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.iter().map(|v| v / length).collect::<Vec<_>>()
    };
    let s = |i: usize, k: usize| unit(i).iter().zip(unit(k)).map(|(a, b)| a * b).sum::<f64>() / t;
    let mut loss = 0.0;
    for i in 0..n {
        let others = (0..n).filter(|&k| k != i);
        let log = others.clone().map(|k| s(i, k).exp()).sum::<f64>().ln();
        let positives: Vec<usize> = others.filter(|&k| y[k] == y[i]).collect();
        loss += positives.iter().map(|&k| log - s(i, k)).sum::<f64>() / positives.len() as f64 / n as f64;
    }
    let ours = run(&Cpu::<f64>::new(1).unwrap(), (&z, &y), None, 1e-3, t as f32).0;
    assert!((ours - loss).abs() < 1e-6 * loss, "{ours}, {loss}");
}

/// The cosine with a row of zeros is 0, and nothing goes backward from it.
#[test]
fn rows_of_zeros() {
    let (mut z, y) = (normal(4, 20 * 4), uniform(5, 20));
    z[8..12].fill(0.0);
    check((&z, &y), None, 0.3, 0.2, 2e-5);
    check((&z[..16], &y[..4]), Some((&z, &y)), 0.3, 0.2, 2e-5);
}

#[test]
fn what_is_no_number_shows() {
    let (z, y) = (normal(6, 8 * 2), uniform(7, 8));
    let cpu = Cpu::<f32>::new(1).unwrap();
    for bad in [f64::NAN, f64::INFINITY] {
        let mut z = z.clone();
        z[5] = bad;
        assert!(run(&cpu, (&z, &y), None, 0.5, 0.1).0.is_nan(), "{bad}");
    }
    // Differences over sigma that no float holds.
    let far = [-3e38, 3e38, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert!(run(&cpu, (&z, &far), None, 0.5, 0.1).0.is_nan());
    assert!(run(&cpu, (&z, &y), None, 1e-38, 0.1).0.is_finite());
    let device: &dyn Device = &cpu;
    let mut bad = y.clone();
    bad[6] = f64::NEG_INFINITY;
    let [z, y, bad] = [&z, &y, &bad].map(|v| device.upload(v).unwrap());
    let loss = device.alloc(Elem::Real, 1).unwrap();
    let says = |others: Option<(usize, [&Buf; 2])>,
                labels: &Buf,
                sigma: f32,
                temperature: f32,
                to: [Option<&Buf>; 2]| {
        let options = InfoNceOptions { sigma, temperature };
        let refused = embed::info_nce(device, [8, 2], [&z, labels], others, options, &loss, to);
        refused.unwrap_err().to_string()
    };
    let none = [None; 2];
    let refused = says(None, &bad, 1.0, 1.0, none);
    assert!(refused.contains("labels: row 6 is -inf, must be finite"), "{refused}");
    let refused = says(Some((8, [&z, &bad])), &y, 1.0, 1.0, none);
    assert!(refused.contains("other_labels: row 6 is -inf, must be finite"), "{refused}");
    for wrong in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let refused = says(None, &y, wrong, 1.0, none);
        assert!(refused.contains("sigma: must be positive and finite"), "{refused}");
        let refused = says(None, &y, 1.0, wrong, none);
        assert!(refused.contains("temperature: must be positive and finite"), "{refused}");
    }
    let short = y.window(0, 7).unwrap();
    assert!(says(None, &short, 1.0, 1.0, none).contains("labels: 7 elements for shape [8]"));
    let d = device.alloc(Elem::Real, 16).unwrap();
    assert!(says(None, &y, 1.0, 1.0, [None, Some(&d)]).contains("other_gradient: given without others"));
    let refused = says(Some((8, [&z, &y])), &y, 1.0, 1.0, [Some(&d), Some(&d)]);
    assert!(refused.contains("overlaps"), "{refused}");
}
