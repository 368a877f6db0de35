//! The contrastive loss beyond the case table: all options crossed at random against a plain double loop,
//! its corners (duplicates, zero rows, huge and tiny numbers), and what it refuses.

use etude::Error;
use etude::cases::{normal, relative};
use etude::device::{Cpu, Device};
use etude::graph::{Graph, Var};
use etude::ops::contrastive::{
    ContrastiveOptions, Labels, Metric, bins, contrastive, contrastive_cross, contrastive_halves,
};
use etude::simd::Simd;
use proptest::prelude::*;

/// Which pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    All,
    Halves,
    Cross,
}

/// Rows and labels of a side.
#[derive(Debug, Clone)]
pub struct Rows {
    pub z: Vec<f64>,
    pub labels: Vec<f64>,
    weights: Option<Vec<f64>>,
}

impl Rows {
    pub fn new(z: Vec<f64>, labels: Vec<f64>) -> Self {
        let round = |v: Vec<f64>| v.into_iter().map(|v| f64::from(v as f32)).collect();
        Self { z: round(z), labels: round(labels), weights: None }
    }
    pub fn weigh(self, weights: Option<Vec<f64>>) -> Self {
        let weights = weights.map(|w| w.into_iter().map(|w| f64::from(w as f32)).collect());
        Self { weights, ..self }
    }
    fn weight(&self, i: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |w| w[i])
    }
    fn n(&self) -> usize {
        self.labels.len()
    }
    fn row(&self, i: usize) -> &[f64] {
        let d = self.z.len() / self.n();
        &self.z[i * d..][..d]
    }
}

/// Loss, gradient by the rows, and by the others.
pub type Outcome = [Vec<f64>; 3];

/// The loss on `device`; every output is poisoned first.
pub fn run(
    device: &dyn Device,
    form: Form,
    a: &Rows,
    b: &Rows,
    pairing: &[u32],
    opts: ContrastiveOptions,
) -> Outcome {
    let mut g = Graph::new();
    let mut bind = |rows: &Rows| {
        let z = g.leaf(&device.upload(&rows.z).unwrap(), None, &[rows.n(), rows.z.len() / rows.n()]).unwrap();
        let mut of_rows = |v: &Vec<f64>| g.bind(&device.upload(v).unwrap(), &[rows.n()]).unwrap();
        let labels = of_rows(&rows.labels);
        (z, rows.weights.as_ref().map_or(labels.into(), |w| Labels::weighted(labels, of_rows(w))))
    };
    let ((z, labels), (others, labels_o)) = (bind(a), bind(b));
    let loss = match form {
        Form::All => contrastive(&mut g, z, labels, opts),
        Form::Halves => {
            let pairing = g.bind(&device.upload(pairing).unwrap(), &[pairing.len()]).unwrap();
            contrastive_halves(&mut g, z, labels, pairing, opts)
        }
        Form::Cross => contrastive_cross(&mut g, z, labels, others, labels_o, opts),
    }
    .unwrap();
    g.backward(loss).unwrap();
    let mut keep: Vec<Var> = vec![loss, g.grad(z).unwrap()];
    keep.extend(g.grad(others));
    let mut step = g.compile(device, &keep).unwrap();
    assert_eq!(step.launches(), 1);
    step.poison(device).unwrap();
    step.run().unwrap();
    let mut out = keep.iter().map(|&v| device.download_f64(step.buf(v).unwrap()).unwrap());
    [out.next().unwrap(), out.next().unwrap(), out.next().unwrap_or_default()]
}

/// The definition, written down a second time: a pair's loss from rows of plain numbers.
fn pair_loss(a: &[f64], b: &[f64], w: f64, opts: ContrastiveOptions) -> f64 {
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let d = match opts.metric {
        Metric::Euclidean => {
            let c: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
            dot(&c, &c).sqrt()
        }
        Metric::Cosine if dot(a, a) == 0.0 || dot(b, b) == 0.0 => 1.0,
        Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
    };
    let short = (f64::from(opts.margin) * w - d).max(0.0);
    // With the tolerance of tau.
    0.5 * if w <= 1.00025 * f64::from(opts.tau) + 1e-6 { d * d } else { short * short }
}

/// The mean over the pairs, and its gradient by finite differences of each pair.
fn naive(form: Form, a: &Rows, b: &Rows, pairing: &[u32], opts: ContrastiveOptions) -> Outcome {
    let mut pairs = Vec::new();
    match form {
        Form::All => (0..a.n()).for_each(|i| pairs.extend((0..i).map(|j| (j, i)))),
        Form::Halves => {
            pairs.extend(pairing.as_chunks::<2>().0.iter().map(|p| (p[0] as usize, p[1] as usize)));
        }
        Form::Cross => (0..a.n()).for_each(|i| pairs.extend((0..b.n()).map(|j| (i, j)))),
    }
    let d = a.row(0).len();
    let second = if form == Form::Cross { b } else { a };
    let (mut loss, mut da, mut db) = (0.0, vec![0.0; a.z.len()], vec![0.0; second.z.len()]);
    let counts = |&(i, j): &(usize, usize)| a.weight(i) * second.weight(j);
    let total: f64 = pairs.iter().map(counts).sum();
    for (i, j) in pairs {
        let share = f64::from(opts.weight) * counts(&(i, j)) / total;
        if counts(&(i, j)) == 0.0 {
            continue;
        }
        let w = (a.labels[i] - second.labels[j]).abs();
        let (mut x, mut y) = (a.row(i).to_vec(), second.row(j).to_vec());
        loss += share * pair_loss(&x, &y, w, opts);
        let h = 1e-6;
        for k in 0..d {
            let kept = (x[k], y[k]);
            let mut at = |u: f64, v: f64| {
                (x[k], y[k]) = (kept.0 + u, kept.1 + v);
                let l = pair_loss(&x, &y, w, opts);
                (x[k], y[k]) = kept;
                l
            };
            da[i * d + k] += share * (at(h, 0.0) - at(-h, 0.0)) / (2.0 * h);
            db[j * d + k] += share * (at(0.0, h) - at(0.0, -h)) / (2.0 * h);
        }
    }
    for v in da.iter_mut().chain(&mut db) {
        *v *= f64::from(opts.grad_scale);
    }
    if form == Form::Cross {
        return [vec![loss], da, db];
    }
    da.iter_mut().zip(&db).for_each(|(a, b)| *a += b);
    [vec![loss], da, vec![]]
}

/// `‖got − want‖ ≤ tolerance·(‖want‖ + floor)`, and no NaN.
fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64, floor: f64) -> Result<(), TestCaseError> {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let off = norm(&mut got.iter().zip(want).map(|(g, w)| g - w));
    let size = norm(&mut want.iter().copied()) + floor;
    prop_assert!(off <= tolerance * size, "{what}: off by {off:e} of {size:e}");
    Ok(())
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::All), Just(Form::Halves), Just(Form::Cross)]
}

fn options() -> impl Strategy<Value = ContrastiveOptions> {
    let metric = prop_oneof![Just(Metric::Euclidean), Just(Metric::Cosine)];
    let grad_scale = prop_oneof![Just(1.0f32), -2.0f32..2.0];
    (metric, 0.1f32..3.0, prop_oneof![Just(0.0f32), 0.0f32..0.7], 0.1f32..3.0, grad_scale).prop_map(
        |(metric, margin, tau, weight, grad_scale)| ContrastiveOptions {
            metric,
            margin,
            tau,
            weight,
            grad_scale,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]

    #[test]
    fn every_option_matches_a_plain_double_loop(
        form in form(),
        opts in options(),
        n in 2usize..70,
        m in 1usize..70,
        d in 1usize..40,
        binned in any::<bool>(),
        weighted in 0u32..4,
        seed in any::<u32>(),
    ) {
        let rows = |n: usize, seed: u64| {
            let labels = etude::cases::uniform(seed + 1, n);
            let labels = if binned { labels.iter().map(|y| (5.0 * y).floor()).collect() } else { labels };
            Rows::new(normal(seed, n * d), labels)
        };
        // A quarter of the samples masked out, but never all.
        let weights = |bit: u32, n: usize, seed: u64| {
            let weights = etude::cases::uniform(seed, n).into_iter().enumerate();
            (weighted & bit > 0).then(|| weights.map(|(i, w)| if i > 1 && w < 0.25 { 0.0 } else { w + 0.1 }).collect())
        };
        let (a, b) = (rows(n, seed.into()), rows(m, u64::from(seed) + 2));
        let a = a.weigh(weights(1, n, u64::from(seed) + 7));
        let b = b.weigh(weights(2, m, u64::from(seed) + 8));
        let mut pairing: Vec<u32> = (0..n as u32).collect();
        pairing.rotate_left(seed as usize % n);
        pairing.reverse();
        let want = naive(form, &a, &b, &pairing, opts);
        let oracle = Cpu::<f64>::new(1).unwrap();
        let exact = run(&oracle, form, &a, &b, &pairing, opts);
        close("oracle loss", &exact[0], &want[0], 1e-12, 1e-12)?;
        // The finite differences are good to 1e-10 or so; a pair at its hinge, to h of a gradient's bend.
        close("oracle gradient", &exact[1], &want[1], 2e-6, 1e-4)?;
        if form == Form::Cross {
            close("oracle gradient of the others", &exact[2], &want[2], 2e-6, 1e-4)?;
        }
        for simd in Simd::supported() {
            let one = run(&Cpu::<f32>::with_simd(1, simd).unwrap(), form, &a, &b, &pairing, opts);
            let two = run(&Cpu::<f32>::with_simd(2, simd).unwrap(), form, &a, &b, &pairing, opts);
            prop_assert_eq!(&one, &two, "threads change bits");
            // In one dimension pairs as near as 1e-3 of the norm are common.
            let tolerance = if d == 1 { 1e-4 } else { 1e-5 };
            for (what, (got, want)) in ["loss", "gradient", "others"].iter().zip(one.iter().zip(&exact)) {
                close(&format!("{simd:?} {what}"), got, want, tolerance, 1e-3)?;
            }
        }
    }
}

fn sets() -> impl Iterator<Item = (String, Cpu<f32>)> {
    Simd::supported().map(|s| (format!("{s:?}"), Cpu::with_simd(1, s).unwrap()))
}

const METRICS: [Metric; 2] = [Metric::Euclidean, Metric::Cosine];

/// The gradient of near-duplicates alone: pairs at `spread` of the norm, all others beyond the margin or alike.
#[test]
fn near_duplicates_keep_three_digits() {
    let (clusters, n) = (4, 60);
    for metric in METRICS {
        for d in [2, 3, 16, 33, 128] {
            for spread in [1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6] {
                for alike in [false, true] {
                    let (centres, noise) = (normal(1, clusters * d), normal(2, n * d));
                    let norm = (d as f64).sqrt();
                    let z = (0..n * d)
                        .map(|e| {
                            let c = e / d % clusters;
                            // Far apart in direction as in place.
                            let centre =
                                centres[c * d + e % d] + if e % d == c % d { 3.0 * norm } else { 0.0 };
                            centre + spread * noise[e]
                        })
                        .collect();
                    // Near pairs positive (the others far beyond the margin), or negative.
                    let labels = (0..n)
                        .map(|i| if alike { (i % clusters) as f64 } else { (i / clusters) as f64 })
                        .collect();
                    let rows = Rows::new(z, labels);
                    let opts = ContrastiveOptions { metric, margin: 1e-3, ..Default::default() };
                    let want = run(&Cpu::<f64>::new(1).unwrap(), Form::All, &rows, &rows, &[], opts);
                    for (set, device) in sets() {
                        let got = run(&device, Form::All, &rows, &rows, &[], opts);
                        let e = relative(&got[1], &want[1]);
                        assert!(e <= 1e-3, "{set} {metric:?} d{d} spread {spread:e} alike {alike}: {e:e}");
                        let e = relative(&got[0], &want[0]);
                        assert!(
                            e <= 1e-3,
                            "{set} {metric:?} d{d} spread {spread:e} alike {alike}: loss {e:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn duplicates_and_zero_rows_have_the_defined_gradient() {
    let (n, d) = (100, 7);
    for metric in METRICS {
        for labels in [0usize, 1, 5] {
            let mut z = normal(3, n * d);
            z[..3 * d].fill(0.0);
            z.copy_within(3 * d..20 * d, 60 * d);
            let labels: Vec<f64> = (0..n).map(|i| if labels == 0 { 0 } else { i % labels } as f64).collect();
            let rows = Rows::new(z, labels);
            let opts = ContrastiveOptions { metric, margin: 2.0, ..Default::default() };
            for form in [Form::All, Form::Cross] {
                let want = run(&Cpu::<f64>::new(1).unwrap(), form, &rows, &rows, &[], opts);
                assert!(want.iter().flatten().all(|v| v.is_finite()));
                if metric == Metric::Cosine {
                    assert!(want[1][..3 * d].iter().all(|&v| v == 0.0), "a zero row's gradient is 0");
                }
                for (set, device) in sets() {
                    let got = run(&device, form, &rows, &rows, &[], opts);
                    for (got, want) in got.iter().zip(&want) {
                        let e = relative(got, want);
                        assert!(e <= 1e-5, "{set} {metric:?} {form:?}: {e:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn all_rows_alike_give_no_gradient() {
    for metric in METRICS {
        for (value, n) in [(0.0, 50), (0.37, 50), (-1e6, 131)] {
            let rows = Rows::new(vec![value; n * 5], (0..n).map(|i| (i % 3) as f64).collect());
            let opts = ContrastiveOptions { metric, ..Default::default() };
            let want = run(&Cpu::<f64>::new(1).unwrap(), Form::All, &rows, &rows, &[], opts);
            for (set, device) in sets() {
                let got = run(&device, Form::All, &rows, &rows, &[], opts);
                assert!(got[1].iter().all(|&v| v == 0.0), "{set} {metric:?} {value}: {:?}", got[1]);
                assert!(relative(&got[0], &want[0]) < 1e-6, "{set} {metric:?} {value}");
            }
        }
    }
}

/// From where squares vanish in f32 to where they overflow.
#[test]
fn no_size_of_numbers_makes_a_nan() {
    for metric in METRICS {
        for size in [1e-44, 1e-38, 1e-30, 1e-20, 1e-12, 1e12, 1e18, 1e19, 1e25, 1e30] {
            for n in [2, 60] {
                let z: Vec<f64> = normal(5, n * 4).iter().map(|v| v * size).collect();
                let mut mixed = z.clone();
                mixed[..4].fill(0.0);
                mixed[4..8].fill(1.0);
                for z in [z, mixed] {
                    let rows = Rows::new(z, (0..n).map(|i| (i % 2) as f64).collect());
                    for (set, device) in sets() {
                        let opts = ContrastiveOptions { metric, ..Default::default() };
                        let got = run(&device, Form::All, &rows, &rows, &[], opts);
                        assert!(!got.iter().flatten().any(|v| v.is_nan()), "{set} {metric:?} {size:e} n{n}");
                        // The cosine's gradient grows as 1 / norm, beyond f32 at last.
                        let finite =
                            metric == Metric::Cosine && size < 1e-30 || got[1].iter().all(|v| v.is_finite());
                        assert!(finite, "{set} {metric:?} {size:e} n{n}");
                        // The range in which f32 is right, said in the kernel's header.
                        if (1e-12..=1e12).contains(&size) {
                            let want = run(&Cpu::<f64>::new(1).unwrap(), Form::All, &rows, &rows, &[], opts);
                            for (got, want) in got.iter().zip(&want) {
                                let e = relative(got, want);
                                assert!(e <= 1e-4, "{set} {metric:?} {size:e} n{n}: {e:e}");
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A masked sample counts for nothing, whatever it holds; with less than a pair left there is no loss.
#[test]
fn masked_samples_are_not_there() {
    let (n, d) = (130, 9);
    let (z, labels) = (normal(1, n * d), (0..n).map(|i| (i % 4) as f64).collect::<Vec<_>>());
    let pick = |keep: &dyn Fn(usize) -> bool| -> [Rows; 2] {
        let kept: Vec<usize> = (0..n).filter(|&i| keep(i)).collect();
        let only = Rows::new(
            kept.iter().flat_map(|&i| z[i * d..][..d].to_vec()).collect(),
            kept.iter().map(|&i| labels[i]).collect(),
        );
        let (mut z, mut labels) = (z.clone(), labels.clone());
        for i in (0..n).filter(|&i| !keep(i)) {
            z[i * d..][..d].fill([f64::NAN, f64::INFINITY, 1e30][i % 3]);
            labels[i] = f64::NAN;
        }
        let weights = (0..n).map(|i| if keep(i) { 0.7 } else { 0.0 }).collect();
        [only, Rows::new(z, labels).weigh(Some(weights))]
    };
    let oracle = Cpu::<f64>::new(1).unwrap();
    for metric in METRICS {
        let opts = ContrastiveOptions { metric, ..Default::default() };
        let [only, masked] = pick(&|i| i % 3 != 1 && i != 0);
        for form in [Form::All, Form::Cross] {
            let want = run(&oracle, form, &only, &only, &[], opts);
            let check = |what: &str, got: Outcome, tolerance: f64| {
                assert!(relative(&got[0], &want[0]) <= tolerance, "{what} {metric:?} {form:?}");
                for (got, want) in got[1..].iter().zip(&want[1..]).filter(|(g, _)| !g.is_empty()) {
                    let mut kept = Vec::new();
                    for (i, row) in got.chunks(d).enumerate() {
                        if masked.weight(i) > 0.0 {
                            kept.extend_from_slice(row);
                        } else {
                            assert!(
                                row.iter().all(|&v| v == 0.0),
                                "{what} {metric:?} {form:?} row {i}: {row:?}"
                            );
                        }
                    }
                    assert!(relative(&kept, want) <= tolerance, "{what} {metric:?} {form:?}");
                }
            };
            check("oracle", run(&oracle, form, &masked, &masked, &[], opts), 1e-12);
            for (set, device) in sets() {
                check(&set, run(&device, form, &masked, &masked, &[], opts), 1e-5);
            }
        }
        // One sample, then none.
        for keep in [&|i| i == 77, &|_| false] as [&dyn Fn(usize) -> bool; 2] {
            let [_, masked] = pick(keep);
            for (set, device) in sets() {
                let got = run(&device, Form::All, &masked, &masked, &[], opts);
                assert!(got.iter().flatten().all(|&v| v == 0.0), "{set} {metric:?}");
            }
            let got = run(&oracle, Form::All, &masked, &masked, &[], opts);
            assert!(got.iter().flatten().all(|&v| v == 0.0), "{metric:?}");
        }
    }
}

/// One number that is none, among those that count: the hinge must not make 0 of it.
#[test]
fn what_is_no_number_makes_the_loss_nan() {
    let (n, d) = (70, 5);
    let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0];
    let pairing: Vec<u32> = (0..n as u32).rev().collect();
    let oracle: (String, Box<dyn Device>) = ("oracle".into(), Box::new(Cpu::<f64>::new(1).unwrap()));
    let fast = sets().map(|(set, device)| (set, Box::new(device) as Box<dyn Device>));
    let devices: Vec<_> = std::iter::once(oracle).chain(fast).collect();
    for (metric, form) in
        METRICS.into_iter().flat_map(|m| [Form::All, Form::Halves, Form::Cross].map(|f| (m, f)))
    {
        // Nearly all pairs are negative.
        let good = Rows::new(normal(1, n * d), (0..n).map(|i| i as f64).collect()).weigh(Some(vec![0.5; n]));
        let opts = ContrastiveOptions { metric, ..Default::default() };
        for (value, at) in bad.into_iter().flat_map(|value| [0, 41, n - 1].map(|at| (value, at))) {
            for what in ["row", "label", "weight"].into_iter().filter(|w| *w != "row" || value != -1.0) {
                let mut rows = good.clone();
                match what {
                    "row" => rows.z[at * d + 3] = value,
                    "label" => rows.labels[at] = value,
                    _ => rows.weights.as_mut().unwrap()[at] = value,
                }
                // On either side of a cross.
                for (a, b) in
                    [(&rows, &good), (&good, &rows)].into_iter().take(1 + usize::from(form == Form::Cross))
                {
                    for (name, device) in &devices {
                        let got = run(&**device, form, a, b, &pairing, opts);
                        assert!(
                            got[0][0].is_nan(),
                            "{name} {metric:?} {form:?} {what} {at} {value}: {:?}",
                            got[0]
                        );
                    }
                }
            }
        }
    }
}

/// Whether a pair with labels `a` and `b` counts as positive, on `device`.
fn is_positive(device: &dyn Device, a: f64, b: f64, tau: f32) -> bool {
    // At a distance of 1, beyond the margin: a positive pair costs a half, a negative one nothing.
    let rows = Rows { z: vec![0.0, 1.0], labels: vec![a, b], weights: None };
    let opts = ContrastiveOptions { margin: 1e-4, tau, ..Default::default() };
    let loss = run(device, Form::All, &rows, &rows, &[], opts)[0][0];
    assert!(loss == 0.5 || loss == 0.0, "{a} {b} {tau}: {loss}");
    loss == 0.5
}

/// Labels on a grid are as near as they say, whatever float they came through.
#[test]
fn tau_has_its_tolerance() {
    let devices: [Box<dyn Device>; 2] =
        [Box::new(Cpu::<f64>::new(1).unwrap()), Box::new(Cpu::<f32>::new(1).unwrap())];
    for device in &devices {
        let near = |a: f64, b: f64, tau: f32| is_positive(&**device, a, b, tau);
        for (tau, steps, from) in [
            (0.1f32, 10, 0.0),
            (0.1, 1000, 0.0),
            (0.1, 100, 150.0),
            (0.05, 20, 0.0),
            (0.3, 10, 1.0),
            (0.7, 20, 0.0),
            (0.01, 100, 0.0),
            (0.5, 6, 1.0),
            (1.0, 127, 0.0),
        ] {
            let step = (f64::from(tau) * 1e6).round() / 1e6;
            for i in 0..steps {
                let [a, b, c] = [i, i + 1, i + 2].map(|i| from + f64::from(i) * step);
                assert!(near(a, b, tau) && near(b, a, tau), "{a} and {b} are {tau} apart");
                assert!(!near(a, c, tau) && !near(c, a, tau), "{a} and {c} are more than {tau} apart");
                // The same in f32 from the start.
                let [a, b] = [i, i + 1].map(|i| f64::from(from as f32 + i as f32 * tau));
                assert!(near(a, b, tau), "{a} and {b} are {tau} apart in f32");
            }
        }
        // Where it ends.
        assert!(near(0.0, 0.7, 0.7) && near(0.0, 0.70017, 0.7) && !near(0.0, 0.70018, 0.7));
        // Without a tau bins are exact, and equal numbers equal.
        assert!(near(3.0, 3.0, 0.0) && !near(3.0, 4.0, 0.0));
        assert!(near(0.1 + 0.2, 0.3, 0.0) && near(0.0, 0.9e-6, 0.0) && !near(0.0, 1.1e-6, 0.0));
    }
}

#[test]
fn a_pairing_that_is_none_is_loud() {
    let rows = Rows::new(normal(1, 6 * 3), vec![0.0, 1.0, 0.0, 2.0, 1.0, 0.0]);
    for pairing in [[0, 1, 2, 3, 4, 6], [0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 4], [0, 1, u32::MAX, 3, 4, 5]] {
        let device = Cpu::<f32>::new(1).unwrap();
        let got = run(&device, Form::Halves, &rows, &rows, &pairing, ContrastiveOptions::default());
        assert!(got[0][0].is_nan(), "{pairing:?}");
    }
}

/// An odd batch leaves one row out.
#[test]
fn the_odd_row_has_no_gradient() {
    let rows = Rows::new(normal(1, 5 * 3), vec![0.0; 5]);
    let device = Cpu::<f32>::new(1).unwrap();
    let got = run(&device, Form::Halves, &rows, &rows, &[4, 0, 3, 1, 2], ContrastiveOptions::default());
    assert!(got[1][6..9].iter().all(|&v| v == 0.0) && got[1][..3].iter().any(|&v| v != 0.0));
}

/// Backward through something more than the loss itself, and with rows on both sides of a cross.
#[test]
fn upstream_scales_and_fan_out_adds() {
    let device = Cpu::<f64>::new(1).unwrap();
    let device: &dyn Device = &device;
    let (n, d) = (9, 4);
    let (z, l) = (normal(1, n * d), (0..n).map(|i| (i % 3) as f64).collect::<Vec<_>>());
    let gradient = |factor: Option<f32>, both: bool| {
        let mut g = Graph::new();
        let home = device.alloc(etude::kernel::Elem::Real, n * d).unwrap();
        let zv = g.leaf(&device.upload(&z).unwrap(), Some(&home), &[n, d]).unwrap();
        let lv = g.bind(&device.upload(&l).unwrap(), &[n]).unwrap();
        let opts = ContrastiveOptions::default();
        let mut loss = match both {
            true => contrastive_cross(&mut g, zv, lv, zv, lv, opts).unwrap(),
            false => contrastive(&mut g, zv, lv, opts).unwrap(),
        };
        if let Some(factor) = factor {
            loss = etude::ops::scale(&mut g, loss, factor).unwrap();
        }
        g.backward(loss).unwrap();
        g.compile(device, &[]).unwrap().run().unwrap();
        device.download_f64(&home).unwrap()
    };
    let once = gradient(None, false);
    let scaled: Vec<f64> = once.iter().map(|v| -2.5 * v).collect();
    assert!(relative(&gradient(Some(-2.5), false), &scaled) < 1e-12);
    // Every pair comes twice among n², beside n pairs of a row with itself.
    let (pairs, crossed) = ((n * (n - 1) / 2) as f64, (n * n) as f64);
    let crossed: Vec<f64> = once.iter().map(|v| v * 2.0 * pairs / crossed).collect();
    assert!(relative(&gradient(None, true), &crossed) < 1e-12);
    assert!(
        relative(&gradient(Some(3.0), true), &crossed.iter().map(|v| 3.0 * v).collect::<Vec<_>>()) < 1e-12
    );
}

#[test]
fn refusals_name_the_op_the_argument_and_both_shapes() {
    let device = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &device;
    let fine = ContrastiveOptions::default();
    type Op = fn(&mut Graph, &[Var], ContrastiveOptions) -> etude::Result<Var>;
    let all: Op = |g, v, o| contrastive(g, v[0], v[1], o);
    let cross: Op = |g, v, o| contrastive_cross(g, v[0], v[1], v[2], v[3], o);
    let halves: Op = |g, v, o| contrastive_halves(g, v[0], v[1], v[2], o);
    let with = |f: fn(&mut ContrastiveOptions)| {
        let mut o = fine;
        f(&mut o);
        o
    };
    type Row<'a> = (&'a str, &'a str, &'a [&'a str], Op, &'a [&'a [usize]], ContrastiveOptions);
    let weighted: Op = |g, v, o| contrastive(g, v[0], Labels::weighted(v[1], v[2]), o);
    let table: [Row<'_>; 18] = [
        ("contrastive", "weights", &["[5]", "[4, 2]"], weighted, &[&[4, 2], &[4], &[5]], fine),
        ("contrastive", "grad_scale", &["NaN"], all, &[&[4, 2], &[4]], with(|o| o.grad_scale = f32::NAN)),
        ("contrastive", "z", &["[4]"], all, &[&[4], &[4]], fine),
        ("contrastive", "z", &["[1, 3]"], all, &[&[1, 3], &[1]], fine),
        ("contrastive", "z", &["[3, 0]"], all, &[&[3, 0], &[3]], fine),
        ("contrastive", "labels", &["[3]", "[4, 2]"], all, &[&[4, 2], &[3]], fine),
        ("contrastive", "labels", &["[4, 1]"], all, &[&[4, 2], &[4, 1]], fine),
        ("contrastive", "margin", &["0"], all, &[&[4, 2], &[4]], with(|o| o.margin = 0.0)),
        ("contrastive", "margin", &["-1"], all, &[&[4, 2], &[4]], with(|o| o.margin = -1.0)),
        ("contrastive", "margin", &["NaN"], all, &[&[4, 2], &[4]], with(|o| o.margin = f32::NAN)),
        ("contrastive", "tau", &["-0.1"], all, &[&[4, 2], &[4]], with(|o| o.tau = -0.1)),
        ("contrastive", "tau", &["NaN"], all, &[&[4, 2], &[4]], with(|o| o.tau = f32::NAN)),
        ("contrastive", "weight", &["inf"], all, &[&[4, 2], &[4]], with(|o| o.weight = f32::INFINITY)),
        ("contrastive_cross", "others", &["[5, 3]", "[4, 2]"], cross, &[&[4, 2], &[4], &[5, 3], &[5]], fine),
        ("contrastive_cross", "labels_o", &["[4]", "[5, 2]"], cross, &[&[4, 2], &[4], &[5, 2], &[4]], fine),
        ("contrastive_cross", "labels_z", &["[5]", "[4, 2]"], cross, &[&[4, 2], &[5], &[5, 2], &[5]], fine),
        ("contrastive_halves", "pairing", &["[3, 2]", "[4, 2]"], halves, &[&[4, 2], &[4], &[3, 2]], fine),
        ("contrastive_halves", "z", &["[1, 2]"], halves, &[&[1, 2], &[1], &[0, 2]], fine),
    ];
    for (op, argument, says, build, shapes, opts) in table {
        let mut g = Graph::new();
        let vars: Vec<Var> = shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| {
                let len = shape.iter().product();
                let index = op == "contrastive_halves" && i == 2;
                let buf =
                    if index { device.upload(&vec![0u32; len]) } else { device.upload(&vec![0f32; len]) };
                g.bind(&buf.unwrap(), shape).unwrap()
            })
            .collect();
        match build(&mut g, &vars, opts) {
            Err(Error::Shape { op: o, argument: a, message }) => {
                assert_eq!((o, a), (op, argument), "{message}");
                assert!(says.iter().all(|s| message.contains(s)), "{op} {argument}: {message}");
            }
            other => panic!("{op} {argument}: {other:?}"),
        }
    }
}

#[test]
fn bins_refuse_what_is_no_rating() {
    assert_eq!(bins(&[0.2f32, 0.4, 0.6, 0.8, 1.0], 5).unwrap(), [1.0, 2.0, 3.0, 4.0, 4.0]);
    for (rating, k) in [(1.01, 5), (-0.01, 5), (f64::NAN, 5), (0.5, 1), (0.5, 0), (0.5, usize::MAX)] {
        assert!(bins(&[rating], k).is_err(), "{rating} {k}");
    }
}
