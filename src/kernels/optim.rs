//! Optimizer updates of a flat parameter set, in place, one launch for all of it.
//!
//! Shapes: `hyper [3]` = (learning rate, 1 − β₁ᵗ, 1 − β₂ᵗ) is what changes from step to step, written by
//! the host, which computes the bias corrections in f64; everything else has the same `n` elements.
//! Elements between tensors have gradient 0 and value 0 and keep them.
//!
//! Threads: one owns four elements in a row. Cost: a few flops and `n` elements of `theta`, each state (both
//! read and written) and the gradient.

use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, PIECE, Params, Real, SPAN, Twin, params, spans};

/// Elements of `hyper`.
pub const HYPER: usize = 3;

params! {
    /// Params of `optim_sgd`.
    pub struct SgdParams {
        /// Elements.
        pub n: u32,
        /// What of the velocity stays.
        pub momentum: f32,
        /// Factor of the parameter in its gradient.
        pub weight_decay: f32,
    }
}

/// `v = momentum·v + grad + weight_decay·θ`, `θ −= lr·v`: PyTorch's SGD without dampening, whose first
/// step is that of a velocity that starts as 0.
pub static SGD: Kernel = Kernel {
    name: "optim_sgd",
    bindings: &[
        Binding::input("hyper"),
        Binding::input("grad"),
        Binding::inout("theta"),
        Binding::inout("velocity"),
    ],
    params: SgdParams::LAYOUT,
    cpu: Twin { f32: sgd, f64: sgd },
    workgroups: &[|p| spans(p.get::<SgdParams>().n)],
    cuda: Cuda::new(SPAN / 4, |p| spans(p.get::<SgdParams>().n)),
    cost: |p: &Params| {
        let n = p.get::<SgdParams>().n as usize;
        Cost::new(6 * n, 5 * n)
    },
};

fn sgd<F: Real>(args: Args<'_, F>) {
    let p: SgdParams = args.params();
    let (momentum, decay) = (F::of(f64::from(p.momentum)), F::of(f64::from(p.weight_decay)));
    let work = args.work;
    let [hyper, grad, theta, velocity] = args.bufs();
    let (lr, grad) = (hyper.input()[0], grad.input());
    work.pieces2((theta.output(), PIECE), (velocity.output(), PIECE), &|i, theta, velocity| {
        for ((theta, v), &g) in theta.iter_mut().zip(velocity).zip(&grad[i * PIECE..]) {
            *v = momentum * *v + (g + decay * *theta);
            *theta -= lr * *v;
        }
    });
}

params! {
    /// Params of `optim_adam`.
    pub struct AdamParams {
        /// Elements.
        pub n: u32,
        /// 1 − β₁: what of the first moment is replaced. The difference, not β itself, is what f32 holds well.
        pub rate1: f32,
        /// 1 − β₂.
        pub rate2: f32,
        /// Added to the root of the second moment.
        pub eps: f32,
        /// Weight decay.
        pub weight_decay: f32,
        /// 1: decay shrinks the parameter (AdamW); 0: it adds to the gradient (Adam).
        pub decoupled: u32,
    }
}

/// Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019), as in PyTorch:
///
/// ```text
/// Adam   g = grad + decay·θ              AdamW   g = grad,  θ ← θ − lr·decay·θ
/// m ← m + (1 − β₁)·(g − m)               v ← v + (1 − β₂)·(g² − v)
/// θ ← θ − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)
/// ```
pub static ADAM: Kernel = Kernel {
    name: "optim_adam",
    bindings: &[
        Binding::input("hyper"),
        Binding::input("grad"),
        Binding::inout("theta"),
        Binding::inout("m"),
        Binding::inout("v"),
    ],
    params: AdamParams::LAYOUT,
    cpu: Twin { f32: adam, f64: adam },
    workgroups: &[|p| spans(p.get::<AdamParams>().n)],
    cuda: Cuda::new(SPAN / 4, |p| spans(p.get::<AdamParams>().n)),
    cost: |p: &Params| {
        let n = p.get::<AdamParams>().n as usize;
        Cost::new(16 * n, 7 * n)
    },
};

fn adam<F: Real>(args: Args<'_, F>) {
    let p: AdamParams = args.params();
    let [rate1, rate2, eps, decay] = [p.rate1, p.rate2, p.eps, p.weight_decay].map(|v| F::of(f64::from(v)));
    let work = args.work;
    let [hyper, grad, theta, m, v] = args.bufs();
    let (hyper, grad) = (hyper.input(), grad.input());
    let lr = hyper[0];
    let (step, root) = (lr / hyper[1], hyper[2].sqrt());
    let (couple, shrink) =
        if p.decoupled != 0 { (F::zero(), F::one() - lr * decay) } else { (decay, F::one()) };
    let states = ((theta.output(), PIECE), (m.output(), PIECE), (v.output(), PIECE));
    work.pieces3(states.0, states.1, states.2, &|i, theta, m, v| {
        for (((theta, m), v), &g) in theta.iter_mut().zip(m).zip(v).zip(&grad[i * PIECE..]) {
            let g = g + couple * *theta;
            *m += rate1 * (g - *m);
            *v += rate2 * (g * g - *v);
            *theta = shrink * *theta - step * *m / (v.sqrt() / root + eps);
        }
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&SGD, &ADAM];
