//! The gradients, a strip of rows of either argument a task.

use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::pairs::{
    Aligned, Lanes, Layout, TILE, centre, combine, lay_out, padded, products, row_len, side_len,
};
use crate::kernels::similarity::params::{Similarity, SimilarityParams};
use crate::simd::LANES;

/// The gradients by both arguments.
pub fn bwd(args: Args<'_, f32>) {
    let p: SimilarityParams = args.params();
    let work = args.work;
    let [a, b, dy, da, db] = args.bufs();
    let (da, db) = (da.output(), db.output());
    a.widened(|a| b.widened(|b| gradients(work, &p, (a, da), (b, db), dy.input())));
}

/// The gradients by `a` and `b` of their matrix, from that by the matrix.
fn gradients(
    work: Work,
    p: &SimilarityParams,
    (a, da): (&[f32], &mut [f32]),
    (b, db): (&[f32], &mut [f32]),
    dy: &[f32],
) {
    let [n, m, d] = p.dims();
    let unit = p.kind() == Similarity::Cosine;
    with_scratch(side_len(n, d) + side_len(m, d), |mut scratch| {
        let mut lay = |rows: &[f32]| lay_out(d, unit, rows, &[], None, &mut scratch);
        let ((mut la, mut sums_a), (mut lb, mut sums_b)) = (lay(a), lay(b));
        if p.kind() != Similarity::Dot {
            centre(d, unit, &mut [&mut la, &mut lb]);
        }
        let given = Given { p, a, b, la: &la, lb: &lb, dy };
        for (of_b, sums) in [(false, &mut sums_a), (true, &mut sums_b)] {
            work.pieces2((&mut *sums.acc, TILE * row_len(d)), (&mut *sums.g, TILE), &|at, acc, sums| {
                strip(work.simd, &given, of_b, at * TILE, acc, sums);
            });
        }
        let scale = match p.kind() {
            Similarity::SquaredEuclidean => 2.0,
            Similarity::Cosine => -1.0,
            _ => 1.0,
        };
        sums_a.finish(&la, d, unit, scale, a, da);
        sums_b.finish(&lb, d, unit, scale, b, db);
    });
}

/// What every strip of a backward launch reads.
struct Given<'a> {
    p: &'a SimilarityParams,
    a: &'a [f32],
    b: &'a [f32],
    la: &'a Layout<'a>,
    lb: &'a Layout<'a>,
    dy: &'a [f32],
}

/// The Euclidean gradient of a pair too near for the tiles, from its difference in f64.
#[cold]
#[inline(never)]
fn near_pair(given: &Given<'_>, of_b: bool, i: usize, j: usize, acc: &mut [f32]) {
    let [_, m, d] = given.p.dims();
    let (a, b) = (&given.a[i * d..][..d], &given.b[j * d..][..d]);
    let difference = |k: usize| f64::from(a[k]) - f64::from(b[k]);
    let distance = (0..d).map(|k| difference(k).powi(2)).sum::<f64>().sqrt();
    let g = f64::from(given.dy[i * m + j]) / distance;
    let g = if of_b { -g } else { g };
    for (k, acc) in acc.iter_mut().enumerate() {
        *acc -= (g * difference(k)) as f32;
    }
}

/// Up to `TILE` rows from `first` on of one side's sums: `Σ g·other` into `acc`, `Σ g` into `sums`.
#[inline(always)]
unsafe fn strip_body<V: Lanes>(
    given: &Given<'_>,
    of_b: bool,
    first: usize,
    acc: &mut [f32],
    sums: &mut [f32],
) {
    let Given { p, la, lb, .. } = given;
    let [n, m, d] = p.dims();
    let dp = row_len(d);
    let (mut tile, mut up) = (Aligned([0.0; TILE * TILE]), Aligned([0.0; TILE * TILE]));
    let across = if of_b { n } else { m };
    for other in (0..across).step_by(TILE) {
        let (i0, j0) = if of_b { (other, first) } else { (first, other) };
        let (rows, columns) = (TILE.min(n - i0), TILE.min(m - j0));
        let (rp, cp) = (padded(rows), padded(columns));
        for r in 0..rows {
            let row = &mut up.0[r * TILE..][..cp];
            row[..columns].copy_from_slice(&given.dy[(i0 + r) * m + j0..][..columns]);
            row[columns..].fill(0.0);
        }
        let t = tile.0.as_mut_ptr();
        let (mut row_sums, mut column_sums) = ([0.0; TILE], Aligned([0.0; TILE]));
        // SAFETY: whole panels and vectors of the layouts, which are padded, and of the tiles.
        unsafe {
            if p.kind() == Similarity::Euclidean {
                let ap = (la.panels[i0 * d..].as_ptr(), rp);
                products::<V, true>(d, ap, (lb.panels[j0 * d..].as_ptr(), cp / LANES), false, t);
            }
            for (r, sum_of_row) in (0..rows).zip(row_sums.iter_mut()) {
                let mut row_sum = V::splat(0.0);
                for c in (0..cp).step_by(LANES) {
                    let mut g = V::load(up.0.as_ptr().add(r * TILE + c));
                    let at = t.add(r * TILE + c);
                    match p.kind() {
                        // `finish` subtracts, and a dot product has nothing else to it.
                        Similarity::Dot => g = V::splat(0.0).sub(g),
                        Similarity::Euclidean => {
                            let distance = V::load(at);
                            // Bounded so that the root of no square, 0 and infinity included, is a NaN.
                            g = g.mul(distance.max(V::splat(1e-37)).min(V::splat(1e38)).rsqrt());
                            let limit = V::splat(la.near[i0 + r]).add(V::load(lb.near[j0 + c..].as_ptr()));
                            let mut bits = limit.gt(distance);
                            if bits != 0 {
                                g = limit.if_gt(distance, V::splat(0.0), g);
                                // Where the distance is 0 there is no gradient, and beyond the columns no row.
                                bits &= distance.gt(V::splat(0.0));
                                bits &= u32::MAX >> (32 - LANES.min(columns - c));
                            }
                            while bits != 0 {
                                let c = c + bits.trailing_zeros() as usize;
                                let row = if of_b { c } else { r };
                                near_pair(given, of_b, i0 + r, j0 + c, &mut acc[row * dp..][..d]);
                                bits &= bits - 1;
                            }
                        }
                        _ => {}
                    }
                    g.store(at);
                    row_sum = row_sum.add(g);
                    let sum = column_sums.0.as_mut_ptr().add(c);
                    V::load(sum).add(g).store(sum);
                }
                *sum_of_row = row_sum.sum();
            }
        }
        tile.0[rows * TILE..rp * TILE].fill(0.0);
        if p.kind() != Similarity::Dot {
            let of_tile = if of_b { &column_sums.0 } else { &row_sums };
            sums.iter_mut().zip(of_tile).for_each(|(s, g)| *s += g);
        }
        let (ar, br) = (la.rows[i0 * dp..].as_ptr(), lb.rows[j0 * dp..].as_ptr());
        // SAFETY: whole sixteens of the layouts' rows, and `acc` is a strip of such rows.
        unsafe {
            if of_b {
                assert!(acc.len() >= cp * dp);
                combine::<V, true>(t, d, (acc.as_mut_ptr(), cp), (ar, rp), false);
            } else {
                assert!(acc.len() >= rp * dp);
                combine::<V, false>(t, d, (acc.as_mut_ptr(), rp), (br, cp), false);
            }
        }
    }
}

dispatch! {
    fn strip(given: &Given<'_>, of_b: bool, first: usize, acc: &mut [f32], sums: &mut [f32]) = strip_body
}
