//! Both sides of a matrix as its blocks read them.

use super::block::{FEW_ROWS, NARROW_ROWS, WIDE_ROWS, block_rows};
use super::rows::{Form, Rows, centre_of};
use crate::kernel::{Work, with_scratch};
use crate::kernels::pairs::padded;
use crate::kernels::similarity::params::{Similarity, SimilarityParams};
use crate::simd::{F32x16, Simd};
use std::ops::Range;

/// Columns up to which distances are differences throughout: where the time goes into writing the matrix, these cost
/// nothing, and among few columns many pairs are near.
const DIRECT: usize = 24;

/// What every strip of a matrix reads.
pub struct Sides<'s> {
    pub simd: Simd,
    /// Of both sides; distances of [`Form::Given`] are of differences.
    pub form: Form,
    pub distance: bool,
    /// Whether its root is wanted.
    pub root: bool,
    pub n: usize,
    pub m: usize,
    pub d: usize,
    /// The rows as given.
    pub a_given: &'s [f32],
    pub b_given: &'s [f32],
    /// The rows of `a` and what a strip makes of them: their form, times −2 where that is [`Form::Centred`].
    of_a: Rows<'s>,
    /// The rows of `b` in their form, in panels, transposed.
    pub b: &'s [f32],
    /// The measures of `b`.
    pub measures_b: &'s [f32],
}

/// Rows of `a` as blocks read them.
pub struct Packed<'s> {
    /// Blocks of rows, transposed.
    pub rows: &'s [f32],
    pub measures: &'s [f32],
}

impl Sides<'_> {
    /// Floats of scratch of [`Self::pack`].
    pub fn packed_len(&self, rows: usize) -> usize {
        (rows + WIDE_ROWS) * self.d + rows + self.of_a.made_len()
    }

    /// The rows `rows` of `a`, in scratch.
    ///
    /// # Safety
    /// The instruction set of `V` is there.
    #[inline(always)]
    pub unsafe fn pack<'p, V: F32x16>(&self, rows: Range<usize>, scratch: &'p mut [f32]) -> Packed<'p> {
        let (packed, scratch) = scratch.split_at_mut((rows.len() + WIDE_ROWS) * self.d);
        let (measures, made) = scratch.split_at_mut(rows.len());
        let of_a = Rows { given: &self.of_a.given[rows.start * self.d..], ..self.of_a };
        // SAFETY: the caller's.
        unsafe {
            match block_rows::<V>() {
                WIDE_ROWS => of_a.pack::<WIDE_ROWS>(self.simd, rows.len(), packed, measures, made),
                NARROW_ROWS => of_a.pack::<NARROW_ROWS>(self.simd, rows.len(), packed, measures, made),
                _ => of_a.pack::<FEW_ROWS>(self.simd, rows.len(), packed, measures, made),
            }
        }
        Packed { rows: packed, measures }
    }
}

/// Lends `f` the sides of the matrix of `a` and `b`.
pub fn with_sides(work: Work, p: &SimilarityParams, a: &[f32], b: &[f32], f: &mut dyn FnMut(&Sides<'_>)) {
    let [n, m, d] = p.dims();
    let (distance, root) = (p.kind().is_distance(), p.kind() == Similarity::Euclidean);
    let form = match p.kind() {
        Similarity::Cosine => Form::Unit,
        _ if distance && d > DIRECT => Form::Centred,
        _ => Form::Given,
    };
    let (dp, mp) = (padded(d), padded(m));
    with_scratch(mp * (d + 1) + dp, |scratch| {
        let (panels, scratch) = scratch.split_at_mut(mp * d);
        let (measures_b, centre) = scratch.split_at_mut(mp);
        if form == Form::Centred {
            centre_of(b, d, centre);
        }
        let of_b = Rows { given: b, d, form, centre, factor: 1.0 };
        of_b.transpose(work, panels, measures_b);
        f(&Sides {
            simd: work.simd,
            form,
            distance,
            root,
            n,
            m,
            d,
            a_given: a,
            b_given: b,
            of_a: Rows { given: a, factor: -2.0, ..of_b },
            b: panels,
            measures_b,
        });
    });
}

/// Whole blocks, of whichever number of rows.
pub const WHOLE: usize = 3 * WIDE_ROWS;
const _: () = assert!(WHOLE.is_multiple_of(NARROW_ROWS));

/// Rows of `y` that a task owns: as many as share what they read of `b`, and few enough that there are many tasks.
pub fn strip_rows(n: usize) -> usize {
    (n / 8).next_multiple_of(WHOLE).clamp(WHOLE, 6 * WHOLE)
}
