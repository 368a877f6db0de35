//! The rows of this stem.

use super::grid::{self, BLOCK, Dw, Dx, Fwd};
use super::params::ConvBlockParams;
use super::{fast, oracle};
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Params, Twin, Workgroups};

const fn kernel<const N: usize>(
    name: &'static str,
    bindings: &'static [Binding; N],
    f32: fn(Args<'_, f32>),
    f64: fn(Args<'_, f64>),
    workgroups: &'static [Workgroups],
    cuda: Cuda,
    cost: fn(&Params) -> Cost,
) -> Kernel {
    Kernel { name, bindings, params: ConvBlockParams::LAYOUT, cpu: Twin { f32, f64 }, workgroups, cuda, cost }
}

// Shorthand for the rows below: most bindings are inputs.
const fn i(name: &'static str) -> Binding {
    Binding::input(name)
}
const fn o(name: &'static str) -> Binding {
    Binding::output(name)
}

/// `y[c,t] = Σ_{i,k} w[c,i,k]·a[i, t·stride + k]` and its `norm`: with `train` from the batch's statistics, which
/// also move the running ones (unbiased variance, as PyTorch), else from the running statistics.
pub static FWD: Kernel = kernel(
    "conv_block_fwd",
    &[
        i("x"),
        i("norm_in"),
        i("weight"),
        i("gamma"),
        i("beta"),
        Binding::inout("running_mean"),
        Binding::inout("running_var"),
        o("y"),
        o("part"),
        o("norm"),
    ],
    fast::fwd,
    oracle::fwd,
    &[grid::by_output, grid::by_channel],
    Cuda::new(BLOCK, grid::fwd_blocks).shared(|p| Fwd::of(&p.get()).shared).ticket(),
    |p| ConvBlockParams::cost(p, |m| 2 * m, 1, 1),
);

/// `embedding[b,c] = mean over valid t of max(0, scale·y + shift)`; `lengths [B]` counts valid frames.
pub static POOL_FWD: Kernel = kernel(
    "conv_block_pool_fwd",
    &[i("y"), i("norm"), i("lengths"), o("embedding")],
    fast::pool_fwd,
    oracle::pool_fwd,
    &[grid::by_row],
    Cuda::new(BLOCK, grid::by_row),
    |p| {
        ConvBlockParams::cost(
            p,
            |_| 3 * p.get::<ConvBlockParams>().sample().1 * p.get::<ConvBlockParams>().batch as usize,
            0,
            1,
        )
    },
);

/// `da[b,c,t] = d_embedding[b,c]/length` in valid frames, else 0; and what the normalisation makes of it:
/// `dgamma = Σ dz·(y−μ)/σ`, `dbeta = Σ dz`, and `back`.
pub static POOL_BWD: Kernel = kernel(
    "conv_block_pool_bwd",
    &[
        i("d_embedding"),
        i("y"),
        i("norm"),
        i("lengths"),
        o("da"),
        o("part"),
        o("dgamma"),
        o("dbeta"),
        o("back"),
    ],
    fast::pool_bwd,
    oracle::pool_bwd,
    &[grid::by_row, grid::by_channel],
    Cuda::new(BLOCK, grid::by_row).ticket(),
    |p| {
        ConvBlockParams::cost(
            p,
            |_| 5 * p.get::<ConvBlockParams>().sample().1 * p.get::<ConvBlockParams>().batch as usize,
            0,
            2,
        )
    },
);

/// Both gradients of the convolution, `da_in[i,s] = Σ_{c,k: t·stride+k=s} w[c,i,k]·dy[c,t]` and `dw`, and those of the
/// normalisation of the layer before. Where the input is no layer's `y` (`affine` is 0), `dgamma_in`, `dbeta_in` and
/// `back_in` are one element, set to 0.
pub static BWD: Kernel = kernel(
    "conv_block_bwd",
    &[
        i("da"),
        i("y"),
        i("back"),
        i("x"),
        i("norm_in"),
        i("weight"),
        o("da_in"),
        o("part"),
        o("dw"),
        o("dgamma_in"),
        o("dbeta_in"),
        o("back_in"),
    ],
    fast::bwd,
    oracle::bwd,
    &[
        |p| [grid::by_weight(p)[0] + grid::by_input(p)[0], 1, 1],
        |p| {
            let p: ConvBlockParams = p.get();
            grid::by_sum(p.weights() as u32, p.cin)
        },
    ],
    Cuda::new(BLOCK, grid::bwd_blocks)
        .shared(|p| Dw::of(&p.get()).shared.max(Dx::of(&p.get()).shared))
        .tickets(|p| Dw::of(&p.get()).tiles + 1),
    |p| ConvBlockParams::cost(p, |m| 4 * m, 2, 2),
);

/// As [`BWD`] for an input that takes no gradient: `dw[c,i,k] = Σ_{b,t} dy[c,t]·a[i, t·stride + k]`.
pub static BWD_W: Kernel = kernel(
    "conv_block_bwd_w",
    &[i("da"), i("y"), i("back"), i("x"), i("norm_in"), o("part"), o("dw")],
    fast::bwd_w,
    oracle::bwd_w,
    &[grid::by_weight, |p| grid::by_sum(p.get::<ConvBlockParams>().weights() as u32, 0)],
    Cuda::new(BLOCK, grid::dw_blocks).shared(|p| Dw::of(&p.get()).shared).tickets(|p| Dw::of(&p.get()).tiles),
    |p| ConvBlockParams::cost(p, |m| 2 * m, 1, 2),
);

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &POOL_FWD, &POOL_BWD, &BWD, &BWD_W];
