//! Calls of several launches, which a graph records.

use super::shared::{apart, fits};
use crate::device::{Buf, Device};
use crate::graph::{Graph, Var};
use crate::kernels::elementwise as ke;
use crate::{Error, Result};

/// What is asked of losses of which each row has one.
#[derive(Debug, Clone, Copy)]
pub enum OfRows<'a> {
    /// The losses, into this buffer.
    Losses(&'a Buf),
    /// Gradients, from those by the losses: by the rows, and by the others.
    Gradients {
        /// By each loss.
        upstream: &'a Buf,
        /// By the rows, and by the others.
        by: [Option<&'a Buf>; 2],
    },
}

impl<'a> OfRows<'a> {
    pub(super) fn gradients(self) -> [Option<&'a Buf>; 2] {
        match self {
            Self::Losses(_) => [None; 2],
            Self::Gradients { by, .. } => by,
        }
    }

    /// Checks lengths, and that what is written, `more` too, is apart from what is read: of `n` rows of `d` columns, and so many
    /// `others`.
    pub(super) fn fits(
        self,
        op: &'static str,
        [n, d]: [usize; 2],
        others: Option<usize>,
        read: &[(&'static str, &Buf)],
        more: &[(&'static str, Option<&Buf>)],
    ) -> Result<()> {
        match self {
            Self::Losses(losses) => {
                fits(op, "losses", losses, &[n])?;
                apart(op, read, &[&[("losses", Some(losses))], more].concat())
            }
            Self::Gradients { upstream, by } => {
                fits(op, "upstream", upstream, &[n])?;
                let read = [read, &[("upstream", upstream)]].concat();
                apart(op, &read, &[&gradients_fit(op, [n, d], others, by)?, more].concat())
            }
        }
    }

    /// Runs what is recorded; of what nobody reads, nothing runs.
    pub(super) fn finish(self, mut g: Graph, device: &dyn Device, losses: Var) -> Result<()> {
        match self {
            Self::Losses(to) => copied(&mut g, losses, to)?,
            Self::Gradients { upstream, .. } => {
                let upstream = g.bind(upstream, &[upstream.len()])?;
                g.backward_from(losses, upstream)?;
            }
        }
        g.compile(device, &[])?.run()
    }
}

/// Gradients with their names, of `n` rows of `d` columns and of so many `others`, whose lengths are right.
pub(super) fn gradients_fit<'a>(
    op: &'static str,
    [n, d]: [usize; 2],
    others: Option<usize>,
    [own, other]: [Option<&'a Buf>; 2],
) -> Result<[(&'static str, Option<&'a Buf>); 2]> {
    if others.is_none() && other.is_some() {
        return Err(Error::shape(op, "other_gradient", "given without others"));
    }
    let gradients = [("gradient", own), ("other_gradient", other)];
    for ((argument, gradient), rows) in gradients.into_iter().zip([n, others.unwrap_or_default()]) {
        gradient.map_or(Ok(()), |gradient| fits(op, argument, gradient, &[rows, d]))?;
    }
    Ok(gradients)
}

/// Rows, whose gradient goes where it is wanted.
pub(super) fn bound(g: &mut Graph, rows: &Buf, gradient: Option<&Buf>, shape: [usize; 2]) -> Result<Var> {
    match gradient {
        Some(gradient) => g.leaf(rows, Some(gradient), &shape),
        None => g.bind(rows, &shape),
    }
}

/// Copies a value to memory of the caller's.
pub(super) fn copied(g: &mut Graph, from: Var, to: &Buf) -> Result<()> {
    let n = to.len();
    let to = g.bind(to, &[n])?;
    g.launch(&ke::COPY, &ke::ElementwiseParams { n: n as u32, factor: 1.0 }, &[from, to])
}

/// Runs what is recorded: the loss to its place, and backward from it.
pub(super) fn finish(
    mut g: Graph,
    device: &dyn Device,
    of_rows: Var,
    loss: &Buf,
    backward: bool,
) -> Result<()> {
    copied(&mut g, of_rows, loss)?;
    if backward {
        g.backward(of_rows)?;
    }
    g.compile(device, &[])?.run()
}
