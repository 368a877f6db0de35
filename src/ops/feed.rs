//! What a training step hands to the next one. No gradient flows through this.

use super::check::count;
use crate::graph::{Graph, Var};
use crate::kernel::Elem;
use crate::kernels::feed as k;
use crate::{Error, Result};

/// The memory of [`feed`], all of it bound: it outlives the step.
#[derive(Debug, Clone, Copy)]
pub struct FeedVars {
    /// `[S, R]`: the floating-point inputs of each of S steps.
    pub real_table: Var,
    /// `[S, W]`, `u32`: the whole-number inputs of each step.
    pub word_table: Var,
    /// `[1]`, `u32`: the step that is running, from 0; counts modulo S.
    pub step: Var,
    /// `[S]`: the loss of each step.
    pub losses: Var,
    /// `[R]`: the floating-point inputs of the running step.
    pub reals: Var,
    /// `[W]`, `u32`: its whole-number inputs.
    pub words: Var,
}

/// Keeps `loss`, one value, as that of the running step and lays out the inputs of the next; after the last, of the first.
/// Record it last: what reads `reals` and `words` must come before.
///
/// # Errors
/// When shapes or element types do not fit.
pub fn feed(g: &mut Graph, loss: Var, vars: FeedVars) -> Result<()> {
    const OP: &str = "feed";
    let FeedVars { real_table, word_table, step, losses, reals, words } = vars;
    let [steps, wide_reals] = g.dims(OP, "real_table", real_table)?;
    let [_, wide_words] = g.dims(OP, "word_table", word_table)?;
    let wanted = [
        ("loss", loss, vec![1], Elem::Real),
        ("real_table", real_table, vec![steps, wide_reals], Elem::Real),
        ("word_table", word_table, vec![steps, wide_words], Elem::Index),
        ("step", step, vec![1], Elem::Index),
        ("losses", losses, vec![steps], Elem::Real),
        ("reals", reals, vec![wide_reals], Elem::Real),
        ("words", words, vec![wide_words], Elem::Index),
    ];
    for (name, var, shape, elem) in wanted {
        count(OP, name, g.shape(var))?;
        if g.shape(var) != shape || g.elem(var) != elem {
            return Err(Error::shape(
                OP,
                name,
                format!(
                    "needs {elem:?} of shape {shape:?}, has {:?} of shape {:?}",
                    g.elem(var),
                    g.shape(var)
                ),
            ));
        }
    }
    let p = k::FeedParams { steps: steps as u32, reals: wide_reals as u32, words: wide_words as u32 };
    g.launch(&k::NEXT, &p, &[loss, real_table, word_table, step, losses, reals, words])
}
