//! The scalars of a launch, and how a channel is cut.

use crate::kernel::params;

params! {
    /// Params of every kernel here.
    pub struct BatchNormParams {
        /// Rows of the batch, B.
        pub batch: u32,
        /// Channels, C.
        pub channels: u32,
        /// Values of one channel in one row, S.
        pub inner: u32,
        /// Added to the variance.
        pub eps: f32,
        /// What of the running statistics is replaced in a step, m.
        pub momentum: f32,
        /// Values of a split, L: a multiple of S where S is below [`LINE`].
        pub split: u32,
    }
}

/// Threads of a CUDA block.
pub(super) const BLOCK: u32 = 256;

/// Values that a CUDA block reads at once.
const TILE: u32 = 8 * BLOCK;

/// Most splits of a channel.
const SPLITS: u32 = 256;

/// Elements of a line of memory: a CUDA block owns that many neighbours or more.
pub const LINE: u32 = 32;

impl BatchNormParams {
    /// Params for `x [batch, channels, inner]` of at most 2³² − 1 elements.
    pub fn new([batch, channels, inner]: [u32; 3], eps: f32, momentum: f32) -> Self {
        let mut p = Self { batch, channels, inner, eps, momentum, split: 0 };
        let unit = if inner < LINE { inner } else { TILE };
        p.split = (TILE / p.group()).max((batch * inner).div_ceil(SPLITS)).next_multiple_of(unit);
        p
    }

    /// Channels that a CUDA block owns.
    pub(super) fn group(&self) -> u32 {
        LINE.div_ceil(self.inner).min(self.channels)
    }

    /// Splits of a channel.
    pub fn splits(&self) -> usize {
        (self.batch * self.inner).div_ceil(self.split) as usize
    }

    pub(super) fn dims(&self) -> [usize; 3] {
        [self.batch as usize, self.channels as usize, self.inner as usize]
    }
}
