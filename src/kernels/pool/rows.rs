//! Rows of the registry.

use super::fast;
use super::oracle;
use super::params::PoolParams;
use crate::kernel::{Binding, Cost, Cuda, Kernel, Params, SPAN, Twin, spans};

/// Elements of `x`.
fn elements(p: &Params) -> u32 {
    let p: PoolParams = p.get();
    p.batch * p.channels * p.frames
}

/// Workgroups of eight rows.
fn row_groups(p: &Params) -> [u32; 3] {
    let p: PoolParams = p.get();
    [(p.batch * p.channels).div_ceil(8), 1, 1]
}

/// Threads of a CUDA block.
const THREADS: u32 = 256;

/// Longest row that a warp sums alone; longer ones get a block.
const WARP_FRAMES: u32 = 4096;

/// Threads of a CUDA block that share a row: each reads four elements or more.
fn lanes(frames: u32) -> u32 {
    if frames > WARP_FRAMES { THREADS } else { 1 << (frames / 4).clamp(1, 32).ilog2() }
}

const CUDA_FWD: Cuda = Cuda::new(THREADS, |p| {
    let p: PoolParams = p.get();
    [(p.batch * p.channels).div_ceil(THREADS / lanes(p.frames)), 1, 1]
});

const CUDA_BWD: Cuda = Cuda::new(SPAN / 4, |p| spans(elements(p)));

fn cost(p: &Params) -> Cost {
    let p: PoolParams = p.get();
    let rows = p.batch as usize * p.channels as usize;
    Cost::new(rows * p.frames as usize, rows * (p.frames as usize + 1))
}

/// `y[b, c] = Σ_t x[b, c, t] / T`.
pub static MEAN_FWD: Kernel = Kernel {
    name: "pool_mean_fwd",
    bindings: &[Binding::input("x"), Binding::output("y")],
    params: PoolParams::LAYOUT,
    cpu: Twin { f32: fast::mean_fwd, f64: oracle::mean_fwd },
    workgroups: &[row_groups],
    cuda: CUDA_FWD,
    cost,
};

/// `y[b, c] = Σ_{t < n} x[b, c, t] / n` with `n = min(lengths[b], T)`.
pub static MASKED_FWD: Kernel = Kernel {
    name: "pool_masked_fwd",
    bindings: &[Binding::input("x"), Binding::index("lengths"), Binding::output("y")],
    params: PoolParams::LAYOUT,
    cpu: Twin { f32: fast::masked_fwd, f64: oracle::masked_fwd },
    workgroups: &[row_groups],
    cuda: CUDA_FWD,
    cost,
};

/// `dx[b, c, t] = dy[b, c] / T`.
pub static MEAN_BWD: Kernel = Kernel {
    name: "pool_mean_bwd",
    bindings: &[Binding::input("dy"), Binding::output("dx")],
    params: PoolParams::LAYOUT,
    cpu: Twin { f32: fast::mean_bwd, f64: oracle::mean_bwd },
    workgroups: &[|p| spans(elements(p))],
    cuda: CUDA_BWD,
    cost,
};

/// `dx[b, c, t] = dy[b, c] / n` where `t < n = min(lengths[b], T)`, else 0.
pub static MASKED_BWD: Kernel = Kernel {
    name: "pool_masked_bwd",
    bindings: &[Binding::index("lengths"), Binding::input("dy"), Binding::output("dx")],
    params: PoolParams::LAYOUT,
    cpu: Twin { f32: fast::masked_bwd, f64: oracle::masked_bwd },
    workgroups: &[|p| spans(elements(p))],
    cuda: CUDA_BWD,
    cost,
};

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&MEAN_FWD, &MEAN_BWD, &MASKED_FWD, &MASKED_BWD];
