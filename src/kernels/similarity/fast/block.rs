//! A block of sums in registers, which all else is made of.

use crate::simd::{F32x16, LANES, fetch};

/// Columns of a panel: rows of the other side, or features, that lie beside each other.
pub const PANEL: usize = 32;

/// Terms that a sum takes before it begins anew and is added to those before: its rounding grows with `DEPTH + depth/DEPTH`
/// instead of `depth`.
const DEPTH: usize = 256;

/// Rows of a block, by how many sums leave registers for what is added to them: these by two vectors of columns, by one, and by
/// one of a set whose vectors take four registers.
pub const WIDE_ROWS: usize = 14;
pub const NARROW_ROWS: usize = 6;
pub const FEW_ROWS: usize = 4;

/// How many terms ahead a panel is fetched from the second cache, and longer rows: a set of the first holds few of these.
const AHEAD: usize = 16;
const ROWS_AHEAD: usize = 8;

/// [`WIDE_ROWS`], [`NARROW_ROWS`] or [`FEW_ROWS`].
pub const fn block_rows<V: F32x16>() -> usize {
    match V::SUMS {
        24.. => WIDE_ROWS,
        6.. => NARROW_ROWS,
        _ => FEW_ROWS,
    }
}

/// `Σ_k a_rk·b_kc`, or with `DIFFERENCE` `Σ_k (a_rk − b_kc)²`, of `R` rows and `C` vectors of columns, over `depth` terms.
///
/// Element `(r, k)` of `a` is at `a + across·r + step·k`, vector `(k, c)` of `b` at `b + k·width + 16·c`.
///
/// # Safety
/// All of these can be read; the instruction set of `V` is there.
#[inline(always)]
pub unsafe fn block<V: F32x16, const DIFFERENCE: bool, const R: usize, const C: usize>(
    depth: usize,
    (a, across, step): (*const f32, usize, usize),
    (b, width): (*const f32, usize),
) -> [[V; C]; R] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = some::<V, DIFFERENCE, R, C>(depth.min(DEPTH), (a, across, step), (b, width));
        for first in (DEPTH..depth).step_by(DEPTH) {
            let terms = DEPTH.min(depth - first);
            let (a, b) = ((a.add(first * step), across, step), (b.add(first * width), width));
            let acc = some::<V, DIFFERENCE, R, C>(terms, a, b);
            for (sums, acc) in sums.iter_mut().zip(&acc) {
                for (sum, &acc) in sums.iter_mut().zip(acc) {
                    *sum = sum.add(acc);
                }
            }
        }
        sums
    }
}

/// Some terms of [`block`].
#[inline(always)]
unsafe fn some<V: F32x16, const DIFFERENCE: bool, const R: usize, const C: usize>(
    terms: usize,
    (mut a, across, step): (*const f32, usize, usize),
    (mut b, width): (*const f32, usize),
) -> [[V; C]; R] {
    // SAFETY: the caller's.
    unsafe {
        let ahead = width * if width > PANEL { ROWS_AHEAD } else { AHEAD };
        let mut acc = [[V::splat(0.0); C]; R];
        for _ in 0..terms {
            let mut bs = [V::splat(0.0); C];
            for (c, bs) in bs.iter_mut().enumerate() {
                *bs = V::load(b.add(c * LANES));
                fetch(b.wrapping_add(ahead + c * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = V::splat(*a.add(r * across));
                for (acc, &b) in acc.iter_mut().zip(&bs) {
                    *acc = if DIFFERENCE {
                        let t = b.sub(a);
                        t.mul_add(t, *acc)
                    } else {
                        a.mul_add(b, *acc)
                    };
                }
            }
            a = a.add(step);
            b = b.add(width);
        }
        // One by one: were these the array that the caller makes of it, whose address others take, each term would be stored.
        let mut sums = [[V::splat(0.0); C]; R];
        for (sums, acc) in sums.iter_mut().zip(&acc) {
            for (sum, &acc) in sums.iter_mut().zip(acc) {
                *sum = acc;
            }
        }
        sums
    }
}
