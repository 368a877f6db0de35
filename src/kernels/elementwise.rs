//! Elementwise sums and copies: the glue of the tape.
//!
//! Shapes: every buffer has the same `n` elements, but for one-element scalars.

use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, PIECE, Params, Real, Twin, params, spans};

params! {
    /// Params of every kernel here.
    pub struct ElementwiseParams {
        /// Elements.
        pub n: u32,
        /// The value of `fill`, the factor of `add` and `scale`.
        pub factor: f32,
    }
}

fn cost(p: &Params, flops: usize, buffers: usize) -> Cost {
    let n = p.get::<ElementwiseParams>().n as usize;
    Cost::new(flops * n, buffers * n)
}

/// `y = factor`.
pub static FILL: Kernel = Kernel {
    name: "elementwise_fill",
    bindings: &[Binding::output("y")],
    params: ElementwiseParams::LAYOUT,
    cpu: Twin { f32: fill, f64: fill },
    workgroups: &[|p| spans(p.get::<ElementwiseParams>().n)],
    cuda: Cuda::new(256, |p| spans(p.get::<ElementwiseParams>().n)),
    cost: |p| cost(p, 0, 1),
};

fn fill<F: Real>(args: Args<'_, F>) {
    let p: ElementwiseParams = args.params();
    let [y] = args.bufs();
    y.output().fill(F::of(f64::from(p.factor)));
}

/// `y = x`.
pub static COPY: Kernel = Kernel {
    name: "elementwise_copy",
    bindings: &[Binding::input("x"), Binding::output("y")],
    params: ElementwiseParams::LAYOUT,
    cpu: Twin { f32: copy, f64: copy },
    workgroups: &[|p| spans(p.get::<ElementwiseParams>().n)],
    cuda: Cuda::new(256, |p| spans(p.get::<ElementwiseParams>().n)),
    cost: |p| cost(p, 0, 2),
};

fn copy<F: Real>(args: Args<'_, F>) {
    let [x, y] = args.bufs();
    y.output().copy_from_slice(x.input());
}

/// `y = a + factor·b`.
pub static ADD: Kernel = Kernel {
    name: "elementwise_add",
    bindings: &[Binding::input("a"), Binding::input("b"), Binding::output("y")],
    params: ElementwiseParams::LAYOUT,
    cpu: Twin { f32: add, f64: add },
    workgroups: &[|p| spans(p.get::<ElementwiseParams>().n)],
    cuda: Cuda::new(256, |p| spans(p.get::<ElementwiseParams>().n)),
    cost: |p| cost(p, 2, 3),
};

fn add<F: Real>(args: Args<'_, F>) {
    let factor = F::of(f64::from(args.params::<ElementwiseParams>().factor));
    let work = args.work;
    let [a, b, y] = args.bufs();
    let (a, b) = (a.input(), b.input());
    work.pieces(y.output(), PIECE, &|i, y| {
        let at = i * PIECE;
        for ((y, &a), &b) in y.iter_mut().zip(&a[at..]).zip(&b[at..]) {
            *y = a + factor * b;
        }
    });
}

/// `sum += x`: how fan-out adds gradients.
pub static ACCUMULATE: Kernel = Kernel {
    name: "elementwise_accumulate",
    bindings: &[Binding::input("x"), Binding::inout("sum")],
    params: ElementwiseParams::LAYOUT,
    cpu: Twin { f32: accumulate, f64: accumulate },
    workgroups: &[|p| spans(p.get::<ElementwiseParams>().n)],
    cuda: Cuda::new(256, |p| spans(p.get::<ElementwiseParams>().n)),
    cost: |p| cost(p, 1, 3),
};

fn accumulate<F: Real>(args: Args<'_, F>) {
    let work = args.work;
    let [x, sum] = args.bufs();
    let x = x.input();
    work.pieces(sum.output(), PIECE, &|i, sum| {
        for (s, &x) in sum.iter_mut().zip(&x[i * PIECE..]) {
            *s += x;
        }
    });
}

/// `y = factor·s·x` with a one-element `s`: an upstream scalar gradient times a gradient at hand.
pub static SCALE: Kernel = Kernel {
    name: "elementwise_scale",
    bindings: &[Binding::input("x"), Binding::input("s"), Binding::output("y")],
    params: ElementwiseParams::LAYOUT,
    cpu: Twin { f32: scale, f64: scale },
    workgroups: &[|p| spans(p.get::<ElementwiseParams>().n)],
    cuda: Cuda::new(256, |p| spans(p.get::<ElementwiseParams>().n)),
    cost: |p| cost(p, 1, 2),
};

fn scale<F: Real>(args: Args<'_, F>) {
    let factor = F::of(f64::from(args.params::<ElementwiseParams>().factor));
    let work = args.work;
    let [x, s, y] = args.bufs();
    let (x, s) = (x.input(), factor * s.input()[0]);
    work.pieces(y.output(), PIECE, &|i, y| {
        for (y, &x) in y.iter_mut().zip(&x[i * PIECE..]) {
            *y = s * x;
        }
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FILL, &COPY, &ADD, &ACCUMULATE, &SCALE];
