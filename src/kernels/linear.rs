//! Fully connected layer with the dropout of its input, its bias and its activation, `y = f(m(x)·wᵀ + b)`.
//!
//! Shapes: `x [B, I]`, `w [O, I]`, `b [O]`, `y [B, O]`; gradients as what they belong to.
//! Without a bias `b` is bound to any buffer and not read. `f` is the identity, relu or sigmoid.
//! `m` is the mask of [`super::dropout`] over the elements of `x`, with its `state [3]`, made again wherever `x` or `dx`
//! passes: nothing is stored. With a `threshold` of 0 there is none, and `state` is not read.
//!
//! Backward takes `f'` from the output, `dz = dy·f'(y)`, and is one launch for all gradients:
//! `dx = m(dz·w)`, `dw = dzᵀ·m(x)`, `db = Σ_b dz`. An output that `wanted` leaves out is one element, set to 0.
//!
//! Threads: forward, one owns one `y`. Backward, one owns one `dx`, one `dw` or one `db`, in three
//! ranges of the grid; each recomputes the `dz` it reads. Sums over the batch are two-level, blocks of
//! [`BLOCK`] rows in order.
//!
//! Cost: 2·B·I·O flops forward and as many for each of `dx` and `dw`; every buffer moves once.

use super::dropout::{self, Drop};
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Params, Real, Twin, Work, params, with_scratch};
use crate::simd::Simd;

params! {
    /// Params of both kernels.
    pub struct LinearParams {
        /// Rows, B.
        pub batch: u32,
        /// Elements of an input row, I.
        pub inputs: u32,
        /// Elements of an output row, O.
        pub outputs: u32,
        /// [`IDENTITY`], [`RELU`] or [`SIGMOID`].
        pub activation: u32,
        /// 1 where a bias is added, else 0.
        pub bias: u32,
        /// Gradients to write: the sum of [`WANT_X`], [`WANT_W`] and [`WANT_B`].
        pub wanted: u32,
        /// As [`dropout::DropoutParams`]; 0 where nothing is dropped.
        pub threshold: u32,
        /// As [`dropout::DropoutParams`].
        pub scale: f32,
        /// As [`dropout::DropoutParams`].
        pub stream: u32,
    }
}

/// No activation.
pub const IDENTITY: u32 = 0;
/// `max(0, z)`.
pub const RELU: u32 = 1;
/// `1 / (1 + exp(−z))`.
pub const SIGMOID: u32 = 2;

/// `dx` is written.
pub const WANT_X: u32 = 1;
/// `dw` is written.
pub const WANT_W: u32 = 2;
/// `db` is written.
pub const WANT_B: u32 = 4;

/// Rows of a batch that a sum over it takes at once.
pub const BLOCK: usize = 64;

/// Multiply-adds worth handing to a thread.
const PIECE: usize = 32 * 1024;

impl LinearParams {
    fn dims(&self) -> [usize; 3] {
        [self.batch as usize, self.inputs as usize, self.outputs as usize]
    }

    fn wants(&self, what: u32) -> bool {
        self.wanted & what != 0
    }

    /// Rows of a piece of work with `per_row` multiply-adds a row; a multiple of 4, as masks need.
    fn rows(per_row: usize) -> usize {
        (PIECE / per_row.max(1)).max(1).next_multiple_of(4)
    }
}

/// The dropout of a launch; none where the threshold is 0.
#[derive(Clone, Copy)]
struct Mask<'a, F> {
    p: dropout::DropoutParams,
    state: &'a [u32],
    drop: Drop<F>,
    simd: Simd,
}

impl<'a, F: Real> Mask<'a, F> {
    fn new(p: &LinearParams, state: &'a [u32], drop: Drop<F>, simd: Simd) -> Self {
        let LinearParams { batch, inputs, threshold, scale, stream, .. } = *p;
        Self { p: dropout::DropoutParams { n: batch * inputs, threshold, scale, stream }, state, drop, simd }
    }

    fn is_none(&self) -> bool {
        self.p.threshold == 0
    }

    /// Lends `f` the masked elements from `at`, a multiple of 4.
    fn read<R>(&self, at: usize, x: &[F], f: impl FnOnce(&[F]) -> R) -> R {
        if self.is_none() {
            return f(x);
        }
        with_scratch(x.len(), |v: &mut [F]| {
            v.copy_from_slice(x);
            (self.drop)(self.simd, &self.p, self.state, at, v);
            f(v)
        })
    }

    /// Lends `f` the factors of all elements: 0 or the scale. Nothing where there is no mask.
    fn factors<R>(&self, f: impl FnOnce(&[F]) -> R) -> R {
        with_scratch(if self.is_none() { 0 } else { self.p.n as usize }, |v: &mut [F]| {
            v.fill(F::one());
            (self.drop)(self.simd, &self.p, self.state, 0, v);
            f(v)
        })
    }
}

/// `v` behind its factors; a dropped element is 0 whatever it was.
fn scale_by<F: Real>(v: &mut [F], factors: &[F]) {
    for (v, &f) in v.iter_mut().zip(factors) {
        *v = if f == F::zero() { f } else { f * *v };
    }
}

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
    cpu: Twin { f32: |args| fwd(args, dropout::drop_f32), f64: |args| fwd(args, dropout::drop_f64) },
    workgroups: &[fwd_tiles],
    cuda: Cuda::new(256, fwd_tiles),
    cost: |p: &Params| {
        let [b, i, o] = p.get::<LinearParams>().dims();
        Cost::new(2 * b * i * o, b * i + o * i + o + b * o)
    },
};

/// Sixteen partial sums, then their pairwise sum: vectorises, and in a fixed order.
fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    const L: usize = 16;
    let mut acc = [F::zero(); L];
    let (a16, b16) = (a.chunks_exact(L), b.chunks_exact(L));
    let tail = a16.remainder().iter().zip(b16.remainder()).fold(F::zero(), |s, (&a, &b)| s + a * b);
    for (a, b) in a16.zip(b16) {
        for l in 0..L {
            acc[l] += a[l] * b[l];
        }
    }
    let mut half = L / 2;
    while half > 0 {
        for l in 0..half {
            acc[l] += acc[l + half];
        }
        half /= 2;
    }
    acc[0] + tail
}

fn fwd<F: Real>(args: Args<'_, F>, drop: Drop<F>) {
    let p: LinearParams = args.params();
    let [_, inputs, outputs] = p.dims();
    let work = args.work;
    let [state, x, w, b, y] = args.bufs();
    let mask = Mask::new(&p, state.index(), drop, work.simd);
    let (x, w, b) = (x.input(), w.input(), b.input());
    let rows = LinearParams::rows(inputs * outputs);
    work.pieces(y.output(), rows * outputs, |piece, y| {
        let at = piece * rows * inputs;
        mask.read(at, &x[at..at + y.len() / outputs * inputs], |x| {
            for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
                for (o, y) in y.iter_mut().enumerate() {
                    let mut z = dot(x, &w[o * inputs..(o + 1) * inputs]);
                    if p.bias != 0 {
                        z += b[o];
                    }
                    *y = match p.activation {
                        RELU if z < F::zero() => F::zero(),
                        SIGMOID => super::activation::sigmoid(z),
                        _ => z,
                    };
                }
            }
        });
    });
}

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
    cpu: Twin { f32: |args| bwd(args, dropout::drop_f32), f64: |args| bwd(args, dropout::drop_f64) },
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

/// `sum += Σ_b f(b)` over rows, in blocks of [`BLOCK`]; `part` is scratch as long as `sum`.
fn blocked<F: Real>(batch: usize, sum: &mut [F], part: &mut [F], mut row: impl FnMut(usize, &mut [F])) {
    sum.fill(F::zero());
    for start in (0..batch).step_by(BLOCK) {
        part.fill(F::zero());
        for b in start..batch.min(start + BLOCK) {
            row(b, part);
        }
        for (s, &p) in sum.iter_mut().zip(&*part) {
            *s += p;
        }
    }
}

fn axpy<F: Real>(a: F, x: &[F], y: &mut [F]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

fn bwd<F: Real>(args: Args<'_, F>, drop: Drop<F>) {
    let p: LinearParams = args.params();
    let [batch, _, outputs] = p.dims();
    let work = args.work;
    let [state, x, w, y, dy, dx, dw, db] = args.bufs();
    let mask = Mask::new(&p, state.index(), drop, work.simd);
    let (x, w, y, dy) = (x.input(), w.input(), y.input(), dy.input());
    let (dx, dw, db) = (dx.output(), dw.output(), db.output());
    with_scratch(batch * outputs, |dz: &mut [F]| {
        for ((dz, &y), &dy) in dz.iter_mut().zip(y).zip(dy) {
            *dz = match p.activation {
                RELU if y > F::zero() => dy,
                RELU => F::zero(),
                SIGMOID => dy * y * (F::one() - y),
                _ => dy,
            };
        }
        let dz = &*dz;
        mask.factors(|factors| {
            if p.wants(WANT_X) {
                bwd_x(&p, work, dz, w, factors, dx);
            } else {
                dx.fill(F::zero());
            }
            if !p.wants(WANT_W) {
                dw.fill(F::zero());
            } else if mask.is_none() {
                bwd_w(&p, work, dz, x, dw);
            } else {
                with_scratch(x.len(), |dropped: &mut [F]| {
                    dropped.copy_from_slice(x);
                    scale_by(dropped, factors);
                    bwd_w(&p, work, dz, dropped, dw);
                });
            }
        });
        if p.wants(WANT_B) {
            with_scratch(outputs, |part: &mut [F]| {
                blocked(batch, db, part, |b, part| {
                    axpy(F::one(), &dz[b * outputs..(b + 1) * outputs], part);
                });
            });
        } else {
            db.fill(F::zero());
        }
    });
}

/// `dx = m(dz·w)`; `factors` are empty where nothing was dropped.
fn bwd_x<F: Real>(p: &LinearParams, work: Work, dz: &[F], w: &[F], factors: &[F], dx: &mut [F]) {
    let [_, inputs, outputs] = p.dims();
    let rows = LinearParams::rows(inputs * outputs);
    work.pieces(dx, rows * inputs, |piece, dx| {
        for (row, dx) in dx.chunks_exact_mut(inputs).enumerate() {
            let row = piece * rows + row;
            dx.fill(F::zero());
            for (o, &dz) in dz[row * outputs..(row + 1) * outputs].iter().enumerate() {
                axpy(dz, &w[o * inputs..(o + 1) * inputs], dx);
            }
            if !factors.is_empty() {
                scale_by(dx, &factors[row * inputs..]);
            }
        }
    });
}

/// `dw = dzᵀ·x`.
fn bwd_w<F: Real>(p: &LinearParams, work: Work, dz: &[F], x: &[F], dw: &mut [F]) {
    let [batch, inputs, outputs] = p.dims();
    let rows = (PIECE / (inputs * batch).max(1)).max(1);
    work.pieces(dw, rows * inputs, |piece, dw| {
        with_scratch(inputs, |part: &mut [F]| {
            for (row, dw) in dw.chunks_exact_mut(inputs).enumerate() {
                let o = piece * rows + row;
                blocked(batch, dw, part, |b, part| {
                    axpy(dz[b * outputs + o], &x[b * inputs..(b + 1) * inputs], part);
                });
            }
        });
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &BWD];
