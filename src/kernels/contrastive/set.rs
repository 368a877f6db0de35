//! A set of samples as a launch gives it.

use super::sound;
use crate::kernel::with_scratch;

/// Rows, what is known of each, and where their gradient goes.
pub(crate) struct Set<'a> {
    pub z: &'a [f32],
    pub labels: &'a [f32],
    pub weights: Option<&'a [f32]>,
    pub dz: &'a mut [f32],
}

impl Set<'_> {
    /// `Σ s_i`.
    pub fn total(&self) -> f64 {
        match self.weights {
            None => self.labels.len() as f64,
            Some(weights) => weights.iter().map(|&w| f64::from(w)).sum(),
        }
    }

    /// `Σ_{i<j} s_i·s_j`, without a difference that could cancel.
    pub fn total_of_pairs(&self) -> f64 {
        match self.weights {
            None => {
                let n = self.labels.len() as f64;
                n * (n - 1.0) / 2.0
            }
            Some(weights) => {
                let mut before = 0.0;
                let pairs = weights.iter().map(|&w| {
                    let sum = f64::from(w) * before;
                    before += f64::from(w);
                    sum
                });
                pairs.sum()
            }
        }
    }

    /// Whether what counts of it is numbers; where it is not, the gradient becomes NaN.
    pub fn is_sound(&mut self, d: usize) -> bool {
        let sound = sound::samples(d, self.z, self.labels, self.weights);
        if !sound {
            self.dz.fill(f32::NAN);
        }
        sound
    }

    /// Calls `f` with the samples of positive weight alone, then puts their gradients in place and 0 elsewhere.
    ///
    /// `f` receives weights that are at most 1.
    pub fn kept<R>(self, d: usize, f: impl FnOnce(Set<'_>) -> R) -> R {
        let Some(weights) = self.weights else { return f(self) };
        let kept = || (0..weights.len()).filter(|&i| weights[i] > 0.0);
        let (count, largest) = (kept().count(), weights.iter().copied().fold(0.0, f32::max));
        with_scratch(count * (d + 2), |scratch: &mut [f32]| {
            let (z, rest) = scratch.split_at_mut(count * d);
            let (labels, weights_of_kept) = rest.split_at_mut(count);
            for (to, i) in kept().enumerate() {
                z[to * d..][..d].copy_from_slice(&self.z[i * d..][..d]);
                labels[to] = self.labels[i];
                weights_of_kept[to] = weights[i] / largest;
            }
            let dz = &mut self.dz[..count * d];
            let result = f(Set { z, labels, weights: Some(weights_of_kept), dz });
            // From the last on: a gradient moves up or stays.
            let mut from = count;
            for (to, &weight) in weights.iter().enumerate().rev() {
                if weight > 0.0 {
                    from -= 1;
                    self.dz.copy_within(from * d..(from + 1) * d, to * d);
                } else {
                    self.dz[to * d..][..d].fill(0.0);
                }
            }
            result
        })
    }
}
