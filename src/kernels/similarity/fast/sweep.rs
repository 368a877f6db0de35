//! The values of a strip of the matrix, block by block, straight from registers.

use super::block::{FEW_ROWS, NARROW_ROWS, PANEL, WIDE_ROWS, block, block_rows};
use super::near::{LARGE, SMALL, replace};
use super::rows::Form;
use super::sides::{Packed, Sides};
use crate::kernels::pairs::{Aligned, Lanes, padded};
use crate::simd::LANES;
use std::ops::Range;

/// Floats of panels that stay in the second cache while rows go by.
const GROUP: usize = 128 * 1024;

/// Share of the squared norms below which the squared distance of a pair is not taken from a product.
const NEAR: f32 = 1.0 / 16.0;

/// Where a block lies, and how many of its rows and columns there are.
#[derive(Clone, Copy)]
pub struct At {
    pub i: usize,
    pub j: usize,
    pub rows: usize,
    pub columns: usize,
}

/// Who is given the values.
pub trait Take {
    /// Told of the rows, from `i` on, of the blocks that come.
    fn begin(&mut self, i: usize, rows: usize);

    /// Takes a block; of a row, blocks come in the order of their columns.
    ///
    /// # Safety
    /// The instruction set of `V` is there.
    unsafe fn take<V: Lanes, const R: usize, const C: usize>(&mut self, at: At, values: &[[V; C]; R]);
}

/// Gives the rows `rows` of the matrix to `take`; `scratch` is of [`Sides::packed_len`].
///
/// # Safety
/// The instruction set of `V` is there.
#[inline(always)]
pub unsafe fn sweep<V: Lanes, T: Take>(s: &Sides<'_>, rows: Range<usize>, scratch: &mut [f32], take: &mut T) {
    assert!(rows.end <= s.n && s.b.len() >= padded(s.m) * s.d);
    // SAFETY: the caller's.
    let packed = unsafe { s.pack::<V>(rows.clone(), scratch) };
    let group = (GROUP / (PANEL * s.d)).max(1) * PANEL;
    for j0 in (0..s.m).step_by(group) {
        for i in rows.clone().step_by(block_rows::<V>()) {
            let (at, count) = (i - rows.start, (rows.end - i).min(block_rows::<V>()));
            let a = Packed { rows: &packed.rows[at * s.d..], measures: &packed.measures[at..][..count] };
            take.begin(i, count);
            for j in (j0..s.m.min(j0 + group)).step_by(PANEL) {
                let at = At { i, j, rows: count, columns: (s.m - j).min(PANEL) };
                let panels = padded(at.columns) / LANES;
                // SAFETY: rows that there are, and a panel.
                unsafe {
                    match (block_rows::<V>(), panels) {
                        (WIDE_ROWS, 2) => one::<V, T, WIDE_ROWS, 2>(s, &a, at, 0, take),
                        (WIDE_ROWS, _) => one::<V, T, WIDE_ROWS, 1>(s, &a, at, 0, take),
                        (NARROW_ROWS, _) => {
                            for c in 0..panels {
                                one::<V, T, NARROW_ROWS, 1>(s, &a, at, c, take);
                            }
                        }
                        _ => {
                            for c in 0..panels {
                                one::<V, T, FEW_ROWS, 1>(s, &a, at, c, take);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One block: of the panel at `at`, `C` vectors of columns from vector `first` on.
#[inline(always)]
unsafe fn one<V: Lanes, T: Take, const R: usize, const C: usize>(
    s: &Sides<'_>,
    a: &Packed<'_>,
    at: At,
    first: usize,
    take: &mut T,
) {
    let width = padded(at.columns);
    let c0 = first * LANES;
    let rows = a.rows[..R * s.d].as_ptr();
    // SAFETY: whole panels and vectors, by the assertion of `sweep`.
    unsafe {
        let b = (s.b.as_ptr().add(at.j * s.d + c0), if V::WIDE { C * LANES } else { width });
        let at = At { j: at.j + c0, columns: (at.columns - c0).min(C * LANES), ..at };
        let mut values = if s.distance && s.form == Form::Given {
            block::<V, true, R, C>(s.d, (rows, 1, R), b)
        } else {
            block::<V, false, R, C>(s.d, (rows, 1, R), b)
        };
        if s.distance {
            finish(s, a.measures, at, &mut values);
        }
        take.take(at, &values);
    }
}

/// From sums to distances.
#[inline(always)]
unsafe fn finish<V: Lanes, const R: usize, const C: usize>(
    s: &Sides<'_>,
    measures: &[f32],
    at: At,
    values: &mut [[V; C]; R],
) {
    const ALL: u32 = (1 << LANES) - 1;
    // SAFETY: measures of rows that there are, and of whole vectors of columns.
    unsafe {
        for (q, values) in values.iter_mut().enumerate() {
            let q = q.min(at.rows - 1);
            let i = at.i + q;
            for (c, value) in values.iter_mut().enumerate() {
                let j = at.j + c * LANES;
                let far = if s.form == Form::Centred {
                    let (a, b) = (V::splat(measures[q]), V::load(s.measures_b[j..].as_ptr()));
                    let norms = a.add(b);
                    *value = value.add(norms);
                    value.gt(norms.mul(V::splat(NEAR)).max(V::splat(SMALL)))
                } else if s.root {
                    value.gt(V::splat(SMALL)) & V::splat(LARGE).gt(*value)
                } else {
                    ALL
                };
                if s.root {
                    *value = value.sqrt();
                }
                if far != ALL {
                    let mut lanes = Aligned([0.0; LANES]);
                    value.store(lanes.0.as_mut_ptr());
                    replace(s.simd, s, i, j, ALL & !far, &mut lanes.0);
                    *value = V::load(lanes.0.as_ptr());
                }
            }
        }
    }
}
