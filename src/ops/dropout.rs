//! Dropout.

use super::check::count;
use crate::graph::{Graph, Var};
use crate::kernel::Elem;
use crate::kernels::dropout as k;
use crate::{Error, Result};

/// Options of [`dropout`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutOptions {
    /// Probability that an element is dropped, in [0, 1).
    pub probability: f32,
    /// Which mask of a step this is: another number for each dropout of a graph.
    pub stream: u32,
}

/// Sets elements of `x` to 0 at random and multiplies the others with `1/(1 − probability)`.
///
/// `state [3]` (`u32`) holds the seed, low word first, and the step: the mask depends on these, the
/// stream and the element's place alone, so it is the same on every device, and a new one in every
/// step whose number is written there. In evaluation, leave the op out.
///
/// # Errors
/// When the probability is out of range or `state` is not three `u32`.
pub fn dropout(g: &mut Graph, x: Var, state: Var, options: DropoutOptions) -> Result<Var> {
    let p = params("dropout", g, x, state, options)?;
    let y = g.temp_like(x);
    masked(g, p, state, x, y)?;
    Ok(y)
}

/// `y` is what the mask leaves of `x`: its own gradient.
fn masked(g: &mut Graph, p: k::DropoutParams, state: Var, x: Var, y: Var) -> Result<()> {
    g.launch(&k::APPLY, &p, &[state, x, y])?;
    g.on_backward(y, &[x], move |g, dy| {
        let Some(dx) = g.grad_target(x) else { return Ok(()) };
        masked(g, p, state, dy, dx)?;
        g.give_grad(x, dx)
    });
    Ok(())
}

/// Checks what `op` drops from `x`, and its params.
pub(super) fn params(
    op: &'static str,
    g: &Graph,
    x: Var,
    state: Var,
    DropoutOptions { probability, stream }: DropoutOptions,
) -> Result<k::DropoutParams> {
    if !(0.0..1.0).contains(&probability) {
        return Err(Error::shape(op, "probability", format!("must be in [0, 1), is {probability}")));
    }
    if g.elem(state) != Elem::Index || g.shape(state) != [3] {
        let (elem, shape) = (g.elem(state), g.shape(state));
        return Err(Error::shape(
            op,
            "state",
            format!("needs u32 of shape [3], has {elem:?} of shape {shape:?}"),
        ));
    }
    let probability = f64::from(probability);
    Ok(k::DropoutParams {
        n: count(op, "x", g.shape(x))?,
        threshold: (probability * 4_294_967_296.0) as u32,
        scale: (1.0 / (1.0 - probability)) as f32,
        stream,
    })
}
