//! What ops ask of their arguments, and the errors they answer with.

use crate::graph::{Graph, Var};
use crate::{Error, Result};

/// Both sides must be stored alike.
pub(super) fn same_elem(
    g: &Graph,
    op: &'static str,
    (b, b_name): (Var, &'static str),
    (a, a_name): (Var, &str),
) -> Result<()> {
    let (of_a, of_b) = (g.elem(a), g.elem(b));
    if of_a == of_b {
        return Ok(());
    }
    Err(Error::shape(op, b_name, format!("holds {of_b:?} elements, {a_name} {of_a:?}: store both alike")))
}

/// The number of elements of `shape`, which must be at least one and fit a `u32`.
pub(super) fn count(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<u32> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .and_then(|n| u32::try_from(n).ok())
        .filter(|&n| n > 0)
        .ok_or_else(|| {
            Error::shape(op, argument, format!("needs 1 to 2^32 - 1 elements, has shape {shape:?}"))
        })
}

/// Checks that `var` has the shape `want` takes from `from`, another argument.
pub(super) fn expect_shape(
    g: &Graph,
    op: &'static str,
    argument: &'static str,
    var: Var,
    want: &[usize],
    (other, from): (&str, Var),
) -> Result<()> {
    let shape = g.shape(var);
    if shape == want {
        return Ok(());
    }
    Err(Error::shape(
        op,
        argument,
        format!("needs shape {want:?} for {other} of shape {:?}, has {shape:?}", g.shape(from)),
    ))
}

/// Checks that no gradient is expected to flow into `var`.
pub(super) fn expect_constant(g: &Graph, op: &'static str, argument: &'static str, var: Var) -> Result<()> {
    if g.needs_grad(var) {
        let shape = g.shape(var);
        return Err(Error::shape(
            op,
            argument,
            format!("no gradient flows to it: bind it as a constant (shape {shape:?})"),
        ));
    }
    Ok(())
}
