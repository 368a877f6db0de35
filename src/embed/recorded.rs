//! Calls of several launches, which a graph records.

use super::shared::{apart, fits};
use crate::Result;
use crate::device::{Buf, Device};
use crate::graph::{Graph, Var};
use crate::kernels::elementwise as ke;

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

    /// Checks lengths, and that what is written is apart from what is read: `n` rows, of `d` columns, and `m` others.
    pub(super) fn fits(
        self,
        op: &'static str,
        [n, m, d]: [usize; 3],
        read: &[(&'static str, &Buf)],
    ) -> Result<()> {
        match self {
            Self::Losses(losses) => {
                fits(op, "losses", losses, &[n])?;
                apart(op, read, &[("losses", Some(losses))])
            }
            Self::Gradients { upstream, by: [gradient, other_gradient] } => {
                fits(op, "upstream", upstream, &[n])?;
                for (argument, of, rows) in [("gradient", gradient, n), ("other_gradient", other_gradient, m)]
                {
                    of.map_or(Ok(()), |of| fits(op, argument, of, &[rows, d]))?;
                }
                let read = [read, &[("upstream", upstream)]].concat();
                apart(op, &read, &[("gradient", gradient), ("other_gradient", other_gradient)])
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
