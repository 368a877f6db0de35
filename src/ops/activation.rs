//! Activations.

use super::check::count;
use crate::graph::{Graph, Var};
use crate::kernels::activation as k;
use crate::{Error, Result};

fn params(op: &'static str, g: &Graph, x: Var, slope: f32) -> Result<k::ActivationParams> {
    Ok(k::ActivationParams { n: count(op, "x", g.shape(x))?, slope })
}

/// `max(0, x)`, elementwise.
///
/// # Errors
/// When `x` has no elements or more than 2^32 - 1.
pub fn relu(g: &mut Graph, x: Var) -> Result<Var> {
    record("relu", g, x, 0.0)
}

/// `x` where positive, else `slope·x`, elementwise.
///
/// # Errors
/// As [`relu`]; also when `slope` is not finite.
pub fn leaky_relu(g: &mut Graph, x: Var, slope: f32) -> Result<Var> {
    if !slope.is_finite() {
        return Err(Error::shape("leaky_relu", "slope", format!("must be finite, is {slope}")));
    }
    record("leaky_relu", g, x, slope)
}

fn record(op: &'static str, g: &mut Graph, x: Var, slope: f32) -> Result<Var> {
    let p = params(op, g, x, slope)?;
    let y = g.temp_like(x);
    g.launch(&k::RELU_FWD, &p, &[x, y])?;
    g.on_backward(y, &[x], move |g, dy| give_where_positive(g, p, x, (x, dy)));
    Ok(y)
}

/// Hands `to` what `dy` is where `x` is positive, and `slope` times that elsewhere; by `x` that has no derivative but 0.
fn give_where_positive(g: &mut Graph, p: k::ActivationParams, x: Var, (to, dy): (Var, Var)) -> Result<()> {
    let Some(dx) = g.grad_target(to) else { return Ok(()) };
    g.launch(&k::RELU_BWD, &p, &[x, dy, dx])?;
    g.on_backward(dx, &[dy], move |g, up| give_where_positive(g, p, x, (dy, up)));
    g.give_grad(to, dx)
}

/// `1 / (1 + exp(−x))`, elementwise.
///
/// # Errors
/// When `x` has no elements or more than 2^32 - 1.
pub fn sigmoid(g: &mut Graph, x: Var) -> Result<Var> {
    let p = params("sigmoid", g, x, 0.0)?;
    let y = g.temp_like(x);
    g.launch(&k::SIGMOID_FWD, &p, &[x, y])?;
    g.on_backward(y, &[x], move |g, dy| {
        if let Some(dx) = g.grad_target(x) {
            g.launch(&k::SIGMOID_BWD, &p, &[y, dy, dx])?;
            g.give_grad(x, dx)?;
        }
        Ok(())
    });
    Ok(y)
}
