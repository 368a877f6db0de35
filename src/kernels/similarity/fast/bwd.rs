//! The gradients, in two steps for each slab of rows of the matrix: those by `a`, a strip of its rows a task, then what the
//! slab adds to those by `b`, a strip of its columns a task.

use super::block::{FEW_ROWS, NARROW_ROWS, WIDE_ROWS, block_rows};
use super::coefficients::{Slab, coefficients, pitch};
use super::gemm::{PITCH, TERMS, add_products, add_thin, add_thin_columns};
use super::gradient::{Side, with_gradients};
use super::pack::pack_columns;
use super::sides::{WHOLE, strip_rows, with_sides};
use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::similarity::params::{Similarity, SimilarityParams};
use crate::simd::{F32x16, LANES, Simd};

/// Strips of rows in a slab of coefficients that are kept.
const STRIPS: usize = 9;

/// Columns of the matrix that a task of the second step owns.
const COLUMNS: usize = 6 * WHOLE;

/// The gradients by both arguments.
pub fn bwd(args: Args<'_, f32>) {
    let p: SimilarityParams = args.params();
    let work = args.work;
    let [a, b, dy, da, db] = args.bufs();
    let (da, db, dy) = (da.output(), db.output(), dy.input());
    a.widened(|a| {
        b.widened(|b| {
            with_gradients(work, &p, (a, da), (b, db), &mut |of_a, of_b| match p.kind() {
                Similarity::Euclidean => euclidean(work, &p, of_a, of_b, dy),
                kind => products(work, of_a, of_b, kind != Similarity::Dot, dy),
            });
        });
    });
}

/// Where the coefficients are those of the upstream gradient.
fn products(work: Work, of_a: &mut Side<'_>, of_b: &mut Side<'_>, summed: bool, dy: &[f32]) {
    let (n, m) = (of_a.n, of_b.n);
    let dp = of_a.acc.len() / n;
    let (strip, rows) = slab_of(n, m, dp, usize::MAX);
    for first in (0..n).step_by(rows) {
        let count = rows.min(n - first);
        let slab = Slab { g: &dy[first * m..][..count * m], pitch: m, m, first, summed, dy: None };
        let (acc, sums) = (&mut of_a.acc[first * dp..][..count * dp], &mut of_a.sums[first..][..count]);
        let panels = of_b.panels;
        work.pieces2((acc, strip * dp), (sums, strip), &|at, acc, sums| {
            with_scratch(WIDE_ROWS * PITCH, |packed| {
                by_rows(work.simd, &slab, at * strip, panels, acc, sums, packed);
            });
        });
        add_columns(work, &slab, of_a, of_b);
    }
}

/// Where they are divided by the distances, which are found again.
fn euclidean(work: Work, p: &SimilarityParams, of_a: &mut Side<'_>, of_b: &mut Side<'_>, dy: &[f32]) {
    let (n, m) = (of_a.n, of_b.n);
    let (dp, pitch) = (of_a.acc.len() / n, pitch(m));
    let (strip, rows) = slab_of(n, m, dp, STRIPS);
    let squared = SimilarityParams { kind: Similarity::SquaredEuclidean as u32, ..*p };
    with_sides(work, &squared, of_a.given, of_b.given, &mut |sides| {
        with_scratch(rows.min(n) * pitch, |g| {
            for first in (0..n).step_by(rows) {
                let count = rows.min(n - first);
                let g = &mut g[..count * pitch];
                let (acc, sums) =
                    (&mut of_a.acc[first * dp..][..count * dp], &mut of_a.sums[first..][..count]);
                let (panels, norms) = (of_b.panels, (of_a.measures, of_b.measures));
                work.pieces3((acc, strip * dp), (sums, strip), (g, strip * pitch), &|at, acc, sums, g| {
                    let rows = g.len() / pitch;
                    with_scratch(sides.packed_len(rows), |scratch| {
                        coefficients(work.simd, sides, norms, dy, first + at * strip, acc, g, scratch);
                    });
                    let slab = Slab { g, pitch, m, first: first + at * strip, summed: true, dy: Some(dy) };
                    with_scratch(WIDE_ROWS * PITCH, |packed| {
                        by_rows(work.simd, &slab, 0, panels, acc, sums, packed);
                    });
                });
                let slab = Slab { g, pitch, m, first, summed: true, dy: Some(dy) };
                add_columns(work, &slab, of_a, of_b);
            }
        });
    });
}

/// Rows of a strip, and of a slab of at most `strips` of them. With few columns the time goes into reading coefficients, so a
/// slab of those stays in the second cache for the second step.
fn slab_of(n: usize, m: usize, dp: usize, strips: usize) -> (usize, usize) {
    const FLOATS: usize = 192 * 1024;
    const FEW: usize = 4;
    // Whole blocks of rows that are read where they lie.
    const ROWS: usize = 24;
    if dp > LANES {
        return (strip_rows(n), strips.saturating_mul(strip_rows(n)).min(n));
    }
    let strip = (FLOATS / FEW / m).next_multiple_of(ROWS).clamp(ROWS, strip_rows(n));
    (strip, FEW * strip)
}

/// The second step.
fn add_columns(work: Work, slab: &Slab<'_>, of_a: &Side<'_>, of_b: &mut Side<'_>) {
    let dp = of_b.acc.len() / of_b.n;
    let (acc, sums, given) = (&mut *of_b.acc, &mut *of_b.sums, of_b.given);
    work.pieces2((acc, COLUMNS * dp), (sums, COLUMNS), &|at, acc, sums| {
        with_scratch(TERMS * COLUMNS, |packed| {
            by_columns(work.simd, work.simd, slab, at * COLUMNS, (of_a.panels, of_a.n), acc, sums, packed);
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
    // Where some pairs had a gradient of their own there are sums already.
    let anew = slab.dy.is_none();
    let (g, dp) = (&slab.g[first * slab.pitch..][..sums.len() * slab.pitch], acc.len() / sums.len());
    for j in (0..slab.m).step_by(TERMS) {
        let terms = TERMS.min(slab.m - j);
        if slab.summed {
            for (sum, row) in sums.iter_mut().zip(g.chunks_exact(slab.pitch)) {
                // SAFETY: the instruction set is the caller's.
                *sum += unsafe { total::<V>(&row[j..j + terms]) };
            }
        }
        let anew = anew && j == 0;
        if dp == LANES {
            let panel = &panels[j * LANES..][..terms * LANES];
            // SAFETY: the instruction set is the caller's.
            unsafe { add_thin::<V>(&g[j..], slab.pitch, panel, acc, anew) };
            continue;
        }
        let rows = block_rows::<V>();
        for (g, acc) in g.chunks(rows * slab.pitch).zip(acc.chunks_mut(rows * dp)) {
            for (row, packed) in g.chunks_exact(slab.pitch).zip(packed.chunks_exact_mut(PITCH)) {
                packed[..terms].copy_from_slice(&row[j..j + terms]);
            }
            let rows = acc.len() / dp;
            // SAFETY: the instruction set is the caller's.
            unsafe { add_products::<V, false>(packed, (rows, terms), (panels, slab.m, j), acc, anew) };
        }
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
    set: Simd,
    slab: &Slab<'_>,
    first: usize,
    (panels, height): (&[f32], usize),
    acc: &mut [f32],
    sums: &mut [f32],
    packed: &mut [f32],
) {
    let (columns, dp) = (sums.len(), acc.len() / sums.len());
    for (at, g) in slab.g.chunks(TERMS * slab.pitch).enumerate() {
        let (terms, g) = (g.len() / slab.pitch, &g[first..]);
        let size = (columns, slab.pitch, terms);
        let at = slab.first + at * TERMS;
        if slab.summed {
            for row in g.chunks(slab.pitch) {
                sums.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
            }
        }
        if dp == LANES {
            let panel = &panels[at * LANES..][..terms * LANES];
            // SAFETY: the instruction set is the caller's.
            unsafe { add_thin_columns::<V>(set, (g, slab.pitch), panel, acc, packed, at == 0) };
            continue;
        }
        match block_rows::<V>() {
            WIDE_ROWS => pack_columns::<WIDE_ROWS>(g, size, packed),
            NARROW_ROWS => pack_columns::<NARROW_ROWS>(g, size, packed),
            _ => pack_columns::<FEW_ROWS>(g, size, packed),
        }
        let rows = block_rows::<V>();
        for (acc, g) in acc.chunks_mut(rows * dp).zip(packed.chunks_exact(rows * terms)) {
            // SAFETY: the instruction set is the caller's.
            unsafe {
                add_products::<V, true>(g, (acc.len() / dp, terms), (panels, height, at), acc, at == 0);
            }
        }
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
        set: Simd,
        slab: &Slab<'_>,
        first: usize,
        panels: (&[f32], usize),
        acc: &mut [f32],
        sums: &mut [f32],
        packed: &mut [f32],
    ) = by_columns_body
}
