//! The fast twins.

use super::params::{BLOCK, LinearParams, RELU, SIGMOID, WANT_B, WANT_W, WANT_X};
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::activation::sigmoid;
use crate::kernels::dropout::{DropoutParams, drop_dispatched};
use crate::simd::Simd;

/// Multiply-adds worth handing to a thread.
const PIECE: usize = 32 * 1024;

/// Rows of a piece of work with `per_row` multiply-adds a row; a multiple of 4, as masks need.
fn rows_of(per_row: usize) -> usize {
    (PIECE / per_row.max(1)).max(1).next_multiple_of(4)
}

/// The dropout of a launch; none where the threshold is 0.
#[derive(Clone, Copy)]
struct Mask<'a> {
    p: DropoutParams,
    state: &'a [u32],
    simd: Simd,
}

impl<'a> Mask<'a> {
    fn new(p: &LinearParams, state: &'a [u32], simd: Simd) -> Self {
        let LinearParams { batch, inputs, threshold, scale, stream, .. } = *p;
        Self { p: DropoutParams { n: batch * inputs, threshold, scale, stream }, state, simd }
    }

    fn is_none(&self) -> bool {
        self.p.threshold == 0
    }

    /// Lends `f` the masked elements from `at`, a multiple of 4.
    fn read<R>(&self, at: usize, x: &[f32], f: impl FnOnce(&[f32]) -> R) -> R {
        if self.is_none() {
            return f(x);
        }
        with_scratch(x.len(), |v: &mut [f32]| {
            v.copy_from_slice(x);
            drop_dispatched(self.simd, &self.p, self.state, at, v);
            f(v)
        })
    }

    /// Lends `f` the factors of all elements: 0 or the scale. Nothing where there is no mask.
    fn factors<R>(&self, f: impl FnOnce(&[f32]) -> R) -> R {
        with_scratch(if self.is_none() { 0 } else { self.p.n as usize }, |v: &mut [f32]| {
            v.fill(1.0);
            drop_dispatched(self.simd, &self.p, self.state, 0, v);
            f(v)
        })
    }
}

/// `v` behind its factors; a dropped element is 0 whatever it was.
fn scale_by(v: &mut [f32], factors: &[f32]) {
    for (v, &f) in v.iter_mut().zip(factors) {
        *v = if f == 0.0 { f } else { f * *v };
    }
}

/// Sixteen partial sums, then their pairwise sum: vectorises, and in a fixed order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const L: usize = 16;
    let mut acc = [0.0; L];
    let (a16, b16) = (a.chunks_exact(L), b.chunks_exact(L));
    let tail = a16.remainder().iter().zip(b16.remainder()).fold(0.0, |s, (&a, &b)| s + a * b);
    for (a, b) in a16.zip(b16) {
        for l in 0..L {
            acc[l] += a[l] * b[l];
        }
    }
    let mut half = L / 2;
    while half > 0 {
        for l in 0..half {
            acc[l] += acc[l + half];
        }
        half /= 2;
    }
    acc[0] + tail
}

pub fn fwd(args: Args<'_, f32>) {
    let p: LinearParams = args.params();
    let [_, inputs, outputs] = p.dims();
    let work = args.work;
    let [state, x, w, b, y] = args.bufs();
    let mask = Mask::new(&p, state.index(), work.simd);
    let (x, w, b) = (x.input(), w.input(), b.input());
    let rows = rows_of(inputs * outputs);
    work.pieces(y.output(), rows * outputs, &|piece, y| {
        let at = piece * rows * inputs;
        mask.read(at, &x[at..at + y.len() / outputs * inputs], |x| {
            for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
                for (o, y) in y.iter_mut().enumerate() {
                    let mut z = dot(x, &w[o * inputs..(o + 1) * inputs]);
                    if p.bias != 0 {
                        z += b[o];
                    }
                    *y = match p.activation {
                        RELU if z < 0.0 => 0.0,
                        SIGMOID => sigmoid(z),
                        _ => z,
                    };
                }
            }
        });
    });
}

/// `sum += Σ_b f(b)` over rows, in blocks of [`BLOCK`]; `part` is scratch as long as `sum`.
fn blocked(batch: usize, sum: &mut [f32], part: &mut [f32], mut row: impl FnMut(usize, &mut [f32])) {
    sum.fill(0.0);
    for start in (0..batch).step_by(BLOCK) {
        part.fill(0.0);
        for b in start..batch.min(start + BLOCK) {
            row(b, part);
        }
        for (s, &p) in sum.iter_mut().zip(&*part) {
            *s += p;
        }
    }
}

fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

pub fn bwd(args: Args<'_, f32>) {
    let p: LinearParams = args.params();
    let [batch, _, outputs] = p.dims();
    let work = args.work;
    let [state, x, w, y, dy, dx, dw, db] = args.bufs();
    let mask = Mask::new(&p, state.index(), work.simd);
    let (x, w, y, dy) = (x.input(), w.input(), y.input(), dy.input());
    let (dx, dw, db) = (dx.output(), dw.output(), db.output());
    with_scratch(batch * outputs, |dz: &mut [f32]| {
        for ((dz, &y), &dy) in dz.iter_mut().zip(y).zip(dy) {
            *dz = match p.activation {
                RELU if y > 0.0 => dy,
                RELU => 0.0,
                SIGMOID => dy * y * (1.0 - y),
                _ => dy,
            };
        }
        let dz = &*dz;
        mask.factors(|factors| {
            if p.wants(WANT_X) {
                bwd_x(&p, work, dz, w, factors, dx);
            } else {
                dx.fill(0.0);
            }
            if !p.wants(WANT_W) {
                dw.fill(0.0);
            } else if mask.is_none() {
                bwd_w(&p, work, dz, x, dw);
            } else {
                with_scratch(x.len(), |dropped: &mut [f32]| {
                    dropped.copy_from_slice(x);
                    scale_by(dropped, factors);
                    bwd_w(&p, work, dz, dropped, dw);
                });
            }
        });
        if p.wants(WANT_B) {
            with_scratch(outputs, |part: &mut [f32]| {
                blocked(batch, db, part, |b, part| {
                    axpy(1.0, &dz[b * outputs..(b + 1) * outputs], part);
                });
            });
        } else {
            db.fill(0.0);
        }
    });
}

/// `dx = m(dz·w)`; `factors` are empty where nothing was dropped.
fn bwd_x(p: &LinearParams, work: Work, dz: &[f32], w: &[f32], factors: &[f32], dx: &mut [f32]) {
    let [_, inputs, outputs] = p.dims();
    let rows = rows_of(inputs * outputs);
    work.pieces(dx, rows * inputs, &|piece, dx| {
        for (row, dx) in dx.chunks_exact_mut(inputs).enumerate() {
            let row = piece * rows + row;
            dx.fill(0.0);
            for (o, &dz) in dz[row * outputs..(row + 1) * outputs].iter().enumerate() {
                axpy(dz, &w[o * inputs..(o + 1) * inputs], dx);
            }
            if !factors.is_empty() {
                scale_by(dx, &factors[row * inputs..]);
            }
        }
    });
}

/// `dw = dzᵀ·x`.
fn bwd_w(p: &LinearParams, work: Work, dz: &[f32], x: &[f32], dw: &mut [f32]) {
    let [batch, inputs, outputs] = p.dims();
    let rows = (PIECE / (inputs * batch).max(1)).max(1);
    work.pieces(dw, rows * inputs, &|piece, dw| {
        with_scratch(inputs, |part: &mut [f32]| {
            for (row, dw) in dw.chunks_exact_mut(inputs).enumerate() {
                let o = piece * rows + row;
                blocked(batch, dw, part, |b, part| {
                    axpy(dz[b * outputs + o], &x[b * inputs..(b + 1) * inputs], part);
                });
            }
        });
    });
}
