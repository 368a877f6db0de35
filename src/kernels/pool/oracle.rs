//! The oracle.

use super::params::PoolParams;
use crate::kernel::{Args, Real};

pub fn mean_fwd<F: Real>(args: Args<'_, F>) {
    let p: PoolParams = args.params();
    let [x, y] = args.bufs();
    fwd(p, x.input(), |_| p.frames, y.output());
}

pub fn masked_fwd<F: Real>(args: Args<'_, F>) {
    let p: PoolParams = args.params();
    let [x, lengths, y] = args.bufs();
    let lengths = lengths.index();
    fwd(p, x.input(), |b| lengths[b].min(p.frames), y.output());
}

/// `length(b)` frames of sample b count.
fn fwd<F: Real>(p: PoolParams, x: &[F], length: impl Fn(usize) -> u32, y: &mut [F]) {
    let [batch, channels, frames] = [p.batch, p.channels, p.frames].map(|n| n as usize);
    for b in 0..batch {
        let n = length(b) as usize;
        for c in 0..channels {
            let mut total = F::zero();
            for t in 0..n {
                total += x[(b * channels + c) * frames + t];
            }
            y[b * channels + c] = if n == 0 { F::zero() } else { total / F::of(n as f64) };
        }
    }
}

pub fn mean_bwd<F: Real>(args: Args<'_, F>) {
    let p: PoolParams = args.params();
    let [dy, dx] = args.bufs();
    bwd(p, dy.input(), |_| p.frames, dx.output());
}

pub fn masked_bwd<F: Real>(args: Args<'_, F>) {
    let p: PoolParams = args.params();
    let [lengths, dy, dx] = args.bufs();
    let lengths = lengths.index();
    bwd(p, dy.input(), |b| lengths[b].min(p.frames), dx.output());
}

/// As [`fwd`].
fn bwd<F: Real>(p: PoolParams, dy: &[F], length: impl Fn(usize) -> u32, dx: &mut [F]) {
    let [batch, channels, frames] = [p.batch, p.channels, p.frames].map(|n| n as usize);
    for b in 0..batch {
        let n = length(b) as usize;
        for c in 0..channels {
            for t in 0..frames {
                let dx = &mut dx[(b * channels + c) * frames + t];
                *dx = if t < n { dy[b * channels + c] / F::of(n as f64) } else { F::zero() };
            }
        }
    }
}
