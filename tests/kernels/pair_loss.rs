//! The contrastive loss of pairs that are there one by one, against the formula as it stands and against the loss over all
//! pairs.

use etude::cases::{normal, relative, uniform};
use etude::device::{Buf, Cpu, Device};
use etude::embed::{PairLoss, Pairs};
use etude::graph::{Graph, Var};
use etude::kernel::Elem;
use etude::ops::contrastive::{ContrastiveOptions, Labels, Metric, contrastive, contrastive_cross};
use etude::ops::pair_loss::{PairLossOptions, pair_loss};
use etude::ops::similarity::{Similarity, similarity};
use proptest::prelude::*;

/// A block of pairs.
struct Block {
    shape: [usize; 2],
    own: Option<usize>,
    similarities: Vec<f64>,
    apart: Vec<f64>,
    weights: Option<Vec<f64>>,
    upstream: Vec<f64>,
}

impl Block {
    fn any(seed: u64, shape: [usize; 2], own: Option<usize>, weighted: bool) -> Self {
        let of = |k: u64, n: usize| uniform(seed ^ k << 32, n);
        let pairs = shape[0] * shape[1];
        let similarities = of(1, pairs).into_iter().map(|v| f64::from((2.0 * v - 0.5) as f32)).collect();
        let weights = of(3, pairs).into_iter().map(|v| f64::from((1.5 * v - 0.5).max(0.0) as f32));
        let weights = weighted.then(|| weights.collect());
        Self { shape, own, similarities, apart: of(2, pairs), weights, upstream: normal(seed, shape[0]) }
    }

    /// Sums, totals and slopes.
    fn plain(&self, PairLossOptions { metric, margin, tau }: PairLossOptions) -> [Vec<f64>; 3] {
        let ([rows, m], tau) = (self.shape, 1.00025 * f64::from(tau) + 1e-6);
        let [mut sums, mut totals, mut slopes] = [vec![0.0; rows], vec![0.0; rows], vec![0.0; rows * m]];
        for (i, up) in self.upstream.iter().enumerate() {
            for j in (0..m).filter(|&j| self.own.is_none_or(|first| first + i != j)) {
                let at = i * m + j;
                let s = self.weights.as_ref().map_or(1.0, |w| w[at]);
                let similarity = self.similarities[at];
                let (d, sign) =
                    if metric == Metric::Cosine { (1.0 - similarity, -1.0) } else { (similarity, 1.0) };
                let far = f64::from(margin) * self.apart[at] - d;
                let slope = if self.apart[at] <= tau { d } else { -far.max(0.0) };
                totals[i] += s;
                sums[i] += s * slope * slope / 2.0;
                slopes[at] = sign * up * s * slope;
            }
        }
        [sums, totals, slopes]
    }

    fn run(&self, device: &dyn Device, options: PairLossOptions) -> [Vec<f64>; 3] {
        let up = |v: &[f64]| device.upload(v).unwrap();
        let like = |n: usize| device.alloc(Elem::Real, n).unwrap();
        let (similarities, apart) = (up(&self.similarities), up(&self.apart));
        let (weights, upstream) = (self.weights.as_ref().map(|w| up(w)), up(&self.upstream));
        let pairs = Pairs { similarities: &similarities, apart: &apart, weights: weights.as_ref() };
        let [rows, m] = self.shape;
        let to: [Buf; 3] = [rows, rows, rows * m].map(like);
        let of = PairLoss::new(self.shape, self.own, options).unwrap();
        of.forward(device, pairs, &to[0], &to[1]).unwrap();
        of.backward(device, pairs, &upstream, &to[2]).unwrap();
        to.map(|buf| device.download_f64(&buf).unwrap())
    }

    /// Both CPU instances against the formula, the f32 one on any number of threads with the same bits.
    fn check(&self, options: PairLossOptions) {
        let want = self.plain(options);
        let near = |got: &[Vec<f64>; 3], within: f64| {
            for (got, want) in got.iter().zip(&want) {
                let off = relative(got, want);
                assert!(off <= within, "{off:e}: {got:?}, want {want:?}");
            }
        };
        near(&self.run(&Cpu::<f64>::new(2).unwrap(), options), 1e-14);
        let ours = self.run(&Cpu::<f32>::new(1).unwrap(), options);
        near(&ours, 1e-6);
        assert_eq!(ours, self.run(&Cpu::<f32>::new(3).unwrap(), options));
    }
}

fn options(metric: Metric, margin: f32, tau: f32) -> PairLossOptions {
    PairLossOptions { metric, margin, tau }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever the shape and the options.
    #[test]
    fn any_pairs(
        seed: u64,
        (rows, more) in (1usize..12, 0usize..80),
        (own, cosine, weighted) in any::<(bool, bool, bool)>(),
        margin in 0.1f32..4.0,
        tau in 0.0f32..0.5,
    ) {
        let m = rows + more;
        let own = own.then_some(seed as usize % (more + 1));
        let metric = if cosine { Metric::Cosine } else { Metric::Euclidean };
        Block::any(seed, [rows, m], own, weighted).check(options(metric, margin, tau));
    }
}

/// Every count of columns around that of a vector's lanes, a row's own pair at every place.
#[test]
fn columns_of_every_count() {
    for m in 1..36 {
        Block::any(m as u64, [m, m], Some(0), false).check(options(Metric::Euclidean, 2.0, 0.2));
        Block::any(m as u64, [2, m], None, true).check(options(Metric::Cosine, 2.0, 0.2));
    }
}

/// With labels' own distances and the products of samples' weights it is the loss over all pairs, and so are its gradients.
#[test]
fn it_is_the_contrastive_loss_by_rows() {
    let (n, m, d) = (23, 9, 5);
    let device = Cpu::<f64>::new(1).unwrap();
    let device: &dyn Device = &device;
    let of_n = [normal(1, n * d), uniform(2, n), uniform(3, n)];
    let of_m = [normal(4, m * d), uniform(5, m), uniform(6, m)];
    for (metric, kind) in [(Metric::Euclidean, Similarity::Euclidean), (Metric::Cosine, Similarity::Cosine)] {
        for cross in [false, true] {
            let others = if cross { &of_m } else { &of_n };
            let columns = others[1].len();
            let pairs = |f: &dyn Fn(usize, usize) -> f64| {
                (0..n * columns).map(|at| f(at / columns, at % columns)).collect::<Vec<_>>()
            };
            let apart = pairs(&|i, j| (of_n[1][i] - others[1][j]).abs());
            let weights = pairs(&|i, j| of_n[2][i] * others[2][j]);
            // The mean over pairs: what all weigh.
            let total: f64 = (0..n * columns)
                .filter(|at| cross || at / columns != at % columns)
                .map(|at| weights[at])
                .sum();
            let both = |by_rows: bool| {
                let mut g = Graph::new();
                let mut leaf =
                    |v: &[f64], shape: &[usize]| g.leaf(&device.upload(v).unwrap(), None, shape).unwrap();
                let (z, o) = (leaf(&of_n[0], &[n, d]), leaf(&others[0], &[columns, d]));
                let [y, w] = [&of_n[1], &of_n[2]].map(|v| leaf(v, &[n]));
                let [yo, wo] = [&others[1], &others[2]].map(|v| leaf(v, &[columns]));
                let [apart, weights] = [&apart, &weights].map(|v| leaf(v, &[n, columns]));
                let share = leaf(&vec![1.0 / total; n], &[n]);
                let losses = if by_rows {
                    let s = similarity(&mut g, z, if cross { o } else { z }, kind).unwrap();
                    let (own, of) = ((!cross).then_some(0), options(metric, 2.0, 0.1));
                    let [sums, _] = pair_loss(&mut g, s, apart, Some(weights), own, of).unwrap();
                    g.backward_from(sums, share).unwrap();
                    sums
                } else {
                    let of = ContrastiveOptions { metric, margin: 2.0, tau: 0.1, ..Default::default() };
                    let labels = Labels::weighted(y, w);
                    let loss = if cross {
                        contrastive_cross(&mut g, z, labels, o, Labels::weighted(yo, wo), of).unwrap()
                    } else {
                        contrastive(&mut g, z, labels, of).unwrap()
                    };
                    g.backward(loss).unwrap();
                    loss
                };
                let mut vars = vec![losses, g.grad(z).unwrap()];
                vars.extend(cross.then(|| g.grad(o).unwrap()));
                let mut step = g.compile(device, &vars).unwrap();
                step.run().unwrap();
                let read = |v: Var| device.download_f64(step.buf(v).unwrap()).unwrap();
                let mut results: Vec<Vec<f64>> = vars.into_iter().map(read).collect();
                if by_rows {
                    results[0] = vec![results[0].iter().sum::<f64>() / total];
                }
                results
            };
            for (got, want) in both(true).iter().zip(both(false)) {
                assert!(relative(got, &want) < 1e-12, "{metric:?}: {got:?}, want {want:?}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let says = |shape, own, options| PairLoss::new(shape, own, options).unwrap_err().to_string();
    let usual = PairLossOptions::default();
    for shape in [[0, 3], [3, 0], [1 << 16, 1 << 16], [usize::MAX, 2]] {
        let refused = says(shape, None, usual);
        assert!(refused.contains("similarities: needs from 1 to 2^32 − 1 pairs"), "{refused}");
    }
    let refused = says([3, 5], Some(3), usual);
    assert!(refused.contains("own: rows from 3 on of 5 are not 3"), "{refused}");
    assert!(says([3, 5], Some(usize::MAX), usual).contains("own"));
    assert!(PairLoss::new([3, 5], Some(2), usual).is_ok());
    let refused = says([1, 1], None, PairLossOptions { margin: 0.0, ..usual });
    assert!(refused.contains("margin: must be positive and finite, is 0"), "{refused}");
    let refused = says([1, 1], None, PairLossOptions { tau: f32::NAN, ..usual });
    assert!(refused.contains("tau: must be finite and not negative"), "{refused}");
    let [pairs, row, short] = [6, 2, 5].map(|n| device.alloc(Elem::Real, n).unwrap());
    let of = PairLoss::new([2, 3], None, usual).unwrap();
    let given = Pairs { similarities: &pairs, apart: &short, weights: None };
    let refused = of.forward(device, given, &row, &row).unwrap_err().to_string();
    assert!(refused.contains("apart: 5 elements for shape [2, 3]"), "{refused}");
    let given = Pairs { apart: &pairs, weights: Some(&short), ..given };
    let refused = of.backward(device, given, &row, &pairs).unwrap_err().to_string();
    assert!(refused.contains("weights: 5 elements for shape [2, 3]"), "{refused}");
    let given = Pairs { weights: None, ..given };
    let refused = of.backward(device, given, &row, &pairs).unwrap_err().to_string();
    assert!(refused.contains("written `slopes` overlaps"), "{refused}");
    let mut g = Graph::new();
    let [s, other] = [&pairs, &short].map(|buf| g.bind(buf, &[1, buf.len()]).unwrap());
    let refused = pair_loss(&mut g, s, other, None, None, usual).unwrap_err().to_string();
    assert!(refused.contains("apart: shape [1, 5] for similarities of shape [1, 6]"), "{refused}");
}
