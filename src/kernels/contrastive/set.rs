//! A set of samples as a launch gives it.

use super::sound;

/// Rows, what is known of each, and where their gradient goes.
pub(crate) struct Set<'a> {
    pub z: &'a [f32],
    pub labels: &'a [f32],
    pub weights: Option<&'a [f32]>,
    pub dz: &'a mut [f32],
}

impl Set<'_> {
    /// Whether what counts of it is numbers; where it is not, the gradient becomes NaN.
    pub fn is_sound(&mut self, d: usize) -> bool {
        let sound = sound::samples(d, self.z, self.labels, self.weights);
        if !sound {
            self.dz.fill(f32::NAN);
        }
        sound
    }

    /// The largest weight.
    pub fn largest(&self) -> f32 {
        self.weights.map_or(1.0, |w| w.iter().copied().fold(0.0, f32::max))
    }
}
