//! The matrix, a strip of rows a task.

use super::sides::{Sides, strip_rows, with_sides};
use super::sweep::{At, Take, sweep};
use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::pairs::{Aligned, Lanes};
use crate::kernels::similarity::params::SimilarityParams;
use crate::simd::LANES;

/// `y_ij` of every pair.
pub fn fwd(args: Args<'_, f32>) {
    let p: SimilarityParams = args.params();
    let work = args.work;
    let [a, b, y] = args.bufs();
    a.widened(|a| b.widened(|b| matrix(work, &p, a, b, y.output())));
}

/// The matrix of `a` and `b` into `y`.
pub fn matrix(work: Work, p: &SimilarityParams, a: &[f32], b: &[f32], y: &mut [f32]) {
    let [n, m, _] = p.dims();
    let rows = strip_rows(n);
    with_sides(work, p, a, b, &mut |sides| {
        work.pieces(y, rows * m, &|at, y| {
            with_scratch(sides.packed_len(y.len() / m), |scratch| {
                strip(work.simd, sides, at * rows, y, scratch);
            });
        });
    });
}

/// A strip of `y`, its first row, and their length.
struct Strip<'a> {
    first: usize,
    m: usize,
    y: &'a mut [f32],
}

impl Take for Strip<'_> {
    fn begin(&mut self, _i: usize, _rows: usize) {}

    #[inline(always)]
    unsafe fn take<V: Lanes, const R: usize, const C: usize>(&mut self, at: At, values: &[[V; C]; R]) {
        if (at.rows, at.columns) == (R, C * LANES) {
            // Straight from registers.
            let y = &mut self.y[(at.i - self.first) * self.m + at.j..][..(R - 1) * self.m + C * LANES];
            for (q, values) in values.iter().enumerate() {
                for (c, value) in values.iter().enumerate() {
                    // SAFETY: whole rows of the block.
                    unsafe { value.store(y.as_mut_ptr().add(q * self.m + c * LANES)) };
                }
            }
            return;
        }
        for (q, values) in values.iter().enumerate().take(at.rows) {
            let y = &mut self.y[(at.i - self.first + q) * self.m + at.j..][..at.columns];
            for (c, value) in values.iter().enumerate() {
                let columns = at.columns - (c * LANES).min(at.columns);
                // SAFETY: a whole vector inside the row, or the array.
                unsafe {
                    if columns >= LANES {
                        value.store(y.as_mut_ptr().add(c * LANES));
                    } else {
                        let mut lanes = Aligned([0.0; LANES]);
                        value.store(lanes.0.as_mut_ptr());
                        y[c * LANES..].copy_from_slice(&lanes.0[..columns]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn strip_body<V: Lanes>(s: &Sides<'_>, first: usize, y: &mut [f32], scratch: &mut [f32]) {
    let rows = first..first + y.len() / s.m;
    // SAFETY: the instruction set is the caller's.
    unsafe { sweep::<V, _>(s, rows, scratch, &mut Strip { first, m: s.m, y }) };
}

dispatch! { fn strip(s: &Sides<'_>, first: usize, y: &mut [f32], scratch: &mut [f32]) = strip_body }
