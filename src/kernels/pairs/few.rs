//! Step 3 of a tile most of whose coefficients are 0.

use super::tile::{TILE, row_len};
use crate::simd::{F32x16, LANES};

/// Step 3 of both sides at once, for the coefficients alone that `masks` has a bit for, a word a row: `x_i += g_ij·b_j` and
/// `y_j += g_ij·a_i`, where `(x, a)` and `(y, b)` are a side's sums and rows, both [`row_len`] apart.
///
/// Such a coefficient takes what some one and a half of `combine`'s take at `d` = 128, four at `d` = 16.
///
/// # Safety
/// `tile` is good for `TILE`² elements, sums and rows for those that have a bit. Both sides may be one, where no bit is on the
/// diagonal.
#[inline(always)]
pub unsafe fn combine_few<V: F32x16>(
    tile: *const f32,
    masks: &[u64; TILE],
    d: usize,
    (x, a): (*mut f32, *const f32),
    (y, b): (*mut f32, *const f32),
) {
    let (vectors, dp) = (d.div_ceil(LANES), row_len(d));
    let mut c = 0;
    while c < vectors {
        let left = vectors - c;
        // Two rows in registers.
        let wide =
            if V::WIDE { [8, 4, 2].into_iter().find(|&w| left >= w).unwrap_or(1) } else { 2.min(left) };
        let at = c * LANES;
        // SAFETY: the caller's, from a column on.
        unsafe {
            let (x, y) = ((x.add(at), a.add(at)), (y.add(at), b.add(at)));
            match wide {
                8 => few::<V, 8>(tile, masks, dp, x, y),
                4 => few::<V, 4>(tile, masks, dp, x, y),
                2 => few::<V, 2>(tile, masks, dp, x, y),
                _ => few::<V, 1>(tile, masks, dp, x, y),
            }
        }
        c += wide;
    }
}

#[inline(always)]
unsafe fn few<V: F32x16, const C: usize>(
    tile: *const f32,
    masks: &[u64; TILE],
    dp: usize,
    (x, a): (*mut f32, *const f32),
    (y, b): (*mut f32, *const f32),
) {
    for (r, &mask) in masks.iter().enumerate() {
        let mut bits = mask;
        if bits == 0 {
            continue;
        }
        // SAFETY: as promised to `combine_few`.
        unsafe {
            let (mut acc, mut own) = ([V::splat(0.0); C], [V::splat(0.0); C]);
            for (c, (acc, own)) in acc.iter_mut().zip(&mut own).enumerate() {
                *acc = V::load(x.add(r * dp + c * LANES));
                *own = V::load(a.add(r * dp + c * LANES));
            }
            while bits != 0 {
                let k = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let g = V::splat(*tile.add(r * TILE + k));
                let (y, b) = (y.add(k * dp), b.add(k * dp));
                for (c, (acc, &own)) in acc.iter_mut().zip(&own).enumerate() {
                    *acc = g.mul_add(V::load(b.add(c * LANES)), *acc);
                    let to = y.add(c * LANES);
                    g.mul_add(own, V::load(to)).store(to);
                }
            }
            for (c, acc) in acc.iter().enumerate() {
                acc.store(x.add(r * dp + c * LANES));
            }
        }
    }
}
