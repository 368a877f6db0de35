//! The formulas in f64.

use super::anchor::anchors;
use crate::kernel::{Args, Real};

pub(super) fn rows<F: Real>(args: Args<'_, F>) {
    anchors(args, |anchor, cosines| {
        let others: Vec<usize> = (0..cosines.len()).filter(|&k| Some(k) != anchor.own).collect();
        let far = |k: usize| (anchor.label - anchor.labels[k]).abs() / anchor.sigma;
        let s: Vec<F> = others.iter().map(|&k| cosines[k] / anchor.temperature).collect();
        let nearest = others.iter().map(|&k| far(k)).fold(F::infinity(), F::min);
        let half = F::of(0.5);
        let exponent = |k: usize| -(far(k) - nearest) * (half * far(k) + half * nearest);
        let finite = others.iter().all(|&k| far(k).is_finite()) && s.iter().all(|v| v.is_finite());
        if !finite {
            cosines.fill(F::nan());
            return F::nan();
        }
        let weights: Vec<F> = others.iter().map(|&k| exponent(k).exp()).collect();
        let of_weights = weights.iter().copied().sum::<F>();
        let largest = s.iter().copied().fold(F::neg_infinity(), F::max);
        let log = largest + s.iter().map(|&v| (v - largest).exp()).sum::<F>().ln();
        if let Some(scale) = anchor.scale {
            cosines.fill(F::zero());
            for ((&k, &v), &w) in others.iter().zip(&s).zip(&weights) {
                cosines[k] = scale * ((v - log).exp() - w / of_weights);
            }
        }
        weights.iter().zip(&s).map(|(&w, &v)| w / of_weights * (log - v)).sum::<F>()
    });
}
