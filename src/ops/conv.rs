//! What the convolutions over sequences and over images share: shape rules, and which launches make and differentiate one.

use super::check::count;
use crate::graph::{Graph, Var};
use crate::kernel::{Kernel, Scratch};
use crate::{Error, Result};
use bytemuck::NoUninit;

/// One axis of a convolution: input length, taps, stride, padding, dilation.
#[derive(Debug, Clone, Copy)]
pub struct Slide {
    pub input: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl Slide {
    /// Output positions along the axis; `shapes` names both shapes in messages.
    pub fn output(&self, op: &'static str, shapes: &str) -> Result<usize> {
        let Self { input, kernel, stride, padding, dilation } = *self;
        for (argument, value) in [("stride", stride), ("dilation", dilation)] {
            if value == 0 {
                return Err(Error::shape(op, argument, format!("must be at least 1, is 0, for {shapes}")));
            }
        }
        // Signed 32-bit positions on a device must reach every padded one, and one step beyond.
        let fits = |v: Option<usize>| v.filter(|&v| v <= i32::MAX as usize);
        let beyond = |argument, value: usize| {
            Error::shape(op, argument, format!("{value} is beyond 32-bit indexing, for {shapes}"))
        };
        let padded = fits(padding.checked_mul(2).and_then(|p| p.checked_add(input)))
            .ok_or_else(|| beyond("padding", padding))?;
        let reach = fits((kernel - 1).checked_mul(dilation).and_then(|r| r.checked_add(1)))
            .filter(|&reach| reach <= padded)
            .ok_or_else(|| {
                Error::shape(
                    op,
                    "weight",
                    format!(
                        "{kernel} taps with dilation {dilation} reach beyond the {input} positions \
                         with padding {padding} at either end, for {shapes}"
                    ),
                )
            })?;
        fits(padded.checked_add(stride)).ok_or_else(|| beyond("stride", stride))?;
        // A single tap reaches no further, whatever the dilation.
        fits(Some(dilation)).ok_or_else(|| beyond("dilation", dilation))?;
        Ok((padded - reach) / stride + 1)
    }
}

/// Checks what does not depend on the number of dimensions; shapes are of `x`, the weight and the bias.
pub fn check_channels(
    op: &'static str,
    x: &[usize],
    w: &[usize],
    b: Option<&[usize]>,
    groups: usize,
) -> Result<()> {
    let shapes = format!("x of shape {x:?} and weight of shape {w:?}");
    for (argument, shape) in [("x", x), ("weight", w)] {
        if shape.contains(&0) {
            return Err(Error::shape(op, argument, format!("has an empty dimension: {shapes}")));
        }
        count(op, argument, shape)?;
    }
    let (cin, cout) = (x[1], w[0]);
    if groups == 0 || !cin.is_multiple_of(groups) || !cout.is_multiple_of(groups) {
        return Err(Error::shape(
            op,
            "groups",
            format!("{groups} does not divide {cin} input and {cout} output channels: {shapes}"),
        ));
    }
    if w[1] != cin / groups {
        return Err(Error::shape(
            op,
            "weight",
            format!("needs {} input channels in each of {groups} groups: {shapes}", cin / groups),
        ));
    }
    match b {
        Some(b) if b != [cout] => {
            Err(Error::shape(op, "bias", format!("shape {b:?} instead of [{cout}], for {shapes}")))
        }
        _ => Ok(()),
    }
}

/// A convolution that has been checked.
///
/// It is linear in the input and in the weight, and so are its gradients by either: with an upstream gradient in place of one of
/// the two they are each other's, so that all of them are differentiated as often as anyone asks.
#[derive(Clone, Copy)]
pub struct Launches<P> {
    /// The stem's rows: the convolution, and its gradients by the input, the weight and the bias.
    pub rows: [&'static Kernel; 4],
    /// The params of each.
    pub p: P,
    /// Those of a convolution without a bias.
    pub unbiased: P,
    /// Elements of scratch that the gradient of the weight takes.
    pub parts: Scratch,
}

impl<P: NoUninit + 'static> Launches<P> {
    /// Records `y`, of shape `y_shape`, and what makes its gradients.
    pub fn record(self, g: &mut Graph, [x, w]: [Var; 2], b: Option<Var>, y_shape: &[usize]) -> Result<Var> {
        let y = g.temp(y_shape);
        // A weight in place of a bias is not read as one: the params say so.
        g.launch(self.rows[0], &self.p, &[x, w, b.unwrap_or(w), y])?;
        let inputs: Vec<Var> = [x, w].into_iter().chain(b).collect();
        g.on_backward(y, &inputs, move |g, dy| {
            self.give_by_input(g, (x, dy), w)?;
            self.give_by_weight(g, (w, dy), x)?;
            if let Some(b) = b
                && let Some(db) = g.grad_target(b)
            {
                self.by_bias(g, dy, [x, w], db)?;
                g.give_grad(b, db)?;
            }
            Ok(())
        });
        Ok(y)
    }

    /// Hands the convolution of `x` to the gradient of `y`, in which something is linear by it.
    fn give_convolution(self, g: &mut Graph, y: Var, [x, w]: [Var; 2]) -> Result<()> {
        let Some(dy) = g.grad_target(y) else { return Ok(()) };
        g.launch(self.rows[0], &self.unbiased, &[x, w, w, dy])?;
        g.on_backward(dy, &[x, w], move |g, up| {
            self.give_by_input(g, (x, up), w)?;
            self.give_by_weight(g, (w, up), x)
        });
        g.give_grad(y, dy)
    }

    /// Hands to `x` the gradient by an input, of the upstream gradient `dy`.
    fn give_by_input(self, g: &mut Graph, (x, dy): (Var, Var), w: Var) -> Result<()> {
        let Some(dx) = g.grad_target(x) else { return Ok(()) };
        g.launch(self.rows[1], &self.p, &[dy, w, dx])?;
        g.on_backward(dx, &[dy, w], move |g, up| {
            self.give_convolution(g, dy, [up, w])?;
            self.give_by_weight(g, (w, dy), up)
        });
        g.give_grad(x, dx)
    }

    /// Hands to `w` the gradient by a weight, of the upstream gradient `dy`.
    fn give_by_weight(self, g: &mut Graph, (w, dy): (Var, Var), x: Var) -> Result<()> {
        let Some(dw) = g.grad_target(w) else { return Ok(()) };
        let part = g.scratch(self.parts);
        g.launch(self.rows[2], &self.p, &[x, dy, part, dw])?;
        g.on_backward(dw, &[x, dy], move |g, up| {
            self.give_by_input(g, (x, dy), up)?;
            self.give_convolution(g, dy, [x, up])
        });
        g.give_grad(w, dw)
    }

    /// The gradient by the bias, a sum of `dy`; `like` are an input and a weight.
    fn by_bias(self, g: &mut Graph, dy: Var, like: [Var; 2], db: Var) -> Result<()> {
        g.launch(self.rows[3], &self.p, &[dy, db])?;
        g.on_backward(db, &[dy], move |g, up| {
            let Some(to) = g.grad_target(dy) else { return Ok(()) };
            // What a bias adds to zeros: asked for so seldom that it has no kernel of its own.
            let mut zeros = like;
            for var in &mut zeros {
                let shape = g.shape(*var).to_vec();
                *var = g.fill(&shape, 0.0)?;
            }
            g.launch(self.rows[0], &self.p, &[zeros[0], zeros[1], up, to])?;
            g.on_backward(to, &[up], move |g, again| {
                let Some(target) = g.grad_target(up) else { return Ok(()) };
                self.by_bias(g, again, like, target)?;
                g.give_grad(up, target)
            });
            g.give_grad(dy, to)
        });
        Ok(())
    }
}
