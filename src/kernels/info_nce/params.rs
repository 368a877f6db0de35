//! What a launch is told.

use crate::kernel::params;

/// The gradient is that of the mean of all losses.
pub const OF_MEAN: u32 = 1;

/// The gradient is that of each loss, times the upstream one.
pub const OF_EACH: u32 = 2;

params! {
    /// Params of both kernels.
    pub struct InfoNceParams {
        /// Anchors of all.
        pub n: u32,
        /// Rows that an anchor is held against.
        pub m: u32,
        /// The first anchor of a block.
        pub first: u32,
        /// Anchors of a block.
        pub rows: u32,
        /// 1 where anchors are of the same rows, and no anchor is held against itself.
        pub own: u32,
        /// Whether cosines become the gradient by them, and of what.
        pub gradient: u32,
        /// How far labels are from one another that count as near, σ.
        pub sigma: f32,
        /// What cosines are divided by, t.
        pub temperature: f32,
    }
}
