//! What a tile's products of rows come to: distances, and the coefficients of the pairs that count.

use super::block::{Rows, Tiles};
use super::pair::pair;
use super::params::ContrastiveParams;
use crate::kernels::pairs::{Aligned, Lanes, TILE, padded};
use crate::simd::LANES;

/// Pairs whose squared distance is below this share of their squared norms are not taken out of the product of the two rows,
/// which cancels, but out of their difference.
pub const DOUBT: f32 = 1.0 / 128.0;

/// Pairs of a row and sixteen others in doubt from which on all of them are taken out of differences.
const FEW: u32 = 2;

/// A bit for each pair of a tile that counts: a word a row.
pub type Masks = [u64; TILE];

/// Where a tile lies: its first row and column, how many are rows, and whether it is on the diagonal.
#[derive(Clone, Copy)]
pub struct Place {
    pub i: usize,
    pub j: usize,
    pub rows: usize,
    pub columns: usize,
    pub diagonal: bool,
    /// Whether it may have zero rows, which have no direction.
    pub zeros: bool,
    /// Whether it comes as squared distances of rows about the mean instead of products of them.
    pub near: bool,
}

/// Pair `(i, j)`, which is too near for the tiles.
#[cold]
#[inline(never)]
unsafe fn near_pair(t: &Tiles, x: &Rows, y: &Rows, i: usize, j: usize) -> f64 {
    let Tiles { p, d, dp, weighted, .. } = t;
    // SAFETY: rows i and j are rows of the two blocks, whose sums are the caller's.
    unsafe {
        let row = |s: &Rows, i: usize| std::slice::from_raw_parts(s.given(t, i), *d);
        let w = f64::from((*x.labels.add(i) - *y.labels.add(j)).abs());
        // The sums are of gradients by rows of norm 1; `finish` divides by the norm and changes the sign.
        let weight = |s: &Rows, i: usize| if *weighted { f64::from(*s.weights.add(i)) } else { 1.0 };
        let s = weight(x, i) * weight(y, j);
        let (nx, ny) = (s / f64::from(*x.inverse.add(i)), s / f64::from(*y.inverse.add(j)));
        s * pair(p, w, row(x, i), row(y, j), |k, gx, gy| {
            *x.acc.add(i * dp + k) -= (gx * nx) as f32;
            *y.acc.add(j * dp + k) -= (gy * ny) as f32;
        })
    }
}

/// The lanes of `square` whose `bits` are set out of differences: row `i` of `x` and rows from `j` on of `y`. Of rows as they are
/// given, or with `UNIT` of those of norm 1.
#[inline(always)]
unsafe fn differences<V: Lanes, const UNIT: bool>(
    t: &Tiles,
    (x, i): (&Rows, usize),
    (y, j): (&Rows, usize),
    square: V,
    mut bits: u32,
) -> V {
    let mut squares = Aligned([0.0; LANES]);
    // SAFETY: rows of both sides.
    unsafe {
        square.store(squares.0.as_mut_ptr());
        while bits != 0 {
            let l = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            let (a, b, len) = match UNIT {
                true => (x.rows.add(i * t.dp), y.rows.add((j + l) * t.dp), t.dp),
                false => (x.given(t, i), y.given(t, j + l), t.d),
            };
            let (mut sum, mut rest) = (V::splat(0.0), 0.0);
            let whole = len / LANES * LANES;
            for c in (0..whole).step_by(LANES) {
                let apart = V::load(a.add(c)).sub(V::load(b.add(c)));
                sum = apart.mul_add(apart, sum);
            }
            for c in whole..len {
                let apart = *a.add(c) - *b.add(c);
                rest += apart * apart;
            }
            squares.0[l] = sum.sum() + rest;
        }
        V::load(squares.0.as_ptr())
    }
}

/// Squared distances of row `i` of `x` and the panel of `y` that begins with row `j`, out of differences of rows about the mean.
#[inline(always)]
unsafe fn of_panel<V: Lanes>(t: &Tiles, (x, i): (&Rows, usize), (y, j): (&Rows, usize)) -> V {
    // SAFETY: a row and a panel.
    unsafe {
        let (row, panel) = (x.rows.add(i * t.dp), y.panels.add(j * t.d));
        // Additions side by side.
        let mut sums = [V::splat(0.0); 4];
        for k in 0..t.d {
            let apart = V::load(panel.add(k * LANES)).sub(V::splat(*row.add(k)));
            sums[k % 4] = apart.mul_add(apart, sums[k % 4]);
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3]))
    }
}

/// The lowest bits.
fn low(count: usize) -> u32 {
    (1 << count.min(LANES)) - 1
}

/// Puts the squared distances of row `i` of `x` and those from `j` on of `y` right that products of rows, or with `apart`
/// differences of rows about the mean, may have lost, of the lanes `bits` alone; and says which are so near that nothing in the
/// tile will do for them.
#[inline(always)]
unsafe fn settled<V: Lanes, const UNIT: bool>(
    t: &Tiles,
    (x, i): (&Rows, usize),
    (y, j): (&Rows, usize),
    mut square: V,
    bits: u32,
    apart: bool,
) -> (V, u32) {
    // SAFETY: a row and a panel of both sides.
    unsafe {
        let near = V::splat(*x.near.add(i)).add(V::load(y.near.add(j)));
        // Rows about the mean have rounded; those of norm 1 had before.
        let rounded = V::splat(if UNIT { 0.0 } else { 10.0 }).mul(near);
        let doubtful = if apart {
            V::splat(10.0).mul(near)
        } else {
            V::splat(DOUBT)
                .mul_add(V::splat(*x.squares.add(i)).add(V::load(y.squares.add(j))), V::splat(1e-35))
        };
        let doubt = bits & doubtful.gt(square);
        if doubt == 0 {
            return (square, 0);
        }
        let mut alone = doubt;
        if apart || doubt.count_ones() > FEW {
            if !apart {
                square = of_panel(t, (x, i), (y, j));
            }
            alone &= rounded.gt(square);
        }
        if alone != 0 {
            square = differences::<V, UNIT>(t, (x, i), (y, j), square, alone);
        }
        (square, doubt & near.gt(square))
    }
}

/// Loss and coefficient of Euclidean pairs, twice the loss; with `POSITIVE` some may be positive.
#[inline(always)]
unsafe fn euclidean<V: Lanes, const POSITIVE: bool>(p: &ContrastiveParams, square: V, w: V) -> (V, V) {
    // SAFETY: the caller's instruction set.
    unsafe {
        let zero = V::splat(0.0);
        // Bounded so that the root of no square, 0 and infinity included, is a NaN.
        let root = square.max(V::splat(1e-37)).min(V::splat(1e38)).rsqrt();
        let h = V::splat(p.margin).mul(w).sub(square.mul(root)).max(zero);
        let (l, g) = (h.mul(h), zero.sub(h).mul(root));
        if !POSITIVE {
            return (l, g);
        }
        let tau = V::splat(p.tau);
        (w.if_gt(tau, l, square), w.if_gt(tau, g, V::splat(1.0)))
    }
}

/// The same of pairs of rows of norm 1; where `there` is 0 one of the two is a zero row instead, which is at distance 1 and has
/// no gradient.
#[inline(always)]
unsafe fn cosine<V: Lanes, const POSITIVE: bool>(
    p: &ContrastiveParams,
    square: V,
    w: V,
    there: Option<V>,
) -> (V, V) {
    // SAFETY: the caller's instruction set.
    unsafe {
        let zero = V::splat(0.0);
        let mut distance = V::splat(0.5).mul(square);
        if let Some(there) = there {
            distance = there.if_gt(zero, distance, V::splat(1.0));
        }
        let h = V::splat(p.margin).mul(w).sub(distance).max(zero);
        let (mut l, mut g) = (h.mul(h), zero.sub(h));
        if POSITIVE {
            let tau = V::splat(p.tau);
            (l, g) = (w.if_gt(tau, l, distance.mul(distance)), w.if_gt(tau, g, distance));
        }
        (l, there.map_or(g, |there| there.mul(g)))
    }
}

/// Step 2: turns products of rows into coefficients `g_ij` in place, and says in `masks` which may be other than 0; returns the
/// sum of losses.
///
/// Without `POSITIVE` the tile has no positive pair, but for those of equal labels, which in the Euclidean metric count
/// elsewhere.
///
/// # Safety
/// The tile lies inside both sides, whose sums are the caller's; `tile` is good for `TILE`² elements, `row_sums` for a vector a
/// row.
#[inline(always)]
pub unsafe fn coefficients<V: Lanes, const COSINE: bool, const POSITIVE: bool>(
    t: &Tiles,
    (x, y): (&Rows, &Rows),
    at: Place,
    tile: *mut f32,
    row_sums: *mut f32,
    masks: &mut Masks,
) -> f64 {
    masks.fill(0);
    let masks = masks.as_mut_ptr();
    // SAFETY: rows and columns of the tile lie inside the sides' padded vectors; the task owns their sums.
    unsafe {
        let (zero, tau, off) = (V::splat(0.0), V::splat(t.p.tau), V::splat(t.off));
        // A margin that no rounding is beyond.
        let beyond = V::splat(1.000_001 * t.p.margin);
        let (zeros, apart) = (COSINE && at.zeros, POSITIVE && at.near);
        let (mut loss, mut near_loss) = (zero, 0.0);
        for panel in 0..padded(at.columns) / LANES {
            let (first, j) = (panel * LANES, at.j + panel * LANES);
            let (label, squares) = (V::load(y.labels.add(j)), V::load(y.squares.add(j)));
            let columns = low(at.columns - first);
            let edge = at.diagonal || columns != low(LANES);
            let mut column_sum = zero;
            let rows = if at.diagonal { at.rows.min(first + LANES) } else { at.rows };
            for r in 0..rows {
                let (i, out) = (at.i + r, tile.add(r * TILE + first));
                let norms = V::splat(*x.squares.add(i)).add(squares);
                let mut square = V::load(out);
                if !apart {
                    square = V::splat(-2.0).mul_add(square, norms).max(zero);
                }
                let w = V::splat(*x.labels.add(i)).sub(label).abs();
                let reach = beyond.mul(w);
                let mut open = reach.mul_add(if COSINE { V::splat(2.0) } else { reach }, off.mul(norms));
                let mut there = None;
                if zeros {
                    let of_both = V::splat(*x.inverse.add(i)).min(V::load(y.inverse.add(j)));
                    let of_both = of_both.if_gt(zero, V::splat(1.0), zero);
                    // Wherever the rows lie.
                    open = of_both.if_gt(zero, open, V::splat(f32::MAX));
                    there = Some(of_both);
                }
                let mut bits = open.gt(square);
                if POSITIVE {
                    bits |= !w.gt(tau);
                }
                bits &= if at.diagonal && r >= first { columns & !low(r - first + 1) } else { columns };
                if !COSINE && POSITIVE && bits != 0 {
                    bits &= w.gt(zero);
                }
                if bits == 0 {
                    zero.store(out);
                    continue;
                }
                let mut near;
                (square, near) = settled::<V, COSINE>(t, (x, i), (y, j), square, bits, apart);
                let (mut l, mut g) = if COSINE {
                    cosine::<V, POSITIVE>(&t.p, square, w, there)
                } else {
                    euclidean::<V, POSITIVE>(&t.p, square, w)
                };
                let mut counted = bits;
                if near != 0 {
                    if !COSINE {
                        // Equal labels count elsewhere. At distance 0 the loss stands and there is no gradient.
                        near &= w.gt(zero);
                        g = g.keep(!near);
                        near &= square.gt(zero);
                    }
                    counted &= !near;
                    while near != 0 {
                        near_loss += near_pair(t, x, y, i, j + near.trailing_zeros() as usize);
                        near &= near - 1;
                    }
                }
                // What is beyond its margin comes to 0 by itself.
                if POSITIVE || edge || counted != bits {
                    (l, g) = (l.keep(counted), g.keep(counted));
                }
                if t.weighted {
                    let s = V::splat(*x.weights.add(i)).mul(V::load(y.weights.add(j)));
                    // An infinite loss times a weight that underflows is none.
                    (l, g) = (s.if_gt(zero, s.mul(l), zero), s.mul(g));
                }
                g.store(out);
                *masks.add(r) |= u64::from(bits) << first;
                let row_sum = row_sums.add(r * LANES);
                V::load(row_sum).add(g).store(row_sum);
                column_sum = column_sum.add(g);
                loss = loss.add(l);
            }
            for r in at.rows..padded(at.rows) {
                zero.store(tile.add(r * TILE + first));
            }
            V::load(y.g.add(j)).add(column_sum).store(y.g.add(j));
        }
        0.5 * f64::from(loss.sum()) + near_loss
    }
}
