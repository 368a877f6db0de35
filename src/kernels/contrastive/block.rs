//! Blocks of rows as tasks hold them, and what all tiles of them have in common.

use super::params::ContrastiveParams;
use super::schedule::{block, block_rows};
use super::side::{Side, Sums};
use crate::kernels::pairs::{TILE, padded, row_len};
use crate::simd::LANES;
use std::ops::Range;

/// What all tiles of a launch have in common.
pub struct Tiles {
    pub p: ContrastiveParams,
    pub d: usize,
    pub dp: usize,
    pub weighted: bool,
    /// No two labels that differ are nearer than this.
    pub step: f32,
    /// How far off, of the squared norms of both rows, a squared distance out of their product is at most.
    pub off: f32,
    /// The same of a distance of two centres, and of a radius.
    pub slack: f32,
}

/// A block of rows as they are laid out, and its part of the sums: who holds the block is alone in adding to it.
pub struct Block<'a> {
    side: &'a Side<'a>,
    /// All rows as given `[n, d]`.
    z: &'a [f32],
    /// Which of the side's rows are the block's.
    pub rows: Range<usize>,
    acc: &'a mut [f32],
    g: &'a mut [f32],
}

impl Tiles {
    /// With `weighted` samples count as their weights say. Labels are equal, or `step` or more apart.
    pub fn new(p: &ContrastiveParams, weighted: bool, step: f32) -> Self {
        let d = p.d as usize;
        // Sums of squares are sixteen side by side, those of products 64 columns at a time.
        let terms = (d.div_ceil(LANES) + 64) as f32;
        let [off, slack] = [terms * 6e-8, terms * 1.2e-7];
        Self { p: *p, d, dp: row_len(d), weighted, step, off, slack }
    }

    /// The rows of `side`, of the samples `z`, and their sums in blocks.
    pub fn blocks<'a>(
        &self,
        side: &'a Side<'a>,
        sums: &'a mut Sums<'_>,
        z: &'a [f32],
    ) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let (n, len) = (side.order.len(), block_rows(side.order.len()));
        let sums = sums.acc.chunks_mut(len * self.dp).zip(sums.g.chunks_mut(len));
        (0..).zip(sums).map(move |(b, (acc, g))| Block { side, z, rows: block(n, b), acc, g })
    }
}

impl Block<'_> {
    pub fn rows_at(&mut self, Tiles { d, dp, .. }: &Tiles) -> Rows {
        let (n, side) = (self.rows.len(), self.side);
        let (from, to) = (self.rows.start, self.rows.start + padded(n));
        assert!(self.acc.len() == padded(n) * dp && self.g.len() == padded(n));
        let (tile, tiles) = (from / TILE, (from + n).div_ceil(TILE));
        let bounds = &side.bounds;
        Rows {
            n,
            z: self.z.as_ptr(),
            samples: side.samples[from..to].as_ptr(),
            panels: side.panels[from * d..to * d].as_ptr(),
            rows: side.rows[from * dp..to * dp].as_ptr(),
            squares: side.squares[from..to].as_ptr(),
            labels: side.labels[from..to].as_ptr(),
            weights: side.weights[from..to].as_ptr(),
            near: side.near[from..to].as_ptr(),
            inverse: side.inverse[from..to].as_ptr(),
            centres: bounds.centres[tile * dp..tiles * dp].as_ptr(),
            radii: bounds.radii[tile..tiles].as_ptr(),
            norms: bounds.norms[tile..tiles].as_ptr(),
            means: bounds.means[2 * tile..2 * tiles].as_ptr(),
            of_labels: bounds.labels[2 * tile..2 * tiles].as_ptr(),
            acc: self.acc.as_mut_ptr(),
            g: self.g.as_mut_ptr(),
        }
    }
}

/// A block's memory, each range looked at by [`Block::rows_at`]: `padded(n)` rows, but for `z`, which is the whole set's, and
/// what is of tiles. Pointers, because on the diagonal both sides of a pair are the same block.
pub struct Rows {
    pub n: usize,
    z: *const f32,
    samples: *const u32,
    pub panels: *const f32,
    pub rows: *const f32,
    pub squares: *const f32,
    pub labels: *const f32,
    pub weights: *const f32,
    pub near: *const f32,
    pub inverse: *const f32,
    pub centres: *const f32,
    pub radii: *const f32,
    pub norms: *const f32,
    pub means: *const f32,
    pub of_labels: *const f32,
    pub acc: *mut f32,
    pub g: *mut f32,
}

impl Rows {
    /// Row `i` as it is given.
    ///
    /// # Safety
    /// It is one of them.
    #[inline(always)]
    pub unsafe fn given(&self, t: &Tiles, i: usize) -> *const f32 {
        // SAFETY: the caller's; what the rows were laid out from.
        unsafe { self.z.add(*self.samples.add(i) as usize * t.d) }
    }
}
