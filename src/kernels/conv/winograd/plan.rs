//! Which shapes are worth tiles of products, and how tiles are cut into blocks.

use super::product::PANEL;
use crate::kernels::conv::geometry::{Axis, Geometry};
use crate::kernels::conv::scratch::scratch_len;
use crate::simd::LANES;
use std::ops::Range;

/// Floats of scratch that stay in the second-level cache beside the weights that stream by.
const CACHED: usize = 160 * 1024;
/// Tiles of a block at most, and at least where there are as many.
const MOST_TILES: usize = 96;
const LEAST_TILES: usize = 24;
/// Blocks that many threads share, where tiles are few.
const BLOCKS: usize = 32;
/// Vectors that the transforms pass between them: 32 KiB.
const LINES: usize = 512;

/// What a tile's value costs to transform, a weight to transform, and the beginning of it all, in vector operations.
const PER_VALUE: f64 = 10.0;
const PER_WEIGHT: f64 = 30.0;
const FIXED: f64 = 7000.0;
/// The share of the plain sum's multiply-adds below which tiles are never slower. The plain gradient of the weight is the
/// slower of the plain sums.
const CORRELATION: f64 = 0.75;
const WEIGHTS: f64 = 1.0;

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
    /// Tiles of a run at most, and runs of a block.
    run: usize,
    runs: usize,
}

/// Tiles that lie side by side in one sample.
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
        let plan = Self::along(g)?;
        plan.pays(g, plan.from * vectors(plan.to), CORRELATION).then_some(plan)
    }

    /// From the output's gradient to the input's: a correlation with the flipped kernel, where that is worth it.
    pub fn backward(g: &Geometry) -> Option<Self> {
        let plan = Self::against(g)?;
        plan.pays(g, plan.from * vectors(plan.to), CORRELATION).then_some(plan)
    }

    /// The tiles of the forward correlation, where the gradient of the weight is worth them.
    pub fn weights(g: &Geometry) -> Option<Self> {
        let plan = Self::along(g)?;
        plan.pays(g, plan.to * vectors(plan.from), WEIGHTS).then_some(plan)
    }

    /// From input to output, worth it or not.
    pub(super) fn along(g: &Geometry) -> Option<Self> {
        Self::new(g, [g.cin, g.cout], |axis| (axis.input, axis.output, -(axis.padding as isize)))
    }

    /// From the output's gradient to the input's, worth it or not.
    pub(super) fn against(g: &Geometry) -> Option<Self> {
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
        if g.planes().iter().any(|p| p[0] * p[1] < LANES) {
            return None;
        }
        let sides = [side(vertical, horizontal)?, side(horizontal, vertical)?];
        let [from, to] = channels;
        let mut plan = Self { batch: g.batch, from, to, sides, run: 1, runs: 1 };
        plan.cut();
        plan.fits().then_some(plan)
    }

    /// Whether a task's scratch is within bounds: it grows with the channels, of which a block holds all.
    fn fits(&self) -> bool {
        let each = (self.points() * self.block() * LANES) as u64;
        let [source, result] = [stride(self.from), stride(self.to).max(PANEL)].map(|v| each * v as u64);
        let lengths = [source, result].map(|len| usize::try_from(len).unwrap_or(usize::MAX));
        scratch_len(&[self.lines(), self.lines(), lengths[0], lengths[1]]).is_some()
    }

    /// Whether products and transforms, `each` vector operation of a point's products given, take less than `worth` of what
    /// the plain sum takes. Weights of the estimate are fitted to measurements of 1,800 shapes.
    fn pays(&self, g: &Geometry, each: usize, worth: f64) -> bool {
        let [points, tiles, each] = [self.points(), self.tiles(), each].map(|v| v as f64);
        let channels = (vectors(self.from) + vectors(self.to)) as f64;
        let products = points * each * (tiles + PER_WEIGHT) + points * tiles * channels * PER_VALUE;
        let [_, _, outputs] = g.elements();
        let sum = outputs as f64 * g.terms() as f64 / LANES as f64;
        products + FIXED < worth * sum
    }

    fn product(&self, of: impl Fn(&Side) -> usize) -> usize {
        self.sides.iter().map(of).product()
    }
    /// Products of a tile for each pair of channels.
    pub fn points(&self) -> usize {
        self.product(|s| s.points)
    }
    /// Multiply-adds of all tiles; the transforms have theirs beside them.
    pub fn products(&self) -> u64 {
        [self.points(), self.tiles(), self.from, self.to].iter().map(|&v| v as u64).product()
    }
    pub fn taps(&self) -> usize {
        self.product(|s| s.taps)
    }
    /// Tiles of all samples.
    fn tiles(&self) -> usize {
        self.batch * self.product(|s| s.tiles)
    }
    /// Runs that a row of tiles is cut into.
    fn cuts(&self) -> usize {
        self.sides[1].tiles.div_ceil(self.run)
    }
    fn all_runs(&self) -> usize {
        self.batch * self.sides[0].tiles * self.cuts()
    }
    pub fn blocks(&self) -> usize {
        self.all_runs().div_ceil(self.runs)
    }
    /// The runs of a block.
    pub fn runs(&self, block: usize) -> Range<usize> {
        block * self.runs..((block + 1) * self.runs).min(self.all_runs())
    }
    /// Tiles of a block at most.
    pub fn block(&self) -> usize {
        self.run * self.runs
    }
    /// Run number `i` of all.
    pub fn run(&self, i: usize) -> Run {
        let (row, column) = (i / self.cuts(), i % self.cuts() * self.run);
        let [rows, columns] = self.sides.map(|s| s.tiles);
        Run { sample: row / rows, tile: [row % rows, column], count: (columns - column).min(self.run) }
    }

    /// Chooses how tiles are cut: a block's products stay near, and there are blocks enough to share.
    fn cut(&mut self) {
        let [vertical, horizontal] = &self.sides;
        let each = self.points() * (stride(self.from) + PANEL) * LANES;
        let near = (CACHED / each).clamp(LEAST_TILES, MOST_TILES);
        let tiles = near.min(self.tiles().div_ceil(BLOCKS).max(LEAST_TILES));
        let fit = (LINES / vertical.points).saturating_sub(horizontal.points) / horizontal.outputs + 1;
        let cuts = horizontal.tiles.div_ceil(tiles.min(fit));
        self.run = horizontal.tiles.div_ceil(cuts);
        if cuts > 1 {
            // The results of eight tiles mostly end where a cache line does.
            self.run = self.run.next_multiple_of(8);
        }
        self.runs = (tiles / self.run).max(1);
    }

    /// Floats of a buffer between two transforms.
    pub fn lines(&self) -> usize {
        self.sides[0].points * self.sides[1].span(self.run) * LANES
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
