//! Activations: relu and leaky relu are one kernel, sigmoid another.
//!
//! Shapes: every buffer has the same `n` elements. One thread owns one element.

use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, PIECE, Params, Real, Twin, Work, params, spans};

params! {
    /// Params of every kernel here.
    pub struct ActivationParams {
        /// Elements.
        pub n: u32,
        /// What a negative input is multiplied with: 0 for relu.
        pub slope: f32,
    }
}

fn cost(p: &Params, flops: usize, buffers: usize) -> Cost {
    let n = p.get::<ActivationParams>().n as usize;
    Cost::new(flops * n, buffers * n)
}

fn map<F: Real>(work: Work, x: &[F], y: &mut [F], f: impl Fn(F) -> F + Sync) {
    work.pieces(y, PIECE, &|i, y| {
        for (y, &x) in y.iter_mut().zip(&x[i * PIECE..]) {
            *y = f(x);
        }
    });
}

fn map2<F: Real>(work: Work, a: &[F], b: &[F], y: &mut [F], f: impl Fn(F, F) -> F + Sync) {
    work.pieces(y, PIECE, &|i, y| {
        let at = i * PIECE;
        for ((y, &a), &b) in y.iter_mut().zip(&a[at..]).zip(&b[at..]) {
            *y = f(a, b);
        }
    });
}

/// `y = x` where `x > 0`, else `slope·x`.
pub static RELU_FWD: Kernel = Kernel {
    name: "activation_relu_fwd",
    bindings: &[Binding::input("x"), Binding::output("y")],
    params: ActivationParams::LAYOUT,
    cpu: Twin { f32: relu_fwd, f64: relu_fwd },
    workgroups: &[|p| spans(p.get::<ActivationParams>().n)],
    cuda: Cuda::new(256, |p| spans(p.get::<ActivationParams>().n)),
    cost: |p| cost(p, 1, 2),
};

fn relu_fwd<F: Real>(args: Args<'_, F>) {
    let slope = F::of(f64::from(args.params::<ActivationParams>().slope));
    let work = args.work;
    let [x, y] = args.bufs();
    map(work, x.input(), y.output(), |x| if x > F::zero() { x } else { slope * x });
}

/// `dx = dy` where `x > 0`, else `slope·dy`; at 0 the slope, as PyTorch.
pub static RELU_BWD: Kernel = Kernel {
    name: "activation_relu_bwd",
    bindings: &[Binding::input("x"), Binding::input("dy"), Binding::output("dx")],
    params: ActivationParams::LAYOUT,
    cpu: Twin { f32: relu_bwd, f64: relu_bwd },
    workgroups: &[|p| spans(p.get::<ActivationParams>().n)],
    cuda: Cuda::new(256, |p| spans(p.get::<ActivationParams>().n)),
    cost: |p| cost(p, 1, 3),
};

fn relu_bwd<F: Real>(args: Args<'_, F>) {
    let slope = F::of(f64::from(args.params::<ActivationParams>().slope));
    let work = args.work;
    let [x, dy, dx] = args.bufs();
    map2(work, x.input(), dy.input(), dx.output(), |x, dy| if x > F::zero() { dy } else { slope * dy });
}

/// `y = 1 / (1 + exp(−x))`.
pub static SIGMOID_FWD: Kernel = Kernel {
    name: "activation_sigmoid_fwd",
    bindings: &[Binding::input("x"), Binding::output("y")],
    params: ActivationParams::LAYOUT,
    cpu: Twin { f32: sigmoid_fwd, f64: sigmoid_fwd },
    workgroups: &[|p| spans(p.get::<ActivationParams>().n)],
    cuda: Cuda::new(256, |p| spans(p.get::<ActivationParams>().n)),
    cost: |p| cost(p, 4, 2),
};

/// The logistic function; the exponential is only taken of what is not positive, so it never overflows.
pub(super) fn sigmoid<F: Real>(x: F) -> F {
    let e = (-x.abs()).exp();
    let tail = e / (F::one() + e);
    if x >= F::zero() { F::one() - tail } else { tail }
}

fn sigmoid_fwd<F: Real>(args: Args<'_, F>) {
    let work = args.work;
    let [x, y] = args.bufs();
    map(work, x.input(), y.output(), sigmoid);
}

/// `dx = dy·y·(1 − y)`, from the output `y`.
pub static SIGMOID_BWD: Kernel = Kernel {
    name: "activation_sigmoid_bwd",
    bindings: &[Binding::input("y"), Binding::input("dy"), Binding::output("dx")],
    params: ActivationParams::LAYOUT,
    cpu: Twin { f32: sigmoid_bwd, f64: sigmoid_bwd },
    workgroups: &[|p| spans(p.get::<ActivationParams>().n)],
    cuda: Cuda::new(256, |p| spans(p.get::<ActivationParams>().n)),
    cost: |p| cost(p, 3, 3),
};

fn sigmoid_bwd<F: Real>(args: Args<'_, F>) {
    let work = args.work;
    let [y, dy, dx] = args.bufs();
    map2(work, y.input(), dy.input(), dx.output(), |y, dy| dy * y * (F::one() - y));
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&RELU_FWD, &RELU_BWD, &SIGMOID_FWD, &SIGMOID_BWD];
