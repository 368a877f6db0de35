//! The WGSL contrastive loss and similarity matrices beyond the case table: near-duplicates, extreme sizes, wide
//! rows, bad pairings.

use crate::gpu;
use etude::cases::{Case, Input, Role, normal, relative, uniform};
use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::kernel::Elem;
use etude::ops::contrastive::{
    ContrastiveOptions, Labels, Metric, contrastive, contrastive_cross, contrastive_halves,
};
use etude::ops::similarity::{Similarity, similarity};
use etude::similarity::DeviceTopK;

const METRICS: [Metric; 2] = [Metric::Euclidean, Metric::Cosine];

fn rounded(v: impl IntoIterator<Item = f64>) -> Vec<f64> {
    v.into_iter().map(|v| f64::from(v as f32)).collect()
}

/// Loss and gradient, poisoned before; over all pairs, or those of `pairing`.
fn run(
    device: &dyn Device,
    z: &[f64],
    labels: &[f64],
    pairing: Option<&[u32]>,
    opts: ContrastiveOptions,
) -> [Vec<f64>; 2] {
    let n = labels.len();
    let mut g = Graph::new();
    let z = g.leaf(&device.upload(z).unwrap(), None, &[n, z.len() / n]).unwrap();
    let labels = g.bind(&device.upload(labels).unwrap(), &[n]).unwrap();
    let loss = match pairing {
        None => contrastive(&mut g, z, labels, opts),
        Some(rows) => {
            let rows = g.bind(&device.upload(rows).unwrap(), &[rows.len()]).unwrap();
            contrastive_halves(&mut g, z, labels, rows, opts)
        }
    }
    .unwrap();
    g.backward(loss).unwrap();
    let keep = [loss, g.grad(z).unwrap()];
    let mut step = g.compile(device, &keep).unwrap();
    step.poison(device).unwrap();
    step.run().unwrap();
    keep.map(|v| device.download_f64(step.buf(v).unwrap()).unwrap())
}

/// Pairs at `spread` of the norm alone count, all others being beyond the margin or alike.
#[test]
fn near_duplicates_keep_three_digits() {
    let (device, oracle) = (gpu::wgpu(), Cpu::<f64>::new(1).unwrap());
    let (clusters, n) = (4, 56);
    for (metric, d) in METRICS.into_iter().flat_map(|m| [2, 16, 33, 128].map(|d| (m, d))) {
        for (spread, alike) in
            [1e-2, 3e-3, 1e-3, 1e-5, 1e-6].into_iter().flat_map(|s| [(s, false), (s, true)])
        {
            let (centres, noise) = (normal(1, clusters * d), normal(2, n * d));
            let z = rounded((0..n * d).map(|e| {
                let c = e / d % clusters;
                // Far apart in direction as in place.
                let far = if e % d == c % d { 3.0 * (d as f64).sqrt() } else { 0.0 };
                centres[c * d + e % d] + far + spread * noise[e]
            }));
            let labels: Vec<f64> =
                (0..n).map(|i| if alike { i % clusters } else { i / clusters } as f64).collect();
            let opts = ContrastiveOptions { metric, margin: 1e-3, ..Default::default() };
            // Rows of a cluster are four apart.
            let pairing: Vec<u32> =
                (0..56).map(|e| e / 8 * 8 + [0, 4, 1, 5, 2, 6, 3, 7][e as usize % 8]).collect();
            for pairing in [None, Some(pairing)] {
                let want = run(&oracle, &z, &labels, pairing.as_deref(), opts);
                let got = run(&device, &z, &labels, pairing.as_deref(), opts);
                for (what, got, want) in [("loss", &got[0], &want[0]), ("gradient", &got[1], &want[1])] {
                    let e = relative(got, want);
                    assert!(
                        e <= 1e-3,
                        "{metric:?} d{d} spread {spread:e} alike {alike} halves {}: {what} {e:e}",
                        pairing.is_some()
                    );
                }
            }
        }
    }
}

#[test]
fn no_size_of_numbers_makes_a_nan() {
    let (device, oracle) = (gpu::wgpu(), Cpu::<f64>::new(1).unwrap());
    for metric in METRICS {
        for size in [1e-44, 1e-38, 1e-30, 1e-20, 1e-12, 1e12, 1e18, 1e19, 1e25, 1e30] {
            for n in [2, 60] {
                let z = rounded(normal(5, n * 4).into_iter().map(|v| v * size));
                let mut mixed = z.clone();
                mixed[..4].fill(0.0);
                mixed[4..8].fill(1.0);
                for z in [z, mixed] {
                    let labels: Vec<f64> = (0..n).map(|i| (i % 2) as f64).collect();
                    let opts = ContrastiveOptions { metric, ..Default::default() };
                    let got = run(&device, &z, &labels, None, opts);
                    assert!(!got.iter().flatten().any(|v| v.is_nan()), "{metric:?} {size:e} n{n}");
                    if (1e-12..=1e12).contains(&size) {
                        let want = run(&oracle, &z, &labels, None, opts);
                        for (got, want) in got.iter().zip(&want) {
                            let e = relative(got, want);
                            assert!(e <= 1e-4, "{metric:?} {size:e} n{n}: {e:e}");
                        }
                    }
                }
            }
        }
    }
}

/// Whole registers of columns, and more than a turn of them holds.
#[test]
fn wide_rows_are_right() {
    let (device, oracle) = (gpu::wgpu(), Cpu::<f64>::new(1).unwrap());
    for (metric, d) in METRICS.into_iter().flat_map(|m| [511, 512, 513, 1030].map(|d| (m, d))) {
        let (z, labels) = (normal(3, 40 * d), (0..40).map(|i| (i % 3) as f64).collect::<Vec<_>>());
        // Rows of so many columns are far apart.
        let margin = if metric == Metric::Euclidean { 40.0 } else { 0.5 };
        let opts = ContrastiveOptions { metric, margin, ..Default::default() };
        let (got, want) = (run(&device, &z, &labels, None, opts), run(&oracle, &z, &labels, None, opts));
        for (got, want) in got.iter().zip(&want) {
            let e = relative(got, want);
            assert!(e <= 5e-6, "{metric:?} d{d}: {e:e}");
        }
    }
}

#[test]
fn a_pairing_that_is_none_is_loud() {
    let device = gpu::wgpu();
    let (z, labels) = (normal(6, 70 * 3), vec![1.0; 70]);
    let good: Vec<u32> = (0..70).collect();
    for (at, index) in [(0, 70), (69, u32::MAX), (1, 0), (40, 3)] {
        let mut pairing = good.clone();
        pairing[at] = index;
        let [loss, _] = run(&device, &z, &labels, Some(&pairing), ContrastiveOptions::default());
        assert!(loss[0].is_nan(), "{index} at {at}");
    }
    let [loss, _] = run(&device, &z, &labels, Some(&good), ContrastiveOptions::default());
    assert!(loss[0].is_finite());
}

/// Cosine pairs across the two sets at every closeness.
#[test]
fn cross_keeps_three_digits_of_near_duplicates() {
    let (device, oracle) = (gpu::wgpu(), Cpu::<f64>::new(1).unwrap());
    let (n, d) = (40, 20);
    for (metric, spread) in METRICS.into_iter().flat_map(|m| [1e-3, 1e-6].map(|s| (m, s))) {
        let centre = normal(1, d);
        let rows =
            |seed| rounded(normal(seed, n * d).iter().enumerate().map(|(e, v)| centre[e % d] + spread * v));
        let (a, b) = (rows(2), rows(3));
        let labels: Vec<f64> = (0..n).map(|i| (i % 2) as f64).collect();
        let opts = ContrastiveOptions { metric, ..Default::default() };
        let outcome = |device: &dyn Device| {
            let mut g = Graph::new();
            let mut rows = |z: &Vec<f64>| g.leaf(&device.upload(z).unwrap(), None, &[n, d]).unwrap();
            let (a, b) = (rows(&a), rows(&b));
            let l = g.bind(&device.upload(&labels).unwrap(), &[n]).unwrap();
            let loss = contrastive_cross(&mut g, a, l, b, l, opts).unwrap();
            g.backward(loss).unwrap();
            let keep = [loss, g.grad(a).unwrap(), g.grad(b).unwrap()];
            let mut step = g.compile(device, &keep).unwrap();
            step.poison(device).unwrap();
            step.run().unwrap();
            keep.map(|v| device.download_f64(step.buf(v).unwrap()).unwrap())
        };
        for (got, want) in outcome(&device).iter().zip(&outcome(&oracle)) {
            let e = relative(got, want);
            assert!(e <= 1e-3, "{metric:?} spread {spread:e}: {e:e}");
        }
    }
}

#[test]
fn wide_matrices_are_right() {
    let device = gpu::wgpu();
    for kind in [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean] {
        for (n, m, d) in [(33, 65, 512), (5, 70, 515), (40, 3, 2)] {
            let inputs = vec![Input::normal(1, &[n, d]), Input::normal(2, &[m, d])];
            let name = format!("{kind:?} {n} {m} {d}");
            let case = Case::new("similarity", name, inputs, move |g, v| similarity(g, v[0], v[1], kind));
            let (e, at) = case.parity(&device).unwrap();
            assert!(e <= case.tolerance, "{}: {e:e} at {at}", case.name);
        }
    }
}

/// Rows of every size: the largest element is taken out before a square.
#[test]
fn cosines_of_tiny_and_huge_rows_are_right() {
    let device = gpu::wgpu();
    for size in [1e-30, 1e-18, 1e18, 1e30] {
        let rows = |seed| {
            Input::real(&[20, 7], rounded(normal(seed, 140).into_iter().map(|v| v * size)), Role::Grad)
        };
        let case = Case::new("similarity", format!("{size:e}"), vec![rows(1), rows(2)], |g, v| {
            similarity(g, v[0], v[1], Similarity::Cosine)
        });
        let (e, at) = case.parity(&device).unwrap();
        assert!(e <= case.tolerance, "{size:e}: {e:e} at {at}");
    }
}

/// Beyond some 4,100 rows the sweep is not cut into slices: a workgroup meets every row of the other side.
#[test]
fn many_rows_are_one_slice() {
    let device = gpu::wgpu();
    let rows = |seed, n: usize, d| Input::normal(seed, &[n, d]);
    let labels = |n: usize| Input::real(&[n], (0..n).map(|i| (i % 5) as f64).collect(), Role::Constant);
    let weights = |n: usize| Input::real(&[n], (0..n).map(|i| (i % 4) as f64).collect(), Role::Constant);
    for metric in METRICS {
        let opts = ContrastiveOptions { metric, margin: 1.0, grad_scale: 0.5, ..Default::default() };
        let (n, m) = (40, 4200);
        let inputs = vec![rows(1, n, 5), labels(n), rows(2, m, 5), labels(m), weights(m)];
        let cross = Case::new("contrastive", "cross", inputs, move |g, v| {
            contrastive_cross(g, v[0], v[1], v[2], Labels::weighted(v[3], v[4]), opts)
        });
        let all = Case::new("contrastive", "all", vec![rows(3, 4200, 3), labels(4200)], move |g, v| {
            contrastive(g, v[0], v[1], opts)
        });
        for case in [cross, all] {
            let (e, at) = case.parity(&device).unwrap();
            assert!(e <= 1e-5, "{metric:?} {}: {e:e} at {at}", case.name);
        }
    }
}

/// Rows about a centre for each label: tiles of some labels are beyond their margin, of others within, and a quarter is masked
/// and holds anything. Enough of them that tiles have bounds.
#[test]
fn closed_tiles_have_no_pair_that_counts() {
    let (device, d) = (gpu::wgpu(), 16);
    let set = |seed, n: usize| {
        let (centres, noise) = (normal(9, 5 * d), normal(seed, n * d));
        let label = |i: usize| i * 7 % 5;
        let masked = |i: usize| i % 4 == 3;
        let rows = (0..n * d).map(|e| match e / d {
            i if masked(i) => [f64::NAN, 1e30][i / 4 % 2],
            i => 0.4 * centres[label(i) * d + e % d] + 0.05 * noise[e],
        });
        let labels = (0..n).map(|i| if masked(i) { [f64::NAN, -1.0][i / 4 % 2] } else { label(i) as f64 });
        let weights = (0..n).map(|i| if masked(i) { 0.0 } else { 1.0 + (i % 3) as f64 });
        [
            Input::real(&[n, d], rounded(rows), Role::Grad),
            Input::real(&[n], labels.collect(), Role::Constant),
            Input::real(&[n], weights.collect(), Role::Constant),
        ]
    };
    for (metric, margin) in [(Metric::Euclidean, 0.3), (Metric::Euclidean, 1.0), (Metric::Cosine, 0.4)] {
        let opts = ContrastiveOptions { metric, margin, ..Default::default() };
        let all = Case::new("contrastive", "all", set(1, 2100).to_vec(), move |g, v| {
            contrastive(g, v[0], Labels::weighted(v[1], v[2]), opts)
        });
        let sets = [set(2, 1100), set(3, 2100)].concat();
        let cross = Case::new("contrastive", "cross", sets, move |g, v| {
            contrastive_cross(g, v[0], Labels::weighted(v[1], v[2]), v[3], Labels::weighted(v[4], v[5]), opts)
        });
        for case in [all, cross] {
            let (e, at) = case.parity(&device).unwrap();
            assert!(e <= 1e-5, "{metric:?} {margin} {}: {e:e} at {at}", case.name);
        }
    }
}

/// Exactly what the CPU gives, ties too, where every similarity is a whole number.
#[test]
fn top_k_are_the_cpus() {
    let (device, cpu) = (gpu::wgpu(), Cpu::<f32>::new(1).unwrap());
    for (n, m, d, k) in [(1, 1, 1, 1), (33, 5, 2, 5), (70, 130, 6, 20), (40, 300, 35, 3)] {
        let (a, b) = (normal(1, n * d), normal(2, m * d));
        let [a, b] = [a, b].map(|v| v.iter().map(|v| v.round()).collect::<Vec<f64>>());
        for kind in [Similarity::Dot, Similarity::SquaredEuclidean] {
            let best = |device: &dyn Device| {
                let (a, b) = (device.upload(&a).unwrap(), device.upload(&b).unwrap());
                let mut top = DeviceTopK::compile(device, d, &a, &b, kind, k).unwrap();
                top.run().unwrap();
                let mut indices = vec![0u32; n * k];
                device.read(top.indices(), (&mut indices).into()).unwrap();
                (device.download(top.values()).unwrap(), indices)
            };
            assert_eq!(best(&device), best(&cpu), "{kind:?} {n} {m} {d} {k}");
        }
    }
}

/// Half precision of odd lengths comes back as it went, rounded once, where the adapter has it; bf16 is refused with advice.
#[test]
fn sixteen_bits_are_stored_and_bf16_is_refused() {
    let device = gpu::wgpu();
    let device: &dyn Device = &device;
    let f16 = device.alloc(Elem::F16, 1);
    if let Err(e) = &f16 {
        assert!(e.to_string().contains("no f16") && e.to_string().contains("use f32"), "{e}");
    }
    for n in [1, 2, 7, 64].into_iter().filter(|_| f16.is_ok()) {
        let values: Vec<f32> = normal(3, n).into_iter().map(|v| v as f32).collect();
        let buf = device.alloc(Elem::F16, n).unwrap();
        device.write(&buf, (&values).into()).unwrap();
        let want: Vec<f32> = values.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect();
        assert_eq!(device.download(&buf).unwrap(), want);
        let mut halves = vec![half::f16::ZERO; n];
        device.read(&buf, (&mut halves).into()).unwrap();
        assert!(halves.iter().zip(&want).all(|(h, w)| h.to_f32() == *w));
    }
    let message = device.alloc(Elem::Bf16, 4).unwrap_err().to_string();
    assert!(message.contains("no bf16") && message.contains("use f16"), "{message}");
}

/// llvmpipe ends a shader's loops after 65,535 turns: what comes of it must not look like a result.
#[test]
fn a_sum_the_driver_cut_short_is_nan() {
    let device = gpu::wgpu();
    let (n, m, d) = (40, 64_000, 130);
    let cpu = Cpu::<f32>::new(2).unwrap();
    let inputs = || vec![Input::normal(1, &[n, d]), Input::normal(2, &[m, d])];
    let label = |seed, n| Input::real(&[n], uniform(seed, n), Role::Constant);
    let of_loss = [inputs(), vec![label(3, n), label(4, m)]].concat();
    let loss = Case::new("contrastive", "long", of_loss, |g, v| {
        contrastive_cross(g, v[0], v[2], v[1], v[3], ContrastiveOptions::default())
    });
    let matrix =
        Case::new("similarity", "long", inputs(), |g, v| similarity(g, v[0], v[1], Similarity::Euclidean));
    for case in [loss, matrix] {
        let (want, got) = (case.run(&cpu).unwrap(), case.run(&device).unwrap());
        let cut = |got: &[f64]| got.iter().any(|v| v.is_nan());
        for ((what, want), (_, got)) in want.iter().zip(&got) {
            assert!(cut(got) || relative(got, want) < 1e-4, "{} {what}", case.stem);
        }
        if device.adapter_name().contains("llvmpipe") {
            assert!(got.iter().any(|(_, got)| cut(got)), "{}: not long enough to tell", case.stem);
        }
    }
}
