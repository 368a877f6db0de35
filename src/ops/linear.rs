//! The fully connected layer.

use super::check::{count, expect_shape};
use super::dropout::DropoutOptions;
use crate::graph::{Graph, Var};
use crate::kernels::linear as k;
use crate::{Error, Result};

/// What is applied to a layer's output, in the same launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(0, z)`.
    Relu,
    /// `1 / (1 + exp(−z))`.
    Sigmoid,
}

/// `activation(x·wᵀ + b)` for `x [B, I]`, `w [O, I]` and, if given, `b [O]`: `[B, O]`.
///
/// One launch forward; one backward, for all gradients.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear(g: &mut Graph, x: Var, w: Var, b: Option<Var>, activation: Activation) -> Result<Var> {
    dropped_linear(g, x, None, w, b, activation)
}

/// As [`linear`] of [`dropout`](super::dropout::dropout)`(x)`, with the state and options that it takes, in the same launches.
///
/// # Errors
/// As [`linear`] and [`dropout`](super::dropout::dropout).
pub fn dropped_linear(
    g: &mut Graph,
    x: Var,
    dropped: Option<(Var, DropoutOptions)>,
    w: Var,
    b: Option<Var>,
    activation: Activation,
) -> Result<Var> {
    let [batch, inputs] = g.dims("linear", "x", x)?;
    let [outputs, wide] = g.dims("linear", "w", w)?;
    if wide != inputs {
        return Err(Error::shape(
            "linear",
            "w",
            format!("shape {:?} does not take x of shape {:?}", g.shape(w), g.shape(x)),
        ));
    }
    if let Some(b) = b {
        expect_shape(g, "linear", "b", b, &[outputs], ("w", w))?;
    }
    count("linear", "x", g.shape(x))?;
    count("linear", "w", g.shape(w))?;
    count("linear", "y", &[batch, outputs])?;
    let (state, threshold, scale, stream) = match dropped {
        Some((state, options)) => {
            let mask = super::dropout::params("linear", g, x, state, options)?;
            (state, mask.threshold, mask.scale, mask.stream)
        }
        None => (g.no_index(), 0, 1.0, 0),
    };
    let p = k::LinearParams {
        batch: batch as u32,
        inputs: inputs as u32,
        outputs: outputs as u32,
        activation: match activation {
            Activation::None => k::IDENTITY,
            Activation::Relu => k::RELU,
            Activation::Sigmoid => k::SIGMOID,
        },
        bias: u32::from(b.is_some()),
        wanted: 0,
        threshold,
        scale,
        stream,
    };
    let y = g.temp(&[batch, outputs]);
    g.launch(&k::FWD, &p, &[state, x, w, b.unwrap_or(w), y])?;
    g.on_backward(y, &[x, w, b.unwrap_or(x)], move |g, dy| {
        let targets = [Some(x), Some(w), b].map(|v| v.and_then(|v| Some((v, g.grad_target(v)?))));
        let mut p = p;
        let mut outs = [x; 3];
        for (i, target) in targets.iter().enumerate() {
            outs[i] = match target {
                Some((_, target)) => {
                    p.wanted |= [k::WANT_X, k::WANT_W, k::WANT_B][i];
                    *target
                }
                None => g.temp(&[1]),
            };
        }
        g.launch(&k::BWD, &p, &[state, x, w, y, dy, outs[0], outs[1], outs[2]])?;
        targets.into_iter().flatten().try_for_each(|(v, grad)| g.give_grad(v, grad))
    });
    Ok(y)
}
