//! Step 3 of a tile: what its coefficients make of the rows.

use super::tile::{TILE, padded, row_len};
use crate::simd::{F32x16, LANES};

/// Step 3: `out_r += Σ_k g(r, k)·b_k` for `rows` rows and `inner` terms, rows [`row_len`] apart.
///
/// `g(r, k)` is at `tile + TILE·r + k`, or with `TRANSPOSED` at `tile + TILE·k + r`. With
/// `triangle` the coefficients below the diagonal of the tile count as zero and are not read.
///
/// # Safety
/// `tile` as in `products`; `b` is good for `inner` rows, `out` for `rows` (both whole sixteens ≤ `TILE`).
#[inline(always)]
pub unsafe fn combine<V: F32x16, const TRANSPOSED: bool>(
    tile: *const f32,
    d: usize,
    (out, rows): (*mut f32, usize),
    (b, inner): (*const f32, usize),
    triangle: bool,
) {
    let (columns, dp) = (padded(d), row_len(d));
    let mut c = 0;
    let left = |c: usize| (columns - c) / LANES;
    while left(c) > 0 {
        let wide = if V::WIDE { [4, 3, 2, 1].into_iter().find(|&w| left(c) >= w).unwrap_or(1) } else { 1 };
        let step = match (V::WIDE, wide) {
            (true, 4) => 4,
            (true, 3 | 2) => 8,
            (true, _) => 16,
            _ => V::SUMS.min(4),
        };
        for r in (0..rows).step_by(step) {
            let first = r / LANES * LANES;
            let (from, to) = match (triangle, TRANSPOSED) {
                (false, _) => (0, inner),
                (true, false) => (first, inner),
                (true, true) => (0, inner.min(first + LANES)),
            };
            // SAFETY: inside what was promised.
            unsafe {
                let (b, out) = (b.add(c), out.add(r * dp + c));
                let g = tile.add(if TRANSPOSED { r } else { r * TILE });
                match (V::WIDE, wide) {
                    (true, 4) => sums::<V, TRANSPOSED, 4, 4>(g, dp, out, b, from, to),
                    (true, 3) => sums::<V, TRANSPOSED, 8, 3>(g, dp, out, b, from, to),
                    (true, 2) => sums::<V, TRANSPOSED, 8, 2>(g, dp, out, b, from, to),
                    (true, _) => sums::<V, TRANSPOSED, 16, 1>(g, dp, out, b, from, to),
                    _ if V::SUMS < 4 => sums::<V, TRANSPOSED, 2, 1>(g, dp, out, b, from, to),
                    _ => sums::<V, TRANSPOSED, 4, 1>(g, dp, out, b, from, to),
                }
            }
        }
        c += wide * LANES;
    }
}

/// `R` rows by `C` vectors of accumulators in registers.
#[inline(always)]
unsafe fn sums<V: F32x16, const TRANSPOSED: bool, const R: usize, const C: usize>(
    g: *const f32,
    dp: usize,
    out: *mut f32,
    b: *const f32,
    from: usize,
    to: usize,
) {
    // SAFETY: as promised to `combine`.
    unsafe {
        let mut acc = [[V::splat(0.0); C]; R];
        for (r, acc) in acc.iter_mut().enumerate() {
            for (c, acc) in acc.iter_mut().enumerate() {
                *acc = V::load(out.add(r * dp + c * LANES));
            }
        }
        for k in from..to {
            let mut bs = [V::splat(0.0); C];
            for (c, bs) in bs.iter_mut().enumerate() {
                *bs = V::load(b.add(k * dp + c * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let g = V::splat(*g.add(if TRANSPOSED { k * TILE + r } else { r * TILE + k }));
                for (acc, &b) in acc.iter_mut().zip(&bs) {
                    *acc = g.mul_add(b, *acc);
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (c, acc) in acc.iter().enumerate() {
                acc.store(out.add(r * dp + c * LANES));
            }
        }
    }
}
