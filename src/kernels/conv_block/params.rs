//! The params of every kernel here, and what they say about sizes.

use crate::kernel::{Cost, Params, params};
use crate::simd::LANES;

params! {
    /// Params of every kernel here; those of one feature map use `cout` and `tout`.
    pub struct ConvBlockParams {
        /// Samples, B.
        pub batch: u32,
        /// Input channels.
        pub cin: u32,
        /// Input frames, T.
        pub t: u32,
        /// Output channels, C.
        pub cout: u32,
        /// Output frames: (T − K)/stride + 1.
        pub tout: u32,
        /// Taps.
        pub k: u32,
        /// Stride.
        pub stride: u32,
        /// 1 when the input is another layer's `y`, read through its `norm` and ReLU; pooling: 1 when
        /// `lengths` say how many frames are valid.
        pub affine: u32,
        /// 1 when `norm` comes from the batch, 0 when from the running statistics.
        pub train: u32,
        /// Added to the variance.
        pub eps: f32,
        /// Share of the batch in the running statistics.
        pub momentum: f32,
    }
}

/// Most partial weight gradients: runs of blocks that one thread adds up.
const CHUNKS: usize = 16;

impl ConvBlockParams {
    /// Blocks of sixteen samples.
    pub fn blocks(&self) -> usize {
        (self.batch as usize).div_ceil(LANES)
    }
    /// Blocks per partial weight gradient; depends on the batch alone.
    pub(super) fn chunk(&self) -> usize {
        self.blocks().div_ceil(CHUNKS)
    }
    /// Partial weight gradients.
    pub fn chunks(&self) -> usize {
        self.blocks().div_ceil(self.chunk())
    }
    /// Weights.
    pub fn weights(&self) -> usize {
        self.cout as usize * self.terms()
    }
    /// Weights of an output channel: the terms of each sum.
    pub(super) fn terms(&self) -> usize {
        self.cin as usize * self.k as usize
    }
    /// Samples in block `i`.
    pub(super) fn lanes(&self, i: usize) -> usize {
        (self.batch as usize - i * LANES).min(LANES)
    }
    /// 1 in lanes that hold a sample of block `i`, else 0.
    pub(super) fn mask(&self, i: usize) -> [f32; LANES] {
        std::array::from_fn(|l| f32::from(u8::from(l < self.lanes(i))))
    }
    /// Elements of the input and of the output per sample.
    pub(super) fn sample(&self) -> (usize, usize) {
        (self.cin as usize * self.t as usize, self.cout as usize * self.tout as usize)
    }
    /// The cost of a launch: `flops` of the multiply-adds of the convolution, and how often it moves input and output.
    pub(super) fn cost(p: &Params, flops: impl Fn(usize) -> usize, x: usize, y: usize) -> Cost {
        let p: Self = p.get();
        let b = p.batch as usize;
        let (sx, sy) = p.sample();
        Cost::new(flops(b * sy * p.terms()), b * (x * sx + y * sy) + p.weights())
    }
}
