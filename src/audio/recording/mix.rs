//! From channels to one.

/// Share of the channels' energy that their mean has left where they cancel each other.
const CANCELLED: f64 = 1e-3;

/// The mean of channels, and whether it still has what they have.
#[derive(Default)]
pub(super) struct Mix {
    /// Energy of the channels, a mean over them, and of their mean.
    energy: [f64; 2],
    mono: Vec<f32>,
    /// Frames so far.
    frames: u64,
}

impl Mix {
    /// The mean of interleaved `samples`; an error names the frame with what is no number.
    pub fn push(&mut self, samples: &[f32], channels: usize) -> Result<&[f32], u64> {
        self.mono.clear();
        let of = 1.0 / channels.max(1) as f32;
        for frame in samples.chunks_exact(channels.max(1)) {
            let mean = frame.iter().sum::<f32>() * of;
            if !mean.is_finite() {
                return Err(self.frames + self.mono.len() as u64);
            }
            self.energy[0] += f64::from(frame.iter().map(|x| x * x).sum::<f32>() * of);
            self.energy[1] += f64::from(mean * mean);
            self.mono.push(mean);
        }
        self.frames += self.mono.len() as u64;
        Ok(&self.mono)
    }

    /// Whether the channels cancelled each other: one is the other upside down.
    pub fn is_cancelled(&self) -> bool {
        self.energy[0] > 0.0 && self.energy[1] < CANCELLED * self.energy[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_become_their_mean_unless_they_cancel() {
        let mut mix = Mix::default();
        assert_eq!(mix.push(&[1.0, 0.0, 0.5, 0.5], 2), Ok(&[0.5, 0.5][..]));
        assert!(!mix.is_cancelled());
        assert_eq!(mix.push(&[0.0, f32::NAN, 0.0, 0.0], 2), Err(2));
        let mut cancelled = Mix::default();
        cancelled.push(&[1.0, -1.0, 0.5, -0.5], 2).unwrap();
        assert!(cancelled.is_cancelled());
        assert!(!Mix::default().is_cancelled());
    }
}
