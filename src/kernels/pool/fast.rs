//! The fast twins.

use super::params::PoolParams;
use crate::kernel::{Args, PIECE, Work};
use crate::kernels::sums::sum;

/// Rows of `frames` elements that a thread takes at once.
fn rows(p: PoolParams) -> usize {
    (PIECE / (p.frames as usize).max(1)).max(1)
}

pub fn mean_fwd(args: Args<'_, f32>) {
    let p: PoolParams = args.params();
    let work = args.work;
    let [x, y] = args.bufs();
    fwd(work, p, x.input(), y.output(), |_| p.frames as usize);
}

pub fn masked_fwd(args: Args<'_, f32>) {
    let p: PoolParams = args.params();
    let work = args.work;
    let [x, lengths, y] = args.bufs();
    let lengths = lengths.index();
    fwd(work, p, x.input(), y.output(), |b| lengths[b].min(p.frames) as usize);
}

fn fwd(work: Work, p: PoolParams, x: &[f32], y: &mut [f32], length: impl Fn(usize) -> usize + Sync) {
    work.pieces(y, rows(p), &|piece, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let row = piece * rows(p) + i;
            let n = length(row / p.channels as usize);
            let total = sum(&x[row * p.frames as usize..][..n], |x| x);
            *y = (total / n.max(1) as f64) as f32;
        }
    });
}

pub fn mean_bwd(args: Args<'_, f32>) {
    let p: PoolParams = args.params();
    let work = args.work;
    let [dy, dx] = args.bufs();
    bwd(work, p, dy.input(), dx.output(), |_| p.frames as usize);
}

pub fn masked_bwd(args: Args<'_, f32>) {
    let p: PoolParams = args.params();
    let work = args.work;
    let [lengths, dy, dx] = args.bufs();
    let lengths = lengths.index();
    bwd(work, p, dy.input(), dx.output(), |b| lengths[b].min(p.frames) as usize);
}

fn bwd(work: Work, p: PoolParams, dy: &[f32], dx: &mut [f32], length: impl Fn(usize) -> usize + Sync) {
    let frames = p.frames as usize;
    work.pieces(dx, rows(p) * frames, &|piece, dx| {
        for (i, dx) in dx.chunks_exact_mut(frames).enumerate() {
            let row = piece * rows(p) + i;
            let n = length(row / p.channels as usize);
            dx[..n].fill(dy[row] / n.max(1) as f32);
            dx[n..].fill(0.0);
        }
    });
}
