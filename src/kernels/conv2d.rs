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
//! The f64 twins are the loops above as they stand. The f32 twins are in `conv_lanes`.

use super::conv_grid::{BIAS_THREADS, THREADS, WEIGHT_THREADS};
use super::conv_lanes::{self, Axis, Geometry};
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Params, Real, Twin, params};

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
        /// 1 when factors may be rounded to tf32, else 0: [`Precision`](super::Precision).
        pub tf32: u32,
    }
}

fn product(n: u32, channels: u32, plane: [u32; 2]) -> usize {
    [channels, plane[0], plane[1]].iter().fold(n as usize, |all, &v| all * v as usize)
}

impl Conv2dParams {
    // Pairs are vertical, then horizontal.
    fn input(&self) -> [u32; 2] {
        [self.h, self.w]
    }
    fn kernel(&self) -> [u32; 2] {
        [self.kh, self.kw]
    }
    fn output(&self) -> [u32; 2] {
        [self.oh, self.ow]
    }
    fn stride(&self) -> [u32; 2] {
        [self.stride_h, self.stride_w]
    }
    fn padding(&self) -> [u32; 2] {
        [self.padding_h, self.padding_w]
    }
    fn dilation(&self) -> [u32; 2] {
        [self.dilation_h, self.dilation_w]
    }

    fn terms(&self) -> usize {
        self.outputs() * product(1, self.cin / self.groups, self.kernel())
    }
    fn inputs(&self) -> usize {
        product(self.batch, self.cin, self.input())
    }
    fn weights(&self) -> usize {
        product(self.cout, self.cin / self.groups, self.kernel())
    }
    fn outputs(&self) -> usize {
        product(self.batch, self.cout, self.output())
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
        Geometry {
            batch: self.batch as usize,
            groups: self.groups as usize,
            cin: (self.cin / self.groups) as usize,
            cout: (self.cout / self.groups) as usize,
            axes: [0, 1].map(|a| Axis {
                input: self.input()[a] as usize,
                output: self.output()[a] as usize,
                kernel: self.kernel()[a] as usize,
                stride: self.stride()[a] as usize,
                padding: self.padding()[a] as usize,
                dilation: self.dilation()[a] as usize,
            }),
            bias: self.bias != 0,
        }
    }

    /// The input position under `tap` of output position `o`, unless it is padding.
    fn under(&self, axis: usize, o: usize, tap: usize) -> Option<usize> {
        let padded = o * self.stride()[axis] as usize + tap * self.dilation()[axis] as usize;
        padded.checked_sub(self.padding()[axis] as usize).filter(|&at| at < self.input()[axis] as usize)
    }

    /// Calls `f` with the places in `y`, `w` and `x` of every term.
    fn each_term(&self, mut f: impl FnMut(usize, usize, usize)) {
        let [cin, cout, groups] = [self.cin, self.cout, self.groups].map(|v| v as usize);
        let [h, w] = self.input().map(|v| v as usize);
        let [kh, kw] = self.kernel().map(|v| v as usize);
        let [oh, ow] = self.output().map(|v| v as usize);
        let (cin_group, cout_group) = (cin / groups, cout / groups);
        for n in 0..self.batch as usize {
            for c in 0..cout {
                for (o, p) in (0..oh).flat_map(|o| (0..ow).map(move |p| (o, p))) {
                    for i in 0..cin_group {
                        let from = c / cout_group * cin_group + i;
                        for k in 0..kh {
                            let Some(row) = self.under(0, o, k) else { continue };
                            for l in 0..kw {
                                let Some(column) = self.under(1, p, l) else { continue };
                                f(
                                    ((n * cout + c) * oh + o) * ow + p,
                                    ((c * cin_group + i) * kh + k) * kw + l,
                                    ((n * cin + from) * h + row) * w + column,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

fn geometry(p: &Params) -> Geometry {
    p.get::<Conv2dParams>().geometry()
}

/// The convolution.
pub static FWD: Kernel = Kernel {
    name: "conv2d_fwd",
    bindings: &[Binding::input("x"), Binding::input("w"), Binding::input("b"), Binding::output("y")],
    params: Conv2dParams::LAYOUT,
    cpu: Twin {
        f32: |args| {
            let p: Conv2dParams = args.params();
            conv_lanes::fwd(args, &p.geometry(), fwd)
        },
        f64: fwd,
    },
    workgroups: &[|p| geometry(p).wgsl_fwd()],
    cuda: Cuda::new(THREADS, |p| geometry(p).cuda_fwd()).shared(|p| geometry(p).cuda_shared(false)),
    cost: |p| {
        let p: Conv2dParams = p.get();
        let bias = if p.bias != 0 { p.cout as usize } else { 0 };
        Cost::new(2 * p.terms(), p.inputs() + p.weights() + bias + p.outputs())
    },
};

fn fwd<F: Real>(args: Args<'_, F>) {
    let p: Conv2dParams = args.params();
    let [x, w, b, y] = args.bufs();
    let (x, w, b, y) = (x.input(), w.input(), b.input(), y.output());
    for (plane, y) in y.chunks_mut(product(1, 1, p.output())).enumerate() {
        y.fill(if p.bias != 0 { b[plane % p.cout as usize] } else { F::zero() });
    }
    p.each_term(|at_y, at_w, at_x| y[at_y] += w[at_w] * x[at_x]);
}

/// The gradient of the input: `dx` at each position sums `w · dy` over the terms it was part of.
pub static BWD_X: Kernel = Kernel {
    name: "conv2d_bwd_x",
    bindings: &[Binding::input("dy"), Binding::input("w"), Binding::output("dx")],
    params: Conv2dParams::LAYOUT,
    cpu: Twin {
        f32: |args| {
            let p: Conv2dParams = args.params();
            conv_lanes::bwd_x(args, &p.geometry(), bwd_x)
        },
        f64: bwd_x,
    },
    workgroups: &[|p| geometry(p).wgsl_bwd_x()],
    cuda: Cuda::new(THREADS, |p| geometry(p).cuda_bwd_x()).shared(|p| geometry(p).cuda_shared(true)),
    cost: backward_cost,
};

fn bwd_x<F: Real>(args: Args<'_, F>) {
    let p: Conv2dParams = args.params();
    let [dy, w, dx] = args.bufs();
    let (dy, w, dx) = (dy.input(), w.input(), dx.output());
    dx.fill(F::zero());
    p.each_term(|at_y, at_w, at_x| dx[at_x] += w[at_w] * dy[at_y]);
}

/// The gradient of the weight: `dw` sums `x · dy` over samples and positions. `part`, of [`Conv2dParams::parts`] elements, is scratch that GPUs
/// keep the sums of each run in.
pub static BWD_W: Kernel = Kernel {
    name: "conv2d_bwd_w",
    bindings: &[Binding::input("x"), Binding::input("dy"), Binding::scratch("part"), Binding::output("dw")],
    params: Conv2dParams::LAYOUT,
    cpu: Twin {
        f32: |args| {
            let p: Conv2dParams = args.params();
            conv_lanes::bwd_w(args, &p.geometry(), bwd_w)
        },
        f64: bwd_w,
    },
    workgroups: &[
        |p| geometry(p).wgsl_bwd_w(p.get::<Conv2dParams>().splits),
        |p| geometry(p).wgsl_bwd_w_2(p.get::<Conv2dParams>().splits),
    ],
    cuda: Cuda::new(WEIGHT_THREADS, |p| geometry(p).cuda_bwd_w(p.get::<Conv2dParams>().splits))
        .shared(|p| geometry(p).cuda_bwd_w_shared())
        .tickets(|p| geometry(p).cuda_weight_tiles() as u32),
    cost: backward_cost,
};

fn bwd_w<F: Real>(args: Args<'_, F>) {
    let p: Conv2dParams = args.params();
    let [x, dy, _, dw] = args.bufs();
    let (x, dy, dw) = (x.input(), dy.input(), dw.output());
    dw.fill(F::zero());
    p.each_term(|at_y, at_w, at_x| dw[at_w] += x[at_x] * dy[at_y]);
}

fn backward_cost(p: &Params) -> Cost {
    let p: Conv2dParams = p.get();
    Cost::new(2 * p.terms(), p.inputs() + p.weights() + p.outputs())
}

/// The gradient of the bias: `db` sums `dy` over samples and positions.
pub static BWD_B: Kernel = Kernel {
    name: "conv2d_bwd_b",
    bindings: &[Binding::input("dy"), Binding::output("db")],
    params: Conv2dParams::LAYOUT,
    cpu: Twin {
        f32: |args| {
            let p: Conv2dParams = args.params();
            conv_lanes::bwd_b(args, product(1, 1, p.output()))
        },
        f64: bwd_b,
    },
    workgroups: &[|p| geometry(p).bwd_b()],
    cuda: Cuda::new(BIAS_THREADS, |p| geometry(p).bwd_b()),
    cost: |p| {
        let p: Conv2dParams = p.get();
        Cost::new(p.outputs(), p.outputs() + p.cout as usize)
    },
};

fn bwd_b(args: Args<'_, f64>) {
    let p: Conv2dParams = args.params();
    let [dy, db] = args.bufs();
    let db = db.output();
    db.fill(0.0);
    for (plane, dy) in dy.input().chunks(product(1, 1, p.output())).enumerate() {
        db[plane % p.cout as usize] += dy.iter().sum::<f64>();
    }
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &BWD_X, &BWD_W, &BWD_B];
