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
//! The f64 twins are the loops above as they stand. The f32 twins are in `conv_lanes`, where this
//! is a convolution over images one row high.

use super::conv_grid::{BIAS_THREADS, THREADS, WEIGHT_THREADS};
use super::conv_lanes::{self, Axis, Geometry};
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Params, Real, Twin, params};

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
        /// 1 when factors may be rounded to tf32, else 0: [`Precision`](super::Precision).
        pub tf32: u32,
    }
}

impl Conv1dParams {
    fn terms(&self) -> usize {
        self.outputs() * (self.cin / self.groups * self.k) as usize
    }
    fn inputs(&self) -> usize {
        self.batch as usize * self.cin as usize * self.t as usize
    }
    fn weights(&self) -> usize {
        self.cout as usize * (self.cin / self.groups * self.k) as usize
    }
    fn outputs(&self) -> usize {
        self.batch as usize * self.cout as usize * self.out as usize
    }

    /// How many `splits` suit these shapes.
    #[must_use]
    pub fn runs(&self) -> u32 {
        self.geometry().splits()
    }
    /// Elements of `part` in [`BWD_W`].
    pub fn parts(&self) -> usize {
        self.geometry().parts(self.splits)
    }

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
        }
    }

    /// Calls `f` with the places in `y`, `w` and `x` of every term.
    fn each_term(&self, mut f: impl FnMut(usize, usize, usize)) {
        let [cin, cout, groups] = [self.cin, self.cout, self.groups].map(|v| v as usize);
        let [t, taps, out] = [self.t, self.k, self.out].map(|v| v as usize);
        let [stride, padding, dilation] = [self.stride, self.padding, self.dilation].map(|v| v as usize);
        let (cin_group, cout_group) = (cin / groups, cout / groups);
        for n in 0..self.batch as usize {
            for c in 0..cout {
                for o in 0..out {
                    for i in 0..cin_group {
                        for k in 0..taps {
                            let padded = o * stride + k * dilation;
                            if padded < padding || padded - padding >= t {
                                continue;
                            }
                            let from = c / cout_group * cin_group + i;
                            f(
                                (n * cout + c) * out + o,
                                (c * cin_group + i) * taps + k,
                                (n * cin + from) * t + padded - padding,
                            );
                        }
                    }
                }
            }
        }
    }
}

fn geometry(p: &Params) -> Geometry {
    p.get::<Conv1dParams>().geometry()
}

/// The convolution.
pub static FWD: Kernel = Kernel {
    name: "conv1d_fwd",
    bindings: &[Binding::input("x"), Binding::input("w"), Binding::input("b"), Binding::output("y")],
    params: Conv1dParams::LAYOUT,
    cpu: Twin {
        f32: |args| {
            let p: Conv1dParams = args.params();
            conv_lanes::fwd(args, &p.geometry(), fwd)
        },
        f64: fwd,
    },
    workgroups: &[|p| geometry(p).wgsl_fwd()],
    cuda: Cuda::new(THREADS, |p| geometry(p).cuda_fwd()).shared(|p| geometry(p).cuda_shared(false)),
    cost: |p| {
        let p: Conv1dParams = p.get();
        let bias = if p.bias != 0 { p.cout as usize } else { 0 };
        Cost::new(2 * p.terms(), p.inputs() + p.weights() + bias + p.outputs())
    },
};

fn fwd<F: Real>(args: Args<'_, F>) {
    let p: Conv1dParams = args.params();
    let [x, w, b, y] = args.bufs();
    let (x, w, b, y) = (x.input(), w.input(), b.input(), y.output());
    for (row, y) in y.chunks_mut(p.out as usize).enumerate() {
        y.fill(if p.bias != 0 { b[row % p.cout as usize] } else { F::zero() });
    }
    p.each_term(|at_y, at_w, at_x| y[at_y] += w[at_w] * x[at_x]);
}

/// The gradient of the input: `dx` at each position sums `w · dy` over the terms it was part of.
pub static BWD_X: Kernel = Kernel {
    name: "conv1d_bwd_x",
    bindings: &[Binding::input("dy"), Binding::input("w"), Binding::output("dx")],
    params: Conv1dParams::LAYOUT,
    cpu: Twin {
        f32: |args| {
            let p: Conv1dParams = args.params();
            conv_lanes::bwd_x(args, &p.geometry(), bwd_x)
        },
        f64: bwd_x,
    },
    workgroups: &[|p| geometry(p).wgsl_bwd_x()],
    cuda: Cuda::new(THREADS, |p| geometry(p).cuda_bwd_x()).shared(|p| geometry(p).cuda_shared(true)),
    cost: backward_cost,
};

fn bwd_x<F: Real>(args: Args<'_, F>) {
    let p: Conv1dParams = args.params();
    let [dy, w, dx] = args.bufs();
    let (dy, w, dx) = (dy.input(), w.input(), dx.output());
    dx.fill(F::zero());
    p.each_term(|at_y, at_w, at_x| dx[at_x] += w[at_w] * dy[at_y]);
}

/// The gradient of the weight: `dw` sums `x · dy` over samples and positions. `part`, of [`Conv1dParams::parts`] elements, is scratch that GPUs
/// keep the sums of each run in.
pub static BWD_W: Kernel = Kernel {
    name: "conv1d_bwd_w",
    bindings: &[Binding::input("x"), Binding::input("dy"), Binding::scratch("part"), Binding::output("dw")],
    params: Conv1dParams::LAYOUT,
    cpu: Twin {
        f32: |args| {
            let p: Conv1dParams = args.params();
            conv_lanes::bwd_w(args, &p.geometry(), bwd_w)
        },
        f64: bwd_w,
    },
    workgroups: &[
        |p| geometry(p).wgsl_bwd_w(p.get::<Conv1dParams>().splits),
        |p| geometry(p).wgsl_bwd_w_2(p.get::<Conv1dParams>().splits),
    ],
    cuda: Cuda::new(WEIGHT_THREADS, |p| geometry(p).cuda_bwd_w(p.get::<Conv1dParams>().splits))
        .shared(|p| geometry(p).cuda_bwd_w_shared())
        .tickets(|p| geometry(p).cuda_weight_tiles() as u32),
    cost: backward_cost,
};

fn bwd_w<F: Real>(args: Args<'_, F>) {
    let p: Conv1dParams = args.params();
    let [x, dy, _, dw] = args.bufs();
    let (x, dy, dw) = (x.input(), dy.input(), dw.output());
    dw.fill(F::zero());
    p.each_term(|at_y, at_w, at_x| dw[at_w] += x[at_x] * dy[at_y]);
}

fn backward_cost(p: &Params) -> Cost {
    let p: Conv1dParams = p.get();
    Cost::new(2 * p.terms(), p.inputs() + p.weights() + p.outputs())
}

/// The gradient of the bias: `db` sums `dy` over samples and positions.
pub static BWD_B: Kernel = Kernel {
    name: "conv1d_bwd_b",
    bindings: &[Binding::input("dy"), Binding::output("db")],
    params: Conv1dParams::LAYOUT,
    cpu: Twin {
        f32: |args| {
            let p: Conv1dParams = args.params();
            conv_lanes::bwd_b(args, p.out as usize)
        },
        f64: bwd_b,
    },
    workgroups: &[|p| geometry(p).bwd_b()],
    cuda: Cuda::new(BIAS_THREADS, |p| geometry(p).bwd_b()),
    cost: |p| {
        let p: Conv1dParams = p.get();
        Cost::new(p.outputs(), p.outputs() + p.cout as usize)
    },
};

fn bwd_b(args: Args<'_, f64>) {
    let p: Conv1dParams = args.params();
    let [dy, db] = args.bufs();
    let db = db.output();
    db.fill(0.0);
    for (row, dy) in dy.input().chunks(p.out as usize).enumerate() {
        db[row % p.cout as usize] += dy.iter().sum::<f64>();
    }
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &BWD_X, &BWD_W, &BWD_B];
