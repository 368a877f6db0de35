//! How a batch is cut into tiles, sixteen of which are computed side by side.

use super::lanes::Lanes;
use super::pass::Pass;
use crate::kernels::conv::scratch::apart;
use crate::simd::LANES;

/// Floats of scratch that stay in the second-level cache beside what streams by: 512 KiB.
const CACHED: usize = 128 * 1024;

/// Tile counts worth trying: all small ones, then four to an octave.
fn counts(units: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |n| Some(n + (n / 4).max(1))).take_while(move |&n| n <= units)
}

/// How the units of both axes are cut.
#[derive(Debug, Clone, Copy)]
pub struct Tiling {
    /// Units of a tile.
    pub units: [usize; 2],
    /// Tiles of a sample.
    pub count: [usize; 2],
    /// Rows and columns of source that a tile sees.
    pub span: [usize; 2],
    /// Tiles of all samples.
    pub tiles: usize,
}

impl Tiling {
    /// The cut with the least work, in vector operations: idle lanes, what neighbouring tiles both
    /// see and what does not fit the cache cost, and so does `fixed` for every sixteen tiles.
    pub fn best(batch: usize, passes: &[Pass; 2], from: usize, to: usize, fixed: usize) -> Self {
        let taps = passes[0].axis.kernel * passes[1].axis.kernel;
        let cut = |a: usize, count: usize| {
            let units = passes[a].units.div_ceil(count);
            (units, passes[a].units.div_ceil(units))
        };
        let mut best: Option<(usize, Self)> = None;
        for (rows, row_tiles) in counts(passes[0].units).map(|n| cut(0, n)) {
            for (columns, column_tiles) in counts(passes[1].units).map(|n| cut(1, n)) {
                let tiles = batch * row_tiles * column_tiles;
                let span = [passes[0].span(rows), passes[1].span(columns)];
                let source = from.saturating_mul(span[0].saturating_mul(span[1]));
                let result =
                    to.saturating_mul(rows * passes[0].to_step).saturating_mul(columns * passes[1].to_step);
                // A multiply-add is one; each row starts anew; transposition is several a vector.
                let multiply = (columns + 2).saturating_mul(rows * from * to).saturating_mul(taps);
                let slow = if source.saturating_mul(LANES) > CACHED { multiply / 4 } else { 0 };
                let work = source.saturating_add(result).saturating_mul(4);
                let work = work.saturating_add(multiply).saturating_add(slow).saturating_add(500 + fixed);
                let work = tiles.div_ceil(LANES).saturating_mul(work);
                if best.as_ref().is_none_or(|b| work < b.0) {
                    let count = [row_tiles, column_tiles];
                    best = Some((work, Self { units: [rows, columns], count, span, tiles }));
                }
            }
        }
        best.expect("an axis has at least one unit").1
    }

    /// Sixteen tiles are computed together.
    pub fn batches(&self) -> usize {
        self.tiles.div_ceil(LANES)
    }

    /// The lanes of batch `i`: sample and first unit on either axis of each that is in use.
    pub fn lanes(&self, i: usize) -> Lanes {
        let in_use = (self.tiles - i * LANES).min(LANES);
        let mut lanes = Lanes { in_use, sample: [0; LANES], unit: [[0; 2]; LANES] };
        let [rows, columns] = self.count;
        for lane in 0..in_use {
            let tile = i * LANES + lane;
            lanes.sample[lane] = tile / (rows * columns);
            lanes.unit[lane] = [tile / columns % rows * self.units[0], tile % columns * self.units[1]];
        }
        lanes
    }

    pub fn source_len(&self, channels: usize) -> usize {
        self.span[0].saturating_mul(apart(self.span[1])).saturating_mul(channels).saturating_mul(LANES)
    }
}
