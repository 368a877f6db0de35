//! Sums, copies and shapes.

use super::check::count;
use super::similarity::{Similarity, similarity};
use crate::graph::{Graph, Var};
use crate::{Error, Result};

/// A value of the given shape, every element `value`.
///
/// # Errors
/// When there are more than 2^32 - 1 elements.
pub fn fill(g: &mut Graph, shape: &[usize], value: f32) -> Result<Var> {
    g.fill(shape, value)
}

/// `a + b`, elementwise, of one shape.
///
/// # Errors
/// When the shapes differ or have more than 2^32 - 1 elements.
pub fn add(g: &mut Graph, a: Var, b: Var) -> Result<Var> {
    if g.shape(a) != g.shape(b) {
        return Err(Error::shape(
            "add",
            "b",
            format!("shape {:?} against a of shape {:?}", g.shape(b), g.shape(a)),
        ));
    }
    let y = g.sum(a, b)?;
    g.on_backward(y, &[a, b], move |g, dy| {
        g.give_grad(a, dy)?;
        g.give_grad(b, dy)
    });
    Ok(y)
}

/// `factor·x`.
///
/// # Errors
/// When `factor` is not finite or there are more than 2^32 - 1 elements.
pub fn scale(g: &mut Graph, x: Var, factor: f32) -> Result<Var> {
    if !factor.is_finite() {
        return Err(Error::shape("scale", "factor", format!("must be finite, is {factor}")));
    }
    let one = g.fill(&[1], 1.0)?;
    let y = g.temp_like(x);
    times(g, x, (one, factor), y)?;
    Ok(y)
}

/// `y = factor·s·x` with a one-element `s`, on the tape.
pub(super) fn times(g: &mut Graph, x: Var, (s, factor): (Var, f32), y: Var) -> Result<()> {
    g.scale(x, s, factor, y)?;
    g.on_backward(y, &[x, s], move |g, dy| {
        if let Some(dx) = g.grad_target(x) {
            times(g, dy, (s, factor), dx)?;
            g.give_grad(x, dx)?;
        }
        if g.needs_grad(s) {
            let (product, shape) = (product(g, x, dy)?, g.shape(s).to_vec());
            let ds = scale(g, product, factor)?;
            let ds = reshape(g, ds, &shape)?;
            g.give_grad(s, ds)?;
        }
        Ok(())
    });
    Ok(())
}

/// `Σ a·b`, `[1, 1]`, of values of one shape: the similarity of two rows.
fn product(g: &mut Graph, a: Var, b: Var) -> Result<Var> {
    let row = [1, count("scale", "x", g.shape(a))? as usize];
    let (a, b) = (reshape(g, a, &row)?, reshape(g, b, &row)?);
    similarity(g, a, b, Similarity::Dot)
}

/// Hands `grad`, the gradient of the scalar loss `op` with respect to `x`, to `x`, times the loss's own `upstream`.
///
/// For losses whose forward launch already wrote the gradient: when the upstream is the
/// constant 1 nothing is launched.
pub(crate) fn give_scaled(g: &mut Graph, op: &'static str, x: Var, grad: Var, upstream: Var) -> Result<()> {
    g.differentiated_once(grad, op);
    if g.is_unit(upstream) {
        return g.give_grad(x, grad);
    }
    if let Some(dx) = g.grad_target(x) {
        times(g, grad, (upstream, 1.0), dx)?;
        g.give_grad(x, dx)?;
    }
    Ok(())
}

/// The same memory under another shape.
///
/// # Errors
/// When the element counts differ.
pub fn reshape(g: &mut Graph, x: Var, shape: &[usize]) -> Result<Var> {
    let y = g.alias(x, shape)?;
    let from = g.shape(x).to_vec();
    g.on_backward(y, &[x], move |g, dy| {
        let dx = reshape(g, dy, &from)?;
        g.give_grad(x, dx)
    });
    Ok(y)
}
