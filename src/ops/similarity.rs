//! Similarity matrices.

use super::check::same_elem;
use super::similarity_hvp::{Moving, similarity_hvp};
use crate::graph::{Graph, Var};
use crate::kernel::{Elem, Kernel, stored_as};
use crate::kernels::similarity as k;
pub use crate::kernels::similarity::Similarity;
use crate::{Error, Result};

/// The matrix `[N, M]` of the similarities, or distances, of the rows of `a` `[N, D]` and `b` `[M, D]`.
///
/// The cosine of a zero row is 0 with gradient 0; the gradient of a Euclidean distance of 0 is 0.
/// `a` and `b` may be the same value, and both may be stored in 16 bits: the matrix and the gradients are f32.
///
/// # Errors
/// When `a` or `b` is no matrix of 1 to 2³² − 1 rows and columns, or their columns differ.
pub fn similarity(g: &mut Graph, a: Var, b: Var, kind: Similarity) -> Result<Var> {
    let op = "similarity";
    let [n, m, d] = sizes(op, g.dims(op, "a", a)?, g.dims(op, "b", b)?)?;
    let p = k::SimilarityParams { n, m, d, kind: kind as u32 };
    let y = g.temp(&[n as usize, m as usize]);
    same_elem(g, op, (b, "b"), (a, "a"))?;
    let forward = stored_as(op, "a", g.elem(a), [&k::FWD, &k::FWD_F16, &k::FWD_BF16])?;
    let backward = stored_as(op, "a", g.elem(a), [&k::BWD, &k::BWD_F16, &k::BWD_BF16])?;
    g.launch(forward, &p, &[a, b, y])?;
    let of = Gradients { launch: backward, p, kind };
    g.on_backward(y, &[a, b], move |g, dy| {
        let da = g.grad_target(a).unwrap_or_else(|| g.temp_like(a));
        // One launch cannot write two gradients to one home.
        let db = if a == b { None } else { g.grad_target(b) }.unwrap_or_else(|| g.temp_like(b));
        of.record(g, [a, b], (y, dy), [da, db])?;
        g.give_grad(a, da)?;
        g.give_grad(b, db)
    });
    Ok(y)
}

/// The launch that makes the gradients by both rows, and how gradients flow through these.
#[derive(Clone, Copy)]
struct Gradients {
    launch: &'static Kernel,
    p: k::SimilarityParams,
    kind: Similarity,
}

impl Gradients {
    fn record(self, g: &mut Graph, [a, b]: [Var; 2], (y, dy): (Var, Var), [da, db]: [Var; 2]) -> Result<()> {
        g.launch(self.launch, &self.p, &[a, b, dy, da, db])?;
        if self.launch.bindings[0].elem != Elem::Real {
            return Ok(());
        }
        if self.kind == Similarity::Dot {
            // Products of dy with one of the two, and so on, as often as anyone asks.
            g.on_backward(da, &[dy, b], move |g, up| self.of_products(g, [up, b], (y, dy), 1));
            g.on_backward(db, &[dy, a], move |g, up| self.of_products(g, [a, up], (y, dy), 0));
            return Ok(());
        }
        // One of the two moves: gradients are asked for one by one.
        g.on_backward(da, &[dy, a, b], move |g, da| {
            let moving = Moving { a: [a, da], b: [b, still(g, b)?], y };
            give_moves(g, dy, moving, self.kind)
        });
        g.on_backward(db, &[dy, a, b], move |g, db| {
            let moving = Moving { a: [a, still(g, a)?], b: [b, db], y };
            give_moves(g, dy, moving, self.kind)
        });
        Ok(())
    }

    /// Hands on what comes to one gradient of dot products, and stands in `rows` for what that is by: to `dy`, and to the rows at
    /// `other`, which it is made of.
    fn of_products(self, g: &mut Graph, rows: [Var; 2], (y, dy): (Var, Var), other: usize) -> Result<()> {
        let moves = similarity(g, rows[0], rows[1], Similarity::Dot)?;
        g.give_grad(dy, moves)?;
        let to = rows.map(|rows| g.temp_like(rows));
        self.record(g, rows, (y, dy), to)?;
        g.give_grad(rows[other], to[other])
    }
}

/// How rows move that do not.
fn still(g: &mut Graph, rows: Var) -> Result<Var> {
    let shape = g.shape(rows).to_vec();
    g.fill(&shape, 0.0)
}

/// Hands on what comes to a gradient: to its upstream `dy` how the matrix moves along that, and to the rows how the gradients do.
fn give_moves(g: &mut Graph, dy: Var, moving: Moving, kind: Similarity) -> Result<()> {
    let (moves, [of_a, of_b]) = similarity_hvp(g, moving, dy, kind)?;
    g.give_grad(dy, moves)?;
    g.give_grad(moving.a[0], of_a)?;
    g.give_grad(moving.b[0], of_b)
}

/// `[n, m, d]` of matrices `[n, d]` and `[m, d]`.
pub(crate) fn sizes(op: &'static str, a: [usize; 2], b: [usize; 2]) -> Result<[u32; 3]> {
    let ([n, d], [m, columns]) = (a, b);
    if d != columns {
        let message = format!("shape [{m}, {columns}] against a of shape [{n}, {d}]");
        return Err(Error::shape(op, "b", message));
    }
    let count = |argument, rows: usize| match (u32::try_from(rows), u32::try_from(d)) {
        (Ok(rows @ 1..), Ok(d @ 1..)) => Ok((rows, d)),
        _ => Err(Error::shape(
            op,
            argument,
            format!("needs from 1 to 2^32 − 1 rows and columns, has shape [{rows}, {d}]"),
        )),
    };
    let ((n, d), (m, _)) = (count("a", n)?, count("b", m)?);
    Ok([n, m, d])
}

/// `k` of a row's `m` entries.
pub(crate) fn top_of(op: &'static str, k: usize, m: u32) -> Result<u32> {
    match u32::try_from(k) {
        Ok(k) if (1..=m).contains(&k) => Ok(k),
        _ => Err(Error::shape(op, "k", format!("must be from 1 to b's {m} rows, is {k}"))),
    }
}

/// The `k` largest similarities, or least distances, of each row of `a` `[N, D]` with the rows of `b` `[M, D]`, the best first:
/// values `[N, k]`, and as indices `[N, k]` which rows of `b` they are with. Of equal ones the lower index is first.
///
/// The matrix is never in memory. Inputs must be finite; nothing goes backward from here.
///
/// # Errors
/// As [`similarity`], or when `k` is 0 or more than `M`.
pub fn similarity_topk(g: &mut Graph, a: Var, b: Var, kind: Similarity, k: usize) -> Result<[Var; 2]> {
    let op = "similarity_topk";
    let [n, m, d] = sizes(op, g.dims(op, "a", a)?, g.dims(op, "b", b)?)?;
    let p = k::TopKParams { n, m, d, kind: kind as u32, k: top_of(op, k, m)? };
    let (values, indices) = (g.temp(&[n as usize, k]), g.temp_index(&[n as usize, k]));
    g.launch(&k::TOPK, &p, &[a, b, values, indices])?;
    Ok([values, indices])
}
