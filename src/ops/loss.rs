//! Losses of predictions against targets. The contrastive losses are in [`super::contrastive`].

use super::check::{count, expect_constant};
use super::elementwise::{give_scaled, reshape, scale, times};
use crate::graph::{Graph, Var};
use crate::kernel::{Kernel, SPAN};
use crate::kernels::loss as k;
use crate::{Error, Result};

/// Options of every loss here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossOptions {
    /// Factor of the mean: how much this loss counts in a sum of several.
    pub weight: f32,
}

impl Default for LossOptions {
    fn default() -> Self {
        Self { weight: 1.0 }
    }
}

/// Checks that `v` has the shape of the prediction; `[B]` and `[B, 1]` are one.
fn expect_same(g: &Graph, op: &'static str, argument: &'static str, v: Var, prediction: Var) -> Result<()> {
    let column = |v| match g.shape(v) {
        [b] | [b, 1] => Some(*b),
        _ => None,
    };
    if g.shape(v) == g.shape(prediction) || (column(v).is_some() && column(v) == column(prediction)) {
        return Ok(());
    }
    let message = format!("shape {:?} against prediction of shape {:?}", g.shape(v), g.shape(prediction));
    Err(Error::shape(op, argument, message))
}

fn record(
    g: &mut Graph,
    op: &'static str,
    kernel: &'static Kernel,
    (prediction, target): (Var, Var),
    weights: Option<Var>,
    LossOptions { weight }: LossOptions,
) -> Result<[Var; 2]> {
    if !weight.is_finite() {
        return Err(Error::shape(op, "weight", format!("must be finite, is {weight}")));
    }
    expect_same(g, op, "target", target, prediction)?;
    let p = k::LossParams { n: count(op, "prediction", g.shape(prediction))?, weight };
    let loss = g.temp(&[1]);
    let grad = g.temp_like(prediction);
    let part = g.temp(&[p.n.div_ceil(SPAN) as usize]);
    let all = [prediction, target, loss, grad, part].into_iter().chain(weights);
    g.launch(kernel, &p, &all.collect::<Vec<_>>())?;
    g.on_backward(loss, &[prediction, target], move |g, upstream| {
        give_scaled(g, op, prediction, grad, upstream)?;
        // Only the squared error takes targets that need a gradient: the opposite one.
        if let Some(dt) = g.grad_target(target) {
            times(g, grad, (upstream, -1.0), dt)?;
            g.give_grad(target, dt)?;
        }
        Ok(())
    });
    Ok([loss, grad])
}

/// Mean squared error of `prediction` against `target`, of one shape (`[B]` and `[B, 1]` count as one): `[1]`.
///
/// One launch writes value and gradient; a target that needs a gradient, the opposite one, costs another.
///
/// # Errors
/// When the shapes differ, are empty, or the weight is not finite.
pub fn mse(g: &mut Graph, prediction: Var, target: Var, options: LossOptions) -> Result<Var> {
    let [loss, grad] = record(g, "mse", &k::MSE, (prediction, target), None, options)?;
    // Its own derivative, but for the sign, is a number.
    let of_each = 2.0 * options.weight / count("mse", "prediction", g.shape(prediction))? as f32;
    g.on_backward(grad, &[prediction, target], move |g, up| {
        for (var, factor) in [(prediction, of_each), (target, -of_each)] {
            let (moves, shape) = (scale(g, up, factor)?, g.shape(var).to_vec());
            let moves = reshape(g, moves, &shape)?;
            g.give_grad(var, moves)?;
        }
        Ok(())
    });
    Ok(loss)
}

/// [`mse`] with a weight for each element: `Σ w(p − t)² / n`, where `n` are all elements, those without weight too.
///
/// An element of the weight 0 counts for nothing, whatever prediction and target are: so missing targets are masked.
///
/// # Errors
/// As [`mse`]; also when `weights` have another shape, or they or the target need a gradient.
pub fn mse_weighted(
    g: &mut Graph,
    prediction: Var,
    target: Var,
    weights: Var,
    options: LossOptions,
) -> Result<Var> {
    const OP: &str = "mse_weighted";
    expect_constant(g, OP, "target", target)?;
    expect_constant(g, OP, "weights", weights)?;
    expect_same(g, OP, "weights", weights, prediction)?;
    Ok(record(g, OP, &k::MSE_WEIGHTED, (prediction, target), Some(weights), options)?[0])
}

/// Mean binary cross-entropy of probabilities; logarithms are clamped to at least −100, as in PyTorch.
///
/// # Errors
/// As [`mse`]; also when the target needs a gradient.
pub fn bce(g: &mut Graph, prediction: Var, target: Var, options: LossOptions) -> Result<Var> {
    expect_constant(g, "bce", "target", target)?;
    Ok(record(g, "bce", &k::BCE, (prediction, target), None, options)?[0])
}

/// Mean binary cross-entropy of logits: `bce(sigmoid(x), target)`, accurate for any finite `x`.
///
/// # Errors
/// As [`bce`].
pub fn bce_with_logits(g: &mut Graph, logits: Var, target: Var, options: LossOptions) -> Result<Var> {
    expect_constant(g, "bce_with_logits", "target", target)?;
    Ok(record(g, "bce_with_logits", &k::BCE_LOGITS, (logits, target), None, options)?[0])
}
