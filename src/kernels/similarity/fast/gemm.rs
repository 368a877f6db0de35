//! `out_r += Σ_k g_rk·rows_k`, which gradients are made of.

use super::block::{NARROW_ROWS, PANEL, WIDE_ROWS, block, block_rows};
use crate::simd::{F32x16, LANES};

/// Terms that are taken at once: a panel of so many rows stays in the second cache while others go by.
pub const TERMS: usize = 512;

/// Coefficients `(r, k)`, of `rows` rows, at `at + r·across + k·along`.
#[derive(Clone, Copy)]
pub struct Coefficients {
    pub at: *const f32,
    pub rows: usize,
    pub across: usize,
    pub along: usize,
}

/// Adds to rows `out`, `padded(d)` floats each, `terms` rows that lie in panels of columns ([`Rows::cut`]) of `height` rows,
/// from row `first` on.
///
/// [`Rows::cut`]: super::rows::Rows::cut
///
/// # Safety
/// `g` can be read for all rows and terms; the instruction set of `V` is there.
#[inline(always)]
pub unsafe fn add_products<V: F32x16>(
    g: Coefficients,
    terms: usize,
    (panels, height, first): (&[f32], usize, usize),
    out: &mut [f32],
) {
    let dp = out.len() / g.rows;
    assert!(out.len() == g.rows * dp && dp.is_multiple_of(LANES) && first + terms <= height);
    assert!(panels.len() >= height * dp);
    for k0 in (0..terms).step_by(TERMS) {
        let count = TERMS.min(terms - k0);
        for c in (0..dp).step_by(PANEL) {
            let width = PANEL.min(dp - c);
            for r in (0..g.rows).step_by(block_rows::<V>()) {
                let rows = block_rows::<V>().min(g.rows - r);
                // SAFETY: rows and terms that there are; whole panels and rows, by the assertions.
                unsafe {
                    let b = panels.as_ptr().add(c * height + (first + k0) * width);
                    let g = Coefficients { at: g.at.add(r * g.across + k0 * g.along), rows, ..g };
                    let out = out.as_mut_ptr().add(r * dp + c);
                    match (V::WIDE, width / LANES) {
                        (true, 3) => one::<V, WIDE_ROWS, 3>(g, count, (b, width), (out, dp)),
                        (true, 2) => one::<V, WIDE_ROWS, 2>(g, count, (b, width), (out, dp)),
                        (true, _) => one::<V, WIDE_ROWS, 1>(g, count, (b, width), (out, dp)),
                        (_, vectors) => {
                            for c in (0..vectors).map(|c| c * LANES) {
                                one::<V, NARROW_ROWS, 1>(g, count, (b.add(c), width), (out.add(c), dp));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `R` rows by `C` vectors of columns.
#[inline(always)]
unsafe fn one<V: F32x16, const R: usize, const C: usize>(
    g: Coefficients,
    terms: usize,
    (b, width): (*const f32, usize),
    (out, dp): (*mut f32, usize),
) {
    // SAFETY: the caller's.
    unsafe {
        let mut a = [g.at; R];
        for (q, a) in a.iter_mut().enumerate() {
            *a = g.at.add(q.min(g.rows - 1) * g.across);
        }
        let width = if V::WIDE { C * LANES } else { width };
        let sums = if g.along == 1 {
            block::<V, false, R, C>(terms, (a, 1), (b, width))
        } else {
            block::<V, false, R, C>(terms, (a, g.along), (b, width))
        };
        for (q, sums) in sums.iter().enumerate().take(g.rows) {
            for (c, &sum) in sums.iter().enumerate() {
                let out = out.add(q * dp + c * LANES);
                V::load(out).add(sum).store(out);
            }
        }
    }
}
