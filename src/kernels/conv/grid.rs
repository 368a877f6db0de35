//! How the GPU twins of both convolutions cut their work.

use super::geometry::{Axis, Geometry, gcd};
use crate::kernel::Scratch;

/// Rows and columns of a tile of the WGSL twins, by the rows of a group.
const fn tile(rows: usize) -> [usize; 2] {
    match rows {
        0..=8 => [8, 256],
        9..=16 => [16, 256],
        17..=32 => [32, 128],
        _ => [64, 64],
    }
}

/// Threads of a block of the CUDA twins of `fwd` and `bwd_x`.
pub const THREADS: u32 = 128;
/// Places of their tiles.
const SPAN: usize = 128;
/// Terms of a slice.
const DEPTH: usize = 16;
/// Slices in flight.
const STAGES: usize = 3;
/// Blocks that fill a large card, two for each multiprocessor.
const FILLED: usize = 264;
/// Slots of weights that a block of the narrow way keeps for a row, at most.
const SLOTS: usize = 1024;
/// The largest stride that it has a table of the phases of.
const LARGEST_STRIDE: usize = 16;
/// Terms of a sum that are worth the beginning of its blocks where tiles are few.
const LONG_FORWARD: usize = 48;
const LONG_BACKWARD: usize = 256;

/// How the narrow way goes about a product.
struct Narrow {
    /// Rows and places of a thread, and how many threads share out the terms of a place.
    rows: usize,
    places: usize,
    shares: usize,
    /// Slots of weights and terms that a block keeps in shared memory.
    slots: usize,
    terms: usize,
}

/// Threads of a block of `bwd_w`.
pub const WEIGHT_THREADS: u32 = 256;
/// Threads of a block of `bwd_b`.
pub const BIAS_THREADS: u32 = 512;

/// Channels of a tile of the CUDA twins of `fwd` and `bwd_x`, by the channels of a group.
const fn channels(rows: usize) -> usize {
    match rows {
        0..=8 => 8,
        9..=32 => 32,
        _ => 64,
    }
}

/// Channels and terms of a tile of the CUDA twin of `bwd_w`, and its places.
const WEIGHT_TILE: usize = 64;
const WEIGHT_PLACES: usize = 32;
/// Channels and terms of its tile where channels are few.
const FEW: usize = 8;
/// Such tiles of a block at most.
const FEW_TILES: usize = 4;

/// Blocks that the gradient of the weight is cut into where it can be: one for each multiprocessor of a large card.
const BLOCKS: usize = 132;
/// Positions of a run of that gradient below which cutting further costs more than it brings.
const RUN: usize = 128;

/// `n` blocks or workgroups over x and y; a kernel finds nothing to do in those beyond.
fn fold(n: usize) -> [u32; 3] {
    const SIDE: usize = 1 << 30;
    [n.min(SIDE) as u32, n.div_ceil(SIDE) as u32, 1]
}

impl Geometry {
    /// Phases of the stride that have positions, and the most positions of one.
    fn phases(&self) -> [usize; 2] {
        let phases = self.product(|a| a.stride.min(a.input));
        [phases, self.product(|a| a.input.div_ceil(a.stride))]
    }

    /// Runs of positions that the gradient of the weight is summed in: few enough weights leave it no other way to fill a GPU.
    pub fn runs(&self) -> u32 {
        let runs = (self.batch * self.outputs()).div_ceil(RUN);
        (BLOCKS / self.cuda_weight_tiles()).clamp(1, runs) as u32
    }

    /// Elements of the partial gradients of the weight; one, not used, where there is a single run. CUDA's are whole tiles
    /// where channels are few, and what it takes to start at a multiple of 16 bytes.
    pub fn parts(&self) -> Scratch {
        let each = if self.few() {
            self.cuda_weight_tiles() * self.few_tiles() * FEW * FEW
        } else {
            self.elements()[1]
        };
        let sums = |all| if self.splits > 1 { all } else { 1 };
        let splits = self.splits as usize;
        Scratch { cuda: sums(splits * each + 3), wgsl: sums(splits * self.elements()[1]) }
    }

    fn wgsl_tiles(&self, channels: usize, positions: usize) -> usize {
        let [rows, columns] = tile(channels);
        self.groups * channels.div_ceil(rows) * positions.div_ceil(columns)
    }
    /// Workgroups of `fwd`.
    pub fn wgsl_fwd(&self) -> [u32; 3] {
        [self.wgsl_tiles(self.cout, self.batch * self.outputs()) as u32, 1, 1]
    }
    /// Workgroups of `bwd_x`.
    pub fn wgsl_bwd_x(&self) -> [u32; 3] {
        let [phases, places] = self.phases();
        [(self.wgsl_tiles(self.cin, self.batch * places) * phases) as u32, 1, 1]
    }
    /// Workgroups of the first stage of `bwd_w`: each owns rows by columns on a run of positions.
    pub fn wgsl_bwd_w(&self) -> [u32; 3] {
        let [rows, columns] = if self.few() { [8, 8] } else { tile(self.cout) };
        [(self.groups * self.cout.div_ceil(rows) * self.terms().div_ceil(columns)) as u32 * self.splits, 1, 1]
    }
    /// Workgroups of its second stage, which adds the runs: a thread owns a weight.
    pub fn wgsl_bwd_w_2(&self) -> [u32; 3] {
        [if self.splits > 1 { self.elements()[1].div_ceil(256) as u32 } else { 0 }, 1, 1]
    }
    /// Workgroups or blocks of `bwd_b`: one a channel.
    pub fn bwd_b(&self) -> [u32; 3] {
        [self.channels() as u32, 1, 1]
    }

    /// How `fwd` or `bwd_x` goes the narrow way, if it does.
    fn narrow(&self, backward: bool) -> Option<Narrow> {
        let period = |a: &Axis| if backward { a.stride / gcd(a.stride, a.dilation) } else { 1 };
        let turns = |a: &Axis| a.kernel.div_ceil(period(a));
        let each = self.product(|a| turns(a) * period(a));
        let (rows, inner) = if backward { (self.cin, self.cout) } else { (self.cout, self.cin) };
        if (inner + 1) * each > SLOTS || backward && self.axes.iter().any(|a| a.stride > LARGEST_STRIDE) {
            return None;
        }
        let (at_once, most) = match rows {
            1 => (1, 4),
            5..=16 => (8, 2),
            _ => (4, 4),
        };
        let all = self.batch * if backward { self.inputs() } else { self.outputs() };
        let blocks = |span: usize| all.div_ceil(span) * self.groups * rows.div_ceil(at_once);
        let threads = THREADS as usize;
        // Blocks take long to begin: there must be enough of them, or too few tiles, each summing for long.
        let enough = if backward { blocks(threads * most) >= FILLED } else { blocks(threads) >= FILLED / 2 };
        if rows > 16 || !enough {
            let least = if backward { LONG_BACKWARD * self.product(|a| a.stride) } else { LONG_FORWARD };
            let positions = if backward { self.phases() } else { [1, self.outputs()] };
            let tiles = self.cuda_tiles(rows, self.batch * positions[1]) * positions[0];
            if inner * self.product(|a| a.kernel) < least || tiles >= FILLED / 8 {
                return None;
            }
        }
        let terms = inner * self.product(turns);
        let places = if blocks(threads * most) >= FILLED { most } else { 1 };
        let batch = if places > 2 { 4 } else { 8 };
        let mut shares = 1;
        while places == 1
            && shares < threads / 32
            && terms > shares * batch
            && blocks(threads / shares) < FILLED
        {
            shares *= 2;
        }
        let terms = terms.next_multiple_of(shares * batch);
        let slots = if backward { (inner + 1) * each } else { terms };
        Some(Narrow { rows: at_once, places, shares, slots: slots.next_multiple_of(4), terms })
    }
    /// Blocks of the narrow way.
    fn narrow_blocks(&self, n: &Narrow, rows: usize, positions: usize) -> [u32; 3] {
        fold(self.groups * rows.div_ceil(n.rows) * positions.div_ceil(THREADS as usize * n.places / n.shares))
    }

    fn cuda_tiles(&self, rows: usize, positions: usize) -> usize {
        self.groups * rows.div_ceil(channels(rows)) * positions.div_ceil(SPAN)
    }
    /// Blocks of the CUDA twin of `fwd`.
    pub fn cuda_fwd(&self) -> [u32; 3] {
        match self.narrow(false) {
            Some(n) => self.narrow_blocks(&n, self.cout, self.batch * self.outputs()),
            None => fold(self.cuda_tiles(self.cout, self.batch * self.outputs())),
        }
    }
    /// Blocks of the CUDA twin of `bwd_x`.
    pub fn cuda_bwd_x(&self) -> [u32; 3] {
        if let Some(n) = self.narrow(true) {
            return self.narrow_blocks(&n, self.cin, self.batch * self.inputs());
        }
        let [phases, places] = self.phases();
        fold(self.cuda_tiles(self.cin, self.batch * places) * phases)
    }
    /// Bytes of shared memory of a block of the CUDA twin of `fwd` or `bwd_x`.
    pub fn cuda_shared(&self, backward: bool) -> u32 {
        let floats = match self.narrow(backward) {
            // A term is six words at most.
            Some(n) => {
                n.slots * n.rows + 6 * n.terms + if n.shares > 1 { THREADS as usize * n.rows } else { 0 }
            }
            None => {
                let rows = if backward { self.cin } else { self.cout };
                STAGES * (channels(rows) * (DEPTH + 4) + DEPTH * (SPAN + 8))
            }
        };
        4 * floats as u32
    }
    /// Whether `bwd_w` takes the way of few channels on GPUs.
    fn few(&self) -> bool {
        self.cout <= 16
    }
    fn weight_tiles(&self, side: usize) -> usize {
        self.groups * self.cout.div_ceil(side) * self.terms().div_ceil(side)
    }
    /// Tiles that its blocks then own.
    fn few_tiles(&self) -> usize {
        match self.weight_tiles(FEW) {
            tiles @ 0..=2 => tiles,
            _ => FEW_TILES,
        }
    }
    /// What the blocks of the CUDA twin of `bwd_w` own on one run of places, each with a ticket: a tile, or a few small ones.
    pub fn cuda_weight_tiles(&self) -> usize {
        if self.few() {
            self.weight_tiles(FEW).div_ceil(self.few_tiles())
        } else {
            self.weight_tiles(WEIGHT_TILE)
        }
    }
    /// Blocks of the CUDA twin of `bwd_w`.
    pub fn cuda_bwd_w(&self) -> [u32; 3] {
        fold(self.cuda_weight_tiles() * self.splits as usize)
    }
    /// Bytes of shared memory of a block of it.
    pub fn cuda_bwd_w_shared(&self) -> u32 {
        if self.few() {
            return 16 * WEIGHT_THREADS;
        }
        (4 * STAGES * 2 * WEIGHT_TILE * (WEIGHT_PLACES + 4)) as u32
    }
}
