//! Batch normalisation.

use super::check::{count, expect_constant, expect_shape};
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
/// and the unbiased variance by `momentum`, as in PyTorch. Two launches forward, two backward; in evaluation one each.
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
    let p = k::BatchNormParams::new([batch, channels, inner].map(|n| n as u32), eps, momentum);
    let part = [channels, p.splits(), 2];
    let y = g.temp_like(x);
    let mut saved = None;
    match mode {
        Mode::Train => {
            if batch * inner < 2 {
                return Err(Error::shape(
                    OP,
                    "x",
                    format!("training needs two values a channel or more, has shape {:?}", g.shape(x)),
                ));
            }
            let (part, statistics) = (g.temp(&part), g.temp(&[2, channels]));
            g.launch(&k::STATS, &p, &[x, part])?;
            g.launch(&k::TRAIN_FWD, &p, &[x, part, gamma, beta, running_mean, running_var, y, statistics])?;
            saved = Some(statistics);
        }
        Mode::Eval => g.launch(&k::EVAL_FWD, &p, &[x, gamma, beta, running_mean, running_var, y])?,
    }
    g.on_backward(y, &[x, gamma, beta], move |g, dy| {
        let inputs = [x, gamma, beta];
        // What nobody asks for is written all the same, where nobody looks.
        let grads = inputs.map(|v| g.grad_target(v).unwrap_or_else(|| g.temp_like(v)));
        let [dx, dgamma, dbeta] = grads;
        let part = g.temp(&part);
        if let Some(saved) = saved {
            g.launch(&k::SUMS, &p, &[x, saved, dy, part])?;
            g.launch(&k::TRAIN_BWD, &p, &[x, part, gamma, saved, dy, dx, dgamma, dbeta])?;
        } else {
            let bufs = [x, gamma, running_mean, running_var, dy, part, dx, dgamma, dbeta];
            g.launch(&k::EVAL_BWD, &p, &bufs)?;
        }
        inputs.into_iter().zip(grads).try_for_each(|(v, grad)| g.give_grad(v, grad))
    });
    Ok(y)
}
