//! The formulas in f64.

use super::anchor::anchors;
use crate::kernel::{Args, Real};
use std::cmp::Ordering;

/// The formulas, with the rows of an anchor in the order of how far their labels are.
pub(super) fn rows<F: Real>(args: Args<'_, F>) {
    anchors(args, |anchor, distances| {
        let mut others: Vec<usize> = (0..anchor.sorted.len()).filter(|&q| q != anchor.at).collect();
        // From far to near; what compares with nothing makes the loss NaN at its end.
        others.sort_by(|&a, &b| anchor.apart(b).partial_cmp(&anchor.apart(a)).unwrap_or(Ordering::Equal));
        let row = |q: usize| anchor.order[q] as usize;
        let s: Vec<F> = others.iter().map(|&q| -distances[row(q)] / anchor.temperature).collect();
        let tie = |a: &usize, b: &usize| anchor.apart(*a) == anchor.apart(*b);
        // log S of each group of ties.
        let (mut largest, mut sum, mut at) = (F::neg_infinity(), F::zero(), 0);
        let mut groups = Vec::new();
        let mut loss = F::zero();
        for group in others.chunk_by(tie) {
            let of_group = at..at + group.len();
            at = of_group.end;
            for &v in &s[of_group.clone()] {
                let more = largest.max(v);
                sum = sum * (largest - more).exp() + (v - more).exp();
                largest = more;
            }
            let log = largest + sum.ln();
            loss += s[of_group.clone()].iter().map(|&v| log - v).sum::<F>();
            groups.push((of_group, log));
        }
        if anchor.gradient {
            distances[row(anchor.at)] = F::zero();
            // Q, times exp of the last log S: sums of what is at most 1.
            let (mut q, mut before) = (F::zero(), F::zero());
            for (of_group, log) in groups.into_iter().rev() {
                q = q * (log - before).exp() + F::of(of_group.len() as f64);
                before = log;
                for m in of_group {
                    distances[row(others[m])] = anchor.scale * (F::one() - (s[m] - log).exp() * q);
                }
            }
        }
        // A row that is infinitely far is no row.
        if loss.is_finite() { loss / anchor.count() } else { F::nan() }
    });
}
