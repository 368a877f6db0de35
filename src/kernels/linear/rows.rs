//! Rows of the registry.

use super::fast;
use super::oracle;
use super::params::{LinearParams, WANT_B, WANT_W, WANT_X};
use crate::kernel::{Binding, Cost, Cuda, Kernel, Params, Twin};

/// Most elements of a `dw` that is cut into patches of `PATCH × PATCH`.
const NARROW: u32 = 4096;
const PATCH: u32 = 8;

/// Workgroup tiles along `n`, of 32.
const fn tiles(n: u32) -> u32 {
    n.div_ceil(32)
}

fn fwd_tiles(p: &Params) -> [u32; 3] {
    let p: LinearParams = p.get();
    [tiles(p.batch) * tiles(p.outputs), 1, 1]
}

/// Tiles of `dx`, patches or tiles of `dw`, and runs of `db`.
fn bwd_groups(p: &Params) -> [u32; 3] {
    let p: LinearParams = p.get();
    let of_w = if p.outputs * p.inputs <= NARROW {
        p.outputs.div_ceil(PATCH) * p.inputs.div_ceil(PATCH)
    } else {
        tiles(p.outputs) * tiles(p.inputs)
    };
    let of = |what, n| if p.wants(what) { n } else { 0 };
    let x = of(WANT_X, tiles(p.batch) * tiles(p.inputs));
    // One at least: it sets what is not wanted to 0.
    [(x + of(WANT_W, of_w) + of(WANT_B, tiles(p.outputs))).max(1), 1, 1]
}

/// `y = f(m(x)·wᵀ + b)`.
pub static FWD: Kernel = Kernel {
    name: "linear_fwd",
    bindings: &[
        Binding::index("state"),
        Binding::input("x"),
        Binding::input("w"),
        Binding::input("b"),
        Binding::output("y"),
    ],
    params: LinearParams::LAYOUT,
    cpu: Twin { f32: fast::fwd, f64: oracle::fwd },
    workgroups: &[fwd_tiles],
    cuda: Cuda::new(256, fwd_tiles),
    cost: |p: &Params| {
        let [b, i, o] = p.get::<LinearParams>().dims();
        Cost::new(2 * b * i * o, b * i + o * i + o + b * o)
    },
};

/// `dx = m(dz·w)`, `dw = dzᵀ·m(x)`, `db = Σ_b dz` with `dz = dy·f'(y)`.
pub static BWD: Kernel = Kernel {
    name: "linear_bwd",
    bindings: &[
        Binding::index("state"),
        Binding::input("x"),
        Binding::input("w"),
        Binding::input("y"),
        Binding::input("dy"),
        Binding::output("dx"),
        Binding::output("dw"),
        Binding::output("db"),
    ],
    params: LinearParams::LAYOUT,
    cpu: Twin { f32: fast::bwd, f64: oracle::bwd },
    workgroups: &[bwd_groups],
    cuda: Cuda::new(256, bwd_groups),
    cost: |p: &Params| {
        let p: LinearParams = p.get();
        let [b, i, o] = p.dims();
        let read = b * i + o * i + 2 * b * o;
        let of = |what, flops, elements| {
            if p.wants(what) { Cost::new(flops, elements) } else { Cost::default() }
        };
        Cost::new(2 * b * o, read)
            + of(WANT_X, 2 * b * i * o, b * i)
            + of(WANT_W, 2 * b * i * o, o * i)
            + of(WANT_B, b * o, o)
    },
};

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &BWD];
