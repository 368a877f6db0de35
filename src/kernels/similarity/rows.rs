//! The rows of the registry.

use super::geometry::{OWN, SQUARE, STEP, TOP_ROWS, Warps, gradients, matrix, pairs};
use super::params::{SimilarityParams, TopKParams};
use super::{fast, oracle};
use crate::kernel::{Binding, Cost, Cuda, Elem, Kernel, Twin};

/// `y_ij` of every pair.
pub static FWD: Kernel = fwd("similarity_fwd", &fwd_bindings(Elem::Real));
/// [`FWD`] of rows stored as f16.
pub static FWD_F16: Kernel = fwd("similarity_fwd_f16", &fwd_bindings(Elem::F16));
/// [`FWD`] of rows stored as bf16.
pub static FWD_BF16: Kernel = fwd("similarity_fwd_bf16", &fwd_bindings(Elem::Bf16));

const fn fwd_bindings(stored: Elem) -> [Binding; 3] {
    [Binding::stored("a", stored), Binding::stored("b", stored), Binding::output("y")]
}

const fn fwd(name: &'static str, bindings: &'static [Binding]) -> Kernel {
    Kernel {
        name,
        bindings,
        params: SimilarityParams::LAYOUT,
        cpu: Twin { f32: fast::fwd, f64: oracle::fwd },
        workgroups: match bindings[0].elem {
            Elem::Bf16 => &[],
            _ => &[|p| matrix(p.get(), false), |p| matrix(p.get(), true)],
        },
        cuda: Cuda::new(256, |p| {
            let p: SimilarityParams = p.get();
            [p.n.div_ceil(SQUARE).saturating_mul(p.m.div_ceil(SQUARE)), 1, 1]
        })
        .shared(match bindings[0].elem {
            // Three stages of both sides' columns, and norms.
            Elem::Real => |_| 4 * (3 * pairs(4, STEP) + 2 * SQUARE),
            // Both sides' panels of 8 chunks, twice, and norms.
            _ => |_| 4 * 8 * 16 * SQUARE + 8 * SQUARE,
        }),
        cost: |p| {
            let [n, m, d] = p.get::<SimilarityParams>().dims();
            Cost::new((n * m).saturating_mul(2 * d), n * m + (n + m) * d)
        },
    }
}

/// `da_i = Σ_j dy_ij ∂y_ij/∂a_i` and `db_j = Σ_i dy_ij ∂y_ij/∂b_j`.
pub static BWD: Kernel = bwd("similarity_bwd", &bwd_bindings(Elem::Real));
/// [`BWD`] of rows stored as f16.
pub static BWD_F16: Kernel = bwd("similarity_bwd_f16", &bwd_bindings(Elem::F16));
/// [`BWD`] of rows stored as bf16.
pub static BWD_BF16: Kernel = bwd("similarity_bwd_bf16", &bwd_bindings(Elem::Bf16));

const fn bwd_bindings(stored: Elem) -> [Binding; 5] {
    [
        Binding::stored("a", stored),
        Binding::stored("b", stored),
        Binding::input("dy"),
        Binding::output("da"),
        Binding::output("db"),
    ]
}

const fn bwd(name: &'static str, bindings: &'static [Binding]) -> Kernel {
    Kernel {
        name,
        bindings,
        params: SimilarityParams::LAYOUT,
        cpu: Twin { f32: fast::bwd, f64: oracle::bwd },
        workgroups: match bindings[0].elem {
            Elem::Bf16 => &[],
            _ => &[|p| gradients(p.get(), false), |p| gradients(p.get(), true)],
        },
        cuda: Cuda::new(256, |p| {
            let p: SimilarityParams = p.get();
            [Warps::of(&p).blocks(&p), p.d.div_ceil(Warps::of(&p).columns()), 1]
        })
        .shared(|p| {
            let p: SimilarityParams = p.get();
            4 * Warps::of(&p).floats(p.kind())
        })
        .tickets(|p| {
            let p: SimilarityParams = p.get();
            Warps::of(&p).blocks(&p)
        }),
        cost: |p| {
            let [n, m, d] = p.get::<SimilarityParams>().dims();
            Cost::new((n * m).saturating_mul(4 * d), n * m + 2 * (n + m) * d)
        },
    }
}

/// The `k` largest similarities, or least distances, of each row of `a` and which rows of `b` they are with.
///
/// `values` and `indices` are `[n, k]`, the best first; of equal ones the lower index is first. What is NaN or infinite in
/// the wrong direction is not among them: where fewer than `k` are left, the rest are NaN, with index `2^32 - 1`.
pub static TOPK: Kernel = Kernel {
    name: "similarity_topk",
    bindings: &[
        Binding::input("a"),
        Binding::input("b"),
        Binding::output("values"),
        Binding::index_output("indices"),
    ],
    params: TopKParams::LAYOUT,
    cpu: Twin { f32: fast::top_k, f64: oracle::top_k },
    workgroups: &[|p| [p.get::<TopKParams>().n.div_ceil(OWN), 1, 1]],
    cuda: Cuda::new(256, |p| [p.get::<TopKParams>().n.div_ceil(TOP_ROWS), 1, 1])
        // Both sides' panels of 8 quads, twice, a tile of keys, norms, and the least of each row.
        .shared(|_| 2 * 8 * 16 * (TOP_ROWS + SQUARE) + 4 * (TOP_ROWS * SQUARE + 2 * TOP_ROWS + SQUARE)),
    cost: |p| {
        let p: TopKParams = p.get();
        let [n, m, d] = p.pairs().dims();
        Cost::new((n * m).saturating_mul(2 * d), 2 * n * p.k as usize + (n + m) * d)
    },
};

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &FWD_F16, &FWD_BF16, &BWD, &BWD_F16, &BWD_BF16, &TOPK];
