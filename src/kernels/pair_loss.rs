//! The contrastive loss of each row of a block of pairs, whose labels are so far apart as a matrix says, or as they are, and
//! which count as a matrix says, or their columns.
//!
//! Of row i of a block and column j, with the distance `d` of their embeddings, how far their labels are apart, `w`, and the
//! pair's weight `s`:
//!
//! ```text
//! l_ij = ½·d²   where w <= tau,   ½·max(0, margin·w − d)²   elsewhere           (see [`super::contrastive`])
//!
//! sums_i  = Σ_j s_ij·l_ij          totals_i = Σ_j s_ij
//! ∂/∂d_ij = upstream_i·s_ij·(d where w <= tau, −max(0, margin·w − d) elsewhere)
//! ```
//!
//! * `pair_loss_fwd`: `labels`, `other_labels`, `weights`, `similarities [rows, m]` → `sums`, `totals [rows]`. Labels are
//!   `[rows]` and `[m]`, or the first are the matrix `[rows, m]` of how far they are apart; weights are the columns', `[m]`, or a
//!   matrix, or all 1. Similarities are Euclidean distances, or cosines, `d = 1 − cos`. Where rows are of the columns' own set,
//!   from `first` on, none makes a pair with itself.
//! * `pair_loss_bwd`: those and `upstream [rows]` → `slopes [rows, m]`, the gradient by the similarities.
//!
//! A pair of weight 0 has no part in anything, whatever it holds. The sum of a row is NaN where a weight is not finite or
//! negative, or of a pair that counts the distance is not finite, or how far its labels are apart is not finite or negative; a
//! slope, where what it is made of is not finite.
//!
//! Threads: on a GPU a block owns a row, a thread every 256th of its columns. Cost: some 10 flops and 4 to 16 bytes a pair, which
//! bind it; the similarities themselves are another kernel's.

use crate::dispatch;
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Params, Real, Twin, params};
use crate::kernels::contrastive::Metric;
use crate::simd::{F32x16, LANES};

params! {
    /// Params of both kernels.
    pub struct PairLossParams {
        /// Rows of a block.
        pub rows: u32,
        /// Columns.
        pub m: u32,
        /// The row of the columns' set that a block's first is, where they are of one.
        pub first: u32,
        /// 1 where they are.
        pub own: u32,
        /// 1 where labels are the matrix of how far they are apart; what is bound as the others' is then any buffer.
        pub apart: u32,
        /// 1 where columns have weights, 2 where pairs have, 0 where any buffer is bound for them.
        pub weighted: u32,
        /// A [`Metric`].
        pub metric: u32,
        /// How far apart a negative pair of label distance 1 should be.
        pub margin: f32,
        /// Largest label distance of a positive pair, with its tolerance.
        pub tau: f32,
    }
}

/// Threads of a block.
const BLOCK: u32 = 256;

/// The losses of each row's pairs, and what they weigh.
pub static FWD: Kernel = Kernel {
    name: "pair_loss_fwd",
    bindings: &[
        Binding::input("labels"),
        Binding::input("other_labels"),
        Binding::input("weights"),
        Binding::input("similarities"),
        Binding::output("sums"),
        Binding::output("totals"),
    ],
    params: PairLossParams::LAYOUT,
    cpu: Twin { f32: forward_fast, f64: forward },
    workgroups: &[rows],
    cuda: Cuda::new(BLOCK, rows),
    cost: |p| cost(p, 11, 1, 2),
};

/// The gradient by the similarities.
pub static BWD: Kernel = Kernel {
    name: "pair_loss_bwd",
    bindings: &[
        Binding::input("labels"),
        Binding::input("other_labels"),
        Binding::input("weights"),
        Binding::input("similarities"),
        Binding::input("upstream"),
        Binding::output("slopes"),
    ],
    params: PairLossParams::LAYOUT,
    cpu: Twin { f32: backward_fast, f64: backward },
    workgroups: &[rows],
    cuda: Cuda::new(BLOCK, rows),
    cost: |p| cost(p, 9, 2, 1),
};

fn rows(p: &Params) -> [u32; 3] {
    [p.get::<PairLossParams>().rows, 1, 1]
}

fn cost(p: &Params, flops: usize, of_pair: usize, of_row: usize) -> Cost {
    let PairLossParams { rows, m, apart, weighted, .. } = p.get();
    let (rows, m) = (rows as usize, m as usize);
    let pairs = rows * m;
    let labels = if apart == MATRIX { pairs } else { rows + m };
    let weights = [0, m, pairs][weighted as usize];
    Cost::new(flops.saturating_mul(pairs), of_pair * pairs + of_row * rows + labels + weights)
}

/// That labels are a matrix.
pub const MATRIX: u32 = 1;

/// That weights are the columns'.
pub const OF_COLUMNS: u32 = 1;

/// That weights are the pairs'.
pub const OF_PAIRS: u32 = 2;

/// A row of a block.
struct Row<'a, F> {
    similarities: &'a [F],
    /// The row's label; none where `labels` are how far it is from each.
    label: Option<F>,
    labels: &'a [F],
    weights: Option<&'a [F]>,
    /// The column of the row itself, where there is one.
    own: Option<usize>,
    cosine: bool,
    margin: F,
    tau: F,
}

/// The rows of a block.
struct Block<'a, F> {
    p: PairLossParams,
    similarities: &'a [F],
    labels: &'a [F],
    other_labels: &'a [F],
    weights: &'a [F],
}

impl<'a, F: Real> Block<'a, F> {
    fn row(&self, i: usize) -> Row<'a, F> {
        let m = self.p.m as usize;
        let of = |matrix: &'a [F]| &matrix[i * m..][..m];
        let apart = self.p.apart == MATRIX;
        Row {
            similarities: of(self.similarities),
            label: (!apart).then(|| self.labels[i]),
            labels: if apart { of(self.labels) } else { self.other_labels },
            weights: match self.p.weighted {
                OF_COLUMNS => Some(self.weights),
                OF_PAIRS => Some(of(self.weights)),
                _ => None,
            },
            own: (self.p.own != 0).then_some(self.p.first as usize + i),
            cosine: self.p.metric == Metric::Cosine as u32,
            margin: F::of(f64::from(self.p.margin)),
            tau: F::of(f64::from(self.p.tau)),
        }
    }
}

impl<F: Real> Row<'_, F> {
    fn weight(&self, j: usize) -> F {
        if self.own == Some(j) { F::zero() } else { self.weights.map_or(F::one(), |w| w[j]) }
    }

    /// How far the labels are apart.
    fn apart(&self, j: usize) -> F {
        self.label.map_or(self.labels[j], |label| (label - self.labels[j]).abs())
    }

    /// The distance, and the loss's slope by it.
    fn slope(&self, j: usize) -> (F, F) {
        let d = if self.cosine { F::one() - self.similarities[j] } else { self.similarities[j] };
        let apart = self.apart(j);
        (d, if apart <= self.tau { d } else { -(self.margin * apart - d).max(F::zero()) })
    }
}

/// Calls `f` with each row, which gives its sum and its total.
fn sums<F: Real>(args: Args<'_, F>, f: impl Fn(&Row<'_, F>) -> [F; 2] + Sync) {
    let (p, work): (PairLossParams, _) = (args.params(), args.work);
    let [labels, other_labels, weights, similarities, sums, totals] = args.bufs();
    let (labels, other_labels) = (labels.input(), other_labels.input());
    let block =
        Block { p, similarities: similarities.input(), labels, other_labels, weights: weights.input() };
    work.pieces2((sums.output(), 1), (totals.output(), 1), &|i, sum, total| {
        [sum[0], total[0]] = f(&block.row(i));
    });
}

/// Calls `f` with each row, its upstream gradient, and where its slopes go.
fn slopes<F: Real>(args: Args<'_, F>, f: impl Fn(&Row<'_, F>, F, &mut [F]) + Sync) {
    let (p, work): (PairLossParams, _) = (args.params(), args.work);
    let [labels, other_labels, weights, similarities, upstream, slopes] = args.bufs();
    let (labels, other_labels, upstream) = (labels.input(), other_labels.input(), upstream.input());
    let block =
        Block { p, similarities: similarities.input(), labels, other_labels, weights: weights.input() };
    work.pieces(slopes.output(), p.m as usize, &|i, slopes| f(&block.row(i), upstream[i], slopes));
}

/// The formulas, in f64.
fn forward<F: Real>(args: Args<'_, F>) {
    sums(args, |row| {
        let counted = |v: F| v.is_finite() && v >= F::zero();
        let (mut sum, mut total) = (F::zero(), F::zero());
        for j in 0..row.similarities.len() {
            let s = row.weight(j);
            total += s;
            let ((d, slope), sound) = (row.slope(j), counted(s));
            if !sound || s > F::zero() && !(counted(row.apart(j)) && d.is_finite()) {
                sum = F::nan();
            } else if s > F::zero() {
                sum += s * F::of(0.5) * slope * slope;
            }
        }
        [sum, total]
    });
}

/// The formulas, in f64.
fn backward<F: Real>(args: Args<'_, F>) {
    slopes(args, |row, upstream, slopes| {
        let sign = F::of(if row.cosine { -1.0 } else { 1.0 });
        for (j, to) in slopes.iter_mut().enumerate() {
            let (s, (d, slope)) = (row.weight(j), row.slope(j));
            *to = match () {
                () if s.is_finite() && s <= F::zero() => F::zero(),
                () if !(s.is_finite() && d.is_finite() && row.apart(j).is_finite()) => F::nan(),
                () => sign * upstream * s * slope,
            };
        }
    });
}

fn forward_fast(args: Args<'_, f32>) {
    let simd = args.work.simd;
    sums(args, |row| sum_of(simd, row));
}

fn backward_fast(args: Args<'_, f32>) {
    let simd = args.work.simd;
    slopes(args, |row, upstream, slopes| slopes_of(simd, row, upstream, slopes));
}

dispatch! {
    fn sum_of(row: &Row<'_, f32>) -> [f32; 2] = sum_of_body
}

dispatch! {
    fn slopes_of(row: &Row<'_, f32>, upstream: f32, slopes: &mut [f32]) = slopes_of_body
}

/// Sixteen pairs.
struct Pairs<V> {
    /// Distance, and the loss's slope by it; of pairs that count.
    slope: V,
    /// How far labels are apart, of pairs that count; else 0.
    apart: V,
    weight: V,
    /// 0, or NaN where something is not finite.
    unsound: V,
}

/// The pairs of columns from `at` on.
///
/// # Safety
/// That of [`F32x16`].
#[inline(always)]
unsafe fn pairs<V: F32x16>(row: &Row<'_, f32>, at: usize) -> Pairs<V> {
    let m = row.similarities.len();
    let own = row.own.is_some_and(|own| own >= at && own < at + LANES);
    // SAFETY: sixteen elements from `at` on where there are so many, else arrays of sixteen.
    unsafe {
        let zero = V::splat(0.0);
        let (similarity, apart, weight) = if at + LANES <= m && !own {
            let weight = match row.weights {
                Some(weights) => V::load(weights.as_ptr().add(at)),
                None => V::splat(1.0),
            };
            let labels = V::load(row.labels.as_ptr().add(at));
            let apart = match row.label {
                Some(label) => V::splat(label).sub(labels).abs(),
                None => labels,
            };
            (V::load(row.similarities.as_ptr().add(at)), apart, weight)
        } else {
            let [mut similarities, mut apart, mut weights] = [[0.0; LANES]; 3];
            for j in at..m.min(at + LANES) {
                (similarities[j - at], apart[j - at]) = (row.similarities[j], row.apart(j));
                weights[j - at] = row.weight(j);
            }
            (V::load(similarities.as_ptr()), V::load(apart.as_ptr()), V::load(weights.as_ptr()))
        };
        let similarity = weight.if_gt(zero, similarity, zero);
        let apart = weight.if_gt(zero, apart, zero);
        let d = if row.cosine { V::splat(1.0).sub(similarity) } else { similarity };
        let over = V::splat(row.margin).mul_add(apart, zero.sub(d)).max(zero);
        Pairs {
            slope: apart.if_gt(V::splat(row.tau), zero.sub(over), d),
            apart,
            weight,
            // What is infinite or no number is none times 0.
            unsound: similarity.mul_add(zero, apart.mul_add(zero, weight.mul(zero))),
        }
    }
}

/// The sum of a row's losses, and of its weights.
#[inline(always)]
unsafe fn sum_of_body<V: F32x16>(row: &Row<'_, f32>) -> [f32; 2] {
    let mut ends = [0.0; LANES];
    // SAFETY: the caller's; an array of sixteen.
    let (sum, total, unsound) = unsafe {
        let [mut sum, mut total, mut unsound, mut least] = [V::splat(0.0); 4];
        for at in (0..row.similarities.len()).step_by(LANES) {
            let pairs = pairs::<V>(row, at);
            sum = pairs.weight.mul(pairs.slope).mul_add(pairs.slope, sum);
            total = total.add(pairs.weight);
            unsound = unsound.add(pairs.unsound);
            least = least.min(pairs.apart).min(pairs.weight);
        }
        least.store(ends.as_mut_ptr());
        (sum.sum(), total.sum(), unsound.sum())
    };
    let sound = unsound == 0.0 && ends.iter().all(|&least| least >= 0.0);
    [if sound { 0.5 * sum } else { f32::NAN }, total]
}

/// The slopes of a row.
#[inline(always)]
unsafe fn slopes_of_body<V: F32x16>(row: &Row<'_, f32>, upstream: f32, slopes: &mut [f32]) {
    let upstream = if row.cosine { -upstream } else { upstream };
    for (chunk, to) in slopes.chunks_mut(LANES).enumerate() {
        let mut of_pairs = [0.0; LANES];
        // SAFETY: the caller's; arrays of sixteen.
        unsafe {
            let pairs = pairs::<V>(row, chunk * LANES);
            let zero = V::splat(0.0);
            let slope = V::splat(upstream).mul(pairs.weight).mul(pairs.slope);
            let slope = pairs.weight.if_gt(zero, slope, zero).add(pairs.unsound);
            if to.len() == LANES {
                slope.store(to.as_mut_ptr());
                continue;
            }
            slope.store(of_pairs.as_mut_ptr());
        }
        to.copy_from_slice(&of_pairs[..to.len()]);
    }
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &BWD];
