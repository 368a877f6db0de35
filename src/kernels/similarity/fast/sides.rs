//! Both sides of a matrix as its blocks read them.

use super::rows::{Form, Rows, centre_of};
use crate::kernel::{Work, with_scratch};
use crate::kernels::pairs::padded;
use crate::kernels::similarity::params::{Similarity, SimilarityParams};
use crate::simd::Simd;

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
    /// The rows of `a` in their form, times −2 where that is [`Form::Centred`] `[n, d]`.
    pub a: &'s [f32],
    /// The rows of `b` in their form, in panels, transposed.
    pub b: &'s [f32],
    /// The measures of either.
    pub measures_a: &'s [f32],
    pub measures_b: &'s [f32],
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
    let own = if form == Form::Given { 0 } else { n };
    let (dp, mp) = (padded(d), padded(m));
    with_scratch(mp * (d + 1) + dp + own * (d + 1), |scratch| {
        let (panels, scratch) = scratch.split_at_mut(mp * d);
        let (measures_b, scratch) = scratch.split_at_mut(mp);
        let (centre, scratch) = scratch.split_at_mut(dp);
        let (rows, measures_a) = scratch.split_at_mut(own * d);
        if form == Form::Centred {
            centre_of(b, d, centre);
        }
        let of_b = Rows { given: b, d, form, centre, factor: 1.0 };
        of_b.transpose(work, panels, measures_b);
        if own > 0 {
            Rows { given: a, factor: -2.0, ..of_b }.make(work, rows, measures_a);
        }
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
            a: if own > 0 { rows } else { a },
            b: panels,
            measures_a,
            measures_b,
        });
    });
}

/// Rows of `y` that a task owns: as many as share what they read of `b`, and few enough that there are many tasks.
pub fn strip_rows(n: usize) -> usize {
    // Whole blocks of either number of rows.
    const WHOLE: usize = 8;
    (n / 8).next_multiple_of(WHOLE).clamp(6 * WHOLE, 32 * WHOLE)
}
