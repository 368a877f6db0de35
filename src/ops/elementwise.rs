//! Sums, copies and shapes.

use crate::graph::{Graph, Var};
use crate::kernels::elementwise as k;
use crate::{Error, Result};

/// These kernels count elements in 32 bits.
fn params(g: &Graph, v: Var, factor: f32) -> Result<k::ElementwiseParams> {
    let count = g.shape(v).iter().product::<usize>();
    let n = u32::try_from(count).map_err(|_| {
        let message = format!("has {count} elements of shape {:?}, at most 2^32 - 1 are taken", g.shape(v));
        Error::shape("elementwise", "x", message)
    })?;
    Ok(k::ElementwiseParams { n, factor })
}

/// A value of the given shape, every element `value`.
///
/// # Errors
/// When there are more than 2^32 - 1 elements.
pub fn fill(g: &mut Graph, shape: &[usize], value: f32) -> Result<Var> {
    let y = g.temp(shape);
    g.launch(&k::FILL, &params(g, y, value)?, &[y])?;
    Ok(y)
}

/// Copies `x` into `y`, which is no part of the tape.
pub(crate) fn copy(g: &mut Graph, x: Var, y: Var) -> Result<()> {
    g.launch(&k::COPY, &params(g, y, 1.0)?, &[x, y])
}

/// `sum += x` in place.
pub(crate) fn accumulate(g: &mut Graph, sum: Var, x: Var) -> Result<()> {
    g.launch(&k::ACCUMULATE, &params(g, x, 1.0)?, &[x, sum])
}

/// `a + b`, elementwise, of one shape.
///
/// # Errors
/// When the shapes differ.
pub fn add(g: &mut Graph, a: Var, b: Var) -> Result<Var> {
    if g.shape(a) != g.shape(b) {
        return Err(Error::shape(
            "add",
            "b",
            format!("shape {:?} against a of shape {:?}", g.shape(b), g.shape(a)),
        ));
    }
    let y = g.temp_like(a);
    g.launch(&k::ADD, &params(g, a, 1.0)?, &[a, b, y])?;
    g.on_backward(y, &[a, b], move |g, dy| {
        g.give_grad(a, dy)?;
        g.give_grad(b, dy)
    });
    Ok(y)
}

/// `factor·x`.
///
/// # Errors
/// When `factor` is not finite.
pub fn scale(g: &mut Graph, x: Var, factor: f32) -> Result<Var> {
    if !factor.is_finite() {
        return Err(Error::shape("scale", "factor", format!("must be finite, is {factor}")));
    }
    let one = fill(g, &[1], 1.0)?;
    let y = g.temp_like(x);
    let p = params(g, x, factor)?;
    g.launch(&k::SCALE, &p, &[x, one, y])?;
    g.on_backward(y, &[x], move |g, dy| {
        if let Some(dx) = g.grad_target(x) {
            g.launch(&k::SCALE, &p, &[dy, one, dx])?;
            g.give_grad(x, dx)?;
        }
        Ok(())
    });
    Ok(y)
}

/// Hands `grad`, the gradient of a scalar loss with respect to `x`, to `x`, times the loss's own `upstream`.
///
/// For losses whose forward launch already wrote the gradient: when the upstream is the
/// constant 1 nothing is launched.
pub(crate) fn give_scaled(g: &mut Graph, x: Var, grad: Var, upstream: Var) -> Result<()> {
    if g.is_unit(upstream) {
        return g.give_grad(x, grad);
    }
    if let Some(dx) = g.grad_target(x) {
        g.launch(&k::SCALE, &params(g, x, 1.0)?, &[grad, upstream, dx])?;
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
        let dx = g.alias(dy, &from)?;
        g.give_grad(x, dx)
    });
    Ok(y)
}
