//! The rows of the registry.

use super::params::RankNContrastParams;
use super::{anchor, fast, oracle};
use crate::kernel::{Binding, Cost, Cuda, Kernel, Twin};

/// Threads of a block.
const BLOCK: u32 = 256;

/// Rows in the order of their labels.
pub static ORDER: Kernel = Kernel {
    name: "rank_n_contrast_order",
    bindings: &[
        Binding::input("labels"),
        Binding::index_output("order"),
        Binding::index_output("ranks"),
        Binding::output("sorted"),
    ],
    params: RankNContrastParams::LAYOUT,
    cpu: Twin { f32: anchor::by_label, f64: anchor::by_label },
    workgroups: &[|p| [p.get::<RankNContrastParams>().n.div_ceil(BLOCK), 1, 1]],
    cuda: Cuda::new(BLOCK, |p| [p.get::<RankNContrastParams>().n.div_ceil(BLOCK), 1, 1]),
    cost: |p| {
        let n = p.get::<RankNContrastParams>().n as usize;
        Cost::new(n.saturating_mul(n), 4 * n)
    },
};

/// The loss of each anchor of a block, and its gradient by their distances.
pub static ROWS: Kernel = Kernel {
    name: "rank_n_contrast_rows",
    bindings: &[
        Binding::index("order"),
        Binding::index("ranks"),
        Binding::input("sorted"),
        Binding::input("upstream"),
        Binding::inout("distances"),
        Binding::output("losses"),
        Binding::scratch("sums"),
    ],
    params: RankNContrastParams::LAYOUT,
    cpu: Twin { f32: fast::rows, f64: oracle::rows },
    workgroups: &[|p| [p.get::<RankNContrastParams>().rows, 1, 1]],
    cuda: Cuda::new(BLOCK, |p| [p.get::<RankNContrastParams>().rows, 1, 1]),
    cost: |p| {
        let RankNContrastParams { n, rows, .. } = p.get();
        let pairs = n as usize * rows as usize;
        Cost::new(pairs.saturating_mul(60), 2 * pairs + 3 * n as usize + rows as usize)
    },
};

/// The mean of the anchors' losses.
pub static SUM: Kernel = Kernel {
    name: "rank_n_contrast_sum",
    bindings: &[Binding::input("losses"), Binding::output("loss")],
    params: RankNContrastParams::LAYOUT,
    cpu: Twin { f32: anchor::mean, f64: anchor::mean },
    workgroups: &[|_| [1, 1, 1]],
    cuda: Cuda::new(BLOCK, |_| [1, 1, 1]),
    cost: |p| {
        let n = p.get::<RankNContrastParams>().n as usize;
        Cost::new(n, n + 1)
    },
};

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&ORDER, &ROWS, &SUM];
