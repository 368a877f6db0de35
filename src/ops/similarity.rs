//! Similarity matrices.

use super::check::same_elem;
use crate::graph::{Graph, Var};
use crate::kernel::stored_as;
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
    g.on_backward(y, &[a, b], move |g, dy| {
        let da = g.grad_target(a).unwrap_or_else(|| g.temp_like(a));
        // One launch cannot write two gradients to one home.
        let db = if a == b { None } else { g.grad_target(b) }.unwrap_or_else(|| g.temp_like(b));
        g.launch(backward, &p, &[a, b, dy, da, db])?;
        g.give_grad(a, da)?;
        g.give_grad(b, db)
    });
    Ok(y)
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
