//! The scalars of a launch.

use crate::kernel::params;

params! {
    /// Params of both kernels.
    pub struct LinearParams {
        /// Rows, B.
        pub batch: u32,
        /// Elements of an input row, I.
        pub inputs: u32,
        /// Elements of an output row, O.
        pub outputs: u32,
        /// [`IDENTITY`], [`RELU`] or [`SIGMOID`].
        pub activation: u32,
        /// 1 where a bias is added, else 0.
        pub bias: u32,
        /// Gradients to write: the sum of [`WANT_X`], [`WANT_W`] and [`WANT_B`].
        pub wanted: u32,
        /// As [`crate::kernels::dropout::DropoutParams`]; 0 where nothing is dropped.
        pub threshold: u32,
        /// As [`crate::kernels::dropout::DropoutParams`].
        pub scale: f32,
        /// As [`crate::kernels::dropout::DropoutParams`].
        pub stream: u32,
    }
}

/// No activation.
pub const IDENTITY: u32 = 0;
/// `max(0, z)`.
pub const RELU: u32 = 1;
/// `1 / (1 + exp(−z))`.
pub const SIGMOID: u32 = 2;

/// `dx` is written.
pub const WANT_X: u32 = 1;
/// `dw` is written.
pub const WANT_W: u32 = 2;
/// `db` is written.
pub const WANT_B: u32 = 4;

/// Rows of a batch that a sum over it takes at once.
pub const BLOCK: usize = 64;

impl LinearParams {
    pub(super) fn dims(&self) -> [usize; 3] {
        [self.batch as usize, self.inputs as usize, self.outputs as usize]
    }

    pub(super) fn wants(&self, what: u32) -> bool {
        self.wanted & what != 0
    }
}
