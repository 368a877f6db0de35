//! Step 1 of a tile: squared distances, or dot products, of its pairs.

use super::tile::TILE;
use crate::simd::{F32x16, LANES};
use std::ops::Range;

/// Step 1: the tile of `rows` (whole sixteens) by `panels` sixteens of columns, row `i` at `tile + TILE·i`.
///
/// With `triangle`, only what is on or above the diagonal need be written.
///
/// # Safety
/// `a` and `b` point at whole panels of depth `d`: `rows / 16` and `panels` of them; `tile` is good for
/// `TILE`² elements; `rows`, `16·panels` ≤ `TILE`.
#[inline(always)]
pub unsafe fn products<V: F32x16, const DIFFERENCE: bool>(
    d: usize,
    (a, rows): (*const f32, usize),
    (b, panels): (*const f32, usize),
    triangle: bool,
    tile: *mut f32,
) {
    let mut first = 0;
    while first < d {
        // SAFETY: the caller's.
        unsafe {
            depth::<V, DIFFERENCE>(d, first..d.min(first + DEPTH), (a, rows), (b, panels), triangle, tile)
        };
        first += DEPTH;
    }
}

/// Columns that [`products`] takes at once: three panels of them are 12 KiB, which stay in the nearest cache.
///
/// Sums of products, which cancel, begin anew with each such block, and are added to those before: their rounding grows with
/// 64 + D/64 instead of D. Sums of squares go on from block to block.
const DEPTH: usize = 64;

#[inline(always)]
unsafe fn depth<V: F32x16, const DIFFERENCE: bool>(
    d: usize,
    ks: Range<usize>,
    (a, rows): (*const f32, usize),
    (b, panels): (*const f32, usize),
    triangle: bool,
    tile: *mut f32,
) {
    let mut p = 0;
    while p < panels {
        let wide = if V::WIDE && panels - p >= 3 { 3 } else { 1 };
        let rows = if triangle { rows.min(LANES * (p + wide)) } else { rows };
        let step = if V::WIDE { 8 } else { V::SUMS.min(4) };
        for r in (0..rows).step_by(step) {
            // SAFETY: inside the panels and the tile promised.
            unsafe {
                let a = a.add(r / LANES * LANES * d + r % LANES);
                let b = b.add(p * LANES * d);
                let out = tile.add(r * TILE + p * LANES);
                match (V::WIDE, wide) {
                    (true, 3) => block::<V, DIFFERENCE, 8, 3>(d, ks.clone(), a, b, out),
                    (true, _) => block::<V, DIFFERENCE, 8, 1>(d, ks.clone(), a, b, out),
                    _ if V::SUMS < 4 => block::<V, DIFFERENCE, 2, 1>(d, ks.clone(), a, b, out),
                    _ => block::<V, DIFFERENCE, 4, 1>(d, ks.clone(), a, b, out),
                }
            }
        }
        p += wide;
    }
}

/// `R` rows by `C` panels of accumulators in registers.
#[inline(always)]
unsafe fn block<V: F32x16, const DIFFERENCE: bool, const R: usize, const C: usize>(
    d: usize,
    ks: Range<usize>,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
) {
    // SAFETY: as promised to `products`.
    unsafe {
        let mut acc = [[V::splat(0.0); C]; R];
        let onward = ks.start > 0;
        if onward && DIFFERENCE {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (c, acc) in acc.iter_mut().enumerate() {
                    *acc = V::load(out.add(r * TILE + c * LANES));
                }
            }
        }
        for k in ks {
            let mut bs = [V::splat(0.0); C];
            for (c, bs) in bs.iter_mut().enumerate() {
                *bs = V::load(b.add((c * d + k) * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = V::splat(*a.add(k * LANES + r));
                for (acc, &b) in acc.iter_mut().zip(&bs) {
                    *acc = if DIFFERENCE {
                        let t = b.sub(a);
                        t.mul_add(t, *acc)
                    } else {
                        a.mul_add(b, *acc)
                    };
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (c, acc) in acc.iter().enumerate() {
                let out = out.add(r * TILE + c * LANES);
                let sum = if onward && !DIFFERENCE { V::load(out).add(*acc) } else { *acc };
                sum.store(out);
            }
        }
    }
}
