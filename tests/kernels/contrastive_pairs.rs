//! The contrastive loss where most pairs count for nothing: classes whose positive pairs are not met one by one, tiles that their
//! bounds keep closed, coefficients of which most are 0. All against the plain double loop.

use crate::contrastive_loss::{Form, Outcome, Rows, run};
use etude::cases::{normal, relative, uniform};
use etude::device::Cpu;
use etude::ops::contrastive::{ContrastiveOptions, Metric};
use etude::simd::Simd;
use proptest::prelude::*;

/// How labels go with clusters.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Labels {
    /// A cluster's number.
    OfCluster,
    /// Five numbers, at random.
    Binned,
    /// As many as samples, a cluster's near each other.
    Continuous,
    One,
}

#[derive(Debug, Clone, Copy)]
struct Clusters {
    count: usize,
    /// Beside distances of about `√(2·d)`.
    noise: f64,
    /// Of everything.
    size: f64,
    labels: Labels,
    /// Of labels.
    unit: f64,
}

impl Clusters {
    fn rows(self, n: usize, d: usize, seed: u64) -> Rows {
        // The same centres whatever the seed: both sides of a cross have the same clusters.
        let (centres, noise) = (normal(5, self.count * d), normal(seed, n * d));
        let random = uniform(seed + 1, n);
        let of = |i: usize| i * 7 % self.count;
        let z = (0..n * d).map(|e| self.size * (centres[of(e / d) * d + e % d] + self.noise * noise[e]));
        let label = |i: usize| match self.labels {
            Labels::OfCluster => of(i) as f64,
            Labels::Binned => (5.0 * random[i]).floor(),
            Labels::Continuous => of(i) as f64 + random[i],
            Labels::One => 3.0,
        };
        Rows::new(z.collect(), (0..n).map(|i| self.unit * label(i)).collect())
    }
}

fn clusters() -> impl Strategy<Value = Clusters> {
    let labels = prop_oneof![
        Just(Labels::OfCluster),
        Just(Labels::Binned),
        Just(Labels::Continuous),
        Just(Labels::One)
    ];
    let noise = prop_oneof![Just(0.0), Just(1e-6), Just(1e-3), Just(0.05), Just(0.5)];
    let size = prop_oneof![Just(1.0), Just(1e-12), Just(1e12)];
    let unit = prop_oneof![Just(1.0), Just(1e18)];
    (1usize..7, noise, size, labels, unit).prop_map(|(count, noise, size, labels, unit)| Clusters {
        count,
        noise,
        size,
        labels,
        unit,
    })
}

/// Loss and gradients to four digits and a floor.
fn close(what: &str, got: &Outcome, want: &Outcome, floors: [f64; 2]) -> Result<(), TestCaseError> {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    for (part, (got, want)) in got.iter().zip(want).enumerate() {
        let off = norm(&mut got.iter().zip(want).map(|(g, w)| g - w));
        let size = norm(&mut want.iter().copied());
        // Pairs at 1e-3 to 3e-3 of the norm lose up to 6e-8 / 1e-3 of the gradient's difference, as in the case table.
        let (tolerance, floor) = ([1e-5, 1e-4][part.min(1)], floors[part.min(1)]);
        prop_assert!(off <= tolerance * size + floor, "{what}, output {part}: off by {off:e} of {size:e}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..Default::default() })]

    #[test]
    fn few_pairs_are_all_pairs_that_count(
        of in clusters(),
        metric in prop_oneof![Just(Metric::Euclidean), Just(Metric::Cosine)],
        form in prop_oneof![Just(Form::All), Just(Form::Cross)],
        n in 1usize..330,
        m in 1usize..220,
        d in prop_oneof![1usize..40, 120usize..140],
        margin in prop_oneof![Just(1e-3), Just(1.0), Just(2.5), Just(1e3)],
        tau in prop_oneof![Just(0.0f32), Just(0.3), Just(1.0)],
        weighted in 0u32..4,
        seed in any::<u32>(),
    ) {
        let n = if form == Form::All { n + 1 } else { n };
        let weights = |bit: u32, n: usize, seed: u64| {
            let weights = uniform(seed, n).into_iter().enumerate();
            (weighted & bit > 0).then(|| weights.map(|(i, w)| if i > 1 && w < 0.25 { 0.0 } else { w + 0.1 }).collect())
        };
        let a = of.rows(n, d, seed.into()).weigh(weights(1, n, u64::from(seed) + 7));
        let b = of.rows(m, d, u64::from(seed) + 2).weigh(weights(2, m, u64::from(seed) + 8));
        // Margins in units of what they are compared with.
        let size = if metric == Metric::Cosine { 1.0 } else { of.size };
        let opts = ContrastiveOptions { metric, margin: (margin * size / of.unit) as f32, tau, ..Default::default() };
        let want = run(&Cpu::<f64>::new(1).unwrap(), form, &a, &b, &[], opts);
        // What loss and gradient are made of: distances and margins of a few times the size, of which f32 has so many digits
        // where nearly all of it is beyond the margin.
        let longest = size * (margin * 7.0 + (2.0 * d as f64).sqrt());
        let by = if metric == Metric::Cosine { longest / of.size } else { longest };
        let floors = [2e-8 * longest * longest, 2e-8 * by];
        for simd in Simd::supported() {
            let got = run(&Cpu::<f32>::with_simd(1, simd).unwrap(), form, &a, &b, &[], opts);
            for threads in [2, 3, 7] {
                let more = run(&Cpu::<f32>::with_simd(threads, simd).unwrap(), form, &a, &b, &[], opts);
                prop_assert_eq!(&got, &more, "{:?}: {} threads change bits", simd, threads);
            }
            close(&format!("{simd:?}"), &got, &want, floors)?;
        }
    }
}

/// Two balls of rows, full tiles each, whose nearest two rows are just inside the margin and the only pair that counts: the
/// bounds of the tiles, which are exact here, must not close over it.
#[test]
fn a_pair_just_inside_its_margin_counts() {
    for metric in [Metric::Euclidean, Metric::Cosine] {
        for d in [2usize, 3, 16, 128] {
            for inside in [1e-2, 1e-3, 1e-4, 1e-5] {
                let (z, nearest) = two_balls(metric, d);
                let labels = (0..192).map(|i| f64::from(u8::from(i >= 96))).collect();
                let rows = Rows::new(z, labels);
                let margin = (nearest * (1.0 + inside)) as f32;
                let opts = ContrastiveOptions { metric, margin, ..Default::default() };
                // Across the two: positive pairs have no part in this.
                let alone = |rows: &Rows, device: &dyn etude::device::Device| {
                    let (a, b) = halves(rows, d);
                    run(device, Form::Cross, &a, &b, &[], opts)
                };
                let want = alone(&rows, &Cpu::<f64>::new(1).unwrap());
                assert!(want[0][0] > 0.0, "{metric:?} d{d} {inside:e}: the pair counts");
                for simd in Simd::supported() {
                    let got = alone(&rows, &Cpu::<f32>::with_simd(1, simd).unwrap());
                    // A distance rounds by 3e-7 or so; of what is left to the margin that is so much.
                    let tolerance = 1e-5 + 1.5e-6 / inside;
                    for (got, want) in got.iter().zip(&want) {
                        let e = relative(got, want);
                        assert!(e <= tolerance, "{simd:?} {metric:?} d{d} {inside:e}: {e:e}");
                    }
                }
            }
        }
    }
}

/// The rows of either ball.
fn halves(rows: &Rows, d: usize) -> (Rows, Rows) {
    let (z, others) = rows.z.split_at(96 * d);
    let (labels, of_others) = rows.labels.split_at(96);
    (Rows::new(z.to_vec(), labels.to_vec()), Rows::new(others.to_vec(), of_others.to_vec()))
}

/// Rows in pairs on either side of a centre, the first on the line between both centres; and the distance of the nearest two.
fn two_balls(metric: Metric, d: usize) -> (Vec<f64>, f64) {
    let mut z = Vec::new();
    for side in [-1.0, 1.0] {
        for i in 0..96 {
            let mut row = vec![0.0; d];
            // 1/16, or less along another axis; the row after it lies opposite.
            let to = if i < 2 { side * 0.0625 } else { 0.03 } * if i % 2 == 0 { -1.0 } else { 1.0 };
            row[if i < 2 { 0 } else { 1 }] = to;
            row[0] += side * 0.5;
            if metric == Metric::Cosine {
                // On a line of directions.
                row[1] += 1.0;
            }
            z.extend(row);
        }
    }
    let z: Vec<f64> = z.into_iter().map(|v| f64::from(v as f32)).collect();
    let nearest = (0..96).flat_map(|i| (96..192).map(move |j| (i, j))).map(|(i, j)| {
        let (a, b) = (&z[i * d..][..d], &z[j * d..][..d]);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        match metric {
            Metric::Euclidean => a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
            Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        }
    });
    let nearest = nearest.fold(f64::INFINITY, f64::min);
    (z, nearest)
}

/// So many rows that every block has some tiles of every cluster, on any number of threads.
#[test]
fn threads_change_no_bit_of_clustered_rows() {
    for labels in [Labels::OfCluster, Labels::Continuous, Labels::Binned] {
        let of = Clusters { count: 5, noise: 0.05, size: 1.0, labels, unit: 1.0 };
        let (a, b) = (of.rows(3500, 5, 1), of.rows(1700, 5, 2));
        let opts = ContrastiveOptions::default();
        for form in [Form::All, Form::Cross] {
            let [one, two, three, seven] =
                [1, 2, 3, 7].map(|threads| run(&Cpu::<f32>::new(threads).unwrap(), form, &a, &b, &[], opts));
            assert!(one == two && one == three && one == seven, "{labels:?} {form:?}");
        }
    }
}
