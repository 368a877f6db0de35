//! One-dimensional convolution, and its gradients.
//!
//! PyTorch's convention, a cross-correlation: over the channels `i` of output channel `c`'s group
//!
//! ```text
//! y[n,c,o] = b[c] + Σ_i Σ_k w[c,i,k] · x[n, i, o·stride + k·dilation − padding]
//! ```
//!
//! where `x` is 0 outside its ends. With `M = batch · cout · out · cin/groups · k` terms in all:
//!
//! | buffer    | shape                   |
//! |-----------|-------------------------|
//! | `x`, `dx` | `[batch, cin, t]`       |
//! | `w`, `dw` | `[cout, cin/groups, k]` |
//! | `b`, `db` | `[cout]`                |
//! | `y`, `dy` | `[batch, cout, out]`    |
//!
//! | kernel | flops             | bytes                  | a CPU task owns                          |
//! |--------|-------------------|------------------------|------------------------------------------|
//! | fwd    | 2M                | each buffer once       | 16 (sample, stretch of `y`) pairs        |
//! | bwd_x  | 2M                | each buffer once       | 16 (sample, stretch of `dx`) pairs       |
//! | bwd_w  | 2M                | each buffer once       | a block of channels on a run of stretches|
//! | bwd_b  | batch · cout · out| each buffer once       | one channel                              |
//!
//! Flops are those of the sum. Wide convolutions take fewer on the CPU, where a task owns a block of tiles
//! (`conv::winograd`): their cost counts both.
//!
//! The twins are those of `conv`, where this is a convolution over images one row high.

use super::conv::geometry::{Axis, Geometry};
use super::conv::rows::{self, Convolution};
use crate::kernel::{Kernel, Layout, Precision, Scratch, params};

params! {
    /// Params of every kernel here.
    pub struct Conv1dParams {
        /// Samples.
        pub batch: u32,
        /// Input channels.
        pub cin: u32,
        /// Output channels.
        pub cout: u32,
        /// Workgroups that both split into.
        pub groups: u32,
        /// Input positions.
        pub t: u32,
        /// Taps.
        pub k: u32,
        /// Output positions.
        pub out: u32,
        /// Input positions from one output position to the next.
        pub stride: u32,
        /// Zeros at either end.
        pub padding: u32,
        /// Input positions from one tap to the next.
        pub dilation: u32,
        /// 1 when `b` is a bias; 0 when `w` is bound in its place, not to be read as one.
        pub bias: u32,
        /// Runs of positions that GPUs sum the gradient of the weight in: [`Conv1dParams::runs`].
        pub splits: u32,
        /// The number of a [`Precision`]: 1 when factors may be rounded to tf32, 2 when each term is
        /// to be a product of its own.
        pub tf32: u32,
    }
}

impl Conv1dParams {
    /// How many `splits` suit these shapes.
    #[must_use]
    pub fn runs(&self) -> u32 {
        self.geometry().runs()
    }
    /// Elements of `part` in [`BWD_W`].
    pub fn parts(&self) -> Scratch {
        self.geometry().parts()
    }
}

impl Convolution for Conv1dParams {
    const LAYOUT: Layout = Self::LAYOUT;

    fn geometry(&self) -> Geometry {
        let axis = Axis {
            input: self.t as usize,
            output: self.out as usize,
            kernel: self.k as usize,
            stride: self.stride as usize,
            padding: self.padding as usize,
            dilation: self.dilation as usize,
        };
        Geometry {
            batch: self.batch as usize,
            groups: self.groups as usize,
            cin: (self.cin / self.groups) as usize,
            cout: (self.cout / self.groups) as usize,
            axes: [Axis::ONE, axis],
            bias: self.bias != 0,
            exact: self.tf32 == Precision::Exact as u32,
            splits: self.splits,
        }
    }
}

/// The convolution.
pub static FWD: Kernel = rows::fwd::<Conv1dParams>("conv1d_fwd");

/// The gradient of the input: `dx` at each position sums `w · dy` over the terms it was part of.
pub static BWD_X: Kernel = rows::bwd_x::<Conv1dParams>("conv1d_bwd_x");

/// The gradient of the weight: `dw` sums `x · dy` over samples and positions. `part`, of
/// [`Conv1dParams::parts`] elements, is scratch that GPUs keep the sums of each run in.
pub static BWD_W: Kernel = rows::bwd_w::<Conv1dParams>("conv1d_bwd_w");

/// The gradient of the bias: `db` sums `dy` over samples and positions.
pub static BWD_B: Kernel = rows::bwd_b::<Conv1dParams>("conv1d_bwd_b");

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &BWD_X, &BWD_W, &BWD_B];
