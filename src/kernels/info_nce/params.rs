//! What a launch is told.

use crate::kernel::params;

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
        /// 1 where cosines become the gradient by them.
        pub gradient: u32,
        /// How far labels are from one another that count as near, σ.
        pub sigma: f32,
        /// What cosines are divided by, t.
        pub temperature: f32,
    }
}
