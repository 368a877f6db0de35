//! The best of each row, a strip of rows a task.

use super::block::WIDE_ROWS;
use super::sides::{Sides, strip_rows, with_sides};
use super::sweep::{At, Take, sweep};
use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::pairs::{Aligned, Lanes};
use crate::kernels::similarity::best::Best;
use crate::kernels::similarity::params::TopKParams;
use crate::simd::LANES;

/// The best of each row.
pub fn top_k(args: Args<'_, f32>) {
    let (top, work): (TopKParams, _) = (args.params(), args.work);
    let [a, b, values, indices] = args.bufs();
    best_of(work, &top, a.input(), b.input(), values.output(), indices.index_output());
}

/// The best `k` of each row of `a` among the rows of `b`.
pub fn best_of(work: Work, top: &TopKParams, a: &[f32], b: &[f32], values: &mut [f32], indices: &mut [u32]) {
    let (p, k) = (top.pairs(), top.k as usize);
    let rows = strip_rows(p.n as usize);
    with_sides(work, &p, a, b, &mut |sides| {
        work.pieces2((&mut *values, rows * k), (&mut *indices, rows * k), &|at, values, indices| {
            with_scratch(sides.packed_len(values.len() / k), |scratch| {
                strip(work.simd, sides, at * rows, k, values, indices, scratch);
            });
        });
    });
}

/// The best of a strip of rows so far, and its first row.
struct Lists<'a> {
    first: usize,
    k: usize,
    nearest: bool,
    values: &'a mut [f32],
    indices: &'a mut [u32],
    /// What the rows of a block must be beyond.
    least: [f32; WIDE_ROWS],
}

impl Take for Lists<'_> {
    #[inline(always)]
    fn begin(&mut self, i: usize, rows: usize) {
        let lists = self.values[(i - self.first) * self.k..].chunks_exact(self.k);
        for (least, list) in self.least.iter_mut().zip(lists).take(rows) {
            *least = list[self.k - 1];
        }
    }

    #[inline(always)]
    unsafe fn take<V: Lanes, const R: usize, const C: usize>(&mut self, at: At, values: &[[V; C]; R]) {
        for (q, values) in values.iter().enumerate().take(at.rows) {
            let least = self.least[q];
            for (c, &value) in values.iter().enumerate() {
                // SAFETY: the caller's instruction set; an array of sixteen.
                unsafe {
                    let key = if self.nearest { V::splat(0.0).sub(value) } else { value };
                    let bits = key.gt(V::splat(least));
                    if bits != 0 {
                        let mut keys = Aligned([0.0; LANES]);
                        key.store(keys.0.as_mut_ptr());
                        let columns = at.columns - (c * LANES).min(at.columns);
                        insert(self, (at.i, q), at.j + c * LANES, bits, &keys.0[..columns.min(LANES)]);
                    }
                }
            }
        }
    }
}

/// Takes those of `keys`, of row `i + q` and columns `j` and on, that `bits` names and that are beyond the row's least.
#[inline(never)]
fn insert(lists: &mut Lists<'_>, (i, q): (usize, usize), j: usize, mut bits: u32, keys: &[f32]) {
    let (k, row) = (lists.k, i - lists.first + q);
    let mut best =
        Best { keys: &mut lists.values[row * k..][..k], indices: &mut lists.indices[row * k..][..k] };
    while bits != 0 {
        let lane = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        // Beyond the columns there is none, and the least has risen since the vector was compared.
        if lane < keys.len() && keys[lane] > best.least() {
            best.insert(keys[lane], (j + lane) as u32);
        }
    }
    lists.least[q] = best.least();
}

#[inline(always)]
unsafe fn strip_body<V: Lanes>(
    s: &Sides<'_>,
    first: usize,
    k: usize,
    values: &mut [f32],
    indices: &mut [u32],
    scratch: &mut [f32],
) {
    for (keys, indices) in values.chunks_exact_mut(k).zip(indices.chunks_exact_mut(k)) {
        Best { keys, indices }.start();
    }
    let rows = first..first + values.len() / k;
    let mut lists = Lists {
        first,
        k,
        nearest: s.distance,
        values: &mut *values,
        indices: &mut *indices,
        least: [f32::NEG_INFINITY; WIDE_ROWS],
    };
    // SAFETY: the instruction set is the caller's.
    unsafe { sweep::<V, _>(s, rows, scratch, &mut lists) };
    for (keys, indices) in values.chunks_exact_mut(k).zip(indices.chunks_exact_mut(k)) {
        Best { keys, indices }.finish(s.distance);
    }
}

dispatch! {
    fn strip(
        s: &Sides<'_>,
        first: usize,
        k: usize,
        values: &mut [f32],
        indices: &mut [u32],
        scratch: &mut [f32],
    ) = strip_body
}
