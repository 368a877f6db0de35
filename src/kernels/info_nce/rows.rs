//! The rows of the registry.

use super::params::InfoNceParams;
use super::{anchor, fast, oracle};
use crate::kernel::{Binding, Cost, Cuda, Kernel, Twin};

/// Threads of a block.
const BLOCK: u32 = 256;

/// The loss of each anchor of a block, and its gradient by their cosines.
pub static ROWS: Kernel = Kernel {
    name: "info_nce_rows",
    bindings: &[
        Binding::input("labels"),
        Binding::input("other_labels"),
        Binding::input("upstream"),
        Binding::inout("cosines"),
        Binding::output("losses"),
    ],
    params: InfoNceParams::LAYOUT,
    cpu: Twin { f32: fast::rows, f64: oracle::rows },
    workgroups: &[|p| [p.get::<InfoNceParams>().rows, 1, 1]],
    cuda: Cuda::new(BLOCK, |p| [p.get::<InfoNceParams>().rows, 1, 1]),
    cost: |p| {
        let InfoNceParams { m, rows, .. } = p.get();
        let pairs = m as usize * rows as usize;
        Cost::new(pairs.saturating_mul(50), 2 * pairs + m as usize + 2 * rows as usize)
    },
};

/// The mean of the anchors' losses.
pub static MEAN: Kernel = Kernel {
    name: "info_nce_mean",
    bindings: &[Binding::input("losses"), Binding::output("loss")],
    params: InfoNceParams::LAYOUT,
    cpu: Twin { f32: anchor::mean, f64: anchor::mean },
    workgroups: &[|_| [1, 1, 1]],
    cuda: Cuda::new(BLOCK, |_| [1, 1, 1]),
    cost: |p| {
        let n = p.get::<InfoNceParams>().n as usize;
        Cost::new(n, n + 1)
    },
};

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&ROWS, &MEAN];
