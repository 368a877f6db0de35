//! Rows as products want them: as given, at norm 1, or about a centre; side by side or in panels.

use super::block::PANEL;
use super::pack::pack_rows;
use crate::dispatch;
use crate::kernel::{Work, with_scratch};
use crate::kernels::pairs::padded;
use crate::simd::{F32x16, LANES, Simd, fetch};

/// What is made of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing.
    Given,
    /// Norm 1; a zero row stays zero.
    Unit,
    /// Their place about a centre, times a factor.
    Centred,
}

/// Rows `[n, d]` and what is made of them.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub given: &'a [f32],
    pub d: usize,
    pub form: Form,
    /// With [`Form::Centred`] `[d]` and more, and a power of two.
    pub centre: &'a [f32],
    pub factor: f32,
}

/// Squares so great that a sum of two, or a product of their roots, may overflow.
const GREAT: f64 = 1e37;

/// How many rows have their mean taken for a centre: any point near them all will do.
const SAMPLED: usize = 256;

/// Rows that are fetched ahead where some of their columns are taken.
const AHEAD: usize = 16;

/// Rows that a task makes at once.
const TASK: usize = 64;

impl Rows<'_> {
    /// Makes the rows side by side. The measure of a row is with [`Form::Unit`] 1 / norm, 0 of a zero row; with
    /// [`Form::Centred`] the squared norm before the factor, infinite where products may overflow.
    pub fn make(&self, work: Work, out: &mut [f32], measures: &mut [f32]) {
        work.pieces2((out, TASK * self.d), (measures, TASK), &|at, out, measures| {
            side_by_side(work.simd, &self.from(at * TASK), out, measures);
        });
    }

    /// Makes the rows in panels of `PANEL` rows, transposed: element `(i, k)` at `PANEL·d·(i / PANEL) + w·k + i % PANEL`, where
    /// `w` is `PANEL`, or in the last panel what is left, [`padded`] with repeats. Measures as in [`Self::make`], of no row 1.
    pub fn transpose(&self, work: Work, out: &mut [f32], measures: &mut [f32]) {
        work.pieces2((out, PANEL * self.d), (measures, PANEL), &|at, out, measures| {
            with_scratch(self.made_len(), |made| {
                transposed(work.simd, work.simd, &self.from(at * PANEL), out, measures, made);
            });
        });
    }

    /// Makes `rows` rows in blocks of `W` rows, transposed, as [`pack_rows`] does; measures as in [`Self::make`]. `made` is
    /// scratch of [`Self::made_len`].
    ///
    /// # Safety
    /// `simd` is supported.
    #[inline(always)]
    pub unsafe fn pack<const W: usize>(
        &self,
        simd: Simd,
        rows: usize,
        out: &mut [f32],
        measures: &mut [f32],
        made: &mut [f32],
    ) {
        let d = self.d;
        if self.form == Form::Given {
            // SAFETY: the caller's.
            unsafe { pack_rows::<W>(simd, self.given, (rows, d, d), out) };
            return measures[..rows].fill(1.0);
        }
        // Some blocks at a time, so that what is made of rows is in the first cache when it is turned.
        let step = if W < LANES { LANES / W * W } else { W };
        for i in (0..rows).step_by(step) {
            let count = step.min(rows - i);
            for r in 0..count {
                let row = &self.given[(i + r) * d..][..d];
                measures[i + r] = make_row(self, row, &mut made[r * d..][..d]);
            }
            // SAFETY: the caller's.
            unsafe { pack_rows::<W>(simd, made, (count, d, d), &mut out[i * d..]) };
        }
    }

    /// Floats of scratch of [`Self::pack`].
    pub fn made_len(&self) -> usize {
        if self.form == Form::Given { 0 } else { PANEL * self.d }
    }

    /// Makes the rows, given or centred, in panels of `PANEL` columns: element `(i, k)` at
    /// `PANEL·n·(k / PANEL) + w·i + k % PANEL`, where `w` is `PANEL`, or in the last panel what is left, [`padded`] with zeros.
    pub fn cut(&self, work: Work, out: &mut [f32]) {
        let n = self.given.len() / self.d;
        work.pieces(out, PANEL * n, &|at, out| cut_panel(work.simd, self, at * PANEL, out));
    }

    fn from(&self, row: usize) -> Self {
        Self { given: &self.given[row * self.d..], ..*self }
    }
}

/// A centre of rows `[n, d]`; 0 where that is none.
///
/// On a grid as coarse as the rows are spread: what is a whole number stays one about it, or a half, so that distances of small
/// whole numbers are exact and equal ones are equal.
pub fn centre_of(rows: &[f32], d: usize, centre: &mut [f32]) {
    centre.fill(0.0);
    let n = rows.len() / d;
    let step = n.div_ceil(SAMPLED);
    let sampled = || rows.chunks_exact(d).step_by(step);
    for row in sampled() {
        centre.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
    }
    let count = n.div_ceil(step) as f32;
    for (k, c) in centre.iter_mut().enumerate().take(d) {
        let mean = *c / count;
        let spread = sampled().map(|row| (row[k] - mean).abs()).sum::<f32>() / count;
        // Its exponent alone: a power of two.
        let grid = f32::from_bits(spread.to_bits() & f32::INFINITY.to_bits());
        *c = match mean / grid {
            _ if !mean.is_finite() => 0.0,
            // Beyond 2^23 steps, and where there is no spread, rounding would say nothing.
            steps if grid.is_normal() && steps.abs() < 8_388_608.0 => steps.round() * grid,
            _ => mean,
        };
    }
}

/// `Σ (z − centre)²` in f64, where no square of an f32 overflows or vanishes; without [`Form::Centred`] the centre is 0.
#[inline(always)]
fn squares(rows: &Rows<'_>, row: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    if rows.form == Form::Centred {
        let (centres, centre) = rows.centre.as_chunks::<LANES>();
        for (z, c) in whole.iter().zip(centres) {
            for (sum, (z, c)) in sums.iter_mut().zip(z.iter().zip(c)) {
                *sum += f64::from(z - c) * f64::from(z - c);
            }
        }
        let centre = centres.get(whole.len()).map_or(centre, |c| c);
        for (sum, (z, c)) in sums.iter_mut().zip(rest.iter().zip(centre)) {
            *sum += f64::from(z - c) * f64::from(z - c);
        }
    } else {
        for z in whole {
            for (sum, z) in sums.iter_mut().zip(z) {
                *sum += f64::from(*z) * f64::from(*z);
            }
        }
        for (sum, z) in sums.iter_mut().zip(rest) {
            *sum += f64::from(*z) * f64::from(*z);
        }
    }
    sums.iter().sum()
}

/// Makes a row; returns its measure.
#[inline(always)]
fn make_row(rows: &Rows<'_>, row: &[f32], out: &mut [f32]) -> f32 {
    let out = out.iter_mut();
    match rows.form {
        Form::Given => {
            out.zip(row).for_each(|(out, &z)| *out = z);
            1.0
        }
        Form::Unit => {
            let norm = squares(rows, row).sqrt();
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            out.zip(row).for_each(|(out, &z)| *out = (f64::from(z) * scale) as f32);
            // A row so short that this overflows has no gradient that f32 holds; it must make no NaN.
            (scale as f32).min(f32::MAX)
        }
        Form::Centred => {
            let square = squares(rows, row);
            out.zip(row).zip(rows.centre).for_each(|((out, z), c)| *out = rows.factor * (z - c));
            if square > GREAT { f32::INFINITY } else { square as f32 }
        }
    }
}

#[inline(always)]
#[expect(clippy::extra_unused_type_parameters, reason = "plain loops, compiled for each set")]
unsafe fn side_by_side_body<V: F32x16>(rows: &Rows<'_>, out: &mut [f32], measures: &mut [f32]) {
    let d = rows.d;
    for ((out, row), measure) in out.chunks_exact_mut(d).zip(rows.given.chunks_exact(d)).zip(measures) {
        *measure = make_row(rows, row, out);
    }
}

#[inline(always)]
#[expect(clippy::extra_unused_type_parameters, reason = "plain loops, compiled for each set")]
unsafe fn transposed_body<V: F32x16>(
    set: Simd,
    rows: &Rows<'_>,
    out: &mut [f32],
    measures: &mut [f32],
    made: &mut [f32],
) {
    let w = measures.len();
    let count = w.min(rows.given.len() / rows.d);
    // SAFETY: the caller's.
    unsafe {
        if w == PANEL {
            rows.pack::<PANEL>(set, count, out, measures, made);
        } else {
            rows.pack::<LANES>(set, count, out, measures, made);
        }
    }
    measures[count..].fill(1.0);
}

#[inline(always)]
#[expect(clippy::extra_unused_type_parameters, reason = "plain loops, compiled for each set")]
unsafe fn cut_panel_body<V: F32x16>(rows: &Rows<'_>, first: usize, out: &mut [f32]) {
    let d = rows.d;
    let (columns, w) = ((d - first).min(PANEL), padded(d - first).min(PANEL));
    let centred = rows.form == Form::Centred;
    for (row, out) in rows.given.chunks_exact(d).zip(out.chunks_exact_mut(w)) {
        let row = &row[first..first + columns];
        for line in (0..columns).step_by(LANES) {
            fetch(row.as_ptr().wrapping_add(AHEAD * d + line));
        }
        if columns == PANEL && !centred {
            // Of a length that is known: no call.
            out[..PANEL].copy_from_slice(&row[..PANEL]);
            continue;
        }
        let (out, pad) = out.split_at_mut(columns);
        if centred {
            let centre = &rows.centre[first..first + columns];
            out.iter_mut().zip(row).zip(centre).for_each(|((out, z), c)| *out = rows.factor * (z - c));
        } else {
            out.copy_from_slice(row);
        }
        pad.fill(0.0);
    }
}

dispatch! { fn side_by_side(rows: &Rows<'_>, out: &mut [f32], measures: &mut [f32]) = side_by_side_body }
dispatch! {
    fn transposed(set: Simd, rows: &Rows<'_>, out: &mut [f32], measures: &mut [f32], made: &mut [f32])
        = transposed_body
}
dispatch! { fn cut_panel(rows: &Rows<'_>, first: usize, out: &mut [f32]) = cut_panel_body }
