//! Sizes that the tiles and the layouts they read agree on.

use crate::simd::LANES;

/// Rows and columns of a tile: 9 KiB of coefficients, and whole blocks of registers of every shape.
pub const TILE: usize = 48;

/// `n` rounded up to whole vectors.
pub const fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// From one row to the next in a layout: whole vectors, and from four on an odd number of them, as rows a
/// power of two apart would share a few sets of the cache.
pub const fn row_len(d: usize) -> usize {
    let vectors = d.div_ceil(LANES);
    LANES * if vectors >= 4 { vectors | 1 } else { vectors }
}

/// Memory that no vector load straddles a cache line of.
#[repr(C, align(64))]
pub struct Aligned<const N: usize>(pub [f32; N]);
