//! The gradients, in two steps for each slab of rows of the matrix: those by `a`, a strip of its rows a task, then what the
//! slab adds to those by `b`, a strip of its columns a task.

use super::coefficients::{Slab, coefficients, pitch};
use super::gemm::{Coefficients, TERMS, add_products};
use super::gradient::{Side, with_gradients};
use super::sides::{strip_rows, with_sides};
use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::pairs::padded;
use crate::kernels::similarity::params::{Similarity, SimilarityParams};
use crate::simd::{F32x16, LANES};

/// Strips of rows in a slab.
const STRIPS: usize = 8;

/// Columns of the matrix that a task of the second step owns.
const COLUMNS: usize = 192;

/// From one row of packed coefficients to the next: not a power of two, of which few sets of a cache would hold all.
const PITCH: usize = TERMS + LANES;

/// The gradients by both arguments.
pub fn bwd(args: Args<'_, f32>) {
    let p: SimilarityParams = args.params();
    let work = args.work;
    let [a, b, dy, da, db] = args.bufs();
    let (da, db, dy) = (da.output(), db.output(), dy.input());
    a.widened(|a| {
        b.widened(|b| {
            with_gradients(work, &p, a, b, &mut |finish, mut of_a, mut of_b| {
                match p.kind() {
                    Similarity::Euclidean => euclidean(work, &p, &mut of_a, &mut of_b, dy),
                    kind => products(work, &mut of_a, &mut of_b, kind != Similarity::Dot, dy),
                }
                finish.rows(work, &of_a, da);
                finish.rows(work, &of_b, db);
            });
        });
    });
}

/// Where the coefficients are those of the upstream gradient.
fn products(work: Work, of_a: &mut Side<'_>, of_b: &mut Side<'_>, summed: bool, dy: &[f32]) {
    let (n, m) = (of_a.n, of_b.n);
    let (strip, dp) = (strip_rows(n), of_a.acc.len() / n);
    for first in (0..n).step_by(STRIPS * strip) {
        let count = (STRIPS * strip).min(n - first);
        let slab = Slab { g: &dy[first * m..][..count * m], pitch: m, m, first, summed, dy: None };
        let (acc, sums) = (&mut of_a.acc[first * dp..][..count * dp], &mut of_a.sums[first..][..count]);
        let panels = of_b.panels;
        work.pieces2((acc, strip * dp), (sums, strip), &|at, acc, sums| {
            with_scratch(strip * PITCH, |packed| {
                by_rows(work.simd, &slab, at * strip, panels, acc, sums, packed);
            });
        });
        add_columns(work, &slab, of_a, of_b);
    }
}

/// Where they are divided by the distances, which are found again.
fn euclidean(work: Work, p: &SimilarityParams, of_a: &mut Side<'_>, of_b: &mut Side<'_>, dy: &[f32]) {
    let (n, m) = (of_a.n, of_b.n);
    let (strip, dp, pitch) = (strip_rows(n), of_a.acc.len() / n, pitch(m));
    let squared = SimilarityParams { kind: Similarity::SquaredEuclidean as u32, ..*p };
    with_sides(work, &squared, of_a.given, of_b.given, &mut |sides| {
        with_scratch((STRIPS * strip).min(n) * pitch, |g| {
            for first in (0..n).step_by(STRIPS * strip) {
                let count = (STRIPS * strip).min(n - first);
                let g = &mut g[..count * pitch];
                let (acc, sums) =
                    (&mut of_a.acc[first * dp..][..count * dp], &mut of_a.sums[first..][..count]);
                let (panels, norms) = (of_b.panels, (of_a.measures, of_b.measures));
                work.pieces3((acc, strip * dp), (sums, strip), (g, strip * pitch), &|at, acc, sums, g| {
                    coefficients(work.simd, sides, norms, dy, first + at * strip, acc, g);
                    let slab = Slab { g, pitch, m, first: first + at * strip, summed: true, dy: Some(dy) };
                    with_scratch(strip * PITCH, |packed| {
                        by_rows(work.simd, &slab, 0, panels, acc, sums, packed);
                    });
                });
                let slab = Slab { g, pitch, m, first, summed: true, dy: Some(dy) };
                add_columns(work, &slab, of_a, of_b);
            }
        });
    });
}

/// The second step.
fn add_columns(work: Work, slab: &Slab<'_>, of_a: &Side<'_>, of_b: &mut Side<'_>) {
    let dp = of_b.acc.len() / of_b.n;
    let (acc, sums, given) = (&mut *of_b.acc, &mut *of_b.sums, of_b.given);
    work.pieces2((acc, COLUMNS * dp), (sums, COLUMNS), &|at, acc, sums| {
        with_scratch(TERMS * COLUMNS, |packed| {
            by_columns(work.simd, slab, at * COLUMNS, (of_a.panels, of_a.n), acc, sums, packed);
        });
        if let Some(dy) = slab.dy {
            slab.alone(dy, at * COLUMNS, of_a.given, given, acc, sums.len());
        }
    });
}

#[inline(always)]
unsafe fn by_rows_body<V: F32x16>(
    slab: &Slab<'_>,
    first: usize,
    panels: &[f32],
    acc: &mut [f32],
    sums: &mut [f32],
    packed: &mut [f32],
) {
    let g = &slab.g[first * slab.pitch..][..sums.len() * slab.pitch];
    for j in (0..slab.m).step_by(TERMS) {
        let terms = TERMS.min(slab.m - j);
        for ((sum, row), packed) in
            sums.iter_mut().zip(g.chunks_exact(slab.pitch)).zip(packed.chunks_exact_mut(PITCH))
        {
            packed[..terms].copy_from_slice(&row[j..j + terms]);
            if slab.summed {
                // SAFETY: the instruction set is the caller's.
                *sum += unsafe { total::<V>(&packed[..terms]) };
            }
        }
        let g = Coefficients { at: packed.as_ptr(), rows: sums.len(), across: PITCH, along: 1 };
        // SAFETY: as many rows of as many terms were packed.
        unsafe { add_products::<V>(g, terms, (panels, slab.m, j), acc) };
    }
}

/// The sum of a row.
#[inline(always)]
unsafe fn total<V: F32x16>(row: &[f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let (fours, ones) = whole.as_chunks::<4>();
    // SAFETY: arrays of sixteen.
    unsafe {
        let mut sums = [V::splat(0.0); 4];
        for four in fours {
            for (sum, one) in sums.iter_mut().zip(four) {
                *sum = sum.add(V::load(one.as_ptr()));
            }
        }
        for (sum, one) in sums.iter_mut().zip(ones) {
            *sum = sum.add(V::load(one.as_ptr()));
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum() + rest.iter().sum::<f32>()
    }
}

#[inline(always)]
unsafe fn by_columns_body<V: F32x16>(
    slab: &Slab<'_>,
    first: usize,
    (panels, height): (&[f32], usize),
    acc: &mut [f32],
    sums: &mut [f32],
    packed: &mut [f32],
) {
    let columns = sums.len();
    let width = padded(columns);
    for (at, g) in slab.g.chunks(TERMS * slab.pitch).enumerate() {
        let terms = g.len() / slab.pitch;
        for (row, packed) in g.chunks_exact(slab.pitch).zip(packed.chunks_exact_mut(width)) {
            packed[..columns].copy_from_slice(&row[first..first + columns]);
            if slab.summed {
                sums.iter_mut().zip(&*packed).for_each(|(sum, g)| *sum += g);
            }
        }
        let g = Coefficients { at: packed.as_ptr(), rows: columns, across: 1, along: width };
        // SAFETY: as many columns of as many terms were packed.
        unsafe { add_products::<V>(g, terms, (panels, height, slab.first + at * TERMS), acc) };
    }
}

dispatch! {
    fn by_rows(
        slab: &Slab<'_>,
        first: usize,
        panels: &[f32],
        acc: &mut [f32],
        sums: &mut [f32],
        packed: &mut [f32],
    ) = by_rows_body
}
dispatch! {
    fn by_columns(
        slab: &Slab<'_>,
        first: usize,
        panels: (&[f32], usize),
        acc: &mut [f32],
        sums: &mut [f32],
        packed: &mut [f32],
    ) = by_columns_body
}
