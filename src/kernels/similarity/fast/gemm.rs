//! `out_r += Σ_k g_rk·rows_k`, which gradients are made of.

use super::block::{FEW_ROWS, NARROW_ROWS, PANEL, WIDE_ROWS, block, block_rows};
use super::pack::turn_tile;
use crate::simd::{F32x16, LANES, Simd, fetch};

/// Terms that are taken at once: so many rows of all panels stay in the second cache while blocks of coefficients go by.
pub const TERMS: usize = 512;

/// From one row of copied coefficients to the next: not a power of two, of which few sets of a cache would hold all.
pub const PITCH: usize = TERMS + LANES;

/// Adds to some rows `out`, or with `anew` writes there, `padded(d)` floats each, `terms` rows that lie in panels of columns
/// ([`Rows::cut`]) of `height` rows, from row `first` on. `g` is a block of coefficients, of whose rows there are as many as of
/// `out`: side by side, [`PITCH`] apart, or with `PACKED` as [`pack_columns`] makes it.
///
/// [`Rows::cut`]: super::rows::Rows::cut
/// [`pack_columns`]: super::pack::pack_columns
///
/// # Safety
/// The instruction set of `V` is there.
#[inline(always)]
pub unsafe fn add_products<V: F32x16, const PACKED: bool>(
    g: &[f32],
    (rows, terms): (usize, usize),
    (panels, height, first): (&[f32], usize, usize),
    out: &mut [f32],
    anew: bool,
) {
    let dp = out.len() / rows;
    assert!(out.len() == rows * dp && dp.is_multiple_of(LANES) && first + terms <= height);
    let needed = if PACKED { block_rows::<V>() * terms } else { block_rows::<V>() * PITCH };
    assert!(rows <= block_rows::<V>() && g.len() >= needed && terms <= TERMS && panels.len() >= height * dp);
    let g = g.as_ptr();
    for c in (0..dp).step_by(PANEL) {
        let width = PANEL.min(dp - c);
        // SAFETY: a whole block of coefficients, and whole panels and rows, by the assertions.
        unsafe {
            let b = panels.as_ptr().add(c * height + first * width);
            let out = (out.as_mut_ptr().add(c), rows, dp);
            match (block_rows::<V>(), width / LANES) {
                (WIDE_ROWS, 2) => one::<V, PACKED, WIDE_ROWS, 2>(g, terms, (b, width), out, anew),
                (WIDE_ROWS, _) => one::<V, PACKED, WIDE_ROWS, 1>(g, terms, (b, width), out, anew),
                (rows, vectors) => {
                    for c in (0..vectors).map(|c| c * LANES) {
                        let (b, out) = ((b.add(c), width), (out.0.add(c), out.1, out.2));
                        if rows == NARROW_ROWS {
                            one::<V, PACKED, NARROW_ROWS, 1>(g, terms, b, out, anew);
                        } else {
                            one::<V, PACKED, FEW_ROWS, 1>(g, terms, b, out, anew);
                        }
                    }
                }
            }
        }
    }
}

/// `R` rows, of which there are `rows`, by `C` vectors of columns.
#[inline(always)]
unsafe fn one<V: F32x16, const PACKED: bool, const R: usize, const C: usize>(
    g: *const f32,
    terms: usize,
    b: (*const f32, usize),
    (out, rows, dp): (*mut f32, usize, usize),
    anew: bool,
) {
    for q in 0..rows {
        for c in 0..C {
            fetch(out.wrapping_add(q * dp + c * LANES));
        }
    }
    // SAFETY: the caller's.
    unsafe {
        let (across, step) = if PACKED { (1, R) } else { (PITCH, 1) };
        let sums = block::<V, false, R, C>(terms, (g, across, step), b);
        for (q, sums) in sums.iter().enumerate().take(rows) {
            for (c, &sum) in sums.iter().enumerate() {
                let out = out.add(q * dp + c * LANES);
                let sum = if anew { sum } else { V::load(out).add(sum) };
                sum.store(out);
            }
        }
    }
}

/// [`add_products`] of at most sixteen columns, where each coefficient is used once: it is read where it lies, `(r, k)` at
/// `pitch·r + k`. `panel` are the rows, sixteen floats each.
///
/// # Safety
/// The instruction set of `V` is there.
#[inline(always)]
pub unsafe fn add_thin<V: F32x16>(g: &[f32], pitch: usize, panel: &[f32], out: &mut [f32], anew: bool) {
    let rows = out.len() / LANES;
    assert!(g.len() >= (rows - 1) * pitch + panel.len() / LANES);
    let mut r = 0;
    while r < rows {
        let (g, out) = (&g[r * pitch..], &mut out[r * LANES..]);
        // SAFETY: rows and terms that there are, by the assertion.
        r += unsafe {
            match (block_rows::<V>(), rows - r) {
                (WIDE_ROWS, 8..) => thin::<V, 8>(g, pitch, panel, out, anew),
                (NARROW_ROWS, 6..) => thin::<V, 6>(g, pitch, panel, out, anew),
                (_, 4..) => thin::<V, 4>(g, pitch, panel, out, anew),
                _ => thin::<V, 1>(g, pitch, panel, out, anew),
            }
        };
    }
}

/// `R` rows; returns how many these are.
#[inline(always)]
unsafe fn thin<V: F32x16, const R: usize>(
    g: &[f32],
    pitch: usize,
    panel: &[f32],
    out: &mut [f32],
    anew: bool,
) -> usize {
    // SAFETY: the caller's.
    unsafe {
        let terms = panel.len() / LANES;
        let sums = block::<V, false, R, 1>(terms, (g.as_ptr(), pitch, 1), (panel.as_ptr(), LANES));
        for (out, [sum]) in out.chunks_exact_mut(LANES).zip(sums) {
            let sum = if anew { sum } else { V::load(out.as_ptr()).add(sum) };
            sum.store(out.as_mut_ptr());
        }
    }
    R
}

/// `out_c += Σ_k g_kc·rows_k` of at most sixteen columns: `g_kc` at `pitch·k + c`, which is what vectors are of, so that each
/// is read once and where it lies. `panel` as in [`add_thin`]; `scratch` is as long.
///
/// # Safety
/// `simd`, which is that of `V`, is supported.
#[inline(always)]
pub unsafe fn add_thin_columns<V: F32x16>(
    simd: Simd,
    (g, pitch): (&[f32], usize),
    panel: &[f32],
    out: &mut [f32],
    scratch: &mut [f32],
    anew: bool,
) {
    let columns = out.len() / LANES;
    let (mut tile, mut turned) = ([[0.0; LANES]; LANES], [[0.0; LANES]; LANES]);
    for (c, out) in out.chunks_mut(LANES * LANES).enumerate().map(|(c, out)| (c * LANES, out)) {
        // SAFETY: the caller's instruction set.
        unsafe {
            if c + LANES <= columns {
                thin_columns::<V>((&g[c..], pitch), panel, &mut tile);
            } else {
                for (whole, row) in scratch.chunks_exact_mut(LANES).zip(g.chunks(pitch)) {
                    let (some, rest) = whole.split_at_mut(columns - c);
                    some.copy_from_slice(&row[c..columns]);
                    rest.fill(0.0);
                }
                thin_columns::<V>((scratch, LANES), panel, &mut tile);
            }
            turn_tile(simd, &tile, &mut turned);
        }
        for (out, turned) in out.chunks_exact_mut(LANES).zip(&turned) {
            for (out, turned) in out.iter_mut().zip(turned) {
                *out = if anew { *turned } else { *out + turned };
            }
        }
    }
}

/// Sixteen columns of coefficients, as lanes, against the sixteen columns of `panel`.
#[inline(always)]
unsafe fn thin_columns<V: F32x16>(
    (g, pitch): (&[f32], usize),
    panel: &[f32],
    tile: &mut [[f32; LANES]; LANES],
) {
    let terms = panel.len() / LANES;
    assert!(g.len() >= (terms - 1) * pitch + LANES);
    let g = (g.as_ptr(), pitch);
    // SAFETY: whole vectors of columns, by the assertion.
    unsafe {
        if V::WIDE {
            let sums = block::<V, false, LANES, 1>(terms, (panel.as_ptr(), 1, LANES), g);
            for (tile, [sum]) in tile.iter_mut().zip(sums) {
                sum.store(tile.as_mut_ptr());
            }
            return;
        }
        for (k, tile) in tile.chunks_exact_mut(FEW_ROWS).enumerate() {
            let panel = panel.as_ptr().add(k * FEW_ROWS);
            let sums = block::<V, false, FEW_ROWS, 1>(terms, (panel, 1, LANES), g);
            for (tile, [sum]) in tile.iter_mut().zip(sums) {
                sum.store(tile.as_mut_ptr());
            }
        }
    }
}
