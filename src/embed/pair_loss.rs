//! The contrastive loss of each row's pairs.

use super::recorded::{OfRows, bound, copied};
use super::shared::{fits, launch, look_at};
use crate::contrastive::{Buffers, OTHERS, SAMPLES};
use crate::device::{Buf, Device};
use crate::graph::Graph;
use crate::kernels::pair_loss as kp;
use crate::ops::contrastive as loss;
use crate::ops::pair_loss::{self as pair, PairLossOptions, pair_loss_params};
use crate::{Error, Result};

/// [`contrastive_rows`](pair::contrastive_rows): the losses `[N]` of `n` rows of `d` columns, not yet over what their pairs
/// weigh, or their gradients; and what the pairs weigh into `totals`, where that is asked for.
///
/// A label or a weight that is not finite or negative is an error on the CPU, where it can be seen; elsewhere it makes the losses
/// of its pairs NaN.
///
/// # Errors
/// When a buffer is of another length or type, an option does not fit, a label or weight is seen to be none, or the device fails.
pub fn contrastive_rows(
    device: &dyn Device,
    [n, d]: [usize; 2],
    own: Buffers<'_>,
    others: Option<(usize, Buffers<'_>)>,
    options: PairLossOptions,
    of: OfRows<'_>,
    totals: Option<&Buf>,
) -> Result<()> {
    let op = "contrastive_rows";
    let (mut read, mut sets) = (Vec::new(), vec![(n, own, SAMPLES)]);
    sets.extend(others.map(|(m, others)| (m, others, OTHERS)));
    for &(rows, Buffers { embeddings, labels, weights }, names) in &sets {
        fits(op, names.rows, embeddings, &[rows, d])?;
        fits(op, names.labels, labels, &[rows])?;
        weights.map_or(Ok(()), |weights| fits(op, names.weights, weights, &[rows]))?;
        read.extend([(names.rows, embeddings), (names.labels, labels)]);
        read.extend(weights.map(|weights| (names.weights, weights)));
        if device.on_host() && matches!(of, OfRows::Losses(_)) {
            look_at(device, op, names, labels, weights)?;
        }
    }
    of.fits(op, [n, d], others.map(|(m, _)| m), &read, &[("totals", totals)])?;
    totals.map_or(Ok(()), |totals| fits(op, "totals", totals, &[n]))?;
    let (mut g, [gradient, other_gradient]) = (Graph::new(), of.gradients());
    let mut recorded = |rows: usize, of: Buffers<'_>, gradient: Option<&Buf>| {
        let z = bound(&mut g, of.embeddings, gradient, [rows, d])?;
        let labels = g.bind(of.labels, &[rows])?;
        let weights = of.weights.map(|weights| g.bind(weights, &[rows])).transpose()?;
        let labels = weights.map_or(labels.into(), |weights| loss::Labels::weighted(labels, weights));
        Ok::<_, Error>((z, labels))
    };
    let (z, labels) = recorded(n, own, gradient)?;
    let others = others.map(|(m, others)| recorded(m, others, other_gradient)).transpose()?;
    let [sums, of_pairs] = pair::contrastive_rows(&mut g, z, labels, others, options)?;
    if let Some(totals) = totals {
        copied(&mut g, of_pairs, totals)?;
    }
    of.finish(g, device, sums)
}

/// [`pair_loss`](crate::ops::pair_loss::pair_loss) of a block of `[rows, m]` pairs.
#[derive(Debug, Clone, Copy)]
pub struct PairLoss {
    p: kp::PairLossParams,
    shape: [usize; 2],
}

/// The matrices of a block of pairs.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    /// Euclidean distances, or cosines.
    pub similarities: &'a Buf,
    /// How far labels are apart.
    pub apart: &'a Buf,
    /// What pairs count, where not all count alike.
    pub weights: Option<&'a Buf>,
}

impl PairLoss {
    const OP: &str = "pair_loss";

    /// For so many rows, with `own` those of the columns' own set from that one on, and columns.
    ///
    /// # Errors
    /// When an option does not fit, or there are 2³² pairs or more.
    pub fn new(shape: [usize; 2], own: Option<usize>, options: PairLossOptions) -> Result<Self> {
        Ok(Self { p: pair_loss_params(Self::OP, shape, own, options)?, shape })
    }

    fn fitting<'a>(&self, pairs: Pairs<'a>) -> Result<(kp::PairLossParams, [&'a Buf; 3])> {
        let Pairs { similarities, apart, weights } = pairs;
        for (argument, buf) in
            [("similarities", Some(similarities)), ("apart", Some(apart)), ("weights", weights)]
        {
            buf.map_or(Ok(()), |buf| fits(Self::OP, argument, buf, &self.shape))?;
        }
        let p = kp::PairLossParams { weighted: if weights.is_some() { kp::OF_PAIRS } else { 0 }, ..self.p };
        Ok((p, [apart, weights.unwrap_or(apart), similarities]))
    }

    /// The rows' losses into `sums`, and what their pairs weigh into `totals`.
    ///
    /// # Errors
    /// When a buffer is of another length, or the device fails.
    pub fn forward(&self, device: &dyn Device, pairs: Pairs<'_>, sums: &Buf, totals: &Buf) -> Result<()> {
        let (p, [apart, weights, similarities]) = self.fitting(pairs)?;
        fits(Self::OP, "sums", sums, &self.shape[..1])?;
        fits(Self::OP, "totals", totals, &self.shape[..1])?;
        device.run_once(vec![launch(&kp::FWD, &p, &[apart, apart, weights, similarities, sums, totals])])
    }

    /// The gradient by the similarities, from that by the rows' losses, `upstream`, into `slopes`.
    ///
    /// # Errors
    /// When a buffer is of another length, or the device fails.
    pub fn backward(
        &self,
        device: &dyn Device,
        pairs: Pairs<'_>,
        upstream: &Buf,
        slopes: &Buf,
    ) -> Result<()> {
        let (p, [apart, weights, similarities]) = self.fitting(pairs)?;
        fits(Self::OP, "upstream", upstream, &self.shape[..1])?;
        fits(Self::OP, "slopes", slopes, &self.shape)?;
        device.run_once(vec![launch(&kp::BWD, &p, &[apart, apart, weights, similarities, upstream, slopes])])
    }
}
