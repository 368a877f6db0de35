//! How similarities and their gradients move where rows move, of which their second derivatives are made.

use crate::graph::{Graph, Var};
use crate::kernel::Elem;
use crate::kernels::similarity::{BWD, FWD, Similarity, SimilarityParams};
use crate::kernels::similarity_hvp as k;
use crate::{Error, Result};
use k::SimilarityHvpParams;

/// What moves: rows `a` `[N, D]` and `b` `[M, D]`, each with how it does, and the matrix `y` `[N, M]` that
/// [`similarity`](super::similarity::similarity) made of them.
#[derive(Debug, Clone, Copy)]
pub struct Moving {
    /// Rows, and how they move.
    pub a: [Var; 2],
    /// The others, and how they move.
    pub b: [Var; 2],
    /// The matrix.
    pub y: Var,
}

/// How the matrix moves, `[N, M]`, and how the gradients by `a` and by `b` do whose upstream gradient is `dy` `[N, M]`: the
/// Jacobian, and the Hessian of `Σ dy·y`, times how the rows move.
///
/// A cosine of a row that is 0 does not move, nor does a Euclidean distance of 0. Rows are f32. Nothing goes backward from here.
///
/// # Errors
/// When shapes do not fit, or rows are stored in 16 bits.
pub fn similarity_hvp(g: &mut Graph, moving: Moving, dy: Var, kind: Similarity) -> Result<(Var, [Var; 2])> {
    let Moving { a: [a, da], b: [b, db], y } = moving;
    let ([n, d], [m, _]) = (of_two(g, "a", [a, da])?, of_two(g, "b", [b, db])?);
    for (argument, var, shape) in [("b", b, [m, d]), ("y", y, [n, m]), ("dy", dy, [n, m])] {
        if g.shape(var) != shape {
            let message =
                format!("needs shape {shape:?} for a of shape {:?}, has {:?}", [n, d], g.shape(var));
            return Err(Error::shape(OP, argument, message));
        }
    }
    let p = sizes(n, m, d)?;
    match kind {
        Similarity::Dot => {
            let moves = product_moves(g, p, [a, b], [da, db])?;
            Ok((moves, gradients(g, p, kind, [da, db], dy)?))
        }
        Similarity::Cosine => {
            let (of_a, of_b) = (units(g, a, da)?, units(g, b, db)?);
            let ([u, du], [v, dv]) = (halves(g, of_a)?, halves(g, of_b)?);
            let moves = product_moves(g, p, [u, v], [du, dv])?;
            let (of_a, of_b) = (g.temp(&[2, n, d]), g.temp(&[2, m, d]));
            let (to_a, to_b) = (halves(g, of_a)?, halves(g, of_b)?);
            for (i, rows) in [[u, v], [du, dv]].into_iter().enumerate() {
                write_gradients(g, p, Similarity::Dot, rows, dy, [to_a[i], to_b[i]])?;
            }
            Ok((moves, [bent(g, a, da, of_a)?, bent(g, b, db, of_b)?]))
        }
        Similarity::SquaredEuclidean => {
            let moves = square_moves(g, p, [a, b], [da, db])?;
            Ok((moves, gradients(g, p, kind, [da, db], dy)?))
        }
        Similarity::Euclidean => {
            let squares = square_moves(g, p, [a, b], [da, db])?;
            let [moves, of_moves, of_rows] = [(); 3].map(|()| g.temp(&[n, m]));
            g.launch(&k::SLOPES, &p, &[y, squares, dy, moves, of_moves, of_rows])?;
            let by = [a, b].map(|rows| g.temp_like(rows));
            for (side, by) in [0, 1].into_iter().zip(by) {
                let p = SimilarityHvpParams { side, ..p };
                g.launch(&k::ROWS, &p, &[a, b, da, db, of_moves, of_rows, by])?;
            }
            Ok((moves, by))
        }
    }
}

const OP: &str = "similarity_hvp";

/// Rows of norm 1, or 0, and how they move, `[2, N, D]`, of rows `x` `[N, D]` that move by `dx`.
pub(super) fn units(g: &mut Graph, x: Var, dx: Var) -> Result<Var> {
    let [n, d] = of_two(g, "a", [x, dx])?;
    let units = g.temp(&[2, n, d]);
    g.launch(&k::UNIT, &sizes(n, 1, d)?, &[x, dx, units])?;
    Ok(units)
}

/// How the gradient by rows `x` `[N, D]` moves that move by `dx`, from that by their [`units`] and how it does, `[2, N, D]`.
pub(super) fn bent(g: &mut Graph, x: Var, dx: Var, of_units: Var) -> Result<Var> {
    let [n, d] = of_two(g, "a", [x, dx])?;
    let bent = g.temp(&[n, d]);
    g.launch(&k::BENT, &sizes(n, 1, d)?, &[x, dx, of_units, bent])?;
    Ok(bent)
}

/// The shape of rows and of how they move, which is one.
fn of_two(g: &Graph, argument: &'static str, [x, dx]: [Var; 2]) -> Result<[usize; 2]> {
    let shape = g.dims(OP, argument, x)?;
    if g.elem(x) != Elem::Real {
        let message = format!("holds {:?} elements of shape {shape:?}, needs f32", g.elem(x));
        return Err(Error::shape(OP, argument, message));
    }
    if g.shape(dx) != shape {
        let message = format!("rows of shape {shape:?} move by shape {:?}", g.shape(dx));
        return Err(Error::shape(OP, argument, message));
    }
    Ok(shape)
}

/// Params, of sizes that [`similarity`](super::similarity::similarity) takes.
fn sizes(n: usize, m: usize, d: usize) -> Result<k::SimilarityHvpParams> {
    let counted = |v: usize| u32::try_from(v).ok().filter(|&v| v > 0);
    match (counted(n), counted(m), counted(d)) {
        (Some(n), Some(m), Some(d)) => Ok(k::SimilarityHvpParams { n, m, d, side: 0 }),
        _ => {
            let message = format!("needs from 1 to 2^32 − 1 rows and columns, has {n} and {m} of {d}");
            Err(Error::shape(OP, "a", message))
        }
    }
}

/// Both halves of `[2, N, D]`.
fn halves(g: &mut Graph, duals: Var) -> Result<[Var; 2]> {
    let [_, n, d] = g.dims(OP, "a", duals)?;
    Ok([g.window(duals, 0, &[n, d])?, g.window(duals, n * d, &[n, d])?])
}

/// How products of rows move.
fn product_moves(
    g: &mut Graph,
    SimilarityHvpParams { n, m, d, .. }: SimilarityHvpParams,
    [a, b]: [Var; 2],
    [da, db]: [Var; 2],
) -> Result<Var> {
    let p = SimilarityParams { n, m, d, kind: Similarity::Dot as u32 };
    let [of_a, of_b] = [(); 2].map(|()| g.temp(&[n as usize, m as usize]));
    g.launch(&FWD, &p, &[da, b, of_a])?;
    g.launch(&FWD, &p, &[a, db, of_b])?;
    g.sum(of_a, of_b)
}

/// How squared distances move.
fn square_moves(g: &mut Graph, p: SimilarityHvpParams, [a, b]: [Var; 2], [da, db]: [Var; 2]) -> Result<Var> {
    let moves = g.temp(&[p.n as usize, p.m as usize]);
    g.launch(&k::MOVES, &p, &[a, b, da, db, moves])?;
    Ok(moves)
}

/// The gradients by rows of their similarities.
fn gradients(
    g: &mut Graph,
    p: SimilarityHvpParams,
    kind: Similarity,
    rows: [Var; 2],
    dy: Var,
) -> Result<[Var; 2]> {
    let to = rows.map(|rows| g.temp_like(rows));
    write_gradients(g, p, kind, rows, dy, to)?;
    Ok(to)
}

fn write_gradients(
    g: &mut Graph,
    SimilarityHvpParams { n, m, d, .. }: SimilarityHvpParams,
    kind: Similarity,
    [a, b]: [Var; 2],
    dy: Var,
    [to_a, to_b]: [Var; 2],
) -> Result<()> {
    g.launch(&BWD, &SimilarityParams { n, m, d, kind: kind as u32 }, &[a, b, dy, to_a, to_b])
}
