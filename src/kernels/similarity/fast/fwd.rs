//! The matrix, a strip of rows a task.

use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::pairs::{Aligned, Lanes, TILE, lay_out, padded, products, side_len};
use crate::kernels::similarity::params::{Similarity, SimilarityParams};
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
    let [n, m, d] = p.dims();
    let unit = p.kind() == Similarity::Cosine;
    with_scratch(side_len(n, d) + side_len(m, d), |mut scratch| {
        let (a, _) = lay_out(d, unit, a, &[], None, &mut scratch);
        let (b, _) = lay_out(d, unit, b, &[], None, &mut scratch);
        work.pieces(y, TILE * m, &|at, y| {
            strip(work.simd, p, &a.panels[at * TILE * d..], b.panels, y);
        });
    });
}

/// The tile of similarities of `rows` rows of `a` and `columns` of `b`, whose panels start there.
///
/// # Safety
/// `tile` is good for `TILE`² elements; the instruction set of `V` is there.
#[inline(always)]
pub unsafe fn similarities<V: Lanes>(
    p: &SimilarityParams,
    (a, rows): (&[f32], usize),
    (b, columns): (&[f32], usize),
    tile: *mut f32,
) {
    let d = p.d as usize;
    assert!(a.len() >= padded(rows) * d && b.len() >= padded(columns) * d);
    let (ap, bp) = ((a.as_ptr(), padded(rows)), (b.as_ptr(), padded(columns) / LANES));
    // SAFETY: whole panels, by the assertion; vectors inside the tile.
    unsafe {
        match p.kind() {
            Similarity::Dot | Similarity::Cosine => products::<V, false>(d, ap, bp, false, tile),
            _ => products::<V, true>(d, ap, bp, false, tile),
        }
        if p.kind() == Similarity::Euclidean {
            for r in 0..rows {
                for c in (0..padded(columns)).step_by(LANES) {
                    let at = tile.add(r * TILE + c);
                    V::load(at).sqrt().store(at);
                }
            }
        }
    }
}

/// Up to `TILE` rows of `y`.
#[inline(always)]
unsafe fn strip_body<V: Lanes>(p: &SimilarityParams, a: &[f32], b: &[f32], y: &mut [f32]) {
    let [_, m, d] = p.dims();
    let rows = y.len() / m;
    let mut tile = Aligned([0.0; TILE * TILE]);
    for j0 in (0..m).step_by(TILE) {
        let columns = TILE.min(m - j0);
        // SAFETY: the tile is whole.
        unsafe { similarities::<V>(p, (a, rows), (&b[j0 * d..], columns), tile.0.as_mut_ptr()) };
        for (y, t) in y.chunks_exact_mut(m).zip(tile.0.chunks_exact(TILE)) {
            y[j0..j0 + columns].copy_from_slice(&t[..columns]);
        }
    }
}

dispatch! {
    fn strip(p: &SimilarityParams, a: &[f32], b: &[f32], y: &mut [f32]) = strip_body
}
