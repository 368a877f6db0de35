//! The fast twins.

use super::params::BatchNormParams;
use crate::kernel::{Args, PIECE, Work};
use crate::kernels::sums::{sum, sum2};

impl BatchNormParams {
    /// Values of a channel, N.
    fn count(&self) -> f64 {
        f64::from(self.batch) * f64::from(self.inner)
    }

    /// Values of split `i` of a channel.
    fn split_count(&self, i: usize) -> f64 {
        (self.count() - i as f64 * f64::from(self.split)).min(f64::from(self.split))
    }

    /// The runs of split `i` of channel `c`.
    fn runs(self, x: &[f32], c: usize, i: usize) -> impl Iterator<Item = &[f32]> {
        let [batch, channels, inner] = self.dims();
        let from = i * self.split as usize;
        let to = (from + self.split as usize).min(batch * inner);
        (from / inner..to.div_ceil(inner)).map(move |b| {
            let row = &x[(b * channels + c) * inner..][..inner];
            &row[from.saturating_sub(b * inner)..inner.min(to - b * inner)]
        })
    }

    /// Adds up what [`split_sums`] left of each channel.
    fn finish(&self, part: &[f32], dgamma: &mut [f32], dbeta: &mut [f32]) {
        let channels = part.chunks_exact(2 * self.splits());
        for ((part, dgamma), dbeta) in channels.zip(dgamma).zip(dbeta) {
            let total =
                |which: usize| part.iter().skip(which).step_by(2).map(|&v| f64::from(v)).sum::<f64>() as f32;
            (*dgamma, *dbeta) = (total(0), total(1));
        }
    }

    /// Calls `f(c, at, out)` for each run of `out`, which starts at element `at`.
    fn each_run(self, work: Work, out: &mut [f32], f: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let [_, channels, inner] = self.dims();
        let runs = (PIECE / inner).max(1);
        work.pieces(out, runs * inner, &|piece, out| {
            for (i, out) in out.chunks_exact_mut(inner).enumerate() {
                let run = piece * runs + i;
                f(run % channels, run * inner, out);
            }
        });
    }
}

pub fn stats(args: Args<'_, f32>) {
    let p: BatchNormParams = args.params();
    let [_, _, inner] = p.dims();
    let work = args.work;
    let [x, part] = args.bufs();
    let x = x.input();
    work.pieces(part.output(), 2, &|place, part| {
        let (c, i) = (place / p.splits(), place % p.splits());
        let pivot = x[c * inner];
        let total: f64 = p.runs(x, c, i).map(|x| sum(x, |x| x - pivot)).sum();
        let mean = (total / p.split_count(i)) as f32;
        let square = |x: f32| {
            let d = x - pivot - mean;
            d * d
        };
        part[0] = mean;
        part[1] = p.runs(x, c, i).map(|x| sum(x, square)).sum::<f64>() as f32;
    });
}

pub fn train_fwd(args: Args<'_, f32>) {
    let p: BatchNormParams = args.params();
    let [_, channels, inner] = p.dims();
    let work = args.work;
    let [x, part, gamma, beta, running_mean, running_var, y, saved] = args.bufs();
    let (x, part, gamma, beta) = (x.input(), part.input(), gamma.input(), beta.input());
    let (running_mean, running_var) = (running_mean.output(), running_var.output());
    let (centre, rstd) = saved.output().split_at_mut(channels);
    let (n, keep) = (p.count(), 1.0 - p.momentum);
    let unbias = (n / (n - 1.0)) as f32;
    for c in 0..channels {
        let splits = || {
            let part = &part[c * p.splits() * 2..];
            (0..p.splits()).map(|i| (p.split_count(i), f64::from(part[2 * i]), f64::from(part[2 * i + 1])))
        };
        let offset = splits().map(|(n, mean, _)| n * mean).sum::<f64>() / n;
        let squares = splits().map(|(n, mean, squares)| squares + n * (mean - offset).powi(2));
        let var = (squares.sum::<f64>() / n) as f32;
        centre[c] = offset as f32;
        rstd[c] = (var + p.eps).sqrt().recip();
        running_mean[c] = keep * running_mean[c] + p.momentum * (x[c * inner] + centre[c]);
        running_var[c] = keep * running_var[c] + p.momentum * var * unbias;
    }
    p.each_run(work, y.output(), |c, at, y| {
        let (pivot, centre, scale, beta) = (x[c * inner], centre[c], gamma[c] * rstd[c], beta[c]);
        for (y, &x) in y.iter_mut().zip(&x[at..]) {
            *y = (x - pivot - centre) * scale + beta;
        }
    });
}

pub fn sums(args: Args<'_, f32>) {
    let p: BatchNormParams = args.params();
    let [_, channels, inner] = p.dims();
    let work = args.work;
    let [x, saved, dy, part] = args.bufs();
    let (x, (centre, rstd)) = (x.input(), saved.input().split_at(channels));
    split_sums(work, p, (x, dy.input()), part.output(), |c| {
        let (pivot, centre, rstd) = (x[c * inner], centre[c], rstd[c]);
        move |x| (x - pivot - centre) * rstd
    });
}

pub fn train_bwd(args: Args<'_, f32>) {
    let p: BatchNormParams = args.params();
    let [_, channels, inner] = p.dims();
    let work = args.work;
    let [x, part, gamma, saved, dy, dx, dgamma, dbeta] = args.bufs();
    let (x, part, gamma, dy) = (x.input(), part.input(), gamma.input(), dy.input());
    let (centre, rstd) = saved.input().split_at(channels);
    let (dgamma, dbeta) = (dgamma.output(), dbeta.output());
    p.finish(part, dgamma, dbeta);
    let n = p.count() as f32;
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
fn split_sums<H: Fn(f32) -> f32>(
    work: Work,
    p: BatchNormParams,
    (x, dy): (&[f32], &[f32]),
    part: &mut [f32],
    hat: impl Fn(usize) -> H + Sync,
) {
    work.pieces(part, 2, &|place, part| {
        let (c, i) = (place / p.splits(), place % p.splits());
        let hat = hat(c);
        let pairs = p.runs(x, c, i).zip(p.runs(dy, c, i));
        part[0] = pairs.map(|(x, dy)| sum2(x, dy, |x, dy| dy * hat(x))).sum::<f64>() as f32;
        part[1] = p.runs(dy, c, i).map(|dy| sum(dy, |dy| dy)).sum::<f64>() as f32;
    });
}

pub fn eval_fwd(args: Args<'_, f32>) {
    let p: BatchNormParams = args.params();
    let work = args.work;
    let [x, gamma, beta, mean, var, y] = args.bufs();
    let (x, gamma, beta, mean, var) = (x.input(), gamma.input(), beta.input(), mean.input(), var.input());
    p.each_run(work, y.output(), |c, at, y| {
        let (mean, scale, beta) = (mean[c], gamma[c] * (var[c] + p.eps).sqrt().recip(), beta[c]);
        for (y, &x) in y.iter_mut().zip(&x[at..]) {
            *y = (x - mean) * scale + beta;
        }
    });
}

pub fn eval_bwd(args: Args<'_, f32>) {
    let p: BatchNormParams = args.params();
    let work = args.work;
    let [x, gamma, mean, var, dy, part, dx, dgamma, dbeta] = args.bufs();
    let (x, gamma, dy, part) = (x.input(), gamma.input(), dy.input(), part.output());
    let (mean, var) = (mean.input(), var.input());
    let rstd = |c: usize| (var[c] + p.eps).sqrt().recip();
    split_sums(work, p, (x, dy), part, |c| {
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
