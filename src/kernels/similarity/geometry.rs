//! How a launch is cut on a GPU: blocks, warps, stages of shared memory.

use super::params::{Similarity, SimilarityParams};

/// Rows of either side that a workgroup of the WGSL twins owns.
pub const OWN: u32 = 64;

/// Workgroups of one of the two stages of a WGSL twin: of that for rows of whole quads, or of that for the others.
const fn stage(p: &SimilarityParams, whole: bool, workgroups: u32) -> [u32; 3] {
    [if p.d.is_multiple_of(4) == whole { workgroups } else { 0 }, 1, 1]
}

/// [`stage`] of the matrix.
pub const fn matrix(p: SimilarityParams, whole: bool) -> [u32; 3] {
    stage(&p, whole, p.n.div_ceil(OWN).saturating_mul(p.m.div_ceil(OWN)))
}

/// [`stage`] of the gradients.
pub const fn gradients(p: SimilarityParams, whole: bool) -> [u32; 3] {
    stage(&p, whole, p.n.div_ceil(OWN) + p.m.div_ceil(OWN))
}

/// Rows and columns of `y` that a block of the CUDA twin owns.
pub const SQUARE: u32 = 128;
/// Rows of `a` that a block of the CUDA twin of `similarity_topk` owns.
pub const TOP_ROWS: u32 = 64;

/// Columns that the CUDA twins of the matrix and its gradients stage at once.
pub const STEP: u32 = 16;
/// Rows of both sets below which a block of the CUDA twin of `similarity_bwd` owns few of them.
const FEW_ROWS: u64 = 16384;

/// Floats between two columns of so many staged rows.
const fn pitch(rows: u32) -> u32 {
    rows + 4
}

/// Floats of a stage of `k` columns of a tile of pairs: `wm` of eight warps over 32 rows each, the others over 64 columns
/// each.
pub const fn pairs(wm: u32, k: u32) -> u32 {
    k * (pitch(32 * wm) + pitch(64 * (8 / wm)))
}

/// How the eight warps of a block of the CUDA twin of `similarity_bwd` share its work: over rows, columns, and rows of the
/// other set.
pub struct Warps {
    wm: u32,
    wn: u32,
    wk: u32,
}

impl Warps {
    pub fn of(p: &SimilarityParams) -> Self {
        if u64::from(p.n) + u64::from(p.m) < FEW_ROWS {
            Self { wm: 1, wn: 1, wk: 8 }
        } else {
            Self { wm: 4, wn: 2, wk: 1 }
        }
    }

    fn rows(&self) -> u32 {
        32 * self.wm
    }

    pub fn columns(&self) -> u32 {
        64 * self.wn
    }

    pub fn blocks(&self, p: &SimilarityParams) -> u32 {
        p.n.div_ceil(self.rows()) + p.m.div_ceil(self.rows())
    }

    /// Floats of shared memory.
    pub fn floats(&self, kind: Similarity) -> u32 {
        let (rows, columns) = (self.rows(), self.columns());
        let k = if self.wk == 8 { 2 * STEP } else { STEP };
        let shares = if self.wk == 1 { 0 } else { self.wk / 2 * self.wm * self.wn * 2048 };
        if kind == Similarity::Euclidean {
            let (across, k_pairs) = (64 * (8 / self.wm), if self.wm == 1 { STEP / 2 } else { STEP });
            let stage = pairs(self.wm, k_pairs).max(k * pitch(columns)).max(shares.div_ceil(3));
            // Stages, half a tile's coefficients, norms, and sums.
            3 * stage + across / 2 * rows + rows + across + 256
        } else {
            3 * k * (pitch(rows) + pitch(columns)) + shares + 256
        }
    }
}
