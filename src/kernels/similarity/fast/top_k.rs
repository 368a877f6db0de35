//! The best of each row, a strip of rows a task.

use super::fwd::similarities;
use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::pairs::{Aligned, Lanes, TILE, lay_out, padded, side_len};
use crate::kernels::similarity::best::Best;
use crate::kernels::similarity::params::{Similarity, SimilarityParams, TopKParams};
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
    let [n, m, d] = p.dims();
    let unit = p.kind() == Similarity::Cosine;
    with_scratch(side_len(n, d) + side_len(m, d), |mut scratch| {
        let (a, _) = lay_out(d, unit, a, &[], None, &mut scratch);
        let (b, _) = lay_out(d, unit, b, &[], None, &mut scratch);
        work.pieces2((values, TILE * k), (indices, TILE * k), &|at, values, indices| {
            strip(work.simd, &p, &a.panels[at * TILE * d..], b.panels, k, values, indices);
        });
    });
}

/// Up to `TILE` rows.
#[inline(always)]
unsafe fn strip_body<V: Lanes>(
    p: &SimilarityParams,
    a: &[f32],
    b: &[f32],
    k: usize,
    values: &mut [f32],
    indices: &mut [u32],
) {
    let [_, m, d] = p.dims();
    let (rows, nearest) = (values.len() / k, p.kind().is_distance());
    for (keys, indices) in values.chunks_exact_mut(k).zip(indices.chunks_exact_mut(k)) {
        Best { keys, indices }.start();
    }
    let mut tile = Aligned([0.0; TILE * TILE]);
    let t = tile.0.as_mut_ptr();
    for j0 in (0..m).step_by(TILE) {
        let columns = TILE.min(m - j0);
        // SAFETY: `similarities` checks the panels; vectors inside the tile.
        unsafe {
            similarities::<V>(p, (a, rows), (&b[j0 * d..], columns), t);
            for r in 0..rows {
                let (keys, indices) = (&mut values[r * k..][..k], &mut indices[r * k..][..k]);
                let mut best = Best { keys, indices };
                for c in (0..padded(columns)).step_by(LANES) {
                    let at = t.add(r * TILE + c);
                    if nearest {
                        V::splat(0.0).sub(V::load(at)).store(at);
                    }
                    let mut bits = V::load(at).gt(V::splat(best.least()));
                    bits &= u32::MAX >> (32 - LANES.min(columns - c));
                    while bits != 0 {
                        let lane = bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        let key = *at.add(lane);
                        // The least has risen since the vector was compared.
                        if key > best.least() {
                            best.insert(key, (j0 + c + lane) as u32);
                        }
                    }
                }
            }
        }
    }
    for (keys, indices) in values.chunks_exact_mut(k).zip(indices.chunks_exact_mut(k)) {
        Best { keys, indices }.finish(nearest);
    }
}

dispatch! {
    fn strip(
        p: &SimilarityParams,
        a: &[f32],
        b: &[f32],
        k: usize,
        values: &mut [f32],
        indices: &mut [u32],
    ) = strip_body
}
