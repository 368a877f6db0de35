//! The training step of a phase, recorded.

use super::feed::Feed;
use super::heads::Heads;
use super::options::{Contrast, Pairs};
use super::phase::Phase;
use super::resident::Resident;
use crate::device::{Buf, Device};
use crate::graph::{Graph, Step, Var};
use crate::net::PcConvNet;
use crate::ops;
use crate::ops::contrastive::{ContrastiveOptions, contrastive, contrastive_halves};
use crate::ops::gather::gather_rows;
use crate::ops::loss::{LossOptions, mse, mse_weighted};
use crate::optim::{Method, Optimizer};
use crate::{Error, Result};

/// A recorded training step and what it is fed from.
pub(super) struct Training {
    pub step: Step,
    pub feed: Feed,
    pub optimizer: Optimizer,
}

/// Records the contrastive loss of embeddings `z`, over all pairs or those of `pairing`.
pub(super) fn contrast(g: &mut Graph, c: Contrast, z: Var, labels: Var, pairing: Option<Var>) -> Result<Var> {
    let Contrast { metric, margin, tau, weight, .. } = c;
    let options = ContrastiveOptions { metric, margin, tau, weight, ..Default::default() };
    match pairing {
        Some(pairing) => contrastive_halves(g, z, labels, pairing, options),
        None => contrastive(g, z, labels, options),
    }
}

impl Training {
    /// Records one of an epoch's `steps` on `batch` samples.
    pub(super) fn record(
        device: &dyn Device,
        net: &PcConvNet,
        data: &Resident,
        phase: &Phase,
        method: Method,
        [steps, batch]: [usize; 2],
    ) -> Result<Self> {
        let mut g = Graph::new();
        // Without a path head the note head's hidden layers, which drop their inputs, make the embedding.
        let dropout = net.config.drops() && (phase.mse || !net.config.has_path());
        let halves = phase.contrast.is_some_and(|c| c.pairs == Pairs::Halves);
        let feed = Feed::new(device, [steps, batch], data.padded(), dropout, halves)?;
        let vars = net.bind(&mut g, phase.encoder, phase.head)?;
        let shown = feed.batch.record(&mut g, data, &net.config)?;
        let random = feed.dropout.as_ref().map(|buf| g.bind(buf, &[3])).transpose()?;
        let heads = Heads::record(&mut g, net, &vars, &shown, random, phase.mse)?;
        let mut losses = Vec::new();
        if phase.mse {
            let ratings = heads.rate(&mut g, net, &vars, random)?;
            let rows = |g: &mut Graph, of: &Buf| {
                let [examples, criteria] = data.shape;
                let shape: &[usize] = if criteria == 1 { &[examples] } else { &[examples, criteria] };
                let table = g.bind(of, shape)?;
                gather_rows(g, table, shown.examples)
            };
            let target = rows(&mut g, &data.ratings)?;
            let rated = data.rated.as_ref().map(|of| rows(&mut g, of)).transpose()?;
            // The mean over heads, as the validation loss is of their mean.
            let options = LossOptions { weight: 1.0 / ratings.len() as f32 };
            for rating in ratings {
                losses.push(match rated {
                    Some(rated) => mse_weighted(&mut g, rating, target, rated, options)?,
                    None => mse(&mut g, rating, target, options)?,
                });
            }
        }
        if let Some(c) = phase.contrast {
            let table = g.bind(&data.labels, &[data.labels.len()])?;
            let labels = gather_rows(&mut g, table, shown.examples)?;
            let pairing = feed.pairing.as_ref().map(|buf| g.bind(buf, &[batch])).transpose()?;
            losses.push(contrast(&mut g, c, heads.embedding, labels, pairing)?);
        }
        let mut losses = losses.into_iter();
        let first = losses.next().ok_or_else(|| Error::config("a phase without a loss"))?;
        let loss = losses.try_fold(first, |sum, loss| ops::add(&mut g, sum, loss))?;
        g.backward(loss)?;
        let optimizer = net.optimizer(device, &vars, method)?.with_hyper(&feed.hyper)?;
        net.update(&mut g, &vars, &optimizer)?;
        feed.record(&mut g, loss)?;
        let step = g.compile(device, &[])?;
        Ok(Self { step, feed, optimizer })
    }
}
