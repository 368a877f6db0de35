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
//! A grid of blocks cannot wait for all its sums, so training takes two launches each way: `stats` and `sums` cut
//! the N values of a channel into splits of L and leave two numbers for each in `part [C, ⌈N/L⌉, 2]`; `train_fwd` and
//! `train_bwd` add these up again in every block, which is cheaper than a launch that does it once:
//!
//! ```text
//! stats   mean (x − k) over the split, Σ (x − k − that mean)²
//!         centre = Σ n·mean / N          var = Σ (squares + n·(mean − centre)²) / N        n values in a split
//! sums    Σ dy·x̂, Σ dy
//! ```
//!
//! The mean of a split is its own, so the squares never cancel (Chan, Golub and LeVeque 1979). `saved [2, C]` holds
//! `centre`, then `rstd`.
//!
//! Threads: one block owns a split of a channel, or of as many channels as a warp needs to read whole lines where S is
//! short; all sums are two-level in a fixed order.
//!
//! Cost: forward 2 reads of `x` and 1 write, backward 2 reads of `x` and `dy` and 1 write. In evaluation 1 of each.

use super::pool::{sum, sum2};
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, PIECE, Params, Real, Twin, Work, params, spans};

params! {
    /// Params of every kernel here.
    pub struct BatchNormParams {
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
        /// Values of a split, L: a multiple of S where S is below [`LINE`].
        pub split: u32,
    }
}

/// Threads of a CUDA block.
const BLOCK: u32 = 256;

/// Values that a CUDA block reads at once.
const TILE: u32 = 8 * BLOCK;

/// Most splits of a channel.
const SPLITS: u32 = 256;

/// Elements of a line of memory: a CUDA block owns that many neighbours or more.
pub const LINE: u32 = 32;

impl BatchNormParams {
    /// Params for `x [batch, channels, inner]` of at most 2³² − 1 elements.
    pub fn new([batch, channels, inner]: [u32; 3], eps: f32, momentum: f32) -> Self {
        let mut p = Self { batch, channels, inner, eps, momentum, split: 0 };
        let unit = if inner < LINE { inner } else { TILE };
        p.split = (TILE / p.group()).max((batch * inner).div_ceil(SPLITS)).next_multiple_of(unit);
        p
    }

    /// Channels that a CUDA block owns.
    fn group(&self) -> u32 {
        LINE.div_ceil(self.inner).min(self.channels)
    }

    /// Splits of a channel.
    pub fn splits(&self) -> usize {
        (self.batch * self.inner).div_ceil(self.split) as usize
    }

    fn dims(&self) -> [usize; 3] {
        [self.batch as usize, self.channels as usize, self.inner as usize]
    }

    /// Values of a channel, N.
    fn count(&self) -> f64 {
        f64::from(self.batch) * f64::from(self.inner)
    }

    /// Values of split `i` of a channel.
    fn split_count(&self, i: usize) -> f64 {
        (self.count() - i as f64 * f64::from(self.split)).min(f64::from(self.split))
    }

    /// The runs of split `i` of channel `c`.
    fn runs<F>(self, x: &[F], c: usize, i: usize) -> impl Iterator<Item = &[F]> {
        let [batch, channels, inner] = self.dims();
        let from = i * self.split as usize;
        let to = (from + self.split as usize).min(batch * inner);
        (from / inner..to.div_ceil(inner)).map(move |b| {
            let row = &x[(b * channels + c) * inner..][..inner];
            &row[from.saturating_sub(b * inner)..inner.min(to - b * inner)]
        })
    }

    /// Adds up what [`sums`] left of each channel.
    fn finish<F: Real>(&self, part: &[F], dgamma: &mut [F], dbeta: &mut [F]) {
        let channels = part.chunks_exact(2 * self.splits());
        for ((part, dgamma), dbeta) in channels.zip(dgamma).zip(dbeta) {
            let total = |which: usize| F::of(part.iter().skip(which).step_by(2).map(|v| v.get()).sum());
            (*dgamma, *dbeta) = (total(0), total(1));
        }
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

fn per_channel(p: &Params) -> [u32; 3] {
    [p.get::<BatchNormParams>().channels, 1, 1]
}

fn per_split(p: &Params) -> [u32; 3] {
    let p: BatchNormParams = p.get();
    [p.channels * p.splits() as u32, 1, 1]
}

fn per_element(p: &Params) -> [u32; 3] {
    let p: BatchNormParams = p.get();
    spans(p.batch * p.channels * p.inner)
}

/// A block for each split of a group of channels.
const CUDA: Cuda = Cuda::new(BLOCK, |p| {
    let p: BatchNormParams = p.get();
    [p.channels.div_ceil(p.group()) * p.splits() as u32, 1, 1]
});

fn cost(p: &Params, flops: usize, buffers: usize) -> Cost {
    let [b, c, s] = p.get::<BatchNormParams>().dims();
    Cost::new(flops * b * c * s, buffers * b * c * s + 6 * c)
}

/// Mean and squares of each split.
pub static STATS: Kernel = Kernel {
    name: "batch_norm_stats",
    bindings: &[Binding::input("x"), Binding::output("part")],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: stats, f64: stats },
    workgroups: &[per_split],
    cuda: CUDA,
    cost: |p| cost(p, 5, 1),
};

fn stats<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [_, _, inner] = p.dims();
    let work = args.work;
    let [x, part] = args.bufs();
    let x = x.input();
    work.pieces(part.output(), 2, |place, part| {
        let (c, i) = (place / p.splits(), place % p.splits());
        let pivot = x[c * inner];
        let total: f64 = p.runs(x, c, i).map(|x| sum(x, |x| x - pivot)).sum();
        let mean = F::of(total / p.split_count(i));
        let square = |x: F| {
            let d = x - pivot - mean;
            d * d
        };
        part[0] = mean;
        part[1] = F::of(p.runs(x, c, i).map(|x| sum(x, square)).sum());
    });
}

/// Normalisation by what [`STATS`] found, and the running statistics in place.
pub static TRAIN_FWD: Kernel = Kernel {
    name: "batch_norm_train_fwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("part"),
        Binding::input("gamma"),
        Binding::input("beta"),
        Binding::inout("running_mean"),
        Binding::inout("running_var"),
        Binding::output("y"),
        Binding::output("saved"),
    ],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: train_fwd, f64: train_fwd },
    workgroups: &[per_split],
    cuda: CUDA,
    cost: |p| cost(p, 4, 2),
};

fn train_fwd<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [_, channels, inner] = p.dims();
    let work = args.work;
    let [x, part, gamma, beta, running_mean, running_var, y, saved] = args.bufs();
    let (x, part, gamma, beta) = (x.input(), part.input(), gamma.input(), beta.input());
    let (running_mean, running_var) = (running_mean.output(), running_var.output());
    let (centre, rstd) = saved.output().split_at_mut(channels);
    let (n, momentum) = (p.count(), F::of(f64::from(p.momentum)));
    let (keep, unbias, eps) = (F::one() - momentum, F::of(n / (n - 1.0)), F::of(f64::from(p.eps)));
    for c in 0..channels {
        let splits = || (0..p.splits()).map(|i| (p.split_count(i), &part[(c * p.splits() + i) * 2..]));
        let offset = splits().map(|(n, part)| n * part[0].get()).sum::<f64>() / n;
        let squares = splits().map(|(n, part)| part[1].get() + n * (part[0].get() - offset).powi(2));
        let var = F::of(squares.sum::<f64>() / n);
        centre[c] = F::of(offset);
        rstd[c] = (var + eps).sqrt().recip();
        running_mean[c] = keep * running_mean[c] + momentum * (x[c * inner] + centre[c]);
        running_var[c] = keep * running_var[c] + momentum * var * unbias;
    }
    p.each_run(work, y.output(), |c, at, y| {
        let (pivot, centre, scale, beta) = (x[c * inner], centre[c], gamma[c] * rstd[c], beta[c]);
        for (y, &x) in y.iter_mut().zip(&x[at..]) {
            *y = (x - pivot - centre) * scale + beta;
        }
    });
}

/// `Σ dy·x̂` and `Σ dy` of each split, in training.
pub static SUMS: Kernel = Kernel {
    name: "batch_norm_sums",
    bindings: &[Binding::input("x"), Binding::input("saved"), Binding::input("dy"), Binding::output("part")],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: train_sums, f64: train_sums },
    workgroups: &[per_split],
    cuda: CUDA,
    cost: |p| cost(p, 6, 2),
};

fn train_sums<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [_, channels, inner] = p.dims();
    let work = args.work;
    let [x, saved, dy, part] = args.bufs();
    let (x, (centre, rstd)) = (x.input(), saved.input().split_at(channels));
    sums(work, p, (x, dy.input()), part.output(), |c| {
        let (pivot, centre, rstd) = (x[c * inner], centre[c], rstd[c]);
        move |x| (x - pivot - centre) * rstd
    });
}

/// Gradients in training from what [`SUMS`] found: the statistics depend on `x`.
pub static TRAIN_BWD: Kernel = Kernel {
    name: "batch_norm_train_bwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("part"),
        Binding::input("gamma"),
        Binding::input("saved"),
        Binding::input("dy"),
        Binding::output("dx"),
        Binding::output("dgamma"),
        Binding::output("dbeta"),
    ],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: train_bwd, f64: train_bwd },
    workgroups: &[per_split],
    cuda: CUDA,
    cost: |p| cost(p, 6, 3),
};

fn train_bwd<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [_, channels, inner] = p.dims();
    let work = args.work;
    let [x, part, gamma, saved, dy, dx, dgamma, dbeta] = args.bufs();
    let (x, part, gamma, dy) = (x.input(), part.input(), gamma.input(), dy.input());
    let (centre, rstd) = saved.input().split_at(channels);
    let (dgamma, dbeta) = (dgamma.output(), dbeta.output());
    p.finish(part, dgamma, dbeta);
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

/// `Σ dy·x̂` and `Σ dy` of each split; `hat(c)` gives the x̂ of an `x` of channel c.
fn sums<F: Real, H: Fn(F) -> F>(
    work: Work,
    p: BatchNormParams,
    (x, dy): (&[F], &[F]),
    part: &mut [F],
    hat: impl Fn(usize) -> H + Sync + Send,
) {
    work.pieces(part, 2, |place, part| {
        let (c, i) = (place / p.splits(), place % p.splits());
        let hat = hat(c);
        let pairs = p.runs(x, c, i).zip(p.runs(dy, c, i));
        part[0] = F::of(pairs.map(|(x, dy)| sum2(x, dy, |x, dy| dy * hat(x))).sum());
        part[1] = F::of(p.runs(dy, c, i).map(|dy| sum(dy, |dy| dy)).sum());
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
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: eval_fwd, f64: eval_fwd },
    workgroups: &[per_element],
    cuda: CUDA,
    cost: |p| cost(p, 3, 2),
};

fn eval_fwd<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
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
        Binding::output("part"),
        Binding::output("dx"),
        Binding::output("dgamma"),
        Binding::output("dbeta"),
    ],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: eval_bwd, f64: eval_bwd },
    workgroups: &[per_split, per_channel],
    cuda: CUDA.ticket(),
    cost: |p| cost(p, 6, 3),
};

fn eval_bwd<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let eps = F::of(f64::from(p.eps));
    let work = args.work;
    let [x, gamma, mean, var, dy, part, dx, dgamma, dbeta] = args.bufs();
    let (x, gamma, dy, part) = (x.input(), gamma.input(), dy.input(), part.output());
    let (mean, var) = (mean.input(), var.input());
    let rstd = |c: usize| (var[c] + eps).sqrt().recip();
    sums(work, p, (x, dy), part, |c| {
        let (mean, rstd) = (mean[c], rstd(c));
        move |x| (x - mean) * rstd
    });
    p.finish(part, dgamma.output(), dbeta.output());
    p.each_run(work, dx.output(), |c, at, dx| {
        let scale = gamma[c] * rstd(c);
        for (dx, &dy) in dx.iter_mut().zip(&dy[at..]) {
            *dx = scale * dy;
        }
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&STATS, &TRAIN_FWD, &SUMS, &TRAIN_BWD, &EVAL_FWD, &EVAL_BWD];
