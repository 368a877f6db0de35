//! Rows and coefficients as blocks read them.

use crate::kernels::conv::transpose::transpose16;
use crate::simd::{LANES, Simd, fetch};

/// Elements of a row, and rows, that are fetched ahead.
const AHEAD: usize = 4 * LANES;
const ROWS_AHEAD: usize = 8;

/// Rows that are turned at once into blocks of `W`: some blocks, or sixteen rows of one.
const fn tile_rows<const W: usize>() -> usize {
    if W < LANES { LANES / W * W } else { LANES }
}

/// Makes blocks of `W` rows, transposed, of `rows` rows of `terms` elements, `pitch` apart: element `(i, k)` at
/// `W·terms·(i / W) + W·k + i % W`. What is left of the last block is finite where the last row is.
///
/// # Safety
/// `simd` is supported.
#[inline(always)]
pub unsafe fn pack_rows<const W: usize>(
    simd: Simd,
    from: &[f32],
    (rows, pitch, terms): (usize, usize, usize),
    out: &mut [f32],
) {
    assert!(from.len() >= (rows - 1) * pitch + terms && out.len() >= rows.next_multiple_of(W) * terms);
    let (mut tile, mut ends) = ([[0.0; LANES]; LANES], [[0.0; LANES]; LANES]);
    for i in (0..rows).step_by(tile_rows::<W>()) {
        let mut at = [from.as_ptr(); LANES];
        for (q, at) in at.iter_mut().enumerate() {
            *at = from[(i + q).min(rows - 1) * pitch..].as_ptr();
        }
        for k in (0..terms).step_by(LANES) {
            let count = LANES.min(terms - k);
            for at in at.iter().take(W) {
                fetch(at.wrapping_add(k + AHEAD));
            }
            // SAFETY: `count` elements of each row.
            unsafe { turn(simd, &at, k, count, &mut ends, &mut tile) };
            for q in (0..tile_rows::<W>().min(rows - i)).step_by(W) {
                let block = &mut out[(i + q) / W * W * terms + k * W + (i + q) % W..];
                let wide = W.min(LANES);
                for (t, tile) in tile.iter().enumerate().take(count) {
                    block[t * W..][..wide].copy_from_slice(&tile[q..q + wide]);
                }
            }
        }
    }
}

/// Elements `k` to `k + count` of sixteen rows, transposed; `ends` is scratch.
///
/// # Safety
/// They can be read; `simd` is supported.
#[inline(always)]
unsafe fn turn(
    simd: Simd,
    rows: &[*const f32; LANES],
    k: usize,
    count: usize,
    ends: &mut [[f32; LANES]; LANES],
    tile: &mut [[f32; LANES]; LANES],
) {
    let mut to = [std::ptr::null_mut(); LANES];
    for (to, tile) in to.iter_mut().zip(tile) {
        *to = tile.as_mut_ptr();
    }
    let mut from = *rows;
    for (from, end) in from.iter_mut().zip(ends) {
        // SAFETY: the caller's.
        unsafe {
            *from = from.add(k);
            if count < LANES {
                end[..count].copy_from_slice(std::slice::from_raw_parts(*from, count));
                *from = end.as_ptr();
            }
        }
    }
    // SAFETY: sixteen elements each.
    unsafe { transpose16(simd, &from, &to) };
}

/// A tile transposed.
///
/// # Safety
/// `simd` is supported.
#[inline(always)]
pub unsafe fn turn_tile(simd: Simd, tile: &[[f32; LANES]; LANES], turned: &mut [[f32; LANES]; LANES]) {
    let (mut from, mut to) = ([std::ptr::null(); LANES], [std::ptr::null_mut(); LANES]);
    for ((from, to), (row, column)) in from.iter_mut().zip(&mut to).zip(tile.iter().zip(turned)) {
        (*from, *to) = (row.as_ptr(), column.as_mut_ptr());
    }
    // SAFETY: sixteen elements each.
    unsafe { transpose16(simd, &from, &to) };
}

/// Makes blocks of `W` columns of `columns`, of rows `pitch` apart that start at `from`: element `(c, k)` of `terms` rows at
/// `W·terms·(c / W) + W·k + c % W`. What is left of the last block is 0.
#[inline(always)]
pub fn pack_columns<const W: usize>(
    from: &[f32],
    (columns, pitch, terms): (usize, usize, usize),
    out: &mut [f32],
) {
    // Some rows at a time, so that a block's cache lines are filled in turn.
    for k0 in (0..terms).step_by(ROWS_AHEAD) {
        let ks = k0..terms.min(k0 + ROWS_AHEAD);
        for c in (0..columns).step_by(W) {
            let block = &mut out[c * terms..][..W * terms];
            for k in ks.clone() {
                let row = &from[k * pitch + c..];
                fetch(row.as_ptr().wrapping_add(ROWS_AHEAD * pitch));
                let block = &mut block[k * W..][..W];
                if c + W <= columns {
                    block.copy_from_slice(&row[..W]);
                } else {
                    let (block, rest) = block.split_at_mut(columns - c);
                    block.copy_from_slice(&row[..columns - c]);
                    rest.fill(0.0);
                }
            }
        }
    }
}
