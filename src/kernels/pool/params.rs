//! The scalars of a launch.

use crate::kernel::params;

params! {
    /// Params of every kernel here.
    pub struct PoolParams {
        /// Rows of the batch, B.
        pub batch: u32,
        /// Channels, C.
        pub channels: u32,
        /// Frames, T.
        pub frames: u32,
    }
}
