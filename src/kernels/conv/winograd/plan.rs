//! Which shapes are worth tiles of products, and how tiles are cut into blocks.

use super::product::PANEL;
use crate::kernels::conv::geometry::{Axis, Geometry};
use crate::simd::LANES;

/// Floats of scratch that stay in the second-level cache beside the weights that stream by.
const CACHED: usize = 160 * 1024;
/// Tiles of a block at most, and at least where there are as many.
const MOST_TILES: usize = 96;
const LEAST_TILES: usize = 24;
/// Blocks that many threads share, where tiles are few.
const BLOCKS: usize = 32;
/// Vectors that the transforms pass between them: 32 KiB.
const LINES: usize = 512;

/// One axis: tiles of `outputs` results, a tile by `points` products.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    pub points: usize,
    pub outputs: usize,
    pub taps: usize,
    /// Positions of the source and of the result.
    pub source: usize,
    pub result: usize,
    /// Where the first tile's source starts.
    pub start: isize,
    pub tiles: usize,
}

impl Side {
    /// Positions of the source that `n` tiles side by side see.
    pub fn span(&self, n: usize) -> usize {
        (n - 1) * self.outputs + self.points
    }
}

/// How many products a tile takes along an axis: tiles of one axis alone may be larger, see [`points`](super::points).
fn points(axis: &Axis, other: &Axis) -> Option<usize> {
    match (axis.kernel, other.kernel) {
        (1, _) => Some(1),
        (2..=7, 1) => Some(8),
        (2..=5, _) => Some(6),
        _ => None,
    }
}

/// A correlation in tiles: batch, channels, and both axes.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub batch: usize,
    /// Channels of the source and of the result.
    pub from: usize,
    pub to: usize,
    pub sides: [Side; 2],
    /// Tiles of a block.
    pub block: usize,
}

/// Tiles of a block that lie side by side in one sample.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub sample: usize,
    /// The tile's place on either axis, and how many follow each other.
    pub tile: [usize; 2],
    pub count: usize,
}

impl Plan {
    /// From input to output, where that is worth it.
    pub fn forward(g: &Geometry) -> Option<Self> {
        Self::new(g, [g.cin, g.cout], |axis| (axis.input, axis.output, -(axis.padding as isize)))
    }

    /// From the output's gradient to the input's: a correlation with the flipped kernel, where that is worth it.
    pub fn backward(g: &Geometry) -> Option<Self> {
        Self::new(g, [g.cout, g.cin], |axis| {
            (axis.output, axis.input, axis.padding as isize + 1 - axis.kernel as isize)
        })
    }

    fn new(g: &Geometry, channels: [usize; 2], of: impl Fn(&Axis) -> (usize, usize, isize)) -> Option<Self> {
        let [vertical, horizontal] = &g.axes;
        let plain = |a: &Axis| a.stride == 1 && (a.dilation == 1 || a.kernel == 1);
        if g.exact || g.groups != 1 || !plain(vertical) || !plain(horizontal) || g.product(|a| a.kernel) == 1
        {
            return None;
        }
        let side = |axis: &Axis, other: &Axis| {
            let points = points(axis, other)?;
            let outputs = points + 1 - axis.kernel;
            let (source, result, start) = of(axis);
            let tiles = result.div_ceil(outputs);
            Some(Side { points, outputs, taps: axis.kernel, source, result, start, tiles })
        };
        let sides = [side(vertical, horizontal)?, side(horizontal, vertical)?];
        let [from, to] = channels;
        let mut plan = Self { batch: g.batch, from, to, sides, block: 0 };
        plan.block = plan.best_block();
        plan.pays().then_some(plan)
    }

    /// Whether the products and transforms take less time than the plain sum.
    fn pays(&self) -> bool {
        let planes = [self.product(|s| s.source), self.product(|s| s.result)];
        if planes.iter().any(|&p| p < LANES) {
            return false;
        }
        true
    }

    fn product(&self, of: impl Fn(&Side) -> usize) -> usize {
        self.sides.iter().map(of).product()
    }
    /// Products of a tile for each pair of channels.
    pub fn points(&self) -> usize {
        self.product(|s| s.points)
    }
    pub fn taps(&self) -> usize {
        self.product(|s| s.taps)
    }
    /// Tiles of all samples.
    pub fn tiles(&self) -> usize {
        self.batch * self.product(|s| s.tiles)
    }
    pub fn blocks(&self) -> usize {
        self.tiles().div_ceil(self.block)
    }

    fn best_block(&self) -> usize {
        let each = self.points() * (stride(self.from) + PANEL) * LANES;
        let near = (CACHED / each).clamp(LEAST_TILES, MOST_TILES);
        let shared = self.tiles().div_ceil(BLOCKS).max(LEAST_TILES);
        near.min(shared).next_multiple_of(8)
    }

    /// Tiles of a run at most.
    fn longest(&self) -> usize {
        let [vertical, horizontal] = &self.sides;
        let columns = (LINES / vertical.points).max(horizontal.points);
        let fit = 1 + (columns - horizontal.points) / horizontal.outputs;
        fit.min(horizontal.tiles).min(self.block)
    }

    /// Floats of a buffer between two transforms.
    pub fn lines(&self) -> usize {
        self.sides[0].points * self.sides[1].span(self.longest()) * LANES
    }

    /// The tiles from `tile` on that are one run, ending before `end`.
    pub fn run(&self, tile: usize, end: usize) -> Run {
        let [rows, columns] = self.sides.map(|s| s.tiles);
        let column = tile % columns;
        let count = (columns - column).min(end - tile).min(self.longest());
        Run { sample: tile / columns / rows, tile: [tile / columns % rows, column], count }
    }
}

/// Vectors of `channels`.
pub fn vectors(channels: usize) -> usize {
    channels.div_ceil(LANES)
}

/// Vectors from one tile to the next: an odd number, so that tiles do not fall on the same few sets of the first-level cache.
pub fn stride(channels: usize) -> usize {
    vectors(channels) | 1
}

/// Vectors of a panel of `channels`: panels are as wide as each other but for the last.
pub fn panel(channels: usize) -> usize {
    vectors(channels).div_ceil(vectors(channels).div_ceil(PANEL))
}
