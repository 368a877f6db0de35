//! Activations.

use crate::graph::{Graph, Var};
use crate::kernels::activation as k;
use crate::{Error, Result};

fn params(g: &Graph, x: Var, slope: f32) -> k::ActivationParams {
    k::ActivationParams { n: g.shape(x).iter().product::<usize>() as u32, slope }
}

/// `max(0, x)`, elementwise.
///
/// # Errors
/// None at present; see [`Graph::launch`].
pub fn relu(g: &mut Graph, x: Var) -> Result<Var> {
    leaky_relu(g, x, 0.0)
}

/// `x` where positive, else `slope·x`, elementwise.
///
/// # Errors
/// When `slope` is not finite.
pub fn leaky_relu(g: &mut Graph, x: Var, slope: f32) -> Result<Var> {
    if !slope.is_finite() {
        return Err(Error::shape("leaky_relu", "slope", format!("must be finite, is {slope}")));
    }
    let p = params(g, x, slope);
    let y = g.temp_like(x);
    g.launch(&k::RELU_FWD, &p, &[x, y])?;
    g.on_backward(y, &[x], move |g, dy| {
        if let Some(dx) = g.grad_target(x) {
            g.launch(&k::RELU_BWD, &p, &[x, dy, dx])?;
            g.give_grad(x, dx)?;
        }
        Ok(())
    });
    Ok(y)
}

/// `1 / (1 + exp(−x))`, elementwise.
///
/// # Errors
/// None at present; see [`Graph::launch`].
pub fn sigmoid(g: &mut Graph, x: Var) -> Result<Var> {
    let p = params(g, x, 0.0);
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
