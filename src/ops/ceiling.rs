//! What a device does at most: for benchmarks.

use super::check::count;
use crate::graph::{Graph, Var};
use crate::kernel::Elem;
use crate::kernels::ceiling as k;
use crate::{Error, Result};

/// For each element of `x`, f32 or f16, the sum of sixteen numbers after `4·rounds` multiply-adds of each with it, in the type
/// that `x` is stored in. Nothing goes backward from here.
///
/// # Errors
/// When `x` has no elements or more than 2^32 - 1, or holds others.
pub fn multiply_adds(g: &mut Graph, x: Var, rounds: u32) -> Result<Var> {
    let op = "multiply_adds";
    let kernel = match g.elem(x) {
        Elem::Real => &k::FMA,
        Elem::F16 => &k::FMA_F16,
        other => return Err(Error::shape(op, "x", format!("holds {other:?} elements, takes f32 or f16"))),
    };
    let p = k::CeilingParams { n: count(op, "x", g.shape(x))?, rounds };
    let y = g.temp_like(x);
    g.launch(kernel, &p, &[x, y])?;
    Ok(y)
}
