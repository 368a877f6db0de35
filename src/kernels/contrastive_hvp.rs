//! The gradient of the contrastive loss at dual rows: what its second derivatives are made of.
//!
//! Dual rows are rows `x` and how they move, `ẋ`: `[2, n, d]`. For each row i of one set, over the rows j of another (or the
//! other rows of its own), with `Δ = x_i − y_j` and `s = ‖Δ‖²`, whose pair costs `φ(s)` (see [`super::contrastive`]):
//!
//! ```text
//! g_i = Σ_j s_i·s_j· p·Δ                 p = 2·φ'(s)            the gradient, not yet divided by the pairs' weight
//! ġ_i = Σ_j s_i·s_j·(p·Δ̇ + q·Δ)          q = ṗ = 4·φ''(s)·Δ·Δ̇   how it moves: the Hessian times ẋ
//!
//! Euclidean, d = √s     positive  p = 1, q = 0      negative, d < margin·w   p = 1 − margin·w/d,  q = margin·w·(Δ·Δ̇)/d³
//! cosine,    d = s/2    positive  p = d, q = Δ·Δ̇    negative, d < margin·w   p = d − margin·w,    q = Δ·Δ̇
//! ```
//!
//! Cosine rows are of norm 1, or 0; who calls chains the norms. A pair at Euclidean distance 0 that is negative, one with a row
//! of norm 0, and one beyond its margin add nothing; a sample of weight 0 is masked out, whatever it holds. A NaN elsewhere is
//! handed on.
//!
//! `rows` `[2, n, d]`, `labels`, `weights` `[n]`, `others` `[2, m, d]`, `labels_o`, `weights_o` `[m]`, `sums` `[2, n, d]` =
//! (g, ġ).
//!
//! `relative` `[n]` and `relative_o` `[m]` are the weights over a power of two next to the largest, so that their products fit.
//! `share` is 1 over the pairs' weight by these, `Σ_{i<j} s_i·s_j` or `Σ_i s_i · Σ_j s_j`, and 0 where that is: of all pairs it
//! is summed as `Σ_j s_j·Σ_{i<j} s_i`, no difference of squares. One block, a thread a run of samples; runs add up as
//! (sum, pairs).
//!
//! Threads: on a GPU a block owns 16 rows and streams tiles of 16 others: first a thread computes a pair's `Δ·Δ` and `Δ·Δ̇`,
//! then a row's 16 threads add up its columns. Cost: 14 flops a pair and column from each end, a pass over the others for 16
//! rows. Differences of rows do not cancel, so near pairs keep their digits. Sums are taken over 16 others (64 on the CPU), then
//! over all.

use crate::dispatch;
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Params, Real, Twin, params, with_scratch};
use crate::kernels::contrastive::Metric;
use crate::simd::{F32x16, LANES};

params! {
    /// Params of `contrastive_hvp_rows`.
    pub struct ContrastiveHvpParams {
        /// Rows that sums are of.
        pub n: u32,
        /// Rows of the others.
        pub m: u32,
        /// Columns.
        pub d: u32,
        /// A [`Metric`].
        pub metric: u32,
        /// How far apart a negative pair of label distance 1 should be.
        pub margin: f32,
        /// Largest label distance of a positive pair, with its tolerance.
        pub tau: f32,
        /// Multiplies the sums.
        pub scale: f32,
        /// Which samples have weights: bit 0 the rows, bit 1 the others; a buffer of weights that is not meant is any.
        pub weighted: u32,
        /// 1 where the others are the rows themselves: a row makes no pair with itself.
        pub same: u32,
    }
}

impl ContrastiveHvpParams {
    fn cosine(&self) -> bool {
        self.metric == Metric::Cosine as u32
    }

    /// `[p, q]` of a pair at label distance `w`, with `t = Δ·Δ` and `e = Δ·Δ̇`; `flat` where a row has norm 0.
    fn coefficients<F: Real>(&self, w: F, t: F, e: F, flat: bool) -> [F; 2] {
        let (zero, reach) = (F::zero(), F::of(f64::from(self.margin)) * w);
        let positive = w <= F::of(f64::from(self.tau));
        if self.cosine() {
            let d = t / F::of(2.0);
            return match () {
                () if flat => [zero, zero],
                () if positive => [d, e],
                () if d >= reach => [zero, zero],
                () => [d - reach, e],
            };
        }
        let d = t.sqrt();
        match () {
            () if positive => [F::one(), zero],
            // Squares below the smallest normal f32 are none on a device that flushes them.
            () if t < F::of(TINY) || d >= reach => [zero, zero],
            () => [F::one() - reach / d, reach / d * (e / t)],
        }
    }
}

/// More than any number that a card may flush to zero.
const TINY: f64 = 1.2e-38;

/// Rows that a GPU's block owns, and its threads.
const TILE: u32 = 16;
const BLOCK: u32 = TILE * TILE;

/// Others whose terms the CPU adds up before the sum takes them.
const SPAN_J: usize = 64;

/// `g` and `ġ` of each row.
pub static ROWS: Kernel = Kernel {
    name: "contrastive_hvp_rows",
    bindings: &[
        Binding::input("rows"),
        Binding::input("labels"),
        Binding::input("weights"),
        Binding::input("others"),
        Binding::input("labels_o"),
        Binding::input("weights_o"),
        Binding::output("sums"),
    ],
    params: ContrastiveHvpParams::LAYOUT,
    cpu: Twin { f32: fast, f64: definition },
    workgroups: &[tiles],
    cuda: Cuda::new(BLOCK, tiles),
    cost: |p| {
        let ContrastiveHvpParams { n, m, d, .. } = p.get();
        let [n, m, d] = [n, m, d].map(|v| v as usize);
        Cost::new((n * m).saturating_mul(14 * d + 10), 2 * d * (2 * n + m) + n + m)
    },
};

/// Weights whose products fit, and one over what the pairs weigh by these.
pub static SHARE: Kernel = Kernel {
    name: "contrastive_hvp_share",
    bindings: &[
        Binding::input("weights"),
        Binding::input("weights_o"),
        Binding::output("relative"),
        Binding::output("relative_o"),
        Binding::output("share"),
    ],
    params: ContrastiveHvpParams::LAYOUT,
    cpu: Twin { f32: share, f64: share },
    workgroups: &[|_| [1, 1, 1]],
    cuda: Cuda::new(BLOCK, |_| [1, 1, 1]),
    cost: |p| {
        let ContrastiveHvpParams { n, m, .. } = p.get();
        let samples = n as usize + m as usize;
        Cost::new(4 * samples, 2 * samples + 1)
    },
};

fn tiles(p: &Params) -> [u32; 3] {
    [p.get::<ContrastiveHvpParams>().n.div_ceil(TILE), 1, 1]
}

/// Samples of a side: their dual rows, labels, and weights where they have any.
#[derive(Clone, Copy)]
struct Samples<'a, F> {
    rows: &'a [F],
    labels: &'a [F],
    weights: Option<&'a [F]>,
    d: usize,
}

impl<'a, F: Real> Samples<'a, F> {
    /// The row, and how it moves.
    fn row(&self, i: usize) -> (&'a [F], &'a [F]) {
        let (rows, moves) = self.rows.split_at(self.rows.len() / 2);
        (&rows[i * self.d..][..self.d], &moves[i * self.d..][..self.d])
    }

    fn weight(&self, i: usize) -> F {
        self.weights.map_or(F::one(), |w| w[i])
    }
}

/// Both sides, and where the sums go.
fn sides<F: Real>(args: Args<'_, F>) -> (ContrastiveHvpParams, [Samples<'_, F>; 2], &mut [F]) {
    let p: ContrastiveHvpParams = args.params();
    let d = p.d as usize;
    let [rows, labels, weights, others, labels_o, weights_o, sums] = args.bufs();
    let weights = (p.weighted & 1 == 1).then(|| weights.input());
    let weights_o = (p.weighted & 2 == 2).then(|| weights_o.input());
    let own = Samples { rows: rows.input(), labels: labels.input(), weights, d };
    let others = Samples { rows: others.input(), labels: labels_o.input(), weights: weights_o, d };
    (p, [own, others], sums.output())
}

/// The formulas above, in f64.
fn definition<F: Real>(args: Args<'_, F>) {
    let (work, (p, [own, others], sums)) = (args.work, sides(args));
    let d = own.d;
    let (sums, moves) = sums.split_at_mut(p.n as usize * d);
    work.pieces2((sums, d), (moves, d), &|i, g, moves| {
        g.fill(F::zero());
        moves.fill(F::zero());
        let (x, dx) = own.row(i);
        for j in (0..others.labels.len()).filter(|&j| p.same == 0 || i != j) {
            let s = own.weight(i) * others.weight(j) * F::of(f64::from(p.scale));
            if own.weight(i) == F::zero() || others.weight(j) == F::zero() {
                continue;
            }
            let (y, dy) = others.row(j);
            let of = |f: &dyn Fn(usize) -> F| (0..d).map(f).sum::<F>();
            let (t, e) = (of(&|k| (x[k] - y[k]) * (x[k] - y[k])), of(&|k| (x[k] - y[k]) * (dx[k] - dy[k])));
            let flat = [x, y].iter().any(|r| r.iter().all(|&v| v == F::zero()));
            let w = (own.labels[i] - others.labels[j]).abs();
            let [a, b] = p.coefficients(w, t, e, flat);
            if a == F::zero() && b == F::zero() {
                continue;
            }
            for k in 0..d {
                g[k] += s * a * (x[k] - y[k]);
                moves[k] += s * (a * (dx[k] - dy[k]) + b * (x[k] - y[k]));
            }
        }
    });
}

fn fast(args: Args<'_, f32>) {
    let (work, (p, sides, sums)) = (args.work, sides(args));
    let d = p.d as usize;
    let (sums, moves) = sums.split_at_mut(p.n as usize * d);
    work.pieces2((sums, d), (moves, d), &|i, sums, moves| {
        with_scratch(2 * d, |span: &mut [f32]| add_up(work.simd, &p, i, sides, [sums, moves], span));
    });
}

dispatch! {
    fn add_up(
        p: &ContrastiveHvpParams,
        i: usize,
        sides: [Samples<'_, f32>; 2],
        sums: [&mut [f32]; 2],
        span: &mut [f32],
    ) = add_up_body
}

/// Row `i`'s sums; `span` is scratch for those over a span of the others.
#[inline(always)]
unsafe fn add_up_body<V: F32x16>(
    p: &ContrastiveHvpParams,
    i: usize,
    [own, others]: [Samples<'_, f32>; 2],
    [sums, moves]: [&mut [f32]; 2],
    span: &mut [f32],
) {
    let (x, dx) = own.row(i);
    sums.fill(0.0);
    moves.fill(0.0);
    let (s_i, cosine) = (own.weight(i), p.cosine());
    if s_i == 0.0 {
        return;
    }
    for first in (0..others.labels.len()).step_by(SPAN_J) {
        span.fill(0.0);
        for j in first..others.labels.len().min(first + SPAN_J) {
            let s = others.weight(j) * s_i * p.scale;
            if (p.same == 1 && i == j) || others.weight(j) == 0.0 {
                continue;
            }
            let (y, dy) = others.row(j);
            // SAFETY: four rows of one length.
            let [t, e, xx, yy] = unsafe { products::<V>([x, dx, y, dy], cosine) };
            let w = (own.labels[i] - others.labels[j]).abs();
            let [a, b] = p.coefficients(w, t, e, cosine && (xx == 0.0 || yy == 0.0));
            if a != 0.0 || b != 0.0 {
                // SAFETY: as above, and twice as long a sum.
                unsafe { add::<V>([s * a, s * b], [x, dx, y, dy], span) }
            }
        }
        for (sum, &of_span) in sums.iter_mut().chain(&mut *moves).zip(&*span) {
            *sum += of_span;
        }
    }
}

/// `Δ·Δ`, `Δ·Δ̇`, and where the `norms` are asked for `x·x` and `y·y`, of rows of one length.
#[inline(always)]
unsafe fn products<V: F32x16>([x, dx, y, dy]: [&[f32]; 4], norms: bool) -> [f32; 4] {
    let whole = x.len() / LANES * LANES;
    // SAFETY: within the rows.
    let mut sums = unsafe {
        let [mut t, mut e, mut xx, mut yy] = [V::splat(0.0); 4];
        for k in (0..whole).step_by(LANES) {
            let (at_x, at_y) = (V::load(x.as_ptr().add(k)), V::load(y.as_ptr().add(k)));
            let moves = V::load(dx.as_ptr().add(k)).sub(V::load(dy.as_ptr().add(k)));
            let apart = at_x.sub(at_y);
            t = apart.mul_add(apart, t);
            e = apart.mul_add(moves, e);
            if norms {
                xx = at_x.mul_add(at_x, xx);
                yy = at_y.mul_add(at_y, yy);
            }
        }
        if norms { [t.sum(), e.sum(), xx.sum(), yy.sum()] } else { [t.sum(), e.sum(), 0.0, 0.0] }
    };
    for k in whole..x.len() {
        let (apart, moves) = (x[k] - y[k], dx[k] - dy[k]);
        for (sum, v) in sums.iter_mut().zip([apart * apart, apart * moves, x[k] * x[k], y[k] * y[k]]) {
            *sum += v;
        }
    }
    sums
}

/// Adds `a·Δ` to the first half of `to`, and `a·Δ̇ + b·Δ` to the second.
#[inline(always)]
unsafe fn add<V: F32x16>([a, b]: [f32; 2], [x, dx, y, dy]: [&[f32]; 4], to: &mut [f32]) {
    let d = x.len();
    let (whole, (g, moves)) = (d / LANES * LANES, to.split_at_mut(d));
    // SAFETY: within the rows, and both halves of `to`, which are as long.
    unsafe {
        let (of_a, of_b) = (V::splat(a), V::splat(b));
        for k in (0..whole).step_by(LANES) {
            let apart = V::load(x.as_ptr().add(k)).sub(V::load(y.as_ptr().add(k)));
            let along = V::load(dx.as_ptr().add(k)).sub(V::load(dy.as_ptr().add(k)));
            let (to_g, to_moves) = (g.as_mut_ptr().add(k), moves.as_mut_ptr().add(k));
            of_a.mul_add(apart, V::load(to_g)).store(to_g);
            of_a.mul_add(along, of_b.mul_add(apart, V::load(to_moves))).store(to_moves);
        }
    }
    for k in whole..d {
        let apart = x[k] - y[k];
        g[k] += a * apart;
        moves[k] += a * (dx[k] - dy[k]) + b * apart;
    }
}

/// Writes weights, all 1 where there are none, over a power of two next to the largest. Gives the sum of these, and that of the
/// products of every two.
fn totals<F: Real>(weights: Option<&[F]>, relative: &mut [F]) -> [f64; 2] {
    let weight = |i: usize| weights.map_or(1.0, |weights| weights[i].get());
    let largest = (0..relative.len()).map(weight).fold(0.0, f64::max);
    let power = f64::from_bits(largest.to_bits() & f64::INFINITY.to_bits());
    let unit = if power > 0.0 { power } else { 1.0 };
    let (mut sum, mut pairs) = (0.0, 0.0);
    for (i, to) in relative.iter_mut().enumerate() {
        let w = weight(i) / unit;
        *to = F::of(w);
        pairs += w * sum;
        sum += w;
    }
    [sum, pairs]
}

fn share<F: Real>(args: Args<'_, F>) {
    let p: ContrastiveHvpParams = args.params();
    let [weights, weights_o, relative, relative_o, share] = args.bufs();
    let own = totals((p.weighted & 1 == 1).then(|| weights.input()), relative.output());
    let others = totals((p.weighted & 2 == 2).then(|| weights_o.input()), relative_o.output());
    let pairs = if p.same == 1 { own[1] } else { own[0] * others[0] };
    share.output()[0] = F::of(if pairs == 0.0 { 0.0 } else { 1.0 / pairs });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&ROWS, &SHARE];
