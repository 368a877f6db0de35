//! How a launch is cut on a GPU: tiles, slices, blocks, and the scratch that they keep partial sums in.

use super::params::ContrastiveParams;
use crate::kernel::{Cuda, Elem, Params, Scratch, Workgroups};

/// Rows of a workgroup of the WGSL twins that gives each row eight threads, and of a block of the CUDA twin of
/// `contrastive_halves`.
pub const ROWS: u32 = 32;

/// How the CUDA sweep is cut, as in `kernels/sweep.cuh`, whose names these are.
struct Cut {
    /// Rows that a block owns.
    own: u32,
    /// Tiles of a round.
    tiles: u32,
    slices: u32,
    /// Blocks over the rows of both sets, and over the columns.
    blocks: [u32; 2],
}

impl Cut {
    const BLOCK: u32 = 128;
    /// Rows of a tile, columns of a chunk.
    const TILE: u32 = 32;
    const CHUNK: u32 = 128;
    const ENOUGH: u32 = 768;
    const SLICES: u32 = 8;
    const MANY: u64 = 8192;

    fn of(ContrastiveParams { n, m, d, .. }: ContrastiveParams) -> Self {
        let many = u64::from(n) + u64::from(m) >= Self::MANY;
        let (own, tiles) = if many { (64, 1) } else { (32, 2) };
        let rounds = n.max(m).div_ceil(Self::TILE * tiles);
        let blocks = [n.div_ceil(own) + m.div_ceil(own), d.div_ceil(Self::CHUNK)];
        let enough = Self::ENOUGH / blocks[0].saturating_mul(blocks[1]).max(1);
        Self { own, tiles, slices: enough.clamp(1, Self::SLICES.min(rounds.div_ceil(2)).max(1)), blocks }
    }

    /// Bytes of shared memory: the block's rows, two rounds of tiles or what goes out through them, and what is known of
    /// each row.
    fn shared(&self, d: u32, half: bool) -> u32 {
        let columns = if d <= 32 && !half {
            32
        } else if d <= 64 {
            64
        } else {
            Self::CHUNK
        };
        let row = if half { 2 * columns } else { 4 * columns + 16 };
        let out = Self::BLOCK / 2 * (4 * if d <= 32 { 32 } else { columns } + 16);
        self.own * row + (2 * Self::TILE * self.tiles * row).max(out) + 5 * 64 * 4
    }

    /// Elements of `part`: a loss for each block, then the slices' parts of the gradients.
    fn parts(&self, ContrastiveParams { n, m, d, .. }: ContrastiveParams) -> usize {
        let blocks = self.blocks.map(|count| count as usize).iter().product::<usize>();
        let losses = (blocks * self.slices as usize).next_multiple_of(4);
        let rows = n as usize + m as usize;
        losses + if self.slices > 1 { self.slices as usize * rows * d as usize } else { 0 }
    }
}

/// The CUDA launch over all pairs, or across two sets.
const fn sweep(shared: fn(&Params) -> u32) -> Cuda {
    Cuda::new(Cut::BLOCK, |p| {
        let Cut { blocks: [x, y], slices, .. } = Cut::of(p.get());
        [x, y, slices]
    })
    .shared(shared)
    .tickets(|p| {
        let Cut { blocks: [x, y], slices, .. } = Cut::of(p.get());
        1 + if slices > 1 { x * y } else { 0 }
    })
}

/// That of f32 rows.
pub const SWEEP: Cuda = sweep(|p| Cut::of(p.get()).shared(p.get::<ContrastiveParams>().d, false));
/// That of rows stored in 16 bits.
pub const SWEEP_HALF: Cuda = sweep(|p| Cut::of(p.get()).shared(p.get::<ContrastiveParams>().d, true));

/// How the WGSL sweep is cut, as in `shaders/contrastive.wgsl`, whose names these are.
struct Sweep {
    /// Tiles of rows that a workgroup owns, of both sides; of columns of the gradients.
    own_tiles: u32,
    blocks: u32,
    /// Of the rows on the other side of the pairs.
    slices: u32,
    /// Whether tiles have bounds.
    bounded: bool,
}

impl Sweep {
    const OWN: u32 = 64;
    const TILE: u32 = 64;
    const OWN_COLUMNS: u32 = 128;
    /// Workgroups below which the rows on the other side are cut into slices.
    const ENOUGH: u32 = 256;
    /// Below so many columns, times the longer side over the shorter, rows are not sorted by label.
    const SORT_COST: f32 = 8.0;
    /// Tiles of a slice from which on they have bounds.
    const BOUNDED: u32 = 4;

    fn of(ContrastiveParams { n, m, d, .. }: ContrastiveParams) -> Self {
        let own_tiles = n.div_ceil(Self::OWN) + m.div_ceil(Self::OWN);
        let blocks = d.div_ceil(Self::OWN_COLUMNS);
        let tiles = n.max(m).div_ceil(Self::TILE);
        let slices = (Self::ENOUGH / own_tiles.saturating_mul(blocks)).clamp(1, tiles.max(1));
        let fewest = if m == 0 { n } else { n.min(m) };
        let sorted = Self::SORT_COST * n.max(m) as f32 <= fewest as f32 * d as f32;
        Self { own_tiles, blocks, slices, bounded: sorted && tiles.div_ceil(slices) >= Self::BOUNDED }
    }

    fn workgroups(&self) -> u32 {
        self.own_tiles.saturating_mul(self.blocks).saturating_mul(self.slices)
    }

    /// Elements of `part`, four for each quad that `shaders/contrastive.wgsl` lists.
    fn parts(&self, ContrastiveParams { n, m, d, .. }: ContrastiveParams) -> usize {
        let rows = n as usize + m as usize;
        let (copies, quads) = (1 + self.slices as usize, d.div_ceil(4) as usize);
        4 * (1
            + rows
            + self.own_tiles as usize * (1 + quads)
            + self.workgroups() as usize
            + copies * rows * quads)
    }
}

impl ContrastiveParams {
    /// Elements of `part` in the rows over all pairs and across two sets: in WGSL copies of the rows, what is known of them and
    /// of their tiles, a loss for each workgroup, and each slice's part of the gradients; in CUDA a loss for each block and
    /// slice, and the slices' parts of the gradients.
    pub fn parts(&self) -> Scratch {
        Scratch { cuda: Cut::of(*self).parts(*self), wgsl: Sweep::of(*self).parts(*self) }
    }

    /// Elements of `part` in the row over halves.
    pub fn halves_parts(&self) -> usize {
        self.n.div_ceil(ROWS) as usize
    }

    /// Workgroups before and after the WGSL sweep: those that have rows, and one for the weights or the losses.
    fn of_rows(&self) -> u32 {
        self.n.saturating_add(self.m).div_ceil(ROWS) + 1
    }
}

/// The stages of the sweep in WGSL: copies of the rows; bounds of their tiles, where a slice has many; the sweep; the sums.
pub const STAGES: &[Workgroups] = &[
    |p| [p.get::<ContrastiveParams>().of_rows(), 1, 1],
    |p| {
        let sweep = Sweep::of(p.get());
        [if sweep.bounded { sweep.own_tiles } else { 0 }, 1, 1]
    },
    |p| [Sweep::of(p.get()).workgroups(), 1, 1],
    |p| [p.get::<ContrastiveParams>().of_rows(), 1, 1],
];

/// [`STAGES`]; none for bf16, which WGSL has not.
pub const fn stages(stored: Elem) -> &'static [Workgroups] {
    match stored {
        Elem::Bf16 => &[],
        _ => STAGES,
    }
}
