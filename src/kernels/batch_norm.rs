//! Batch normalisation (Ioffe and Szegedy 2015) over `x [B, C, S]`, S the product of all further dimensions.
//!
//! Shapes: `x`, `y`, `dy`, `dx` `[B, C, S]`; everything else `[C]`.
//!
//! Training, over the N = B·S values of a channel, with the pivot k = x[0, c, 0]:
//!
//! ```text
//! centre = mean (x − k)                  var = mean (x − k − centre)²          rstd = 1/√(var + eps)
//! x̂ = (x − k − centre)·rstd              y = γ·x̂ + β
//! running_mean ← (1 − m)·running_mean + m·(k + centre)
//! running_var  ← (1 − m)·running_var + m·var·N/(N − 1)
//! dγ = Σ dy·x̂        dβ = Σ dy           dx = γ·rstd·(dy − dβ/N − x̂·dγ/N)
//! ```
//!
//! Differences from the pivot are exact for values of one magnitude, so a mean of 1e3 with a deviation
//! of 1 loses nothing; what is saved for backward is `centre`, not the mean, which f32 would round.
//!
//! Evaluation takes mean and variance from the running ones and changes nothing:
//! `x̂ = (x − running_mean)/√(running_var + eps)`, `dx = γ·dy/√(running_var + eps)`.
//!
//! Threads: one block owns a channel for the statistics and the sums of backward (both two-level, in a
//! fixed order, two passes), then one thread owns one element of `y` or `dx`.
//!
//! Cost: 3 reads of `x` forward and 2 of `x` and `dy` backward, of which the roofline counts one.

use super::elementwise::PIECE;
use super::pool::{sum, sum2};
use super::{Binding, Cost, Kernel, Params, spans};
use crate::device::cpu::{Args, CpuTwin, Real, Work};
use bytemuck::{Pod, Zeroable};

/// Params of every kernel here.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct P {
    /// Rows of the batch, B.
    pub batch: u32,
    /// Channels, C.
    pub channels: u32,
    /// Values of one channel in one row, S.
    pub inner: u32,
    /// Added to the variance.
    pub eps: f32,
    /// What of the running statistics is replaced in a step, m.
    pub momentum: f32,
}

impl P {
    fn dims(&self) -> [usize; 3] {
        [self.batch as usize, self.channels as usize, self.inner as usize]
    }

    /// Values of a channel, N.
    fn count(&self) -> f64 {
        f64::from(self.batch) * f64::from(self.inner)
    }

    /// The runs of channel `c`, one for each row of the batch.
    fn runs<F>(self, x: &[F], c: usize) -> impl Iterator<Item = &[F]> {
        let [batch, channels, inner] = self.dims();
        (0..batch).map(move |b| &x[(b * channels + c) * inner..][..inner])
    }

    /// Calls `f(c, at, out)` for each run of `out`, which starts at element `at`.
    fn each_run<F: Real>(self, work: Work, out: &mut [F], f: impl Fn(usize, usize, &mut [F]) + Sync + Send) {
        let [_, channels, inner] = self.dims();
        let runs = (PIECE / inner).max(1);
        work.pieces(out, runs * inner, |piece, out| {
            for (i, out) in out.chunks_exact_mut(inner).enumerate() {
                let run = piece * runs + i;
                f(run % channels, run * inner, out);
            }
        });
    }
}

/// A workgroup for each channel's statistics or sums.
fn per_channel(p: &Params) -> [u32; 3] {
    [p.get::<P>().channels, 1, 1]
}

fn per_element(p: &Params) -> [u32; 3] {
    let p: P = p.get();
    spans(p.batch * p.channels * p.inner)
}

fn cost(p: &Params, flops: usize, buffers: usize) -> Cost {
    let [b, c, s] = p.get::<P>().dims();
    Cost::new(flops * b * c * s, buffers * b * c * s + 6 * c)
}

/// Batch statistics, normalisation, and the running statistics in place.
pub static TRAIN_FWD: Kernel = Kernel {
    name: "batch_norm_train_fwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("gamma"),
        Binding::input("beta"),
        Binding::inout("running_mean"),
        Binding::inout("running_var"),
        Binding::output("y"),
        Binding::output("centre"),
        Binding::output("rstd"),
    ],
    cpu: CpuTwin { f32: train_fwd, f64: train_fwd },
    groups: &[per_channel, per_element],
    cuda: None,
    cost: |p| cost(p, 9, 2),
};

fn train_fwd<F: Real>(args: Args<'_, F>) {
    let p: P = args.params();
    let [_, _, inner] = p.dims();
    let work = args.work;
    let [x, gamma, beta, running_mean, running_var, y, centre, rstd] = args.bufs();
    let (x, gamma, beta) = (x.input(), gamma.input(), beta.input());
    let (centre, rstd) = (centre.output(), rstd.output());
    let (running_mean, running_var) = (running_mean.output(), running_var.output());
    let n = p.count();
    work.pieces2((centre, 1), (rstd, 1), |c, centre, var| {
        let pivot = x[c * inner];
        let mean = p.runs(x, c).map(|x| sum(x, |x| x - pivot)).sum::<f64>() / n;
        let offset = F::of(mean);
        let square = |x: F| {
            let d = x - pivot - offset;
            d * d
        };
        centre[0] = offset;
        var[0] = F::of(p.runs(x, c).map(|x| sum(x, square)).sum::<f64>() / n);
    });
    let momentum = F::of(f64::from(p.momentum));
    let (keep, unbias, eps) = (F::one() - momentum, F::of(n / (n - 1.0)), F::of(f64::from(p.eps)));
    for c in 0..rstd.len() {
        let (mean, var) = (x[c * inner] + centre[c], rstd[c]);
        running_mean[c] = keep * running_mean[c] + momentum * mean;
        running_var[c] = keep * running_var[c] + momentum * var * unbias;
        rstd[c] = (var + eps).sqrt().recip();
    }
    p.each_run(work, y.output(), |c, at, y| {
        let (pivot, centre, scale, beta) = (x[c * inner], centre[c], gamma[c] * rstd[c], beta[c]);
        for (y, &x) in y.iter_mut().zip(&x[at..]) {
            *y = (x - pivot - centre) * scale + beta;
        }
    });
}

/// Gradients in training: the statistics depend on `x`.
pub static TRAIN_BWD: Kernel = Kernel {
    name: "batch_norm_train_bwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("gamma"),
        Binding::input("centre"),
        Binding::input("rstd"),
        Binding::input("dy"),
        Binding::output("dx"),
        Binding::output("dgamma"),
        Binding::output("dbeta"),
    ],
    cpu: CpuTwin { f32: train_bwd, f64: train_bwd },
    groups: &[per_channel, per_element],
    cuda: None,
    cost: |p| cost(p, 11, 3),
};

fn train_bwd<F: Real>(args: Args<'_, F>) {
    let p: P = args.params();
    let [_, _, inner] = p.dims();
    let work = args.work;
    let [x, gamma, centre, rstd, dy, dx, dgamma, dbeta] = args.bufs();
    let (x, gamma, dy) = (x.input(), gamma.input(), dy.input());
    let (centre, rstd) = (centre.input(), rstd.input());
    let (dgamma, dbeta) = (dgamma.output(), dbeta.output());
    sums(work, p, (x, dy), (dgamma, dbeta), |c| {
        let (pivot, centre, rstd) = (x[c * inner], centre[c], rstd[c]);
        move |x| (x - pivot - centre) * rstd
    });
    let n = F::of(p.count());
    p.each_run(work, dx.output(), |c, at, dx| {
        let (pivot, centre, rstd) = (x[c * inner], centre[c], rstd[c]);
        let scale = gamma[c] * rstd;
        let (mean, slope) = (dbeta[c] / n, rstd * dgamma[c] / n);
        for ((dx, &x), &dy) in dx.iter_mut().zip(&x[at..]).zip(&dy[at..]) {
            *dx = scale * (dy - mean - (x - pivot - centre) * slope);
        }
    });
}

/// `dγ = Σ dy·x̂` and `dβ = Σ dy`; `hat(c)` gives the x̂ of an `x` of channel c.
fn sums<F: Real, H: Fn(F) -> F>(
    work: Work,
    p: P,
    (x, dy): (&[F], &[F]),
    (dgamma, dbeta): (&mut [F], &mut [F]),
    hat: impl Fn(usize) -> H + Sync + Send,
) {
    work.pieces2((dgamma, 1), (dbeta, 1), |c, dgamma, dbeta| {
        let hat = hat(c);
        let pairs = p.runs(x, c).zip(p.runs(dy, c));
        dgamma[0] = F::of(pairs.map(|(x, dy)| sum2(x, dy, |x, dy| dy * hat(x))).sum());
        dbeta[0] = F::of(p.runs(dy, c).map(|dy| sum(dy, |dy| dy)).sum());
    });
}

/// Normalisation by the running statistics.
pub static EVAL_FWD: Kernel = Kernel {
    name: "batch_norm_eval_fwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("gamma"),
        Binding::input("beta"),
        Binding::input("running_mean"),
        Binding::input("running_var"),
        Binding::output("y"),
    ],
    cpu: CpuTwin { f32: eval_fwd, f64: eval_fwd },
    groups: &[per_element],
    cuda: None,
    cost: |p| cost(p, 3, 2),
};

fn eval_fwd<F: Real>(args: Args<'_, F>) {
    let p: P = args.params();
    let eps = F::of(f64::from(p.eps));
    let work = args.work;
    let [x, gamma, beta, mean, var, y] = args.bufs();
    let (x, gamma, beta, mean, var) = (x.input(), gamma.input(), beta.input(), mean.input(), var.input());
    p.each_run(work, y.output(), |c, at, y| {
        let (mean, scale, beta) = (mean[c], gamma[c] * (var[c] + eps).sqrt().recip(), beta[c]);
        for (y, &x) in y.iter_mut().zip(&x[at..]) {
            *y = (x - mean) * scale + beta;
        }
    });
}

/// Gradients in evaluation: the statistics are constants.
pub static EVAL_BWD: Kernel = Kernel {
    name: "batch_norm_eval_bwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("gamma"),
        Binding::input("running_mean"),
        Binding::input("running_var"),
        Binding::input("dy"),
        Binding::output("dx"),
        Binding::output("dgamma"),
        Binding::output("dbeta"),
    ],
    cpu: CpuTwin { f32: eval_bwd, f64: eval_bwd },
    groups: &[per_channel, per_element],
    cuda: None,
    cost: |p| cost(p, 6, 3),
};

fn eval_bwd<F: Real>(args: Args<'_, F>) {
    let p: P = args.params();
    let eps = F::of(f64::from(p.eps));
    let work = args.work;
    let [x, gamma, mean, var, dy, dx, dgamma, dbeta] = args.bufs();
    let (x, gamma, dy) = (x.input(), gamma.input(), dy.input());
    let (mean, var) = (mean.input(), var.input());
    let rstd = |c: usize| (var[c] + eps).sqrt().recip();
    sums(work, p, (x, dy), (dgamma.output(), dbeta.output()), |c| {
        let (mean, rstd) = (mean[c], rstd(c));
        move |x| (x - mean) * rstd
    });
    p.each_run(work, dx.output(), |c, at, dx| {
        let scale = gamma[c] * rstd(c);
        for (dx, &dy) in dx.iter_mut().zip(&dy[at..]) {
            *dx = scale * dy;
        }
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&TRAIN_FWD, &TRAIN_BWD, &EVAL_FWD, &EVAL_BWD];
