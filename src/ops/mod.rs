//! Ops: shape rules, forward launches and a closure that records the backward ones.
//!
//! An op is a function over a [`Graph`]; it never sees a device.

pub mod activation;
pub mod batch_norm;
pub mod contrastive;
pub mod conv1d;
pub mod conv2d;
pub mod conv_block;
pub mod dropout;
pub mod elementwise;
pub mod feed;
pub mod gather;
pub mod linear;
pub mod loss;
pub mod optim;
pub mod pool;
pub mod similarity;

pub(crate) use elementwise::{accumulate, copy, give_scaled};
pub use elementwise::{add, fill, reshape, scale};

use crate::graph::{Graph, Var};
use crate::kernels::{Kernel, stored_as};
use crate::{Error, Result};

/// The row among those for f32, f16 and bf16 that takes what `var` holds.
fn row_for(
    g: &Graph,
    op: &'static str,
    argument: &'static str,
    var: Var,
    rows: [&'static Kernel; 3],
) -> Result<&'static Kernel> {
    let elem = g.elem(var);
    stored_as(elem, rows)
        .ok_or_else(|| Error::shape(op, argument, format!("holds {elem:?} elements, takes floats")))
}

/// Both sides must be stored alike.
fn same_elem(
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
