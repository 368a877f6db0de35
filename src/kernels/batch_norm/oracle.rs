//! The oracle.

use super::params::BatchNormParams;
use crate::kernel::{Args, Real};
use std::ops::Range;

impl BatchNormParams {
    /// Where value `j` of the B·S of channel `c` is.
    fn place(&self, c: usize, j: usize) -> usize {
        let [_, channels, inner] = self.dims();
        (j / inner * channels + c) * inner + j % inner
    }

    /// B·S.
    fn values(&self) -> usize {
        let [batch, _, inner] = self.dims();
        batch * inner
    }

    /// Values of each split of a channel.
    fn cuts(&self) -> impl Iterator<Item = Range<usize>> {
        let (values, split) = (self.values(), self.split as usize);
        (0..self.splits()).map(move |i| i * split..values.min((i + 1) * split))
    }
}

fn number<F: Real>(n: usize) -> F {
    F::of(n as f64)
}

pub fn stats<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [_, channels, _] = p.dims();
    let [x, part] = args.bufs();
    let (x, part) = (x.input(), part.output());
    let mut at = 0;
    for c in 0..channels {
        let pivot = x[p.place(c, 0)];
        for cut in p.cuts() {
            let n = number::<F>(cut.len());
            let mut total = F::zero();
            for j in cut.clone() {
                total += x[p.place(c, j)] - pivot;
            }
            let mean = total / n;
            let mut squares = F::zero();
            for j in cut {
                squares += (x[p.place(c, j)] - pivot - mean).powi(2);
            }
            (part[at], part[at + 1]) = (mean, squares);
            at += 2;
        }
    }
}

pub fn train_fwd<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [_, channels, _] = p.dims();
    let [x, part, gamma, beta, running_mean, running_var, y, saved] = args.bufs();
    let (x, part, gamma, beta) = (x.input(), part.input(), gamma.input(), beta.input());
    let (running_mean, running_var) = (running_mean.output(), running_var.output());
    let (y, saved) = (y.output(), saved.output());
    let (eps, m) = (F::of(f64::from(p.eps)), F::of(f64::from(p.momentum)));
    let n = number::<F>(p.values());
    for (c, part) in part.chunks(2 * p.splits()).enumerate() {
        let (mut total, mut squares) = (F::zero(), F::zero());
        for (i, cut) in p.cuts().enumerate() {
            total += number::<F>(cut.len()) * part[2 * i];
        }
        let centre = total / n;
        for (i, cut) in p.cuts().enumerate() {
            squares += part[2 * i + 1] + number::<F>(cut.len()) * (part[2 * i] - centre).powi(2);
        }
        let var = squares / n;
        let (pivot, rstd) = (x[p.place(c, 0)], F::one() / (var + eps).sqrt());
        (saved[c], saved[channels + c]) = (centre, rstd);
        running_mean[c] = (F::one() - m) * running_mean[c] + m * (pivot + centre);
        running_var[c] = (F::one() - m) * running_var[c] + m * var * n / (n - F::one());
        for j in 0..p.values() {
            let at = p.place(c, j);
            y[at] = gamma[c] * ((x[at] - pivot - centre) * rstd) + beta[c];
        }
    }
}

/// `Σ dy·x̂` and `Σ dy` of each split of channel `c`.
fn split_sums<F: Real>(p: &BatchNormParams, c: usize, dy: &[F], hat: impl Fn(usize) -> F, part: &mut [F]) {
    for (i, cut) in p.cuts().enumerate() {
        let (mut dgamma, mut dbeta) = (F::zero(), F::zero());
        for j in cut {
            let at = p.place(c, j);
            dgamma += dy[at] * hat(at);
            dbeta += dy[at];
        }
        (part[2 * i], part[2 * i + 1]) = (dgamma, dbeta);
    }
}

/// Adds these up: dγ and dβ.
fn add_up<F: Real>(part: &[F]) -> (F, F) {
    let (mut dgamma, mut dbeta) = (F::zero(), F::zero());
    for split in part.chunks(2) {
        dgamma += split[0];
        dbeta += split[1];
    }
    (dgamma, dbeta)
}

pub fn sums<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [_, channels, _] = p.dims();
    let [x, saved, dy, part] = args.bufs();
    let (x, saved, dy) = (x.input(), saved.input(), dy.input());
    for (c, part) in part.output().chunks_mut(2 * p.splits()).enumerate() {
        let (pivot, centre, rstd) = (x[p.place(c, 0)], saved[c], saved[channels + c]);
        split_sums(&p, c, dy, |at| (x[at] - pivot - centre) * rstd, part);
    }
}

pub fn train_bwd<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [_, channels, _] = p.dims();
    let [x, part, gamma, saved, dy, dx, dgamma, dbeta] = args.bufs();
    let (x, part, gamma, saved, dy) = (x.input(), part.input(), gamma.input(), saved.input(), dy.input());
    let (dx, dgamma, dbeta) = (dx.output(), dgamma.output(), dbeta.output());
    let n = number::<F>(p.values());
    for (c, part) in part.chunks(2 * p.splits()).enumerate() {
        (dgamma[c], dbeta[c]) = add_up(part);
        let (pivot, centre, rstd) = (x[p.place(c, 0)], saved[c], saved[channels + c]);
        for j in 0..p.values() {
            let at = p.place(c, j);
            let hat = (x[at] - pivot - centre) * rstd;
            dx[at] = gamma[c] * rstd * (dy[at] - dbeta[c] / n - hat * dgamma[c] / n);
        }
    }
}

pub fn eval_fwd<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [_, channels, _] = p.dims();
    let [x, gamma, beta, mean, var, y] = args.bufs();
    let (x, gamma, beta, mean, var) = (x.input(), gamma.input(), beta.input(), mean.input(), var.input());
    let (eps, y) = (F::of(f64::from(p.eps)), y.output());
    for c in 0..channels {
        for j in 0..p.values() {
            let at = p.place(c, j);
            y[at] = gamma[c] * (x[at] - mean[c]) / (var[c] + eps).sqrt() + beta[c];
        }
    }
}

pub fn eval_bwd<F: Real>(args: Args<'_, F>) {
    let p: BatchNormParams = args.params();
    let [x, gamma, mean, var, dy, part, dx, dgamma, dbeta] = args.bufs();
    let (x, gamma, mean, var, dy) = (x.input(), gamma.input(), mean.input(), var.input(), dy.input());
    let (dx, dgamma, dbeta) = (dx.output(), dgamma.output(), dbeta.output());
    let eps = F::of(f64::from(p.eps));
    for (c, part) in part.output().chunks_mut(2 * p.splits()).enumerate() {
        split_sums(&p, c, dy, |at| (x[at] - mean[c]) / (var[c] + eps).sqrt(), part);
        (dgamma[c], dbeta[c]) = add_up(part);
        for j in 0..p.values() {
            let at = p.place(c, j);
            dx[at] = gamma[c] * dy[at] / (var[c] + eps).sqrt();
        }
    }
}
