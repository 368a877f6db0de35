//! A block of sums in registers, which all else is made of.

use crate::simd::{F32x16, LANES};

/// Columns of a panel: rows of the other side, or features, that lie beside each other.
pub const PANEL: usize = 48;

/// Terms that a sum takes before it begins anew and is added to those before: its rounding grows with `DEPTH + depth/DEPTH`
/// instead of `depth`.
const DEPTH: usize = 128;

/// Rows of a block where there are registers for 24 sums, and where there are not.
pub const WIDE_ROWS: usize = 8;
pub const NARROW_ROWS: usize = 4;

/// [`WIDE_ROWS`] or [`NARROW_ROWS`].
pub const fn block_rows<V: F32x16>() -> usize {
    if V::WIDE { WIDE_ROWS } else { NARROW_ROWS }
}

/// `Σ_k a_rk·b_kc`, or with `DIFFERENCE` `Σ_k (a_rk − b_kc)²`, of `R` rows and `C` vectors of columns, over `depth` terms.
///
/// Element `(r, k)` of `a` is at `a[r] + k·step`, vector `(k, c)` of `b` at `b + k·width + 16·c`.
///
/// # Safety
/// All of these can be read; the instruction set of `V` is there.
#[inline(always)]
pub unsafe fn block<V: F32x16, const DIFFERENCE: bool, const R: usize, const C: usize>(
    depth: usize,
    (a, step): ([*const f32; R], usize),
    (b, width): (*const f32, usize),
) -> [[V; C]; R] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::splat(0.0); C]; R];
        let mut first = 0;
        loop {
            let last = depth.min(first + DEPTH);
            let mut acc = [[V::splat(0.0); C]; R];
            let mut b = b.add(first * width);
            for k in first..last {
                let mut bs = [V::splat(0.0); C];
                for (c, bs) in bs.iter_mut().enumerate() {
                    *bs = V::load(b.add(c * LANES));
                }
                for (acc, a) in acc.iter_mut().zip(a) {
                    let a = V::splat(*a.add(k * step));
                    for (acc, &b) in acc.iter_mut().zip(&bs) {
                        *acc = if DIFFERENCE {
                            let t = b.sub(a);
                            t.mul_add(t, *acc)
                        } else {
                            a.mul_add(b, *acc)
                        };
                    }
                }
                b = b.add(width);
            }
            if first == 0 && last == depth {
                return acc;
            }
            for (sums, acc) in sums.iter_mut().zip(&acc) {
                for (sum, &acc) in sums.iter_mut().zip(acc) {
                    *sum = sum.add(acc);
                }
            }
            if last == depth {
                return sums;
            }
            first = last;
        }
    }
}
