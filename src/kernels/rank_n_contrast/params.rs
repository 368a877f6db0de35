//! What a launch is told.

use crate::kernel::{Scratch, params};

/// The gradient is that of the mean of all losses.
pub const OF_MEAN: u32 = 1;

/// The gradient is that of each loss, times the upstream one.
pub const OF_EACH: u32 = 2;

params! {
    /// Params of all kernels here.
    pub struct RankNContrastParams {
        /// Rows of all.
        pub n: u32,
        /// The first anchor of a block.
        pub first: u32,
        /// Anchors of a block.
        pub rows: u32,
        /// Whether distances become the gradient by them, and of what.
        pub gradient: u32,
        /// What distances are divided by, t.
        pub temperature: f32,
    }
}

impl RankNContrastParams {
    /// Running sums from either end, and towards it.
    pub(crate) fn sums(&self) -> Scratch {
        let len = 2 * self.rows as usize * self.n as usize;
        Scratch { cuda: len, wgsl: len }
    }
}
