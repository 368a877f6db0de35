//! The label-distance-weighted contrastive loss: value and gradient in one launch.
//!
//! With label distance `w = |l_i − l_j|` and embedding distance `d`, a pair costs
//!
//! ```text
//! positive (w <= tau):  ½·d²
//! negative:             ½·max(0, margin·w − d)²
//! ```
//!
//! and the loss is `weight` times the mean over the pairs: `Σ s_i·s_j·l_ij / Σ s_i·s_j` with the samples' weights `s`, all 1
//! where none are given, and 0 where `Σ s_i·s_j` is. A sample of weight 0 is masked out: whatever its row and
//! label hold, NaN included, has no effect, and its gradient is 0. `grad_scale` multiplies the gradient alone. `d` is `‖z_i − z_j‖` (Euclidean) or
//! `1 − cos(z_i, z_j)` (cosine). The gradient is 0 where `d = 0` (Euclidean), and a cosine pair
//! with a zero row has distance 1 and gradient 0. Each kernel says the shapes of its buffers.
//!
//! The f64 instance is the definition in a plain double loop. The f32 instance computes tiles of pairs
//! (`src/kernels/pairwise.rs`): squared distances, coefficients `g_ij = l'(d_ij)/d_ij`, and from these
//! `dL/dz_i = (Σ_j g_ij)·z_i − Σ_j g_ij·z_j` for both rows of each pair at once. There is no log-sum-exp in this
//! loss, so value and gradient come out of one pass over the pairs, and each unordered pair is met once.
//! Cosine is the same over rows of norm 1, with `d = ½‖û_i − û_j‖²`; projecting off `û_i` and dividing by the
//! norm at the end turns the gradient by `û_i` into that by `z_i`.
//!
//! **Who owns what.** A task owns two blocks of rows and every pair between them; blocks meet as in a round-robin
//! tournament (`sweep_all`), so no two tasks of a round share a row. Blocks depend on the shape alone:
//! one thread or many add in the same order. Losses are summed in f32 over a tile's sixteen lanes (at most
//! 144 terms each), in f64 beyond; the rows' sums in registers over a tile, then tile by tile.
//!
//! **Weights.** The f32 instance first moves the samples of positive weight together, so that masked ones cost nothing,
//! and divides the weights by the largest. `Σ_{i<j} s_i·s_j` is taken as `Σ_i s_i·(s_0 + … + s_{i−1})`, which
//! does not cancel as `((Σ s)² − Σ s²)/2` would, and is exactly 0 where only one sample counts.
//!
//! **Cost.** `(d + 2·row_len(d) + 5)·n` floats of scratch; the matrix of pairs is never in memory. For `All`, of
//! `n²/2` pairs: `d` subtractions and `d` multiply-adds for the distance, `2·d` multiply-adds for the gradient, some 25
//! operations for the coefficient. With 16 lanes and one multiply-add a cycle (Zen 4, whose adders
//! subtract meanwhile) the multiply-adds alone take `3·d/16` cycles a pair: 8 ms at `n` = 4096, `d` = 16 and 64 ms at
//! `d` = 128 where the core does 100 GFLOP/s. Measured there on one thread: 10.5 ms and 75 ms.
//!
//! **Accuracy.** Distances are differences, never a Gram matrix, so they do not cancel. The gradient's two sums would
//! where rows are near: rows are taken about the batch's mean first (only differences matter), and pairs
//! nearer than about 3e-3 of their norms are computed each on its own in f64. So the gradient
//! keeps three digits down to distances of 1e-6 of the norm, and five where nothing is near.
//!
//! **Range.** Inputs must be finite. Euclidean: entries from 1e-12 to 1e12 (and 0) are right; squares of distances below 1e-23
//! are lost and count as 0, those beyond 1.8e19 as infinite: a positive pair's loss is then infinite, as its square does
//! not fit f32. No NaN arises while `n·|z|` stays below 1e38. Cosine: any norm from 1e-30 up; the gradient grows as
//! 1/norm and overflows to infinity below about 1e-38. Labels up to 1e18. Weights are not negative; those below 1e-18 of the
//! largest may count as 0.

use super::pairwise::{
    Aligned, Lanes, Layout, TILE, centre, combine, lay_out, padded, products, row_len, side_len,
};
use crate::dispatch;
use crate::kernel::{
    Args, Binding, Cost, Cuda, Elem, Kernel, Params, Real, Twin, Work, Workgroups, params, with_scratch,
};
use crate::simd::LANES;
use std::ops::{ControlFlow, Range};

/// How far apart two embeddings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Metric {
    /// `‖a − b‖`.
    #[default]
    Euclidean = 0,
    /// `1 − a·b / (‖a‖‖b‖)`; 1 when a row is zero.
    Cosine = 1,
}

params! {
    /// Params of every kernel here.
    pub struct ContrastiveParams {
        /// Rows of `z`.
        pub n: u32,
        /// Rows of `others` in `contrastive_cross`, pairs in `contrastive_halves`, else 0.
        pub m: u32,
        /// Columns of both.
        pub d: u32,
        /// A [`Metric`].
        pub metric: u32,
        /// How far apart a negative pair of label distance 1 should be.
        pub margin: f32,
        /// Largest label distance of a positive pair.
        pub tau: f32,
        /// Multiplies the mean over pairs.
        pub weight: f32,
        /// Which samples have weights: bit 0 the rows of `z`, bit 1 those of `others`. Where a bit is not set, the
        /// buffer of weights is any and not read, and each weight is 1.
        pub weighted: u32,
        /// Multiplies the gradients alone.
        pub grad_scale: f32,
    }
}

/// Rows that a workgroup of the WGSL twins owns, and a block of the CUDA twin of [`HALVES`].
const ROWS: u32 = 32;
/// Threads of that.
const BLOCK_HALVES: u32 = 256;

/// How the CUDA sweep is cut, as in `kernels/sweep.cuh`, whose names these are.
struct Cut {
    /// Rows that a block owns.
    own: u32,
    /// Tiles of a round.
    tiles: u32,
    slices: u32,
    /// Blocks over the rows of both sets, and over the columns.
    blocks: [u32; 2],
}

impl Cut {
    const BLOCK: u32 = 128;
    /// Rows of a tile, columns of a chunk.
    const TILE: u32 = 32;
    const CHUNK: u32 = 128;
    const ENOUGH: u32 = 768;
    const SLICES: u32 = 8;
    const MANY: u64 = 8192;

    fn of(ContrastiveParams { n, m, d, .. }: ContrastiveParams) -> Self {
        let many = u64::from(n) + u64::from(m) >= Self::MANY;
        let (own, tiles) = if many { (64, 1) } else { (32, 2) };
        let rounds = n.max(m).div_ceil(Self::TILE * tiles);
        let blocks = [n.div_ceil(own) + m.div_ceil(own), d.div_ceil(Self::CHUNK)];
        let enough = Self::ENOUGH / blocks.iter().product::<u32>().max(1);
        Self { own, tiles, slices: enough.clamp(1, Self::SLICES.min(rounds.div_ceil(2)).max(1)), blocks }
    }

    /// Bytes of shared memory: the block's rows, two rounds of tiles or what goes out through them, and what is known of each row.
    fn shared(&self, d: u32, half: bool) -> u32 {
        let columns = if d <= 32 && !half {
            32
        } else if d <= 64 {
            64
        } else {
            Self::CHUNK
        };
        let row = if half { 2 * columns } else { 4 * columns + 16 };
        let out = Self::BLOCK / 2 * (4 * if d <= 32 { 32 } else { columns } + 16);
        self.own * row + (2 * Self::TILE * self.tiles * row).max(out) + 5 * 64 * 4
    }

    /// Elements of `part`: a loss for each block of rows of `z` and slice, then the slices' parts of the gradients.
    fn parts(&self, ContrastiveParams { n, m, d, .. }: ContrastiveParams) -> usize {
        let losses = (n.div_ceil(self.own) * self.slices).next_multiple_of(4) as usize;
        let rows = n as usize + m as usize;
        losses + if self.slices > 1 { self.slices as usize * rows * d as usize } else { 0 }
    }
}

/// The CUDA launch over all pairs, or across two sets.
const fn sweep(shared: fn(&Params) -> u32) -> Cuda {
    Cuda::new(Cut::BLOCK, |p| {
        let Cut { blocks: [x, y], slices, .. } = Cut::of(p.get());
        [x, y, slices]
    })
    .shared(shared)
    .tickets(|p| {
        let Cut { blocks: [x, y], slices, .. } = Cut::of(p.get());
        1 + if slices > 1 { x * y } else { 0 }
    })
}

/// That of f32 rows.
const SWEEP: Cuda = sweep(|p| Cut::of(p.get()).shared(p.get::<ContrastiveParams>().d, false));
/// That of rows stored in 16 bits.
const SWEEP_HALF: Cuda = sweep(|p| Cut::of(p.get()).shared(p.get::<ContrastiveParams>().d, true));

/// Workgroups below which the WGSL sweep cuts the rows on the other side of the pairs into slices.
const ENOUGH: u32 = 256;

impl ContrastiveParams {
    /// Elements of `part` in the rows over all pairs and across two sets: in WGSL a loss for each tile of `z` and slice, for the cosine
    /// the norms, across sets the weights, and with slices the sums of each; in CUDA a loss for each block and slice, and the slices' parts of the gradients.
    pub fn parts(&self) -> usize {
        let (slices, rows) = (self.slices() as usize, self.n as usize + self.m as usize);
        let copies = usize::from(self.cosine()) + usize::from(self.weighted != 0 && self.m > 0);
        let sums = if slices > 1 { slices * rows * self.d as usize } else { 0 };
        let wgsl = self.n.div_ceil(ROWS) as usize * slices + copies * rows + sums;
        wgsl.max(Cut::of(*self).parts(*self))
    }

    /// Elements of `part` in [`HALVES`].
    pub fn halves_parts(&self) -> usize {
        self.n.div_ceil(ROWS) as usize
    }

    /// Tiles of rows of both sides.
    fn tiles(&self) -> u32 {
        self.n.div_ceil(ROWS) + self.m.div_ceil(ROWS)
    }

    /// Into how many slices the WGSL sweep cuts the rows that a tile meets.
    fn slices(&self) -> u32 {
        (ENOUGH / self.tiles()).clamp(1, self.n.max(self.m).div_ceil(ROWS).max(1))
    }

    fn cosine(&self) -> bool {
        self.metric == Metric::Cosine as u32
    }

    /// The weights of the rows of `z` (`side` 0) or of `others` (1), where there are any.
    fn weights<'a, F>(&self, side: u32, weights: &'a [F]) -> Option<&'a [F]> {
        (self.weighted >> side & 1 == 1).then_some(weights)
    }

    /// The loss of a pair at distance `d`, and its derivative by `d`.
    fn term(&self, d: f64, w: f64) -> (f64, f64) {
        if w <= f64::from(self.tau) {
            (0.5 * d * d, d)
        } else {
            let h = (f64::from(self.margin) * w - d).max(0.0);
            (0.5 * h * h, -h)
        }
    }
}

/// The loss of one pair in f64; `add(k, ga, gb)` receives its gradient by `a[k]` and `b[k]`.
fn pair<F: Real>(
    p: &ContrastiveParams,
    w: f64,
    a: &[F],
    b: &[F],
    mut add: impl FnMut(usize, f64, f64),
) -> f64 {
    let ab = || a.iter().zip(b).map(|(a, b)| (a.get(), b.get()));
    if p.cosine() {
        let (aa, bb) = ab().fold((0.0, 0.0), |(aa, bb), (a, b)| (aa + a * a, bb + b * b));
        if aa == 0.0 || bb == 0.0 {
            return p.term(1.0, w).0;
        }
        let (ra, rb) = (1.0 / aa.sqrt(), 1.0 / bb.sqrt());
        // 1 − cos = ½‖â − b̂‖², which does not cancel when the rows are close.
        let d = 0.5 * ab().map(|(a, b)| (a * ra - b * rb).powi(2)).sum::<f64>();
        let (loss, slope) = p.term(d, w);
        if a.len() == 1 {
            // On a line the angle is 0 or π whatever the lengths: no gradient, not even a rounded one.
            return loss;
        }
        for (k, (a, b)) in ab().enumerate() {
            let (a, b) = (a * ra, b * rb);
            // ∂d/∂a = (cos·â − b̂) / ‖a‖
            add(k, slope * ra * (a - b - d * a), slope * rb * (b - a - d * b));
        }
        loss
    } else {
        let d = ab().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        let (loss, slope) = p.term(d, w);
        if d > 0.0 {
            for (k, (a, b)) in ab().enumerate() {
                let g = slope * ((a - b) / d);
                add(k, g, -g);
            }
        }
        loss
    }
}

/// The stages of the sweep in WGSL: norms and weights, where they are needed; the sweep; the sums.
const STAGES: &[Workgroups] = &[
    |p| {
        let p: ContrastiveParams = p.get();
        let rows = if p.cosine() || p.weighted != 0 && p.m > 0 { p.n + p.m } else { 0 };
        [rows.div_ceil(64), 1, 1]
    },
    |p| {
        let p: ContrastiveParams = p.get();
        [p.tiles() * p.slices(), 1, 1]
    },
    |p| {
        let p: ContrastiveParams = p.get();
        [if p.slices() > 1 { p.tiles() + 1 } else { 1 }, 1, 1]
    },
];

/// [`STAGES`]; none for bf16, which WGSL has not.
const fn stages(stored: Elem) -> &'static [Workgroups] {
    match stored {
        Elem::Bf16 => &[],
        _ => STAGES,
    }
}

/// Bytes that a launch over rows stored as `stored` must move: `rows` elements of them, `others` of four bytes.
const fn bytes(stored: Elem, rows: usize, others: usize) -> u64 {
    let wide = match stored {
        Elem::F16 | Elem::Bf16 => 2,
        _ => 4,
    };
    (wide * rows + 4 * others) as u64
}

/// The weight of sample `i`.
fn weight_of<F: Real>(weights: Option<&[F]>, i: usize) -> f64 {
    weights.map_or(1.0, |w| w[i].get())
}

/// `weight / total`; 0 where no pair counts.
fn share(p: &ContrastiveParams, total: f64) -> f64 {
    if total > 0.0 { f64::from(p.weight) / total } else { 0.0 }
}

fn scale_into<F: Real>(from: &[f64], scale: f64, to: &mut [F]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = F::of(scale * from);
    }
}

/// The mean over all pairs `i < j`.
///
/// `z` is `[n, d]`, `labels` and `weights` `[n]`, `loss` `[1]`, `dz` `[n, d]`: the gradient of `loss` by `z`. `part`, of
/// [`ContrastiveParams::parts`] elements, is scratch that GPUs keep partial sums in.
pub static ALL: Kernel = all("contrastive_all", SWEEP, &all_bindings(Elem::Real));
/// [`ALL`] of rows `z` stored as f16.
pub static ALL_F16: Kernel = all("contrastive_all_f16", SWEEP_HALF, &all_bindings(Elem::F16));
/// [`ALL`] of rows `z` stored as bf16.
pub static ALL_BF16: Kernel = all("contrastive_all_bf16", SWEEP_HALF, &all_bindings(Elem::Bf16));

const fn all_bindings(stored: Elem) -> [Binding; 6] {
    [
        Binding::stored("z", stored),
        Binding::input("labels"),
        Binding::input("weights"),
        Binding::output("loss"),
        Binding::output("dz"),
        Binding::scratch("part"),
    ]
}

const fn all(name: &'static str, sweep: Cuda, bindings: &'static [Binding]) -> Kernel {
    Kernel {
        name,
        bindings,
        params: ContrastiveParams::LAYOUT,
        cpu: Twin { f32: all_tiled, f64: all_plain },
        workgroups: stages(bindings[0].elem),
        cuda: sweep,
        cost: match bindings[0].elem {
            Elem::Real => |p| all_cost(p, Elem::Real),
            _ => |p| all_cost(p, Elem::F16),
        },
    }
}

fn all_cost(p: &Params, stored: Elem) -> Cost {
    let ContrastiveParams { n, d, .. } = p.get();
    let (n, d) = (n as usize, d as usize);
    let flops = (n * n.saturating_sub(1) / 2).saturating_mul(7 * d + 8);
    Cost { flops: flops as u64, bytes: bytes(stored, n * d, n * d + n + 1) }
}

fn all_plain<F: Real>(args: Args<'_, F>) {
    let p: ContrastiveParams = args.params();
    let (n, d) = (p.n as usize, p.d as usize);
    let [z, labels, weights, loss, dz, _] = args.bufs();
    let (labels, weights) = (labels.input(), p.weights(0, weights.input()));
    let (mut sum, mut total, mut grad) = (0.0, 0.0, vec![0.0; n * d]);
    z.widened(|z| {
        for i in 0..n {
            for j in i + 1..n {
                let s = weight_of(weights, i) * weight_of(weights, j);
                if s == 0.0 {
                    continue;
                }
                let w = (labels[i] - labels[j]).abs().get();
                total += s;
                sum += s * pair(&p, w, &z[i * d..][..d], &z[j * d..][..d], |k, gi, gj| {
                    grad[i * d + k] += s * gi;
                    grad[j * d + k] += s * gj;
                });
            }
        }
    });
    let scale = share(&p, total);
    loss.output()[0] = F::of(scale * sum);
    scale_into(&grad, scale * f64::from(p.grad_scale), dz.output());
}

/// The mean over `m` disjoint pairs of rows.
///
/// `z` is `[n, d]`, `labels` and `weights` `[n]`, `pairing` `[m, 2]` row indices, `loss` `[1]`, `dz` `[n, d]`. A row in
/// no pair has gradient 0. An index that is no row, or comes twice, makes the loss NaN. `part`, of
/// [`ContrastiveParams::halves_parts`] elements, is scratch.
pub static HALVES: Kernel = Kernel {
    name: "contrastive_halves",
    bindings: &[
        Binding::input("z"),
        Binding::input("labels"),
        Binding::input("weights"),
        Binding::index("pairing"),
        Binding::output("loss"),
        Binding::output("dz"),
        Binding::scratch("part"),
    ],
    params: ContrastiveParams::LAYOUT,
    cpu: Twin { f32: halves, f64: halves },
    workgroups: &[
        |p| [p.get::<ContrastiveParams>().n.div_ceil(ROWS), 1, 1],
        |p| [u32::from(p.get::<ContrastiveParams>().n > ROWS), 1, 1],
    ],
    cuda: Cuda::new(BLOCK_HALVES, |p| [p.get::<ContrastiveParams>().n.div_ceil(ROWS), 1, 1]).ticket(),
    cost: |p| {
        let ContrastiveParams { n, m, d, .. } = p.get();
        let (n, m, d) = (n as usize, m as usize, d as usize);
        Cost::new(m * (7 * d + 8), 2 * n * d + n + 2 * m + 1)
    },
};

fn halves<F: Real>(args: Args<'_, F>) {
    let p: ContrastiveParams = args.params();
    let (n, m, d) = (p.n as usize, p.m as usize, p.d as usize);
    let [z, labels, weights, pairing, loss, dz, _] = args.bufs();
    let (z, labels, weights) = (z.input(), labels.input(), p.weights(0, weights.input()));
    let pairing = pairing.index();
    let pairs = || pairing.chunks_exact(2).take(m).map(|ij| (ij[0] as usize, ij[1] as usize));
    let dz = dz.output();
    dz.fill(F::zero());
    let weight = |(i, j)| weight_of(weights, i) * weight_of(weights, j);
    let total = pairs().filter(|&(i, j)| i < n && j < n).map(weight).sum();
    let scale = share(&p, total);
    let mut sum = 0.0;
    with_scratch(n, |seen: &mut [u32]| {
        seen.fill(0);
        for (i, j) in pairs() {
            if i >= n || j >= n || i == j || seen[i] + seen[j] > 0 {
                sum = f64::NAN;
                continue;
            }
            (seen[i], seen[j]) = (1, 1);
            let s = weight((i, j));
            if s == 0.0 {
                continue;
            }
            let w = (labels[i] - labels[j]).abs().get();
            let slope = s * scale * f64::from(p.grad_scale);
            sum += s * pair(&p, w, &z[i * d..][..d], &z[j * d..][..d], |k, gi, gj| {
                dz[i * d + k] = F::of(slope * gi);
                dz[j * d + k] = F::of(slope * gj);
            });
        }
    });
    loss.output()[0] = F::of(scale * sum);
}

/// The mean over all `n·m` pairs of a row of `z` and a row of `others`.
///
/// `z` is `[n, d]`, `labels_z` and `weights_z` `[n]`, `others` `[m, d]`, `labels_o` and `weights_o` `[m]`, `loss` `[1]`,
/// `dz` `[n, d]`, `dothers` `[m, d]`.
/// `part`, of [`ContrastiveParams::parts`] elements, is scratch.
pub static CROSS: Kernel = cross("contrastive_cross", SWEEP, &cross_bindings(Elem::Real));
/// [`CROSS`] of rows `z` and `others` stored as f16.
pub static CROSS_F16: Kernel = cross("contrastive_cross_f16", SWEEP_HALF, &cross_bindings(Elem::F16));
/// [`CROSS`] of rows `z` and `others` stored as bf16.
pub static CROSS_BF16: Kernel = cross("contrastive_cross_bf16", SWEEP_HALF, &cross_bindings(Elem::Bf16));

const fn cross_bindings(stored: Elem) -> [Binding; 10] {
    [
        Binding::stored("z", stored),
        Binding::input("labels_z"),
        Binding::input("weights_z"),
        Binding::stored("others", stored),
        Binding::input("labels_o"),
        Binding::input("weights_o"),
        Binding::output("loss"),
        Binding::output("dz"),
        Binding::output("dothers"),
        Binding::scratch("part"),
    ]
}

const fn cross(name: &'static str, sweep: Cuda, bindings: &'static [Binding]) -> Kernel {
    Kernel {
        name,
        bindings,
        params: ContrastiveParams::LAYOUT,
        cpu: Twin { f32: cross_tiled, f64: cross_plain },
        workgroups: stages(bindings[0].elem),
        cuda: sweep,
        cost: match bindings[0].elem {
            Elem::Real => |p| cross_cost(p, Elem::Real),
            _ => |p| cross_cost(p, Elem::F16),
        },
    }
}

fn cross_cost(p: &Params, stored: Elem) -> Cost {
    let ContrastiveParams { n, m, d, .. } = p.get();
    let (n, m, d) = (n as usize, m as usize, d as usize);
    let flops = (n * m).saturating_mul(7 * d + 8);
    Cost { flops: flops as u64, bytes: bytes(stored, (n + m) * d, (n + m) * (d + 1) + 1) }
}

fn cross_plain<F: Real>(args: Args<'_, F>) {
    let p: ContrastiveParams = args.params();
    let (n, m, d) = (p.n as usize, p.m as usize, p.d as usize);
    let [z, labels_z, weights_z, others, labels_o, weights_o, loss, dz, dothers, _] = args.bufs();
    let (labels_z, weights_z) = (labels_z.input(), p.weights(0, weights_z.input()));
    let (labels_o, weights_o) = (labels_o.input(), p.weights(1, weights_o.input()));
    let (mut sum, mut total, mut gz, mut go) = (0.0, 0.0, vec![0.0; n * d], vec![0.0; m * d]);
    z.widened(|z| {
        others.widened(|others| {
            for i in 0..n {
                for j in 0..m {
                    let s = weight_of(weights_z, i) * weight_of(weights_o, j);
                    if s == 0.0 {
                        continue;
                    }
                    total += s;
                    let w = (labels_z[i] - labels_o[j]).abs().get();
                    sum += s * pair(&p, w, &z[i * d..][..d], &others[j * d..][..d], |k, gi, gj| {
                        gz[i * d + k] += s * gi;
                        go[j * d + k] += s * gj;
                    });
                }
            }
        })
    });
    let scale = share(&p, total);
    loss.output()[0] = F::of(scale * sum);
    let scale = scale * f64::from(p.grad_scale);
    scale_into(&gz, scale, dz.output());
    scale_into(&go, scale, dothers.output());
}

// The f32 instance.

/// One set of rows in the layouts that the tiles read, and what they add up.
struct Side {
    n: usize,
    /// The rows as given `[n, d]`.
    z: *const f32,
    /// Rows, or for cosine rows of norm 1, in panels: distances are differences of these.
    panels: *const f32,
    /// The same about the centre of the batch `[padded(n), dp]`: the gradient is made of these.
    rows: *const f32,
    labels: *const f32,
    /// The samples' weights, where there are any.
    weights: *const f32,
    /// Half of what makes a pair near.
    near: *const f32,
    /// 1 / norm, 0 for a zero row; 1 for Euclidean.
    inverse: *const f32,
    /// `Σ g_ij·rows_j`.
    acc: *mut f32,
    /// `Σ g_ij`.
    sums: *mut f32,
}

/// A launch's operands: pairs are of a row of `a` and one of `b`, which may be the same set.
struct Pairs<'a> {
    p: ContrastiveParams,
    d: usize,
    dp: usize,
    a: &'a Side,
    b: &'a Side,
    weighted: bool,
}

// SAFETY: what is written through the pointers is written by one task at a time (`sweep_*`).
unsafe impl Sync for Pairs<'_> {}

fn side(layout: &mut Layout<'_>, z: &[f32]) -> Side {
    Side {
        n: layout.n,
        z: z.as_ptr(),
        panels: layout.panels.as_ptr(),
        rows: layout.rows.as_ptr(),
        labels: layout.labels.as_ptr(),
        weights: layout.weights.as_ptr(),
        near: layout.near.as_ptr(),
        inverse: layout.inverse.as_ptr(),
        acc: layout.acc.as_mut_ptr(),
        sums: layout.sums.as_mut_ptr(),
    }
}

/// A pair too near for the tiles.
#[cold]
#[inline(never)]
unsafe fn near_pair(c: &Pairs<'_>, i: usize, j: usize) -> f64 {
    let Pairs { p, d, dp, a, b, weighted } = c;
    // SAFETY: rows i and j are rows of the two sides, and the calling task owns their sums.
    unsafe {
        let row = |s: &Side, i: usize| std::slice::from_raw_parts(s.z.add(i * d), *d);
        let w = f64::from((*a.labels.add(i) - *b.labels.add(j)).abs());
        // The sums are of gradients by rows of norm 1; `finish` divides by the norm and changes the sign.
        let weight = |s: &Side, i: usize| if *weighted { f64::from(*s.weights.add(i)) } else { 1.0 };
        let s = weight(a, i) * weight(b, j);
        let (na, nb) = (s / f64::from(*a.inverse.add(i)), s / f64::from(*b.inverse.add(j)));
        s * pair(p, w, row(a, i), row(b, j), |k, ga, gb| {
            *a.acc.add(i * dp + k) -= (ga * na) as f32;
            *b.acc.add(j * dp + k) -= (gb * nb) as f32;
        })
    }
}

static IOTA: Aligned<LANES> = Aligned([0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.]);

/// Where a tile lies: its first row and column, how many are rows, and whether it is on the diagonal.
#[derive(Clone, Copy)]
struct Place {
    i: usize,
    j: usize,
    rows: usize,
    columns: usize,
    diagonal: bool,
}

/// Step 2: turns squared distances into coefficients `g_ij` in place; returns the sum of losses.
///
/// With `EDGE` some pairs of the tile are none: those count for nothing. With `WEIGHTED` each counts as much as its two
/// samples.
#[inline(always)]
unsafe fn coefficients<V: Lanes, const COSINE: bool, const EDGE: bool, const WEIGHTED: bool>(
    c: &Pairs<'_>,
    at: Place,
    tile: *mut f32,
    row_sums: *mut f32,
) -> f64 {
    let (zero, one) = (unsafe { V::splat(0.0) }, unsafe { V::splat(1.0) });
    // SAFETY: rows and columns of the tile lie inside the sides' padded vectors; the task owns their sums.
    unsafe {
        let (tau, margin) = (V::splat(c.p.tau), V::splat(c.p.margin));
        let (mut loss, mut near_loss) = (zero, 0.0);
        for panel in 0..padded(at.columns) / LANES {
            let (first, j) = (panel * LANES, at.j + panel * LANES);
            let (label, near) = (V::load(c.b.labels.add(j)), V::load(c.b.near.add(j)));
            let weights = if WEIGHTED { V::load(c.b.weights.add(j)) } else { one };
            let there = if COSINE { V::load(c.b.inverse.add(j)).if_gt(zero, one, zero) } else { one };
            let lane = V::load(IOTA.0.as_ptr()).add(V::splat(first as f32));
            let mut column_sum = zero;
            let rows = padded(at.rows);
            for r in 0..if at.diagonal { rows.min(first + LANES) } else { rows } {
                let i = at.i + r;
                let t = V::load(tile.add(r * TILE + first));
                let w = V::splat(*c.a.labels.add(i)).sub(label).abs();
                let mw = margin.mul(w);
                let (mut l, mut g);
                if COSINE {
                    let v = if *c.a.inverse.add(i) > 0.0 { there } else { zero };
                    let dist = v.mul(V::splat(0.5)).mul_add(t, one.sub(v));
                    let h = mw.sub(dist).max(zero);
                    l = w.if_gt(tau, h.mul(h), dist.mul(dist));
                    g = v.mul(w.if_gt(tau, zero.sub(h), dist));
                } else {
                    // Bounded so that the root of no square, 0 and infinity included, is a NaN.
                    let root = t.max(V::splat(1e-37)).min(V::splat(1e38)).rsqrt();
                    let h = mw.sub(t.mul(root)).max(zero);
                    l = w.if_gt(tau, h.mul(h), t);
                    g = w.if_gt(tau, zero.sub(h).mul(root), one);
                }
                let mut limit = V::splat(*c.a.near.add(i)).add(near);
                if EDGE {
                    let from = if r >= at.rows {
                        f32::MAX
                    } else if at.diagonal {
                        r as f32
                    } else {
                        -1.0
                    };
                    let (from, to) = (V::splat(from), V::splat(at.columns as f32));
                    let inside = |x: V, no: V| lane.if_gt(from, to.if_gt(lane, x, no), no);
                    (l, g, limit) = (inside(l, zero), inside(g, zero), inside(limit, V::splat(-1.0)));
                }
                let mut bits = limit.gt(t);
                if bits != 0 {
                    g = limit.if_gt(t, zero, g);
                    if COSINE {
                        l = limit.if_gt(t, zero, l);
                    } else {
                        // At distance 0 the loss stands and there is no gradient.
                        l = limit.if_gt(t, t.if_gt(zero, zero, l), l);
                        bits &= t.gt(zero);
                    }
                    while bits != 0 {
                        near_loss += near_pair(c, i, j + bits.trailing_zeros() as usize);
                        bits &= bits - 1;
                    }
                }
                if WEIGHTED {
                    let s = V::splat(*c.a.weights.add(i)).mul(weights);
                    // An infinite loss times a weight that underflows is none.
                    (l, g) = (s.if_gt(zero, s.mul(l), zero), s.mul(g));
                }
                g.store(tile.add(r * TILE + first));
                let row_sum = row_sums.add(r * LANES);
                V::load(row_sum).add(g).store(row_sum);
                column_sum = column_sum.add(g);
                loss = loss.add(l);
            }
            let sums = c.b.sums.add(j);
            V::load(sums).add(column_sum).store(sums);
        }
        0.5 * f64::from(loss.sum()) + near_loss
    }
}

/// All pairs of rows `i` of `a` with rows `j` of `b`; on the diagonal each pair once. Returns the sum of losses.
#[inline(always)]
unsafe fn strip_body<V: Lanes>(c: &Pairs<'_>, i: Range<usize>, j: Range<usize>, diagonal: bool) -> f64 {
    let Pairs { p, d, dp, a, b, weighted } = c;
    let mut tile = Aligned([0.0; TILE * TILE]);
    let mut row_sums = Aligned([0.0; TILE * LANES]);
    let (tile, row_sums) = (tile.0.as_mut_ptr(), &mut row_sums.0);
    let mut loss = 0.0;
    for i0 in i.clone().step_by(TILE) {
        row_sums.fill(0.0);
        let rows = TILE.min(i.end - i0);
        let from = if diagonal { i0 } else { j.start };
        for j0 in (from..j.end).step_by(TILE) {
            let columns = TILE.min(j.end - j0);
            let at = Place { i: i0, j: j0, rows, columns, diagonal: diagonal && i0 == j0 };
            let (rp, cp) = (padded(rows), padded(columns));
            let edge = at.diagonal || rows < rp || columns < cp;
            let sums = row_sums.as_mut_ptr();
            // SAFETY: rows and columns are inside the sides, whose layouts are padded to whole sixteens.
            unsafe {
                let panels = (b.panels.add(j0 * d), cp / LANES);
                products::<V, true>(*d, (a.panels.add(i0 * d), rp), panels, at.diagonal, tile);
                loss += match (p.cosine(), edge, *weighted) {
                    (false, false, false) => coefficients::<V, false, false, false>(c, at, tile, sums),
                    (false, true, false) => coefficients::<V, false, true, false>(c, at, tile, sums),
                    (false, _, true) => coefficients::<V, false, true, true>(c, at, tile, sums),
                    (true, false, false) => coefficients::<V, true, false, false>(c, at, tile, sums),
                    (true, true, false) => coefficients::<V, true, true, false>(c, at, tile, sums),
                    (true, _, true) => coefficients::<V, true, true, true>(c, at, tile, sums),
                };
                let (ai, bj) = (a.acc.add(i0 * dp), b.acc.add(j0 * dp));
                combine::<V, false>(tile, *d, (ai, rp), (b.rows.add(j0 * dp), cp), at.diagonal);
                combine::<V, true>(tile, *d, (bj, cp), (a.rows.add(i0 * dp), rp), at.diagonal);
            }
        }
        for r in 0..rows {
            // SAFETY: the task owns the sums of its rows.
            unsafe { *a.sums.add(i0 + r) += V::load(row_sums.as_ptr().add(r * LANES)).sum() };
        }
    }
    loss
}

dispatch! {
    fn strip(c: &Pairs<'_>, i: Range<usize>, j: Range<usize>, diagonal: bool) -> f64 = strip_body
}

/// Most blocks that rows are cut into: the tasks of a round are half as many.
const BLOCKS: usize = 32;

/// Rows of a block, whole tiles: depends on the shape alone, so the sums' order does too.
fn block_rows(n: usize) -> usize {
    n.div_ceil(BLOCKS).max(2 * TILE).next_multiple_of(TILE)
}

fn block(n: usize, b: usize) -> Range<usize> {
    let rows = block_rows(n);
    b * rows..n.min((b + 1) * rows)
}

/// The two blocks `x < y` of task `k` in a round of a round-robin tournament: one player stays, the others move
/// round a circle. No block is in two tasks of a round, which `Pairs` being shared relies on.
fn meeting(players: usize, round: usize, k: usize) -> (usize, usize) {
    let others = players - 1;
    let (x, y) = match k {
        0 => (round, others),
        k => ((round + k) % others, (round + others - k) % others),
    };
    (x.min(y), x.max(y))
}

/// Hears how many pairs of how many are done, and may end the run; it is called a few dozen times.
pub(crate) type Progress<'a> = &'a mut (dyn FnMut(u64, u64) -> ControlFlow<()> + Send);

/// What a launch of a plan reports to: nobody.
fn unheard(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Every pair `i < j` once. Blocks meet as the players of a round-robin tournament do: in a round
/// each is in one task, so tasks of a round run side by side, and every sum is taken in the
/// order of the rounds, whatever the threads. The sum of losses; none when `progress` ended it.
fn sweep_all(work: Work, c: &Pairs<'_>, progress: Progress<'_>) -> Option<f64> {
    let n = c.a.n;
    let count = n.div_ceil(block_rows(n));
    let pairs = |n: usize| n as u64 * (n as u64).saturating_sub(1) / 2;
    let mut done: u64 = (0..count).map(|b| pairs(block(n, b).len())).sum();
    let mut losses = [0.0; BLOCKS];
    work.pieces(&mut losses[..count], 1, |b, loss| {
        loss[0] = strip(work.simd, c, block(n, b), block(n, b), true);
    });
    let mut sum = losses.iter().sum();
    // With an odd count one block pauses each round: it meets a player without rows.
    let players = count.next_multiple_of(2);
    for round in 0..players - 1 {
        progress(done, pairs(n)).is_continue().then_some(())?;
        losses.fill(0.0);
        let tasks = players / 2;
        work.pieces(&mut losses[..tasks], 1, |k, loss| {
            let (x, y) = meeting(players, round, k);
            if y < count {
                loss[0] = strip(work.simd, c, block(n, x), block(n, y), false);
            }
        });
        sum += losses.iter().sum::<f64>();
        let met = (0..tasks).map(|k| meeting(players, round, k)).filter(|&(_, y)| y < count);
        done += met.map(|(x, y)| block(n, x).len() as u64 * block(n, y).len() as u64).sum::<u64>();
    }
    progress(done, pairs(n)).is_continue().then_some(sum)
}

/// Every row of `a` with every row of `b`: in round `r` block `x` meets block `x + r`.
fn sweep_cross(work: Work, c: &Pairs<'_>, progress: Progress<'_>) -> Option<f64> {
    let (n, m) = (c.a.n, c.b.n);
    let (of_a, of_b) = (n.div_ceil(block_rows(n)), m.div_ceil(block_rows(m)));
    let rounds = of_a.max(of_b);
    let (mut sum, mut done) = (0.0, 0);
    for round in 0..rounds {
        let mut losses = [0.0; BLOCKS];
        let other = |x: usize| Some((x + round) % rounds).filter(|&y| y < of_b);
        work.pieces(&mut losses[..of_a], 1, |x, loss| {
            if let Some(y) = other(x) {
                loss[0] = strip(work.simd, c, block(n, x), block(m, y), false);
            }
        });
        sum += losses.iter().sum::<f64>();
        let met = (0..of_a).filter_map(|x| Some((x, other(x)?)));
        done += met.map(|(x, y)| block(n, x).len() as u64 * block(m, y).len() as u64).sum::<u64>();
        progress(done, n as u64 * m as u64).is_continue().then_some(())?;
    }
    Some(sum)
}

/// A set of samples as a launch gives it, and where its gradient goes.
pub(crate) struct Rows<'a> {
    pub z: &'a [f32],
    pub labels: &'a [f32],
    pub weights: Option<&'a [f32]>,
    pub dz: &'a mut [f32],
}

impl Rows<'_> {
    /// Calls `f` with the samples of positive weight alone, then puts their gradients in place and 0 elsewhere.
    ///
    /// `f` receives weights that are at most 1.
    fn kept<R>(self, d: usize, f: impl FnOnce(Rows<'_>) -> R) -> R {
        let Some(weights) = self.weights else { return f(self) };
        let kept = || (0..weights.len()).filter(|&i| weights[i] > 0.0);
        let (count, largest) = (kept().count(), weights.iter().copied().fold(0.0, f32::max));
        with_scratch(count * (d + 2), |scratch: &mut [f32]| {
            let (z, rest) = scratch.split_at_mut(count * d);
            let (labels, weights_of_kept) = rest.split_at_mut(count);
            for (to, i) in kept().enumerate() {
                z[to * d..][..d].copy_from_slice(&self.z[i * d..][..d]);
                labels[to] = self.labels[i];
                weights_of_kept[to] = weights[i] / largest;
            }
            let dz = &mut self.dz[..count * d];
            let result = f(Rows { z, labels, weights: Some(weights_of_kept), dz });
            // From the last on: a gradient moves up or stays.
            let mut from = count;
            for (to, &weight) in weights.iter().enumerate().rev() {
                if weight > 0.0 {
                    from -= 1;
                    self.dz.copy_within(from * d..(from + 1) * d, to * d);
                } else {
                    self.dz[to * d..][..d].fill(0.0);
                }
            }
            result
        })
    }
}

/// The mean over all pairs of rows, and its gradient; none when `progress` ended the run.
pub(crate) fn all_f32(
    work: Work,
    p: &ContrastiveParams,
    rows: Rows<'_>,
    progress: Progress<'_>,
) -> Option<f32> {
    let d = p.d as usize;
    rows.kept(d, |Rows { z, labels, weights, dz }| {
        let n = labels.len();
        // The sum over pairs i < j, without a difference that could cancel.
        let total = match weights {
            None => n as f64 * (n as f64 - 1.0) / 2.0,
            Some(weights) => {
                let mut before = 0.0;
                let pairs = weights.iter().map(|&w| {
                    let sum = f64::from(w) * before;
                    before += f64::from(w);
                    sum
                });
                pairs.sum()
            }
        };
        if total == 0.0 {
            dz.fill(0.0);
            return Some(0.0);
        }
        with_scratch(side_len(n, d), |mut scratch| {
            let mut sides = [lay_out(d, p.cosine(), z, labels, weights, &mut scratch)];
            centre(d, p.cosine(), &mut sides);
            let [layout] = &mut sides;
            let side = side(layout, z);
            let weighted = weights.is_some();
            let c = Pairs { p: *p, d, dp: row_len(d), a: &side, b: &side, weighted };
            let scale = share(p, total);
            let loss = scale * sweep_all(work, &c, progress)?;
            layout.finish(d, p.cosine(), (scale * f64::from(p.grad_scale)) as f32, z, dz);
            Some(loss as f32)
        })
    })
}

/// The mean over all pairs of a row of `z` and one of `others`, and its gradients; none when `progress` ended the run.
pub(crate) fn cross_f32(
    work: Work,
    p: &ContrastiveParams,
    z: Rows<'_>,
    others: Rows<'_>,
    progress: Progress<'_>,
) -> Option<f32> {
    let d = p.d as usize;
    z.kept(d, |z| others.kept(d, |others| cross_kept(work, p, z, others, progress)))
}

fn cross_kept(
    work: Work,
    p: &ContrastiveParams,
    z: Rows<'_>,
    others: Rows<'_>,
    progress: Progress<'_>,
) -> Option<f32> {
    let (n, m, d) = (z.labels.len(), others.labels.len(), p.d as usize);
    let weight_of = |side: &Rows<'_>| match side.weights {
        None => side.labels.len() as f64,
        Some(weights) => weights.iter().map(|&w| f64::from(w)).sum(),
    };
    let total = weight_of(&z) * weight_of(&others);
    if total == 0.0 {
        z.dz.fill(0.0);
        others.dz.fill(0.0);
        return Some(0.0);
    }
    with_scratch(side_len(n, d) + side_len(m, d), |mut scratch| {
        let mut sides = [&z, &others].map(|s| lay_out(d, p.cosine(), s.z, s.labels, s.weights, &mut scratch));
        let weighted = z.weights.is_some() || others.weights.is_some();
        centre(d, p.cosine(), &mut sides);
        let [a, b] = &mut sides;
        let (a_side, b_side) = (side(a, z.z), side(b, others.z));
        let c = Pairs { p: *p, d, dp: row_len(d), a: &a_side, b: &b_side, weighted };
        let scale = share(p, total);
        let loss = scale * sweep_cross(work, &c, progress)?;
        let scale = (scale * f64::from(p.grad_scale)) as f32;
        a.finish(d, p.cosine(), scale, z.z, z.dz);
        b.finish(d, p.cosine(), scale, others.z, others.dz);
        Some(loss as f32)
    })
}

fn all_tiled(args: Args<'_, f32>) {
    let (p, work): (ContrastiveParams, _) = (args.params(), args.work);
    let [z, labels, weights, loss, dz, _] = args.bufs();
    let weights = p.weights(0, weights.input());
    let (labels, dz) = (labels.input(), dz.output());
    let value = z.widened(|z| all_f32(work, &p, Rows { z, labels, weights, dz }, &mut unheard));
    loss.output()[0] = value.expect("nothing ends it");
}

fn cross_tiled(args: Args<'_, f32>) {
    let (p, work): (ContrastiveParams, _) = (args.params(), args.work);
    let [z, labels_z, weights_z, others, labels_o, weights_o, loss, dz, dothers, _] = args.bufs();
    let (of_z, dz) = ((labels_z.input(), p.weights(0, weights_z.input())), dz.output());
    let (of_o, dothers) = ((labels_o.input(), p.weights(1, weights_o.input())), dothers.output());
    let value = z.widened(|z| {
        others.widened(|others| {
            let z = Rows { z, labels: of_z.0, weights: of_z.1, dz };
            let others = Rows { z: others, labels: of_o.0, weights: of_o.1, dz: dothers };
            cross_f32(work, &p, z, others, &mut unheard)
        })
    });
    loss.output()[0] = value.expect("nothing ends it");
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&ALL, &ALL_F16, &ALL_BF16, &HALVES, &CROSS, &CROSS_F16, &CROSS_BF16];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_meet_once_and_are_in_one_task_of_a_round() {
        for players in (2..=BLOCKS).step_by(2) {
            let mut met = std::collections::HashSet::new();
            for round in 0..players - 1 {
                let mut busy = std::collections::HashSet::new();
                for (x, y) in (0..players / 2).map(|k| meeting(players, round, k)) {
                    assert!(x < y && y < players, "{players} {round}: {x} {y}");
                    assert!(busy.insert(x) && busy.insert(y), "{players} {round}: {x} or {y} in two tasks");
                    assert!(met.insert((x, y)), "{players}: {x} and {y} meet twice");
                }
            }
            assert_eq!(met.len(), players * (players - 1) / 2);
        }
    }

    /// N·D far beyond 2^32: nothing wraps, and every offset is that of plain arithmetic.
    #[test]
    fn sizes_beyond_32_bits_do_not_wrap() {
        let (n, d) = (1u32 << 28, 1u32 << 10);
        let (rows, columns) = (n as usize, d as usize);
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let (margin, tau, weight, grad_scale) = (0.5, 0.0, 1.0, 1.0);
            let p = ContrastiveParams {
                n,
                m: 0,
                d,
                metric: metric as u32,
                margin,
                tau,
                weight,
                weighted: 0,
                grad_scale,
            };
            let norms = if metric == Metric::Cosine { rows } else { 0 };
            assert_eq!(p.parts(), rows / 32 + norms);
            let both = ContrastiveParams { m: n, weighted: 3, ..p };
            assert_eq!(both.parts(), rows / 32 + 2 * norms + 2 * rows);
            let params = Params::new(&p);
            assert_eq!((ALL.cost)(&params).bytes, 4 * (2 * (1u64 << 38) + (1 << 28) + 1));
            assert!((ALL.cost)(&params).flops > 1 << 62);
            let groups = STAGES[1](&Params::new(&both));
            assert_eq!(groups, [2 * (n / 32), 1, 1]);
        }
        // A few rows of very many columns are cut into slices whose sums do not fit 32 bits.
        let p = ContrastiveParams { n: 64, m: 0, d: 1 << 30, ..bytemuck::Zeroable::zeroed() };
        assert_eq!(p.parts(), 4 + (2 << 36));
        assert_eq!(side_len(rows, columns), rows * (columns + 2 * row_len(columns) + 5));
        assert!(side_len(rows, columns) > 1 << 39);
        let count = rows.div_ceil(block_rows(rows));
        assert_eq!(block(rows, count - 1).end, rows);
        assert_eq!((0..count).map(|b| block(rows, b).len()).sum::<usize>(), rows);
    }

    #[test]
    fn blocks_are_whole_tiles_that_cover_the_rows() {
        for n in (1usize..20_000).step_by(37).chain([2, 96, 97, 3072, 3073, 65_536]) {
            let count = n.div_ceil(block_rows(n));
            assert!(count <= BLOCKS && block_rows(n).is_multiple_of(TILE), "{n}");
            assert_eq!((0..count).map(|b| block(n, b).len()).sum::<usize>(), n);
        }
    }
}
