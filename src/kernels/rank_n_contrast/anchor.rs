//! The anchors of a block, and what both instances do alike: rows in the order of their labels, the mean.

use super::params::{OF_EACH, RankNContrastParams};
use crate::kernel::{Args, Real};

/// What is no number comes after, or before, all that are: they lie at an end, where `anchors` looks.
pub(super) fn by_label<F: Real>(args: Args<'_, F>) {
    let [labels, order, ranks, sorted] = args.bufs();
    let (labels, order, ranks) = (labels.input(), order.index_output(), ranks.index_output());
    for (q, at) in (0..).zip(order.iter_mut()) {
        *at = q;
    }
    let key = |row: u32| labels[row as usize];
    let compare = |a: F, b: F| match a.partial_cmp(&b) {
        Some(ordering) => ordering,
        None => a.is_nan().cmp(&b.is_nan()),
    };
    // Rows of one label by their number: in place, without the memory that a stable sort takes.
    order.sort_unstable_by(|&a, &b| compare(key(a), key(b)).then(a.cmp(&b)));
    for ((q, &row), sorted) in (0..).zip(&*order).zip(sorted.output()) {
        ranks[row as usize] = q;
        *sorted = key(row);
    }
}

pub(super) fn mean<F: Real>(args: Args<'_, F>) {
    let [losses, loss] = args.bufs();
    let losses = losses.input();
    loss.output()[0] = F::of(losses.iter().map(|v| v.get()).sum::<f64>() / losses.len() as f64);
}

/// An anchor and the rows around it.
pub(super) struct Anchor<'a, F> {
    pub(super) order: &'a [u32],
    pub(super) sorted: &'a [F],
    /// Its place among the sorted.
    pub(super) at: usize,
    pub(super) temperature: F,
    /// What a row's part of the gradient by a distance is multiplied by.
    pub(super) scale: F,
    pub(super) gradient: bool,
}

impl<'a, F: Real> Anchor<'a, F> {
    pub(super) fn count(&self) -> F {
        F::of((self.sorted.len() - 1) as f64)
    }

    /// How far the label of the `q`-th is.
    pub(super) fn apart(&self, q: usize) -> F {
        let (y, other) = (self.sorted[self.at], self.sorted[q]);
        if q > self.at { other - y } else { y - other }
    }
}

/// Calls `f` with each anchor of a block, its distances and where its loss goes.
pub(super) fn anchors<F: Real>(args: Args<'_, F>, f: impl Fn(&Anchor<'_, F>, &mut [F]) -> F + Sync) {
    let (p, work): (RankNContrastParams, _) = (args.params(), args.work);
    let n = p.n as usize;
    let [order, ranks, sorted, upstream, distances, losses, _] = args.bufs();
    let (order, ranks, sorted, upstream) = (order.index(), ranks.index(), sorted.input(), upstream.input());
    let temperature = F::of(f64::from(p.temperature));
    let others = F::of((n - 1) as f64);
    let good = (sorted[n - 1] - sorted[0]).is_finite();
    work.pieces2((distances.output(), n), (losses.output(), 1), &|row, distances, loss| {
        let at = ranks[p.first as usize + row] as usize;
        let scale = match p.gradient {
            OF_EACH => upstream[row] / (others * temperature),
            _ => (F::of(n as f64) * others * temperature).recip(),
        };
        let gradient = p.gradient != 0;
        let of_anchor = f(&Anchor { order, sorted, at, temperature, scale, gradient }, distances);
        loss[0] = if good { of_anchor } else { F::nan() };
    });
}
