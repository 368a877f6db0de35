//! One pair in f64: what the oracle is made of, and what pairs too near for the tiles are computed by.

use super::params::ContrastiveParams;
use crate::kernel::Real;

impl ContrastiveParams {
    /// The loss of a pair at distance `d`, and its derivative by `d`.
    fn term(&self, d: f64, w: f64) -> (f64, f64) {
        if w <= f64::from(self.tau) {
            (0.5 * d * d, d)
        } else {
            let h = (f64::from(self.margin) * w - d).max(0.0);
            (0.5 * h * h, -h)
        }
    }
}

/// The loss of one pair in f64; `add(k, ga, gb)` receives its gradient by `a[k]` and `b[k]`.
pub fn pair<F: Real>(
    p: &ContrastiveParams,
    w: f64,
    a: &[F],
    b: &[F],
    mut add: impl FnMut(usize, f64, f64),
) -> f64 {
    let ab = || a.iter().zip(b).map(|(a, b)| (a.get(), b.get()));
    if p.cosine() {
        let (aa, bb) = ab().fold((0.0, 0.0), |(aa, bb), (a, b)| (aa + a * a, bb + b * b));
        if aa == 0.0 || bb == 0.0 {
            return p.term(1.0, w).0;
        }
        let (ra, rb) = (1.0 / aa.sqrt(), 1.0 / bb.sqrt());
        // 1 − cos = ½‖â − b̂‖², which does not cancel when the rows are close.
        let d = 0.5 * ab().map(|(a, b)| (a * ra - b * rb).powi(2)).sum::<f64>();
        let (loss, slope) = p.term(d, w);
        if a.len() == 1 {
            // On a line the angle is 0 or π whatever the lengths: no gradient, not even a rounded one.
            return loss;
        }
        for (k, (a, b)) in ab().enumerate() {
            let (a, b) = (a * ra, b * rb);
            // ∂d/∂a = (cos·â − b̂) / ‖a‖
            add(k, slope * ra * (a - b - d * a), slope * rb * (b - a - d * b));
        }
        loss
    } else {
        let d = ab().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        let (loss, slope) = p.term(d, w);
        if d > 0.0 {
            for (k, (a, b)) in ab().enumerate() {
                let g = slope * ((a - b) / d);
                add(k, g, -g);
            }
        }
        loss
    }
}
