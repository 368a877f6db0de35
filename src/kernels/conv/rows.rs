//! The rows of a convolution, forward and backward: those of two stems differ in name and params struct alone.

use super::geometry::Geometry;
use super::grid::{BIAS_THREADS, THREADS, WEIGHT_THREADS};
use super::{fast, oracle, winograd};
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Layout, Params, Real, Twin, Workgroups};

/// A stem's params struct.
pub trait Convolution: bytemuck::Pod {
    /// What it is made of.
    const LAYOUT: Layout;
    /// The shape that it describes.
    fn geometry(&self) -> Geometry;
}

fn geometry<P: Convolution>(p: &Params) -> Geometry {
    p.get::<P>().geometry()
}

fn of<P: Convolution, F: Real>(args: &Args<'_, F>) -> Geometry {
    geometry::<P>(args.raw_params())
}

/// The stages of each WGSL twin.
struct Stages<P>(std::marker::PhantomData<P>);

impl<P: Convolution> Stages<P> {
    const FWD: &'static [Workgroups] = &[|p| geometry::<P>(p).wgsl_fwd()];
    const BWD_X: &'static [Workgroups] = &[|p| geometry::<P>(p).wgsl_bwd_x()];
    const BWD_W: &'static [Workgroups] =
        &[|p| geometry::<P>(p).wgsl_bwd_w(), |p| geometry::<P>(p).wgsl_bwd_w_2()];
    const BWD_B: &'static [Workgroups] = &[|p| geometry::<P>(p).bwd_b()];
}

/// The row of the convolution itself.
pub const fn fwd<P: Convolution>(name: &'static str) -> Kernel {
    const BINDINGS: &[Binding] =
        &[Binding::input("x"), Binding::input("w"), Binding::input("b"), Binding::output("y")];
    Kernel {
        name,
        bindings: BINDINGS,
        params: P::LAYOUT,
        cpu: Twin {
            f32: |args| {
                let g = of::<P, _>(&args);
                match winograd::Plan::forward(&g) {
                    Some(plan) => winograd::fwd(args, &g, plan),
                    None => fast::fwd(args, &g),
                }
            },
            f64: |args| {
                let g = of::<P, _>(&args);
                oracle::fwd(args, &g)
            },
        },
        workgroups: Stages::<P>::FWD,
        cuda: Cuda::new(THREADS, |p| geometry::<P>(p).cuda_fwd())
            .shared(|p| geometry::<P>(p).cuda_shared(false)),
        cost: |p| {
            let g = geometry::<P>(p);
            let bias = if g.bias { g.channels() } else { 0 };
            products(&g, bias, winograd::Plan::forward)
        },
    }
}

/// The row of the input's gradient.
pub const fn bwd_x<P: Convolution>(name: &'static str) -> Kernel {
    const BINDINGS: &[Binding] = &[Binding::input("dy"), Binding::input("w"), Binding::output("dx")];
    Kernel {
        name,
        bindings: BINDINGS,
        params: P::LAYOUT,
        cpu: Twin {
            f32: |args| {
                let g = of::<P, _>(&args);
                match winograd::Plan::backward(&g) {
                    Some(plan) => winograd::bwd_x(args, plan),
                    None => fast::bwd_x(args, &g),
                }
            },
            f64: |args| {
                let g = of::<P, _>(&args);
                oracle::bwd_x(args, &g)
            },
        },
        workgroups: Stages::<P>::BWD_X,
        cuda: Cuda::new(THREADS, |p| geometry::<P>(p).cuda_bwd_x())
            .shared(|p| geometry::<P>(p).cuda_shared(true)),
        cost: |p| products(&geometry::<P>(p), 0, winograd::Plan::backward),
    }
}

/// The row of the weight's gradient.
pub const fn bwd_w<P: Convolution>(name: &'static str) -> Kernel {
    const BINDINGS: &[Binding] =
        &[Binding::input("x"), Binding::input("dy"), Binding::scratch("part"), Binding::output("dw")];
    Kernel {
        name,
        bindings: BINDINGS,
        params: P::LAYOUT,
        cpu: Twin {
            f32: |args| {
                let g = of::<P, _>(&args);
                match winograd::Plan::weights(&g) {
                    Some(plan) => winograd::bwd_w(args, plan),
                    None => fast::bwd_w(args, &g),
                }
            },
            f64: |args| {
                let g = of::<P, _>(&args);
                oracle::bwd_w(args, &g)
            },
        },
        workgroups: Stages::<P>::BWD_W,
        cuda: Cuda::new(WEIGHT_THREADS, |p| geometry::<P>(p).cuda_bwd_w())
            .shared(|p| geometry::<P>(p).cuda_bwd_w_shared())
            .tickets(|p| geometry::<P>(p).cuda_weight_tiles() as u32),
        cost: |p| products(&geometry::<P>(p), 0, winograd::Plan::weights),
    }
}

/// The row of the bias's gradient.
pub const fn bwd_b<P: Convolution>(name: &'static str) -> Kernel {
    const BINDINGS: &[Binding] = &[Binding::input("dy"), Binding::output("db")];
    Kernel {
        name,
        bindings: BINDINGS,
        params: P::LAYOUT,
        cpu: Twin {
            f32: |args| {
                let g = of::<P, _>(&args);
                fast::bwd_b(args, &g)
            },
            f64: |args| {
                let g = of::<P, _>(&args);
                oracle::bwd_b(args, &g)
            },
        },
        workgroups: Stages::<P>::BWD_B,
        cuda: Cuda::new(BIAS_THREADS, |p| geometry::<P>(p).bwd_b()),
        cost: |p| {
            let g = geometry::<P>(p);
            let [_, _, y] = g.elements();
            Cost::new(y, y + g.channels())
        },
    }
}

/// A multiply-add for each term of each output, on the CPU those of [tiles](winograd) where there is a plan for them. Every
/// buffer once, and `more` elements.
fn products(g: &Geometry, more: usize, plan: fn(&Geometry) -> Option<winograd::Plan>) -> Cost {
    let [x, w, y] = g.elements();
    let cost = Cost::new(2 * y * g.terms(), x + w + more + y);
    Cost { cpu_flops: plan(g).map_or(cost.flops, |plan| 2 * plan.products()), ..cost }
}
