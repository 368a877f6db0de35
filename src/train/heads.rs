//! What the network makes of a batch, in one graph: the embedding, and ratings of each of its heads.

use super::batch::BatchVars;
use crate::graph::{Graph, Var};
use crate::net::{NetVars, PcConvNet};
use crate::ops;
use crate::{Error, Result};

/// The embedding of a batch, and how each head goes on.
pub(super) struct Heads {
    /// `[B, embedding]`: of the path head where there is one, else of the note head.
    pub embedding: Var,
    path: Option<Var>,
    notes: Option<Var>,
}

impl Heads {
    /// Records the encoder and the note head's hidden layers, or with `rated` false only what makes the embedding.
    pub(super) fn record(
        g: &mut Graph,
        net: &PcConvNet,
        vars: &NetVars,
        batch: &BatchVars,
        random: Option<Var>,
        rated: bool,
    ) -> Result<Self> {
        let size = g.shape(batch.examples)[0];
        let path = match batch.path {
            Some((x, lengths)) => Some(net.encode(g, vars, x, size, lengths)?),
            None => None,
        };
        let notes = match batch.features {
            Some(features) if rated || path.is_none() => Some(net.encode_notes(g, vars, features, random)?),
            _ => None,
        };
        let embedding =
            path.or(notes).ok_or_else(|| Error::config("the network has no head for this data"))?;
        Ok(Self { embedding, path, notes })
    }

    /// Records the ratings, `[B, K]`, of each head that there is.
    pub(super) fn rate(
        &self,
        g: &mut Graph,
        net: &PcConvNet,
        vars: &NetVars,
        random: Option<Var>,
    ) -> Result<Vec<Var>> {
        let path = self.path.map(|path| net.rate(g, vars, path, random)).transpose()?;
        let notes = self.notes.map(|notes| net.rate_notes(g, vars, notes, random)).transpose()?;
        Ok(path.into_iter().chain(notes).collect())
    }
}

/// Records the mean of some values of one shape.
pub(super) fn mean_of(g: &mut Graph, values: &[Var]) -> Result<Var> {
    match *values {
        [only] => Ok(only),
        [a, b] => {
            let sum = ops::add(g, a, b)?;
            ops::scale(g, sum, 0.5)
        }
        _ => Err(Error::config("a network has one head or two")),
    }
}
