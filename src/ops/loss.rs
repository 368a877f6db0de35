//! Losses of predictions against targets. The contrastive losses are in [`super::contrastive`].

use super::check::{count, expect_constant};
use super::elementwise::give_scaled;
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

fn record(
    g: &mut Graph,
    op: &'static str,
    kernel: &'static Kernel,
    (prediction, target): (Var, Var),
    LossOptions { weight }: LossOptions,
) -> Result<Var> {
    if !weight.is_finite() {
        return Err(Error::shape(op, "weight", format!("must be finite, is {weight}")));
    }
    let column = |v| match g.shape(v) {
        [b] | [b, 1] => Some(*b),
        _ => None,
    };
    if g.shape(prediction) != g.shape(target)
        && (column(prediction).is_none() || column(prediction) != column(target))
    {
        return Err(Error::shape(
            op,
            "target",
            format!("shape {:?} against prediction of shape {:?}", g.shape(target), g.shape(prediction)),
        ));
    }
    let p = k::LossParams { n: count(op, "prediction", g.shape(prediction))?, weight };
    let loss = g.temp(&[1]);
    let grad = g.temp_like(prediction);
    let part = g.temp(&[p.n.div_ceil(SPAN) as usize]);
    g.launch(kernel, &p, &[prediction, target, loss, grad, part])?;
    g.on_backward(loss, &[prediction, target], move |g, upstream| {
        give_scaled(g, prediction, grad, upstream)?;
        // Only the squared error takes targets that need a gradient: the opposite one.
        if let Some(dt) = g.grad_target(target) {
            g.scale(grad, upstream, -1.0, dt)?;
            g.give_grad(target, dt)?;
        }
        Ok(())
    });
    Ok(loss)
}

/// Mean squared error of `prediction` against `target`, of one shape (`[B]` and `[B, 1]` count as one): `[1]`.
///
/// One launch writes value and gradient; a target that needs a gradient, the opposite one, costs another.
///
/// # Errors
/// When the shapes differ, are empty, or the weight is not finite.
pub fn mse(g: &mut Graph, prediction: Var, target: Var, options: LossOptions) -> Result<Var> {
    record(g, "mse", &k::MSE, (prediction, target), options)
}

/// Mean binary cross-entropy of probabilities; logarithms are clamped to at least −100, as in PyTorch.
///
/// # Errors
/// As [`mse`]; also when the target needs a gradient.
pub fn bce(g: &mut Graph, prediction: Var, target: Var, options: LossOptions) -> Result<Var> {
    expect_constant(g, "bce", "target", target)?;
    record(g, "bce", &k::BCE, (prediction, target), options)
}

/// Mean binary cross-entropy of logits: `bce(sigmoid(x), target)`, accurate for any finite `x`.
///
/// # Errors
/// As [`bce`].
pub fn bce_with_logits(g: &mut Graph, logits: Var, target: Var, options: LossOptions) -> Result<Var> {
    expect_constant(g, "bce_with_logits", "target", target)?;
    record(g, "bce_with_logits", &k::BCE_LOGITS, (logits, target), options)
}
