//! Two-dimensional convolution, and its gradients.
//!
//! PyTorch's convention, a cross-correlation: over the channels `i` of output channel `c`'s group
//!
//! ```text
//! y[n,c,o,p] = b[c] + Σ_i Σ_k Σ_l w[c,i,k,l] · x[n, i, o·stride₀ + k·dilation₀ − padding₀,
//!                                                      p·stride₁ + l·dilation₁ − padding₁]
//! ```
//!
//! where `x` is 0 outside its edges. With `M = batch · cout · oh · ow · cin/groups · kh · kw` terms:
//!
//! | buffer    | shape                        |
//! |-----------|------------------------------|
//! | `x`, `dx` | `[batch, cin, h, w]`         |
//! | `w`, `dw` | `[cout, cin/groups, kh, kw]` |
//! | `b`, `db` | `[cout]`                     |
//! | `y`, `dy` | `[batch, cout, oh, ow]`      |
//!
//! | kernel | flops                 | bytes            | a CPU task owns                         |
//! |--------|-----------------------|------------------|-----------------------------------------|
//! | fwd    | 2M                    | each buffer once | 16 (sample, tile of `y`) pairs          |
//! | bwd_x  | 2M                    | each buffer once | 16 (sample, tile of `dx`) pairs         |
//! | bwd_w  | 2M                    | each buffer once | a block of channels on a run of tiles   |
//! | bwd_b  | batch · cout · oh · ow| each buffer once | one channel                             |
//!
//! Flops are those of the sum. Wide convolutions take fewer on the CPU, where a task owns a block of tiles
//! (`conv::winograd`): their cost counts both.
//!
//! The twins are those of `conv`.

use super::conv::geometry::{Axis, Geometry};
use super::conv::rows::{self, Convolution};
use crate::kernel::{Kernel, Layout, Precision, Scratch, params};

params! {
    /// Params of every kernel here.
    pub struct Conv2dParams {
        /// Samples.
        pub batch: u32,
        /// Input channels.
        pub cin: u32,
        /// Output channels.
        pub cout: u32,
        /// Workgroups that both split into.
        pub groups: u32,
        /// Input rows.
        pub h: u32,
        /// Input columns.
        pub w: u32,
        /// Taps.
        pub kh: u32,
        /// The same along a row.
        pub kw: u32,
        /// Output rows.
        pub oh: u32,
        /// Output columns.
        pub ow: u32,
        /// Input positions from one output position to the next.
        pub stride_h: u32,
        /// The same along a row.
        pub stride_w: u32,
        /// Zeros at either edge.
        pub padding_h: u32,
        /// The same along a row.
        pub padding_w: u32,
        /// Input positions from one tap to the next.
        pub dilation_h: u32,
        /// The same along a row.
        pub dilation_w: u32,
        /// 1 when `b` is a bias; 0 when `w` is bound in its place, not to be read as one.
        pub bias: u32,
        /// Runs of positions that GPUs sum the gradient of the weight in: [`Conv2dParams::runs`].
        pub splits: u32,
        /// The number of a [`Precision`]: 1 when factors may be rounded to tf32, 2 when each term is
        /// to be a product of its own.
        pub tf32: u32,
    }
}

impl Conv2dParams {
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

impl Convolution for Conv2dParams {
    const LAYOUT: Layout = Self::LAYOUT;

    fn geometry(&self) -> Geometry {
        let vertical = Axis {
            input: self.h as usize,
            output: self.oh as usize,
            kernel: self.kh as usize,
            stride: self.stride_h as usize,
            padding: self.padding_h as usize,
            dilation: self.dilation_h as usize,
        };
        let horizontal = Axis {
            input: self.w as usize,
            output: self.ow as usize,
            kernel: self.kw as usize,
            stride: self.stride_w as usize,
            padding: self.padding_w as usize,
            dilation: self.dilation_w as usize,
        };
        Geometry {
            batch: self.batch as usize,
            groups: self.groups as usize,
            cin: (self.cin / self.groups) as usize,
            cout: (self.cout / self.groups) as usize,
            axes: [vertical, horizontal],
            bias: self.bias != 0,
            exact: self.tf32 == Precision::Exact as u32,
            splits: self.splits,
        }
    }
}

/// The convolution.
pub static FWD: Kernel = rows::fwd::<Conv2dParams>("conv2d_fwd");

/// The gradient of the input: `dx` at each position sums `w · dy` over the terms it was part of.
pub static BWD_X: Kernel = rows::bwd_x::<Conv2dParams>("conv2d_bwd_x");

/// The gradient of the weight: `dw` sums `x · dy` over samples and positions. `part`, of
/// [`Conv2dParams::parts`] elements, is scratch that GPUs keep the sums of each run in.
pub static BWD_W: Kernel = rows::bwd_w::<Conv2dParams>("conv2d_bwd_w");

/// The gradient of the bias: `db` sums `dy` over samples and positions.
pub static BWD_B: Kernel = rows::bwd_b::<Conv2dParams>("conv2d_bwd_b");

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &BWD_X, &BWD_W, &BWD_B];
