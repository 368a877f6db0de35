//! Rows of the registry.

use super::fast;
use super::oracle;
use super::params::{BLOCK, BatchNormParams};
use crate::kernel::{Binding, Cost, Cuda, Kernel, Params, Twin, spans};

fn per_channel(p: &Params) -> [u32; 3] {
    [p.get::<BatchNormParams>().channels, 1, 1]
}

fn per_split(p: &Params) -> [u32; 3] {
    let p: BatchNormParams = p.get();
    [p.channels * p.splits() as u32, 1, 1]
}

fn per_element(p: &Params) -> [u32; 3] {
    let p: BatchNormParams = p.get();
    spans(p.batch * p.channels * p.inner)
}

/// A block for each split of a group of channels.
const CUDA: Cuda = Cuda::new(BLOCK, |p| {
    let p: BatchNormParams = p.get();
    [p.channels.div_ceil(p.group()) * p.splits() as u32, 1, 1]
});

fn cost(p: &Params, flops: usize, buffers: usize) -> Cost {
    let [b, c, s] = p.get::<BatchNormParams>().dims();
    Cost::new(flops * b * c * s, buffers * b * c * s + 6 * c)
}

/// Mean and squares of each split.
pub static STATS: Kernel = Kernel {
    name: "batch_norm_stats",
    bindings: &[Binding::input("x"), Binding::output("part")],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: fast::stats, f64: oracle::stats },
    workgroups: &[per_split],
    cuda: CUDA,
    cost: |p| cost(p, 5, 1),
};

/// Normalisation by what [`STATS`] found, and the running statistics in place.
pub static TRAIN_FWD: Kernel = Kernel {
    name: "batch_norm_train_fwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("part"),
        Binding::input("gamma"),
        Binding::input("beta"),
        Binding::inout("running_mean"),
        Binding::inout("running_var"),
        Binding::output("y"),
        Binding::output("saved"),
    ],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: fast::train_fwd, f64: oracle::train_fwd },
    workgroups: &[per_split],
    cuda: CUDA,
    cost: |p| cost(p, 4, 2),
};

/// `Σ dy·x̂` and `Σ dy` of each split, in training.
pub static SUMS: Kernel = Kernel {
    name: "batch_norm_sums",
    bindings: &[Binding::input("x"), Binding::input("saved"), Binding::input("dy"), Binding::output("part")],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: fast::sums, f64: oracle::sums },
    workgroups: &[per_split],
    cuda: CUDA,
    cost: |p| cost(p, 6, 2),
};

/// Gradients in training from what [`SUMS`] found: the statistics depend on `x`.
pub static TRAIN_BWD: Kernel = Kernel {
    name: "batch_norm_train_bwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("part"),
        Binding::input("gamma"),
        Binding::input("saved"),
        Binding::input("dy"),
        Binding::output("dx"),
        Binding::output("dgamma"),
        Binding::output("dbeta"),
    ],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: fast::train_bwd, f64: oracle::train_bwd },
    workgroups: &[per_split],
    cuda: CUDA,
    cost: |p| cost(p, 6, 3),
};

/// Normalisation by the running statistics.
pub static EVAL_FWD: Kernel = Kernel {
    name: "batch_norm_eval_fwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("gamma"),
        Binding::input("beta"),
        Binding::input("running_mean"),
        Binding::input("running_var"),
        Binding::output("y"),
    ],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: fast::eval_fwd, f64: oracle::eval_fwd },
    workgroups: &[per_element],
    cuda: CUDA,
    cost: |p| cost(p, 3, 2),
};

/// Gradients in evaluation: the statistics are constants.
pub static EVAL_BWD: Kernel = Kernel {
    name: "batch_norm_eval_bwd",
    bindings: &[
        Binding::input("x"),
        Binding::input("gamma"),
        Binding::input("running_mean"),
        Binding::input("running_var"),
        Binding::input("dy"),
        Binding::output("part"),
        Binding::output("dx"),
        Binding::output("dgamma"),
        Binding::output("dbeta"),
    ],
    params: BatchNormParams::LAYOUT,
    cpu: Twin { f32: fast::eval_bwd, f64: oracle::eval_bwd },
    workgroups: &[per_split, per_channel],
    cuda: CUDA.ticket(),
    cost: |p| cost(p, 6, 3),
};

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&STATS, &TRAIN_FWD, &SUMS, &TRAIN_BWD, &EVAL_FWD, &EVAL_BWD];
