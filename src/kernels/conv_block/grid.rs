//! How the GPU twins cut their work, and the scratch that takes.

use super::params::ConvBlockParams;
use crate::kernel::Params;

/// Threads of a workgroup that owns one channel with each.
const PER_CHANNEL: u32 = 64;
/// Taps that a workgroup of the weight gradient owns.
const RUN: u32 = 8;

/// Workgroups for tiles of `channels`, each of which takes `others`: four channels a tile, or fewer where the
/// launch would have less than 128 workgroups.
fn tiles(channels: u32, others: u32) -> [u32; 3] {
    let enough = |tile: &u32| *tile == 1 || channels.div_ceil(*tile) * others >= 128;
    let tile = [4, 2, 1].into_iter().find(enough).unwrap_or(1);
    [channels.div_ceil(tile) * others, 1, 1]
}

pub fn by_output(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    tiles(p.cout, p.blocks() as u32)
}
pub fn by_input(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    tiles(p.cin, p.blocks() as u32)
}
pub fn by_weight(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    tiles(p.cout, p.chunks() as u32 * p.cin * p.k.div_ceil(RUN))
}
pub fn by_row(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    [p.blocks() as u32 * p.cout, 1, 1]
}
pub fn by_channel(p: &Params) -> [u32; 3] {
    [p.get::<ConvBlockParams>().cout.div_ceil(PER_CHANNEL), 1, 1]
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

/// Workgroups of 256 threads for `weights`, then for `channels`, a thread each.
pub fn by_sum(weights: u32, channels: u32) -> [u32; 3] {
    [weights.div_ceil(256) + channels.div_ceil(256), 1, 1]
}

impl ConvBlockParams {
    /// Elements of `part` of [`FWD`](super::FWD).
    pub fn part_fwd(&self) -> usize {
        // CUDA's tiles, at least one for each block of samples: two sums of each channel and a count.
        self.blocks() * Fwd::of(self).tiles as usize * (2 * self.cout as usize + 1)
    }
    /// Elements of `part` of [`POOL_BWD`](super::POOL_BWD).
    pub fn part_pool(&self) -> usize {
        self.blocks() * 2 * self.cout as usize
    }
    /// Elements of `part` of [`BWD`](super::BWD) and [`BWD_W`](super::BWD_W).
    pub fn part_bwd(&self) -> usize {
        let (dw, dx) = (Dw::of(self), Dx::of(self));
        let weights = (self.chunks() * self.weights())
            .max(dw.tiles as usize * dw.slices as usize * dw.weights as usize * 4);
        weights + self.blocks() * (dx.tiles * dx.turns) as usize * 2 * self.cin as usize
    }
}
