//! What adds up to a side's gradient, and what is made of it.

use super::block::PANEL;
use super::rows::{Form, Rows, centre_of};
use crate::dispatch;
use crate::kernel::{Work, with_scratch};
use crate::kernels::pairs::{Aligned, padded};
use crate::kernels::similarity::params::{Similarity, SimilarityParams};
use crate::simd::{F32x16, LANES};

/// Rows that a task finishes at once.
const TASK: usize = 64;

/// One side of a matrix.
pub struct Side<'s> {
    /// Its rows `[n, d]`.
    pub given: &'s [f32],
    pub n: usize,
    /// The rows about the centre, of a cosine those at norm 1, in panels of columns; of a dot product as given.
    pub panels: &'s [f32],
    /// Of a cosine 1 / norm; of a Euclidean distance the squared norm about the centre; padded.
    pub measures: &'s [f32],
    /// `Σ_j g_ij·other_j` `[n, padded(d)]`; from zero, of a Euclidean distance, whose near pairs are added first.
    pub acc: &'s mut [f32],
    /// `Σ_j g_ij` `[n]`, from zero.
    pub sums: &'s mut [f32],
}

/// What both sides have in common at the end.
struct Finish<'s> {
    kind: Similarity,
    d: usize,
    centre: &'s [f32],
}

/// Lends `f` the sides of the matrix of `a` and `b` for it to add up, and makes the gradients `da` and `db` of them.
pub fn with_gradients(
    work: Work,
    p: &SimilarityParams,
    (a, da): (&[f32], &mut [f32]),
    (b, db): (&[f32], &mut [f32]),
    f: &mut dyn FnMut(&mut Side<'_>, &mut Side<'_>),
) {
    let ([n, m, d], kind) = (p.dims(), p.kind());
    let dp = padded(d);
    // Sums of whole vectors, which nothing is to be made of, are the gradient.
    let summed_there = kind == Similarity::Dot && d == dp;
    let sums_len = if summed_there { 0 } else { (n + m) * dp };
    with_scratch(dp + (n + m) * dp + sums_len + 2 * (padded(n) + padded(m)), |scratch| {
        let (centre, mut scratch) = scratch.split_at_mut(dp);
        centre.fill(0.0);
        let mut take = |len: usize| scratch.split_off_mut(..len).expect("counted above");
        let mut side = |given, n, dz| {
            let (acc, dz) = if summed_there { (dz, &mut [][..]) } else { (take(n * dp), dz) };
            let sums = &mut take(padded(n))[..n];
            (Side { given, n, panels: &[], measures: &[], acc, sums }, dz)
        };
        let ((mut of_a, da), (mut of_b, db)) = (side(a, n, da), side(b, m, db));
        // Loaded in whole vectors.
        let mut measures = [n, m].map(|n| take(padded(n)));
        measures.iter_mut().for_each(|measures| measures.fill(1.0));
        let panels = [n, m].map(|n| take(n * dp));
        // What has a measure is made where the sums will be.
        let mut make = |form, side: &mut Side<'_>, at: usize, centre: &[f32]| {
            let rows = Rows { given: side.given, d, form, centre, factor: 1.0 };
            rows.make(work, &mut side.acc[..side.n * d], &mut measures[at][..side.n]);
        };
        match kind {
            Similarity::Dot => {}
            Similarity::Cosine => {
                make(Form::Unit, &mut of_a, 0, &[]);
                make(Form::Unit, &mut of_b, 1, &[]);
                centre_of(&of_b.acc[..m * d], d, &mut centre[..d]);
            }
            Similarity::SquaredEuclidean => centre_of(b, d, &mut centre[..d]),
            Similarity::Euclidean => {
                centre_of(b, d, &mut centre[..d]);
                make(Form::Centred, &mut of_a, 0, centre);
                make(Form::Centred, &mut of_b, 1, centre);
            }
        }
        let form = if kind == Similarity::Dot { Form::Given } else { Form::Centred };
        for ((side, panels), measures) in [&mut of_a, &mut of_b].into_iter().zip(panels).zip(measures) {
            let given = if kind == Similarity::Cosine { &side.acc[..side.n * d] } else { side.given };
            Rows { given, d, form, centre, factor: 1.0 }.cut(work, panels);
            if kind == Similarity::Euclidean {
                side.acc.fill(0.0);
            }
            side.sums.fill(0.0);
            (side.panels, side.measures) = (panels, measures);
        }
        f(&mut of_a, &mut of_b);
        let finish = Finish { kind, d, centre };
        finish.rows(work, &of_a, da);
        finish.rows(work, &of_b, db);
    });
}

impl Finish<'_> {
    /// `scale·(Σ_j g_ij·rows_i − Σ_j g_ij·other_j)` into `dz`; of a cosine what of that is across the row, brought back from
    /// rows of norm 1; of a dot product `Σ_j g_ij·other_j`.
    fn rows(&self, work: Work, side: &Side<'_>, dz: &mut [f32]) {
        work.pieces(dz, TASK * self.d, &|at, dz| finish(work.simd, self, side, at * TASK, dz));
    }
}

/// Vector `c` of the sums of row `i`, and of that row.
///
/// # Safety
/// The instruction set of `V` is there.
#[inline(always)]
unsafe fn sums_of<V: F32x16>(f: &Finish<'_>, side: &Side<'_>, i: usize, c: usize) -> (V, V) {
    let dp = padded(f.d);
    let panel = c / PANEL * PANEL;
    let at = panel * side.n + i * PANEL.min(dp - panel) + c - panel;
    // SAFETY: slices of whole vectors.
    unsafe {
        let row = V::load(side.panels[at..][..LANES].as_ptr());
        let acc = V::load(side.acc[i * dp + c..][..LANES].as_ptr());
        match f.kind {
            Similarity::Dot => (acc, row),
            _ => (V::splat(side.sums[i]).mul(row).sub(acc), row),
        }
    }
}

#[inline(always)]
unsafe fn finish_body<V: F32x16>(f: &Finish<'_>, side: &Side<'_>, first: usize, dz: &mut [f32]) {
    let (d, dp, cosine) = (f.d, padded(f.d), f.kind == Similarity::Cosine);
    for (i, dz) in (first..).zip(dz.chunks_exact_mut(d)) {
        // SAFETY: whole vectors of the padded centre; whole ones of the gradient, or the array.
        unsafe {
            let scale = V::splat(match f.kind {
                Similarity::SquaredEuclidean => 2.0,
                // A row of one element has no direction to turn to.
                Similarity::Cosine if d == 1 => 0.0,
                Similarity::Cosine => -side.measures[i],
                _ => 1.0,
            });
            let mut along = V::splat(0.0);
            if cosine {
                for c in (0..dp).step_by(LANES) {
                    let (sums, row) = sums_of::<V>(f, side, i, c);
                    along = row.add(V::load(f.centre[c..][..LANES].as_ptr())).mul_add(sums, along);
                }
                along = V::splat(along.sum());
            }
            for c in (0..dp).step_by(LANES) {
                let (mut sums, row) = sums_of::<V>(f, side, i, c);
                if cosine {
                    let unit = row.add(V::load(f.centre[c..][..LANES].as_ptr()));
                    sums = sums.sub(along.mul(unit));
                }
                let sums = sums.mul(scale);
                if c + LANES <= d {
                    sums.store(dz.as_mut_ptr().add(c));
                } else {
                    let mut last = Aligned([0.0; LANES]);
                    sums.store(last.0.as_mut_ptr());
                    dz[c..].copy_from_slice(&last.0[..d - c]);
                }
            }
        }
    }
}

dispatch! { fn finish(f: &Finish<'_>, side: &Side<'_>, first: usize, dz: &mut [f32]) = finish_body }
