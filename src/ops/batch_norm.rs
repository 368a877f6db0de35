//! Batch normalisation.

use super::linear::{count, expect_constant, expect_shape};
use crate::graph::{Graph, Var};
use crate::kernels::batch_norm as k;
use crate::{Error, Result};

/// Where mean and variance come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// From the batch; the running ones are updated in place.
    #[default]
    Train,
    /// From the running ones.
    Eval,
}

/// Options of [`batch_norm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormOptions {
    /// Where mean and variance come from.
    pub mode: Mode,
    /// Added to the variance; positive.
    pub eps: f32,
    /// What of the running statistics a step replaces, in [0, 1].
    pub momentum: f32,
}

impl Default for BatchNormOptions {
    fn default() -> Self {
        Self { mode: Mode::Train, eps: 1e-5, momentum: 0.1 }
    }
}

/// The affine parameters and running statistics of [`batch_norm`], each `[C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchNormVars {
    /// Scale.
    pub gamma: Var,
    /// Offset.
    pub beta: Var,
    /// Running mean, starts as 0.
    pub running_mean: Var,
    /// Running variance, starts as 1.
    pub running_var: Var,
}

/// `γ·(x − mean)/√(var + eps) + β` over the channels of `x [B, C, …]`.
///
/// In training, mean and biased variance are the batch's, and the running ones move towards the mean
/// and the unbiased variance by `momentum`, as in PyTorch. One launch forward, one backward.
///
/// # Errors
/// When the shapes do not fit, an option is out of range, or there is one value a channel in training.
pub fn batch_norm(g: &mut Graph, x: Var, vars: BatchNormVars, options: BatchNormOptions) -> Result<Var> {
    const OP: &str = "batch_norm";
    let BatchNormVars { gamma, beta, running_mean, running_var } = vars;
    count(OP, "x", g.shape(x))?;
    let (batch, channels, inner) = match g.shape(x) {
        [b, c, rest @ ..] => (*b, *c, rest.iter().product::<usize>()),
        shape => {
            return Err(Error::shape(OP, "x", format!("needs 2 dimensions or more, has shape {shape:?}")));
        }
    };
    for (name, var) in
        [("gamma", gamma), ("beta", beta), ("running_mean", running_mean), ("running_var", running_var)]
    {
        expect_shape(g, OP, name, var, &[channels], ("x", x))?;
    }
    expect_constant(g, OP, "running_mean", running_mean)?;
    expect_constant(g, OP, "running_var", running_var)?;
    let BatchNormOptions { mode, eps, momentum } = options;
    if !(eps > 0.0 && eps.is_finite()) {
        return Err(Error::shape(OP, "eps", format!("must be positive, is {eps}")));
    }
    if !(0.0..=1.0).contains(&momentum) {
        return Err(Error::shape(OP, "momentum", format!("must be in [0, 1], is {momentum}")));
    }
    let p = k::P { batch: batch as u32, channels: channels as u32, inner: inner as u32, eps, momentum };
    let y = g.temp_like(x);
    let (kernel, statistics) = match mode {
        Mode::Train => {
            if batch * inner < 2 {
                return Err(Error::shape(
                    OP,
                    "x",
                    format!("training needs two values a channel or more, has shape {:?}", g.shape(x)),
                ));
            }
            let (centre, rstd) = (g.temp(&[channels]), g.temp(&[channels]));
            g.launch(&k::TRAIN_FWD, &p, &[x, gamma, beta, running_mean, running_var, y, centre, rstd])?;
            (&k::TRAIN_BWD, [centre, rstd])
        }
        Mode::Eval => {
            g.launch(&k::EVAL_FWD, &p, &[x, gamma, beta, running_mean, running_var, y])?;
            (&k::EVAL_BWD, [running_mean, running_var])
        }
    };
    g.on_backward(y, &[x, gamma, beta], move |g, dy| {
        let inputs = [x, gamma, beta];
        // What nobody asks for is written all the same, where nobody looks.
        let grads = inputs.map(|v| g.grad_target(v).unwrap_or_else(|| g.temp_like(v)));
        let [dx, dgamma, dbeta] = grads;
        g.launch(kernel, &p, &[x, gamma, statistics[0], statistics[1], dy, dx, dgamma, dbeta])?;
        inputs.into_iter().zip(grads).try_for_each(|(v, grad)| g.give_grad(v, grad))
    });
    Ok(y)
}
