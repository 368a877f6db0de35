//! The label-distance-weighted contrastive loss: value and gradient in one launch.
//!
//! With label distance `w = |l_i − l_j|` and embedding distance `d`, a pair costs
//!
//! ```text
//! positive (w <= tau):  ½·d²
//! negative:             ½·max(0, margin·w − d)²
//! ```
//!
//! and the loss is `weight` times the mean over the pairs. `d` is `‖z_i − z_j‖` (Euclidean) or
//! `1 − cos(z_i, z_j)` (cosine). The gradient is 0 where `d = 0` (Euclidean), and a cosine pair
//! with a zero row has distance 1 and gradient 0.

use super::{Binding, Cost, Kernel};
use crate::device::cpu::{Args, CpuTwin, Real};
use bytemuck::{Pod, Zeroable};

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

/// Params of every kernel here.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct P {
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
}

impl P {
    fn cosine(&self) -> bool {
        self.metric == Metric::Cosine as u32
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

/// The loss of one pair in f64; adds its gradient to `da` and `db`.
fn pair<F: Real>(p: &P, w: f64, a: &[F], b: &[F], da: &mut [f64], db: &mut [f64]) -> f64 {
    let ab = || a.iter().zip(b).map(|(a, b)| (a.get(), b.get()));
    let gradients = da.iter_mut().zip(db);
    if p.cosine() {
        let (aa, bb) = ab().fold((0.0, 0.0), |(aa, bb), (a, b)| (aa + a * a, bb + b * b));
        if aa == 0.0 || bb == 0.0 {
            return p.term(1.0, w).0;
        }
        let (ra, rb) = (1.0 / aa.sqrt(), 1.0 / bb.sqrt());
        // 1 − cos = ½‖â − b̂‖², which does not cancel when the rows are close.
        let d = 0.5 * ab().map(|(a, b)| (a * ra - b * rb).powi(2)).sum::<f64>();
        let (loss, slope) = p.term(d, w);
        for ((a, b), (da, db)) in ab().zip(gradients) {
            let (a, b) = (a * ra, b * rb);
            // ∂d/∂a = (cos·â − b̂) / ‖a‖
            *da += slope * ra * (a - b - d * a);
            *db += slope * rb * (b - a - d * b);
        }
        loss
    } else {
        let d = ab().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        let (loss, slope) = p.term(d, w);
        if d > 0.0 {
            for ((a, b), (da, db)) in ab().zip(gradients) {
                let g = slope * ((a - b) / d);
                *da += g;
                *db -= g;
            }
        }
        loss
    }
}

fn scale_into<F: Real>(from: &[f64], scale: f64, to: &mut [F]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = F::of(scale * from);
    }
}

/// Two different rows of a matrix, to write.
fn two_rows<T>(m: &mut [T], d: usize, i: usize, j: usize) -> (&mut [T], &mut [T]) {
    if i < j {
        let (low, high) = m.split_at_mut(j * d);
        (&mut low[i * d..][..d], &mut high[..d])
    } else {
        let (low, high) = m.split_at_mut(i * d);
        (&mut high[..d], &mut low[j * d..][..d])
    }
}

/// The mean over all pairs `i < j`.
///
/// `z` is `[n, d]`, `labels` `[n]`, `loss` `[1]`, `dz` `[n, d]`: the gradient of `loss` by `z`.
pub static ALL: Kernel = Kernel {
    name: "contrastive_all",
    bindings: &[
        Binding::input("z"),
        Binding::input("labels"),
        Binding::output("loss"),
        Binding::output("dz"),
    ],
    cpu: CpuTwin { f32: all_plain, f64: all_plain },
    cost: |p| {
        let P { n, d, .. } = p.get();
        let (n, d) = (n as usize, d as usize);
        Cost::new(n * (n - 1) / 2 * (7 * d + 8), 2 * n * d + n + 1)
    },
};

fn all_plain<F: Real>(args: Args<'_, F>) {
    let p: P = args.params();
    let (n, d) = (p.n as usize, p.d as usize);
    let [z, labels, loss, dz] = args.bufs();
    let (z, labels) = (z.input(), labels.input());
    let (mut sum, mut grad) = (0.0, vec![0.0; n * d]);
    for i in 0..n {
        for j in i + 1..n {
            let w = (labels[i] - labels[j]).abs().get();
            let (di, dj) = two_rows(&mut grad, d, i, j);
            sum += pair(&p, w, &z[i * d..][..d], &z[j * d..][..d], di, dj);
        }
    }
    let scale = f64::from(p.weight) / (n as f64 * (n as f64 - 1.0) / 2.0);
    loss.output()[0] = F::of(scale * sum);
    scale_into(&grad, scale, dz.output());
}

/// The mean over `m` disjoint pairs of rows.
///
/// `z` is `[n, d]`, `labels` `[n]`, `pairing` `[m, 2]` row indices, `loss` `[1]`, `dz` `[n, d]`. A row in
/// no pair has gradient 0. An index that is no row, or comes twice, makes the loss NaN.
pub static HALVES: Kernel = Kernel {
    name: "contrastive_halves",
    bindings: &[
        Binding::input("z"),
        Binding::input("labels"),
        Binding::index("pairing"),
        Binding::output("loss"),
        Binding::output("dz"),
    ],
    cpu: CpuTwin { f32: halves_plain, f64: halves_plain },
    cost: |p| {
        let P { n, m, d, .. } = p.get();
        let (n, m, d) = (n as usize, m as usize, d as usize);
        Cost::new(m * (7 * d + 8), 2 * n * d + n + 2 * m + 1)
    },
};

fn halves_plain<F: Real>(args: Args<'_, F>) {
    let p: P = args.params();
    let (n, m, d) = (p.n as usize, p.m as usize, p.d as usize);
    let [z, labels, pairing, loss, dz] = args.bufs();
    let (z, labels, pairing) = (z.input(), labels.input(), pairing.index());
    let (mut sum, mut grad) = (0.0, vec![0.0; n * d]);
    let mut seen = vec![false; n];
    for ij in pairing.chunks_exact(2).take(m) {
        let (i, j) = (ij[0] as usize, ij[1] as usize);
        if i >= n || j >= n || i == j || seen[i] || seen[j] {
            sum = f64::NAN;
            continue;
        }
        (seen[i], seen[j]) = (true, true);
        let w = (labels[i] - labels[j]).abs().get();
        let (di, dj) = two_rows(&mut grad, d, i, j);
        sum += pair(&p, w, &z[i * d..][..d], &z[j * d..][..d], di, dj);
    }
    let scale = f64::from(p.weight) / m as f64;
    loss.output()[0] = F::of(scale * sum);
    scale_into(&grad, scale, dz.output());
}

/// The mean over all `n·m` pairs of a row of `z` and a row of `others`.
///
/// `z` is `[n, d]`, `labels_z` `[n]`, `others` `[m, d]`, `labels_o` `[m]`, `loss` `[1]`, `dz` `[n, d]`, `dothers` `[m, d]`.
pub static CROSS: Kernel = Kernel {
    name: "contrastive_cross",
    bindings: &[
        Binding::input("z"),
        Binding::input("labels_z"),
        Binding::input("others"),
        Binding::input("labels_o"),
        Binding::output("loss"),
        Binding::output("dz"),
        Binding::output("dothers"),
    ],
    cpu: CpuTwin { f32: cross_plain, f64: cross_plain },
    cost: |p| {
        let P { n, m, d, .. } = p.get();
        let (n, m, d) = (n as usize, m as usize, d as usize);
        Cost::new(n * m * (7 * d + 8), (n + m) * (2 * d + 1) + 1)
    },
};

fn cross_plain<F: Real>(args: Args<'_, F>) {
    let p: P = args.params();
    let (n, m, d) = (p.n as usize, p.m as usize, p.d as usize);
    let [z, labels_z, others, labels_o, loss, dz, dothers] = args.bufs();
    let (z, labels_z) = (z.input(), labels_z.input());
    let (others, labels_o) = (others.input(), labels_o.input());
    let (mut sum, mut gz, mut go) = (0.0, vec![0.0; n * d], vec![0.0; m * d]);
    for i in 0..n {
        for j in 0..m {
            let w = (labels_z[i] - labels_o[j]).abs().get();
            let (di, dj) = (&mut gz[i * d..][..d], &mut go[j * d..][..d]);
            sum += pair(&p, w, &z[i * d..][..d], &others[j * d..][..d], di, dj);
        }
    }
    let scale = f64::from(p.weight) / (n as f64 * m as f64);
    loss.output()[0] = F::of(scale * sum);
    scale_into(&gz, scale, dz.output());
    scale_into(&go, scale, dothers.output());
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&ALL, &HALVES, &CROSS];
