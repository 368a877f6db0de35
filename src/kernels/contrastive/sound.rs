//! Whether what a launch reads is numbers: the hinge would count a pair that is none as 0.

use crate::kernel::Real;

/// Whether a label or a weight is one: finite and not negative.
fn counted<F: Real>(v: F) -> bool {
    v.is_finite() && v >= F::zero()
}

/// Whether a sample is: its row finite, its label finite and not negative.
pub fn sample<F: Real>(row: &[F], label: F) -> bool {
    // Every element, so that it becomes vectors.
    counted(label) & row.iter().fold(true, |all, v| all & v.is_finite())
}

/// Whether all weights are.
pub fn weights<F: Real>(weights: Option<&[F]>) -> bool {
    weights.is_none_or(|weights| weights.iter().all(|&w| counted(w)))
}

/// Whether all weights are, and all samples whose weight is not 0.
pub fn samples<F: Real>(d: usize, z: &[F], labels: &[F], of_samples: Option<&[F]>) -> bool {
    let mut rows = z.chunks_exact(d).zip(labels).enumerate();
    let masked = |i: usize| of_samples.is_some_and(|w| w[i] == F::zero());
    weights(of_samples) && rows.all(|(i, (row, &label))| masked(i) || sample(row, label))
}
