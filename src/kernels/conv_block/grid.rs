//! How the GPU twins cut their work, and the scratch that takes.

use super::params::ConvBlockParams;
use crate::kernel::Params;

/// Taps that a workgroup of the weight gradient owns.
const RUN: u32 = 8;

// ------------------------------------------------------------------ how the WGSL twins cut their work

/// Rows of a workgroup, sixteen threads each.
const ROWS: u32 = 4;
/// Channels of a workgroup.
const TILE: u32 = 4;
/// Neighbouring positions of a row.
const SPOTS: u32 = 8;
/// Most positions of a row of the weight gradient.
const STRETCH: u32 = 24;
/// Partial weight gradients from which on each takes more rows.
const CHUNKS: u32 = 128;

impl ConvBlockParams {
    /// Groups of rows of the forward.
    fn groups(&self) -> u32 {
        (self.blocks() as u32 * self.tout.div_ceil(SPOTS)).div_ceil(ROWS)
    }
    /// Groups of rows of the gradient of the input: each has one residue modulo the stride.
    fn groups_in(&self) -> u32 {
        let runs = self.t.div_ceil(self.stride).div_ceil(SPOTS);
        (self.blocks() as u32 * runs).div_ceil(ROWS) * self.stride.min(self.t)
    }
    /// Partial weight gradients of a shader.
    fn slices(&self) -> u32 {
        let rows = self.blocks() as u32 * self.tout.div_ceil(STRETCH);
        rows.div_ceil(ROWS * rows.div_ceil(ROWS * CHUNKS))
    }
}

pub fn by_output(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    [p.groups() * p.cout.div_ceil(TILE), 1, 1]
}
pub fn by_input(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    [p.groups_in() * p.cin.div_ceil(TILE), 1, 1]
}
pub fn by_weight(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    [p.slices() * p.cout.div_ceil(TILE) * p.cin * p.k.div_ceil(RUN), 1, 1]
}
pub fn by_row(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    [p.blocks() as u32 * p.cout, 1, 1]
}
pub fn by_channel(p: &Params) -> [u32; 3] {
    [p.get::<ConvBlockParams>().cout, 1, 1]
}
/// Workgroups of 64 threads for `weights`, a thread each, then one for each of `channels`.
pub fn by_sum(weights: u32, channels: u32) -> [u32; 3] {
    [weights.div_ceil(64) + channels, 1, 1]
}

// ------------------------------------------------------------------ how the CUDA twins cut their work

/// Threads of a block.
pub const BLOCK: u32 = 128;
/// Float4s in the line of sixteen samples.
const QUADS: u32 = 4;
/// Float4s of shared memory for the runs of channels.
const STAGE: u32 = 2048;
/// Blocks of the weight gradient that a launch should have.
const SHARES: u32 = 256;
/// Most slices of a tile of it.
const SLICES: u32 = 192;
/// Blocks of the input's gradient from which on each takes all residues.
const ENOUGH: u32 = 264;
/// Floats that make the gradient of a channel's convolution.
const CONSTANTS: u32 = 8;
/// Bytes of a float4.
const FLOAT4: u32 = 16;

/// The least power of two that is `n` or more, at most `most`.
fn power(n: u32, most: u32) -> u32 {
    n.next_power_of_two().min(most)
}

/// Tiles of [`FWD`](super::FWD); `kernels/conv_block.cu` says what the members are.
pub struct Fwd {
    tiles: u32,
    across: u32,
    pub shared: u32,
}

impl Fwd {
    pub fn of(p: &ConvBlockParams) -> Self {
        let per = if p.cout > 16 { 8 } else { 4 };
        let groups = power(p.cout.div_ceil(per), 4);
        let rows = BLOCK / QUADS / groups;
        let taps = p.k.min(RUN);
        let step = p.stride.min(taps);
        let reach = (rows - 1) * step + taps;
        let a_channel = reach * QUADS + 1 + taps * per * groups / 4;
        let channels = (STAGE / a_channel).max(1).min(p.cin);
        Self {
            tiles: p.tout.div_ceil(rows),
            across: p.cout.div_ceil(per * groups),
            shared: channels * a_channel * FLOAT4,
        }
    }
}

/// Tiles of the weight gradient, as [`Fwd`].
pub struct Dw {
    pub tiles: u32,
    slices: u32,
    weights: u32,
    pub shared: u32,
}

impl Dw {
    pub fn of(p: &ConvBlockParams) -> Self {
        let quads = power(p.cout.div_ceil(4), if p.cout < 32 { 2 } else { 4 });
        let ins = power(p.cin, if p.cin < 16 { 4 } else { 8 });
        let taps = p.k.min(RUN);
        let step = p.stride.min(taps);
        let spots = if step > 3 {
            8
        } else if quads * ins == 1 {
            32
        } else {
            16
        };
        let reach = (spots - 1) * step + taps;
        let tiles = p.cout.div_ceil(4 * quads) * p.cin.div_ceil(ins) * p.k.div_ceil(RUN);
        let stages = p.blocks() as u32 * p.tout.div_ceil(spots);
        let each = stages.div_ceil((SHARES / tiles).clamp(1, SLICES));
        let staged = 4 * quads * (spots * QUADS + 1 + CONSTANTS / 4) + ins * (reach * QUADS + 2);
        let sums = BLOCK / 32 * RUN * quads * ins;
        Self {
            tiles,
            slices: stages.div_ceil(each),
            weights: taps * quads * ins,
            shared: staged.max(sums) * FLOAT4,
        }
    }
}

/// Tiles of the gradient of the input, as [`Fwd`].
pub struct Dx {
    tiles: u32,
    turns: u32,
    across: u32,
    pub shared: u32,
}

impl Dx {
    pub fn of(p: &ConvBlockParams) -> Self {
        let groups = power(p.cin.div_ceil(4), 4);
        let rows = BLOCK / QUADS / groups;
        let tiles = p.t.div_ceil(p.stride).div_ceil(rows);
        let across = p.cin.div_ceil(4 * groups);
        let enough = p.blocks() as u32 * tiles * across >= ENOUGH;
        let residues = if p.stride <= 3 && enough { p.stride } else { 1 };
        let turns = if residues == 1 { p.stride.min(p.t) } else { 1 };
        let taps = p.k.div_ceil(p.stride).min(RUN);
        let a_channel = (rows + taps - 1) * QUADS + taps * residues * groups + CONSTANTS / 4;
        let channels = (STAGE / a_channel).max(1).min(p.cout);
        Self { tiles, turns, across, shared: channels * a_channel * FLOAT4 }
    }
}

pub fn fwd_blocks(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    let f = Fwd::of(&p);
    [p.blocks() as u32 * f.tiles * f.across, 1, 1]
}
pub fn dw_blocks(p: &Params) -> [u32; 3] {
    let d = Dw::of(&p.get());
    [d.tiles * d.slices, 1, 1]
}
pub fn bwd_blocks(p: &Params) -> [u32; 3] {
    let d = Dx::of(&p.get());
    [dw_blocks(p)[0] + p.get::<ConvBlockParams>().blocks() as u32 * d.tiles * d.turns * d.across, 1, 1]
}

impl ConvBlockParams {
    /// Elements of `part` of [`FWD`](super::FWD).
    pub fn part_fwd(&self) -> usize {
        // CUDA's tiles, at least one for each block of samples: two sums of each channel and a count. A shader's: three.
        let cuda = self.blocks() * Fwd::of(self).tiles as usize * (2 * self.cout as usize + 1);
        cuda.max(self.groups() as usize * 3 * self.cout as usize)
    }
    /// Elements of `part` of [`POOL_BWD`](super::POOL_BWD).
    pub fn part_pool(&self) -> usize {
        self.blocks() * 2 * self.cout as usize
    }
    /// Elements of `part` of [`BWD`](super::BWD) and [`BWD_W`](super::BWD_W).
    pub fn part_bwd(&self) -> usize {
        let (dw, dx) = (Dw::of(self), Dx::of(self));
        let weights = (self.chunks().max(self.slices() as usize) * self.weights())
            .max(dw.tiles as usize * dw.slices as usize * dw.weights as usize * 4);
        let sums = (self.blocks() * (dx.tiles * dx.turns) as usize).max(self.groups_in() as usize);
        weights + sums * 2 * self.cin as usize
    }
}
