//! The rows of the registry.

use super::geometry::{ROWS, SWEEP, SWEEP_HALF, stages};
use super::params::ContrastiveParams;
use super::{fast, oracle};
use crate::kernel::{Binding, Cost, Cuda, Elem, Kernel, Params, Twin};

/// Bytes that a launch over rows stored as `stored` must move: `rows` elements of them, `others` of four bytes.
const fn bytes(stored: Elem, rows: usize, others: usize) -> u64 {
    let wide = match stored {
        Elem::F16 | Elem::Bf16 => 2,
        _ => 4,
    };
    (wide * rows + 4 * others) as u64
}

/// The mean over all pairs `i < j`.
///
/// `z` is `[n, d]`, `labels` and `weights` `[n]`, `loss` `[1]`, `dz` `[n, d]`: the gradient of `loss` by `z`. `part`, of
/// [`ContrastiveParams::parts`] elements, is scratch that GPUs keep partial sums in.
pub static ALL: Kernel = all("contrastive_all", SWEEP, &all_bindings(Elem::Real));
/// [`ALL`] of rows `z` stored as f16.
pub static ALL_F16: Kernel = all("contrastive_all_f16", SWEEP_HALF, &all_bindings(Elem::F16));
/// [`ALL`] of rows `z` stored as bf16.
pub static ALL_BF16: Kernel = all("contrastive_all_bf16", SWEEP_HALF, &all_bindings(Elem::Bf16));

const fn all_bindings(stored: Elem) -> [Binding; 6] {
    [
        Binding::stored("z", stored),
        Binding::input("labels"),
        Binding::input("weights"),
        Binding::output("loss"),
        Binding::output("dz"),
        Binding::scratch("part"),
    ]
}

const fn all(name: &'static str, sweep: Cuda, bindings: &'static [Binding]) -> Kernel {
    Kernel {
        name,
        bindings,
        params: ContrastiveParams::LAYOUT,
        cpu: Twin { f32: fast::all, f64: oracle::all },
        workgroups: stages(bindings[0].elem),
        cuda: sweep,
        cost: match bindings[0].elem {
            Elem::Real => |p| all_cost(p, Elem::Real),
            _ => |p| all_cost(p, Elem::F16),
        },
    }
}

fn all_cost(p: &Params, stored: Elem) -> Cost {
    let ContrastiveParams { n, d, .. } = p.get();
    let (n, d) = (n as usize, d as usize);
    let flops = (n * n.saturating_sub(1) / 2).saturating_mul(7 * d + 8);
    Cost { bytes: bytes(stored, n * d, n * d + n + 1), ..Cost::new(flops, 0) }
}

/// Threads of a block of the CUDA twin of [`HALVES`].
const BLOCK_HALVES: u32 = 256;

/// The mean over `m` disjoint pairs of rows.
///
/// `z` is `[n, d]`, `labels` and `weights` `[n]`, `pairing` `[m, 2]` row indices, `loss` `[1]`, `dz` `[n, d]`. A row in
/// no pair has gradient 0. An index that is no row, or comes twice, makes the loss NaN. `part`, of
/// [`ContrastiveParams::halves_parts`] elements, is scratch.
pub static HALVES: Kernel = Kernel {
    name: "contrastive_halves",
    bindings: &[
        Binding::input("z"),
        Binding::input("labels"),
        Binding::input("weights"),
        Binding::index("pairing"),
        Binding::output("loss"),
        Binding::output("dz"),
        Binding::scratch("part"),
    ],
    params: ContrastiveParams::LAYOUT,
    cpu: Twin { f32: oracle::halves, f64: oracle::halves },
    workgroups: &[
        |p| [p.get::<ContrastiveParams>().n.div_ceil(ROWS), 1, 1],
        |p| [u32::from(p.get::<ContrastiveParams>().n > ROWS), 1, 1],
    ],
    cuda: Cuda::new(BLOCK_HALVES, |p| [p.get::<ContrastiveParams>().n.div_ceil(ROWS), 1, 1]).ticket(),
    cost: |p| {
        let ContrastiveParams { n, m, d, .. } = p.get();
        let (n, m, d) = (n as usize, m as usize, d as usize);
        Cost::new(m * (7 * d + 8), 2 * n * d + n + 2 * m + 1)
    },
};

/// The mean over all `n·m` pairs of a row of `z` and a row of `others`.
///
/// `z` is `[n, d]`, `labels_z` and `weights_z` `[n]`, `others` `[m, d]`, `labels_o` and `weights_o` `[m]`, `loss` `[1]`,
/// `dz` `[n, d]`, `dothers` `[m, d]`.
/// `part`, of [`ContrastiveParams::parts`] elements, is scratch.
pub static CROSS: Kernel = cross("contrastive_cross", SWEEP, &cross_bindings(Elem::Real));
/// [`CROSS`] of rows `z` and `others` stored as f16.
pub static CROSS_F16: Kernel = cross("contrastive_cross_f16", SWEEP_HALF, &cross_bindings(Elem::F16));
/// [`CROSS`] of rows `z` and `others` stored as bf16.
pub static CROSS_BF16: Kernel = cross("contrastive_cross_bf16", SWEEP_HALF, &cross_bindings(Elem::Bf16));

const fn cross_bindings(stored: Elem) -> [Binding; 10] {
    [
        Binding::stored("z", stored),
        Binding::input("labels_z"),
        Binding::input("weights_z"),
        Binding::stored("others", stored),
        Binding::input("labels_o"),
        Binding::input("weights_o"),
        Binding::output("loss"),
        Binding::output("dz"),
        Binding::output("dothers"),
        Binding::scratch("part"),
    ]
}

const fn cross(name: &'static str, sweep: Cuda, bindings: &'static [Binding]) -> Kernel {
    Kernel {
        name,
        bindings,
        params: ContrastiveParams::LAYOUT,
        cpu: Twin { f32: fast::cross, f64: oracle::cross },
        workgroups: stages(bindings[0].elem),
        cuda: sweep,
        cost: match bindings[0].elem {
            Elem::Real => |p| cross_cost(p, Elem::Real),
            _ => |p| cross_cost(p, Elem::F16),
        },
    }
}

fn cross_cost(p: &Params, stored: Elem) -> Cost {
    let ContrastiveParams { n, m, d, .. } = p.get();
    let (n, m, d) = (n as usize, m as usize, d as usize);
    let flops = (n * m).saturating_mul(7 * d + 8);
    Cost { bytes: bytes(stored, (n + m) * d, (n + m) * (d + 1) + 1), ..Cost::new(flops, 0) }
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&ALL, &ALL_F16, &ALL_BF16, &HALVES, &CROSS, &CROSS_F16, &CROSS_BF16];

#[cfg(test)]
mod tests {
    use super::{ALL, ContrastiveParams, Params};
    use crate::kernels::contrastive::geometry::STAGES;
    use crate::kernels::contrastive::params::Metric;
    use crate::kernels::contrastive::schedule::{block, block_rows};
    use crate::kernels::contrastive::side::side_len;
    use crate::kernels::pairs::{TILE, row_len};

    /// N·D far beyond 2^32: nothing wraps, and every offset is that of plain arithmetic.
    #[test]
    fn sizes_beyond_32_bits_do_not_wrap() {
        let (n, d) = (1u32 << 28, 1u32 << 10);
        let (rows, columns) = (n as usize, d as usize);
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let (margin, tau, weight, grad_scale) = (0.5, 0.0, 1.0, 1.0);
            let p = ContrastiveParams {
                n,
                m: 0,
                d,
                metric: metric as u32,
                margin,
                tau,
                weight,
                weighted: 0,
                grad_scale,
            };
            let of = |rows: usize| 4 * (1 + rows + rows / 64 * (1 + columns / 4 + 8)) + 2 * rows * columns;
            assert_eq!(p.parts().wgsl, of(rows));
            let both = ContrastiveParams { m: n, weighted: 3, ..p };
            assert_eq!(both.parts().wgsl, of(2 * rows));
            let params = Params::new(&p);
            assert_eq!((ALL.cost)(&params).bytes, 4 * (2 * (1u64 << 38) + (1 << 28) + 1));
            assert!((ALL.cost)(&params).flops > 1 << 62);
            let groups = STAGES[2](&Params::new(&both));
            assert_eq!(groups, [2 * 8 * (n / 64), 1, 1]);
        }
        // A few rows of very many columns: their copies and sums do not fit 32 bits.
        let p = ContrastiveParams { n: 64, m: 0, d: 1 << 30, ..bytemuck::Zeroable::zeroed() };
        assert_eq!(p.parts().wgsl, 4 * (1 + 64 + 1 + (1 << 28) + (1 << 23)) + (2 << 36));
        let of_tiles = rows.div_ceil(TILE) * (row_len(columns) + 6);
        assert_eq!(side_len(rows, columns), rows * (columns + 2 * row_len(columns) + 7) + of_tiles);
        assert!(side_len(rows, columns) > 1 << 39);
        let count = rows.div_ceil(block_rows(rows));
        assert_eq!(block(rows, count - 1).end, rows);
        assert_eq!((0..count).map(|b| block(rows, b).len()).sum::<usize>(), rows);
    }
}
