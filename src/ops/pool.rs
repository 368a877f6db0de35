//! Means over time.

use super::check::{count, expect_shape};
use crate::graph::{Graph, Var};
use crate::kernel::{Elem, Kernel};
use crate::kernels::pool as k;
use crate::{Error, Result};

fn params(g: &Graph, op: &'static str, x: Var) -> Result<k::PoolParams> {
    let [batch, channels, frames] = g.dims(op, "x", x)?;
    count(op, "x", g.shape(x))?;
    Ok(k::PoolParams { batch: batch as u32, channels: channels as u32, frames: frames as u32 })
}

/// The mean over time of `x [B, C, T]`: `[B, C]`.
///
/// # Errors
/// When `x` has not three dimensions or no elements.
pub fn mean_time(g: &mut Graph, x: Var) -> Result<Var> {
    let p = params(g, "mean_time", x)?;
    let y = g.temp(&[p.batch as usize, p.channels as usize]);
    means(g, Means { kernels: [&k::MEAN_FWD, &k::MEAN_BWD], p, lengths: None }, x, y)?;
    Ok(y)
}

/// The mean of the first `lengths[b]` frames of each row of `x [B, C, T]`: `[B, C]`.
///
/// `lengths [B]` are `u32`; more than T counts as T, and a row of length 0 has mean 0 and gradient 0.
///
/// # Errors
/// When the shapes do not fit.
pub fn masked_mean_time(g: &mut Graph, x: Var, lengths: Var) -> Result<Var> {
    const OP: &str = "masked_mean_time";
    let p = params(g, OP, x)?;
    expect_shape(g, OP, "lengths", lengths, &[p.batch as usize], ("x", x))?;
    if g.elem(lengths) != Elem::Index {
        let (elem, shape) = (g.elem(lengths), g.shape(lengths));
        return Err(Error::shape(OP, "lengths", format!("needs u32, has {elem:?} of shape {shape:?}")));
    }
    let y = g.temp(&[p.batch as usize, p.channels as usize]);
    means(g, Means { kernels: [&k::MASKED_FWD, &k::MASKED_BWD], p, lengths: Some(lengths) }, x, y)?;
    Ok(y)
}

/// Means, and what spreads them over time again: two linear maps, each the other's gradient.
#[derive(Clone, Copy)]
struct Means {
    kernels: [&'static Kernel; 2],
    p: k::PoolParams,
    lengths: Option<Var>,
}

/// `y`, the means of `x`.
fn means(g: &mut Graph, of: Means, x: Var, y: Var) -> Result<()> {
    let bufs: Vec<Var> = [x].into_iter().chain(of.lengths).chain([y]).collect();
    g.launch(of.kernels[0], &of.p, &bufs)?;
    g.on_backward(y, &[x], move |g, dy| {
        let Some(dx) = g.grad_target(x) else { return Ok(()) };
        let bufs: Vec<Var> = of.lengths.into_iter().chain([dy, dx]).collect();
        g.launch(of.kernels[1], &of.p, &bufs)?;
        g.on_backward(dx, &[dy], move |g, up| {
            let Some(target) = g.grad_target(dy) else { return Ok(()) };
            means(g, of, up, target)?;
            g.give_grad(dy, target)
        });
        g.give_grad(x, dx)
    });
    Ok(())
}
