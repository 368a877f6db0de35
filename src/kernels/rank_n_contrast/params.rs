//! What a launch is told.

use crate::kernel::{Scratch, params};

params! {
    /// Params of all kernels here.
    pub struct RankNContrastParams {
        /// Rows of all.
        pub n: u32,
        /// The first anchor of a block.
        pub first: u32,
        /// Anchors of a block.
        pub rows: u32,
        /// 1 where distances become the gradient by them.
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
