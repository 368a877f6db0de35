//! Rank-N-Contrast's loss against the formula as it stands, a sum over pairs of sums over rows, in f64.

use etude::cases::{normal, relative, uniform};
use etude::device::{Buf, Cpu, Device};
use etude::embed;
use etude::kernel::Elem;
use proptest::prelude::*;

/// The loss, and its gradient by the rows.
fn plain(z: &[f64], y: &[f64], t: f64) -> (f64, Vec<f64>) {
    let (n, d) = (y.len(), z.len() / y.len());
    let row = |i: usize| &z[i * d..][..d];
    let far =
        |i: usize, k: usize| row(i).iter().zip(row(k)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    let (mut loss, mut dz) = (0.0, vec![0.0; z.len()]);
    let share = 1.0 / (n * (n - 1)) as f64;
    let pair = |i: usize| (0..n).filter(move |&k| k != i);
    for i in 0..n {
        let mut by_distance = vec![0.0; n];
        for j in pair(i) {
            let negatives: Vec<usize> =
                pair(i).filter(|&k| (y[i] - y[k]).abs() >= (y[i] - y[j]).abs()).collect();
            let least = negatives.iter().map(|&k| far(i, k)).fold(f64::INFINITY, f64::min);
            let term = |k: usize| ((least - far(i, k)) / t).exp();
            let sum: f64 = negatives.iter().map(|&k| term(k)).sum();
            loss += share * (sum.ln() + (far(i, j) - least) / t);
            negatives.iter().for_each(|&k| by_distance[k] -= share * term(k) / sum / t);
            by_distance[j] += share / t;
        }
        for k in pair(i).filter(|&k| far(i, k) > 0.0) {
            for c in 0..d {
                let along = by_distance[k] * (row(i)[c] - row(k)[c]) / far(i, k);
                dz[i * d + c] += along;
                dz[k * d + c] -= along;
            }
        }
    }
    (loss, dz)
}

/// As a single call on a device.
fn run(device: &dyn Device, z: &[f64], y: &[f64], t: f32) -> (f64, Vec<f64>) {
    let shape = [y.len(), z.len() / y.len()];
    let (of_z, of_y): (Buf, Buf) = (device.upload(z).unwrap(), device.upload(y).unwrap());
    let (loss, dz) = (device.alloc(Elem::Real, 1).unwrap(), device.alloc(Elem::Real, z.len()).unwrap());
    embed::rank_n_contrast(device, shape, &of_z, &of_y, t, &loss, Some(&dz)).unwrap();
    let value = device.download_f64(&loss).unwrap()[0];
    // Without a gradient, the same.
    embed::rank_n_contrast(device, shape, &of_z, &of_y, t, &loss, None).unwrap();
    assert_eq!(device.download_f64(&loss).unwrap()[0].to_bits(), value.to_bits());
    (value, device.download_f64(&dz).unwrap())
}

/// Both CPU instances against the formula, the f32 one on any number of threads with the same bits.
fn check(z: &[f64], y: &[f64], t: f32, within: f64) {
    let [z, y] = [z, y].map(|v| v.iter().map(|&v| f64::from(v as f32)).collect::<Vec<_>>());
    let (loss, dz) = plain(&z, &y, t.into());
    let (ours, of_ours) = run(&Cpu::<f64>::new(2).unwrap(), &z, &y, t);
    assert!((ours - loss).abs() <= 1e-12 * (1.0 + loss.abs()), "{ours} is not {loss}");
    let near = |got: &[f64], within: f64| {
        let size = relative(&dz, &vec![0.0; dz.len()]);
        let off: Vec<f64> = got.iter().zip(&dz).map(|(a, b)| a - b).collect();
        let off = relative(&off, &vec![0.0; dz.len()]);
        // What cancels to nothing is rounding there.
        assert!(off <= within * size.max(1e-3), "{off:e} of {size:e}: {got:?}, want {dz:?}");
    };
    near(&of_ours, 1e-12);
    let (ours, of_ours) = run(&Cpu::<f32>::new(1).unwrap(), &z, &y, t);
    assert!((ours - loss).abs() <= within * (1.0 + loss.abs()), "{ours} is not {loss}");
    near(&of_ours, within);
    let again = run(&Cpu::<f32>::new(3).unwrap(), &z, &y, t);
    assert_eq!((ours.to_bits(), of_ours), (again.0.to_bits(), again.1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever the shape, the ties and the temperature.
    #[test]
    fn any_rows_and_labels(seed: u64, n in 2usize..40, d in 1usize..20, values in 1u32..50, t in 0.2f32..4.0) {
        let labels = uniform(seed, n).into_iter().map(|y| (y * f64::from(values)).floor() - 7.0);
        check(&normal(seed ^ 1, n * d), &labels.collect::<Vec<_>>(), t, 1e-5);
    }
}

#[test]
fn labels_of_any_kind() {
    let z = normal(1, 30 * 4);
    let of = |f: &dyn Fn(f64) -> f64| uniform(2, 30).into_iter().map(f).collect::<Vec<_>>();
    // All alike; two grades; in order; with both zeros; of any size; their differences rounded to ties.
    check(&z, &of(&|_| 3.0), 2.0, 1e-5);
    check(&z, &of(&|y| y.round()), 2.0, 1e-5);
    check(&z, &(0..30).map(f64::from).collect::<Vec<_>>(), 2.0, 1e-5);
    check(&z, &(0..30).rev().map(f64::from).collect::<Vec<_>>(), 2.0, 1e-5);
    check(&z, &of(&|y| if y < 0.3 { -0.0 } else { (y - 0.6).max(0.0) }), 2.0, 1e-5);
    check(&z, &of(&|y| (20.0 * y - 10.0).exp2().floor() * 1e30), 2.0, 1e-5);
}

/// A difference of labels is what the label's own type makes of it: where f32 rounds two to one, they tie.
#[test]
fn ties_are_those_of_the_labels_own_type() {
    let z = normal(3, 3 * 2);
    let y = [0.0, 0.3, -0.3 - 2f64.powi(-30)];
    let f64s = run(&Cpu::<f64>::new(1).unwrap(), &z, &y, 1.0);
    let f32s = run(&Cpu::<f32>::new(1).unwrap(), &z, &y, 1.0);
    let (apart, tied) = (plain(&z, &y, 1.0).0, plain(&z, &[0.0, 0.3, -0.3], 1.0).0);
    assert!((apart - tied).abs() > 1e-2, "{apart} {tied}");
    assert!((f64s.0 - apart).abs() < 1e-12 && (f32s.0 - tied).abs() < 1e-5, "{f64s:?} {f32s:?}");
}

/// Distances of which f32 holds no exponential.
#[test]
fn rows_that_are_far_apart() {
    let z: Vec<f64> =
        normal(4, 24 * 3).into_iter().enumerate().map(|(i, v)| v + (i / 9 * 500) as f64).collect();
    check(&z, &uniform(5, 24), 0.5, 1e-4);
}

#[test]
fn what_is_no_number_shows() {
    let z = normal(6, 8 * 2);
    let y = uniform(7, 8);
    let cpu = Cpu::<f32>::new(1).unwrap();
    for bad in [f64::NAN, f64::INFINITY] {
        let mut z = z.clone();
        z[5] = bad;
        assert!(run(&cpu, &z, &y, 2.0).0.is_nan(), "{bad}");
    }
    let device: &dyn Device = &cpu;
    let mut y = y;
    y[6] = f64::NEG_INFINITY;
    let (of_z, of_y) = (device.upload(&z).unwrap(), device.upload(&y).unwrap());
    let loss = device.alloc(Elem::Real, 1).unwrap();
    let says = |t: f32, y: &Buf| {
        let refused = embed::rank_n_contrast(device, [8, 2], &of_z, y, t, &loss, None);
        refused.unwrap_err().to_string()
    };
    assert!(says(2.0, &of_y).contains("labels: row 6 is -inf, must be finite"), "{}", says(2.0, &of_y));
    let good = device.upload(&uniform(7, 8)).unwrap();
    for t in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(says(t, &good).contains("temperature: must be positive and finite"), "{t}");
    }
    let short = device.upload(&uniform(7, 7)).unwrap();
    assert!(says(2.0, &short).contains("labels: 7 elements for shape [8]"));
}
