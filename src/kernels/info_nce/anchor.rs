//! The anchors of a block, and what both instances do alike: the mean.

use super::params::{InfoNceParams, OF_EACH, OF_MEAN};
use crate::kernel::{Args, Real};

pub(super) fn mean<F: Real>(args: Args<'_, F>) {
    let [losses, loss] = args.bufs();
    let losses = losses.input();
    loss.output()[0] = F::of(losses.iter().map(|v| v.get()).sum::<f64>() / losses.len() as f64);
}

/// An anchor and what it is held against.
pub(super) struct Anchor<'a, F> {
    pub(super) label: F,
    /// Of each column.
    pub(super) labels: &'a [F],
    /// The column of the anchor itself, where there is one.
    pub(super) own: Option<usize>,
    pub(super) sigma: F,
    pub(super) temperature: F,
    /// What a pair's part of the gradient by a cosine is multiplied by; none where nobody asks.
    pub(super) scale: Option<F>,
}

/// Calls `f` with each anchor of a block, its cosines and where its loss goes.
pub(super) fn anchors<F: Real>(args: Args<'_, F>, f: impl Fn(&Anchor<'_, F>, &mut [F]) -> F + Sync) {
    let (p, work): (InfoNceParams, _) = (args.params(), args.work);
    let [labels, other_labels, upstream, cosines, losses] = args.bufs();
    let (labels, other_labels, upstream) = (labels.input(), other_labels.input(), upstream.input());
    let [sigma, temperature] = [p.sigma, p.temperature].map(|v| F::of(f64::from(v)));
    let scale = |row: usize| match p.gradient {
        OF_MEAN => Some((F::of(f64::from(p.n)) * temperature).recip()),
        OF_EACH => Some(upstream[row] / temperature),
        _ => None,
    };
    work.pieces2((cosines.output(), p.m as usize), (losses.output(), 1), &|row, cosines, loss| {
        let at = p.first as usize + row;
        let own = (p.own != 0).then_some(at);
        let scale = scale(row);
        loss[0] =
            f(&Anchor { label: labels[at], labels: other_labels, own, sigma, temperature, scale }, cosines);
    });
}
