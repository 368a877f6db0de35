//! What the second derivatives of similarities are made of, beside their own kernels.
//!
//! With rows `a_i`, `b_j` that move by `ȧ_i`, `ḃ_j`, and an upstream gradient `dy`:
//!
//! ```text
//! moves    ṡ_ij = 2·(a_i − b_j)·(ȧ_i − ḃ_j)            how squared distances move
//! slopes   ẏ = ṡ/2y, p = dy/y, q = −p·ẏ/y              how Euclidean distances move, and the two factors of how their
//!                                                      gradients do; all 0 where y is
//! rows     Σ_j p_ij·(ȧ_i − ḃ_j) + q_ij·(a_i − b_j)     how that by a_i moves, and that by b_j alike
//! unit     u = a/‖a‖, u̇ = (ȧ − u·(u·ȧ))/‖a‖            rows of norm 1, or 0, and how they move
//! bent     (P·(ġ − ((u·ȧ)·g + (u·g)·ȧ)/‖a‖) − (g·u̇)·u)/‖a‖, where P·x = x − (u·x)·u
//!                                                      how the gradient by a row moves, where that by its u is g, which
//!                                                      moves by ġ; 0 where both are 0
//! ```
//!
//! Products of rows, and gradients of dot products and of squared distances, are linear in what moves: the kernels of
//! [`super::similarity`] make them.
//!
//! Shapes: `a`, `da` `[n, d]`, `b`, `db` `[m, d]`, matrices `[n, m]`, `units`, `of_units` `[2, n, d]` = (u, u̇), (g, ġ), `bent`
//! as the rows that it is by.
//!
//! Cost: `moves` takes 4 flops a pair and column, `rows` 6; differences do not cancel, so near pairs keep their digits. A GPU's
//! block owns 16 rows and 16 others of `moves`, a thread a pair, and of `rows` 16 rows, against which it streams tiles of 16
//! others. Sums are taken over 16 others (64 on the CPU), then over all. The rest is bound by memory: a block a row.

use crate::dispatch;
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Params, Real, Twin, params, with_scratch};
use crate::simd::{F32x16, LANES};

params! {
    /// Params of every kernel here.
    pub struct SimilarityHvpParams {
        /// Rows of a.
        pub n: u32,
        /// Rows of b.
        pub m: u32,
        /// Columns.
        pub d: u32,
        /// Whose gradient `rows` moves: 0 that by a, 1 that by b.
        pub side: u32,
    }
}

impl SimilarityHvpParams {
    /// Rows of the side whose gradient moves, and of the other.
    fn sides(&self) -> [usize; 2] {
        let (n, m) = (self.n as usize, self.m as usize);
        if self.side == 0 { [n, m] } else { [m, n] }
    }
}

/// Rows, and others, of a GPU's block, and its threads.
const TILE: u32 = 16;
const BLOCK: u32 = 256;

/// Others whose terms the CPU adds up before the sum takes them.
const SPAN_J: usize = 64;

/// Distances below it are 0: more than any number that a card may flush to zero.
const TINY: f64 = 1.2e-38;

/// How squared distances move.
pub static MOVES: Kernel = Kernel {
    name: "similarity_hvp_moves",
    bindings: &[
        Binding::input("a"),
        Binding::input("b"),
        Binding::input("da"),
        Binding::input("db"),
        Binding::output("moves"),
    ],
    params: SimilarityHvpParams::LAYOUT,
    cpu: Twin { f32: moves_fast, f64: moves },
    workgroups: &[tiles],
    cuda: Cuda::new(BLOCK, tiles),
    cost: |p| {
        let [n, m, d] = sizes(p);
        Cost::new((n * m).saturating_mul(4 * d), 2 * d * (n + m) + n * m)
    },
};

/// How Euclidean distances move, and the two factors of how their gradients do.
pub static SLOPES: Kernel = Kernel {
    name: "similarity_hvp_slopes",
    bindings: &[
        Binding::input("y"),
        Binding::input("moves"),
        Binding::input("dy"),
        Binding::output("of_y"),
        Binding::output("p"),
        Binding::output("q"),
    ],
    params: SimilarityHvpParams::LAYOUT,
    cpu: Twin { f32: slopes, f64: slopes },
    workgroups: &[each],
    cuda: Cuda::new(BLOCK, each),
    cost: |p| {
        let [n, m, _] = sizes(p);
        Cost::new(6 * n * m, 6 * n * m)
    },
};

/// How the gradient of Euclidean distances moves, by one side's rows.
pub static ROWS: Kernel = Kernel {
    name: "similarity_hvp_rows",
    bindings: &[
        Binding::input("a"),
        Binding::input("b"),
        Binding::input("da"),
        Binding::input("db"),
        Binding::input("p"),
        Binding::input("q"),
        Binding::output("bent"),
    ],
    params: SimilarityHvpParams::LAYOUT,
    cpu: Twin { f32: rows_fast, f64: rows_by_definition },
    workgroups: &[tiles_of_rows],
    cuda: Cuda::new(BLOCK, tiles_of_rows),
    cost: |p| {
        let [n, m, d] = sizes(p);
        let [own, _] = p.get::<SimilarityHvpParams>().sides();
        Cost::new((n * m).saturating_mul(6 * d), 2 * d * (n + m) + 2 * n * m + own * d)
    },
};

/// Rows of norm 1, and how they move.
pub static UNIT: Kernel = Kernel {
    name: "similarity_hvp_unit",
    bindings: &[Binding::input("a"), Binding::input("da"), Binding::output("units")],
    params: SimilarityHvpParams::LAYOUT,
    cpu: Twin { f32: unit, f64: unit },
    workgroups: &[each],
    cuda: Cuda::new(BLOCK, each),
    cost: |p| {
        let [n, _, d] = sizes(p);
        Cost::new(8 * n * d, 4 * n * d)
    },
};

/// How the gradient by rows moves, from that by rows of norm 1.
pub static BENT: Kernel = Kernel {
    name: "similarity_hvp_bent",
    bindings: &[
        Binding::input("a"),
        Binding::input("da"),
        Binding::input("of_units"),
        Binding::output("bent"),
    ],
    params: SimilarityHvpParams::LAYOUT,
    cpu: Twin { f32: bent, f64: bent },
    workgroups: &[each],
    cuda: Cuda::new(BLOCK, each),
    cost: |p| {
        let [n, _, d] = sizes(p);
        Cost::new(18 * n * d, 5 * n * d)
    },
};

fn sizes(p: &Params) -> [usize; 3] {
    let SimilarityHvpParams { n, m, d, .. } = p.get();
    [n, m, d].map(|v| v as usize)
}

fn each(p: &Params) -> [u32; 3] {
    [p.get::<SimilarityHvpParams>().n, 1, 1]
}

/// Blocks, those of a's first rows first. Where there are more than can be counted no device has memory for the matrix.
fn tiles(p: &Params) -> [u32; 3] {
    let SimilarityHvpParams { n, m, .. } = p.get();
    [n.div_ceil(TILE).saturating_mul(m.div_ceil(TILE)), 1, 1]
}

fn tiles_of_rows(p: &Params) -> [u32; 3] {
    [(p.get::<SimilarityHvpParams>().sides()[0] as u32).div_ceil(TILE), 1, 1]
}

/// Rows, and how they move.
#[derive(Clone, Copy)]
struct Side<'a, F> {
    rows: &'a [F],
    moves: &'a [F],
    d: usize,
}

impl<'a, F: Real> Side<'a, F> {
    fn row(&self, i: usize) -> [&'a [F]; 2] {
        [self.rows, self.moves].map(|rows| &rows[i * self.d..][..self.d])
    }
}

/// Calls `f` with each row of a, all of b, and where the row's entries go.
fn each_row<F: Real>(args: Args<'_, F>, f: impl Fn([&[F]; 2], Side<'_, F>, &mut [F]) + Sync) {
    let (p, work): (SimilarityHvpParams, _) = (args.params(), args.work);
    let d = p.d as usize;
    let [a, b, da, db, moves] = args.bufs();
    let a = Side { rows: a.input(), moves: da.input(), d };
    let b = Side { rows: b.input(), moves: db.input(), d };
    work.pieces(moves.output(), p.m as usize, &|i, to| f(a.row(i), b, to));
}

/// The formula, in f64.
fn moves<F: Real>(args: Args<'_, F>) {
    each_row(args, |[a, da], others, to| {
        for (j, to) in to.iter_mut().enumerate() {
            let [b, db] = others.row(j);
            *to = F::of(2.0) * (0..a.len()).map(|k| (a[k] - b[k]) * (da[k] - db[k])).sum::<F>();
        }
    });
}

fn moves_fast(args: Args<'_, f32>) {
    let simd = args.work.simd;
    each_row(args, |row, others, to| moves_of_row(simd, row, others, to));
}

dispatch! {
    fn moves_of_row(row: [&[f32]; 2], others: Side<'_, f32>, to: &mut [f32]) = moves_of_row_body
}

#[inline(always)]
unsafe fn moves_of_row_body<V: F32x16>([a, da]: [&[f32]; 2], others: Side<'_, f32>, to: &mut [f32]) {
    let whole = a.len() / LANES * LANES;
    for (j, to) in to.iter_mut().enumerate() {
        let [b, db] = others.row(j);
        // SAFETY: within the rows, all of one length.
        let mut sum = unsafe {
            let mut sum = V::splat(0.0);
            for k in (0..whole).step_by(LANES) {
                let apart = V::load(a.as_ptr().add(k)).sub(V::load(b.as_ptr().add(k)));
                let moved = V::load(da.as_ptr().add(k)).sub(V::load(db.as_ptr().add(k)));
                sum = apart.mul_add(moved, sum);
            }
            sum.sum()
        };
        for k in whole..a.len() {
            sum += (a[k] - b[k]) * (da[k] - db[k]);
        }
        *to = 2.0 * sum;
    }
}

fn slopes<F: Real>(args: Args<'_, F>) {
    let (p, work): (SimilarityHvpParams, _) = (args.params(), args.work);
    let m = p.m as usize;
    let [y, moves, dy, of_y, p, q] = args.bufs();
    let (y, moves, dy) = (y.input(), moves.input(), dy.input());
    let [of_y, p, q] = [of_y, p, q].map(|of| (of.output(), m));
    work.pieces3(of_y, p, q, &|i, of_y, p, q| {
        for j in 0..m {
            let at = i * m + j;
            [of_y[j], p[j], q[j]] = if y[at] < F::of(TINY) {
                [F::zero(); 3]
            } else {
                let (moved, slope) = (F::of(0.5) * moves[at] / y[at], dy[at] / y[at]);
                [moved, slope, -slope * (moved / y[at])]
            };
        }
    });
}

/// Both factors of the pairs of a row: every `step`th of the matrices, from `first` on.
#[derive(Clone, Copy)]
struct Factors<'a, F> {
    p: &'a [F],
    q: &'a [F],
    first: usize,
    step: usize,
}

impl<F: Real> Factors<'_, F> {
    fn of(&self, j: usize) -> [F; 2] {
        let at = self.first + j * self.step;
        [self.p[at], self.q[at]]
    }
}

/// Calls `f` with each row of a side, all of the other, the factors of their pairs, and where the row's sums go.
fn each_sum<F: Real>(args: Args<'_, F>, f: impl Fn([&[F]; 2], Side<'_, F>, Factors<'_, F>, &mut [F]) + Sync) {
    let (of, work): (SimilarityHvpParams, _) = (args.params(), args.work);
    let (d, m) = (of.d as usize, of.m as usize);
    let [a, b, da, db, p, q, bent] = args.bufs();
    let (p, q) = (p.input(), q.input());
    let a = Side { rows: a.input(), moves: da.input(), d };
    let b = Side { rows: b.input(), moves: db.input(), d };
    let [own, others] = if of.side == 0 { [a, b] } else { [b, a] };
    work.pieces(bent.output(), d, &|i, to| {
        let [first, step] = if of.side == 0 { [i * m, 1] } else { [i, m] };
        f(own.row(i), others, Factors { p, q, first, step }, to);
    });
}

/// The formula, in f64.
fn rows_by_definition<F: Real>(args: Args<'_, F>) {
    each_sum(args, |[a, da], others, factors, to| {
        to.fill(F::zero());
        for j in 0..others.rows.len() / others.d {
            let ([b, db], [p, q]) = (others.row(j), factors.of(j));
            for (k, to) in to.iter_mut().enumerate() {
                *to += p * (da[k] - db[k]) + q * (a[k] - b[k]);
            }
        }
    });
}

fn rows_fast(args: Args<'_, f32>) {
    let simd = args.work.simd;
    each_sum(args, |row, others, factors, to| {
        with_scratch(to.len(), |span: &mut [f32]| sum_of_row(simd, row, others, factors, to, span));
    });
}

dispatch! {
    fn sum_of_row(
        row: [&[f32]; 2],
        others: Side<'_, f32>,
        factors: Factors<'_, f32>,
        to: &mut [f32],
        span: &mut [f32],
    ) = sum_of_row_body
}

/// A row's sums; `span` is scratch for those over a span of the others.
#[inline(always)]
unsafe fn sum_of_row_body<V: F32x16>(
    [a, da]: [&[f32]; 2],
    others: Side<'_, f32>,
    factors: Factors<'_, f32>,
    to: &mut [f32],
    span: &mut [f32],
) {
    let (d, m) = (a.len(), others.rows.len() / others.d);
    let whole = d / LANES * LANES;
    to.fill(0.0);
    for first in (0..m).step_by(SPAN_J) {
        span.fill(0.0);
        for j in first..m.min(first + SPAN_J) {
            let ([b, db], [p, q]) = (others.row(j), factors.of(j));
            // SAFETY: within the rows and the span, all of one length.
            unsafe {
                let (of_p, of_q) = (V::splat(p), V::splat(q));
                for k in (0..whole).step_by(LANES) {
                    let moved = V::load(da.as_ptr().add(k)).sub(V::load(db.as_ptr().add(k)));
                    let apart = V::load(a.as_ptr().add(k)).sub(V::load(b.as_ptr().add(k)));
                    let to = span.as_mut_ptr().add(k);
                    of_p.mul_add(moved, of_q.mul_add(apart, V::load(to))).store(to);
                }
            }
            for k in whole..d {
                span[k] += p * (da[k] - db[k]) + q * (a[k] - b[k]);
            }
        }
        for (sum, &of_span) in to.iter_mut().zip(&*span) {
            *sum += of_span;
        }
    }
}

/// The sum of products.
fn dot<F: Real>(a: impl Iterator<Item = F>, b: &[F]) -> F {
    a.zip(b).map(|(a, &b)| a * b).sum()
}

/// What a row is divided by to be of norm 1, in two steps, so that no square overflows: its largest element, and the norm of what
/// that leaves. 1 and 0 of a row that is 0.
fn length<F: Real>(a: &[F]) -> [F; 2] {
    let largest = a.iter().fold(F::zero(), |most, v| if v.abs() > most { v.abs() } else { most });
    let largest = if largest > F::zero() { largest } else { F::one() };
    [largest, a.iter().map(|&v| (v / largest) * (v / largest)).sum::<F>().sqrt()]
}

fn unit<F: Real>(args: Args<'_, F>) {
    let (p, work): (SimilarityHvpParams, _) = (args.params(), args.work);
    let (n, d) = (p.n as usize, p.d as usize);
    let [a, da, units] = args.bufs();
    let (a, da) = (a.input(), da.input());
    let (units, moves) = units.output().split_at_mut(n * d);
    work.pieces2((units, d), (moves, d), &|i, u, du| {
        let (a, da) = (&a[i * d..][..d], &da[i * d..][..d]);
        let [largest, length] = length(a);
        if length == F::zero() {
            u.fill(F::zero());
            du.fill(F::zero());
            return;
        }
        for (u, &a) in u.iter_mut().zip(a) {
            *u = a / largest / length;
        }
        let along = dot(u.iter().copied(), da);
        for k in 0..d {
            du[k] = (da[k] - u[k] * along) / length / largest;
        }
    });
}

fn bent<F: Real>(args: Args<'_, F>) {
    let (p, work): (SimilarityHvpParams, _) = (args.params(), args.work);
    let (n, d) = (p.n as usize, p.d as usize);
    let [a, da, of_units, bent] = args.bufs();
    let (a, da) = (a.input(), da.input());
    let (of_u, moved) = of_units.input().split_at(n * d);
    work.pieces(bent.output(), d, &|i, to| {
        let [a, da, g, dg] = [a, da, of_u, moved].map(|rows| &rows[i * d..][..d]);
        let [largest, length] = length(a);
        // A row that is masked may hold anything, and nothing comes to it.
        if length == F::zero() || g.iter().chain(dg).all(|&v| v == F::zero()) {
            to.fill(F::zero());
            return;
        }
        let u = |k: usize| a[k] / largest / length;
        let onto = |x: &[F]| dot((0..d).map(u), x);
        let (of_a, of_g, of_dg, both) = (onto(da), onto(g), onto(dg), dot(g.iter().copied(), da));
        let inverse = F::one() / length / largest;
        let back = of_dg + inverse * (both - F::of(3.0) * of_a * of_g);
        for (k, to) in to.iter_mut().enumerate() {
            *to = inverse * (dg[k] - inverse * (of_a * g[k] + of_g * da[k]) - back * u(k));
        }
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&MOVES, &SLOPES, &ROWS, &UNIT, &BENT];
