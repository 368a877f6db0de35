//! What a pitch is looked for in.

use super::voice::Voice;
use crate::{Error, Result};

/// Longest frame in samples: 1.5 s at 44.1 kHz.
const MAX_FRAME: usize = 1 << 16;

/// The range of pitches, and the frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PitchOptions {
    /// The lowest f0 in Hz; 60. Two periods of it must fit in a frame.
    pub lowest: f64,
    /// The highest f0 in Hz, at most half the sample rate; 2000.
    pub highest: f64,
    /// Samples of a frame; 2048, which is 46 ms at 44.1 kHz.
    pub frame: usize,
    /// Samples from one frame to the next, at most a frame; 256, which is 5.8 ms at 44.1 kHz.
    pub hop: usize,
}

impl Default for PitchOptions {
    fn default() -> Self {
        Self::of(Voice::Any)
    }
}

impl PitchOptions {
    /// The range of a voice or an instrument, in the default frames.
    pub fn of(voice: Voice) -> Self {
        let (lowest, highest) = voice.range();
        Self { lowest, highest, frame: 2048, hop: 256 }
    }

    /// Whether they fit each other and the sample rate in Hz.
    pub fn check(&self, rate: f64) -> Result<()> {
        let Self { lowest, highest, frame, hop } = *self;
        let fault = if !(rate.is_finite() && rate > 0.0) {
            format!("sample rate {rate}: expected Hz above 0")
        } else if !(lowest.is_finite() && lowest > 0.0) {
            format!("lowest pitch {lowest}: expected Hz above 0")
        } else if !(highest.is_finite() && highest > lowest) {
            format!("highest pitch {highest} Hz: expected more than the lowest, {lowest} Hz")
        } else if highest > rate / 2.0 {
            format!(
                "highest pitch {highest} Hz: at a sample rate of {rate} Hz at most half of it, {} Hz",
                rate / 2.0
            )
        } else if frame > MAX_FRAME {
            format!("pitch frame of {frame} samples: at most {MAX_FRAME}")
        } else if hop == 0 || hop > frame {
            format!("pitch hop of {hop} samples: expected 1 to a frame, {frame}")
        } else if rate / lowest > (frame / 2) as f64 {
            format!(
                "pitch frame of {frame} samples: two periods of the lowest pitch, {lowest} Hz, take {} at {rate} Hz; \
                 a longer frame or a lowest pitch of {} Hz would do",
                2.0 * (rate / lowest).ceil(),
                (10.0 * rate / (frame / 2).max(1) as f64).ceil() / 10.0
            )
        } else {
            return Ok(());
        };
        Err(Error::config(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_does_not_fit() {
        let default = PitchOptions::default();
        assert_eq!(default, PitchOptions { lowest: 60.0, highest: 2000.0, frame: 2048, hop: 256 });
        assert!(default.check(44100.0).is_ok());
        let refuses = |options: PitchOptions, rate: f64, word: &str| {
            let message = options.check(rate).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        };
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            refuses(default, rate, "sample rate");
        }
        for lowest in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            refuses(PitchOptions { lowest, ..default }, 44100.0, "lowest pitch");
        }
        for highest in [0.0, 60.0, f64::NAN, f64::INFINITY] {
            refuses(PitchOptions { highest, ..default }, 44100.0, "highest pitch");
        }
        refuses(default, 3999.0, "at most half of it, 1999.5 Hz");
        for hop in [0, 2049, usize::MAX] {
            refuses(PitchOptions { hop, ..default }, 44100.0, "hop");
        }
        for frame in [0, 1, 1469, 65537] {
            refuses(PitchOptions { frame, hop: 1, ..default }, 44100.0, "frame");
        }
        refuses(PitchOptions { lowest: 43.0, ..default }, 44100.0, "lowest pitch of 43.1 Hz");
        assert!(PitchOptions { lowest: 43.1, ..default }.check(44100.0).is_ok());
        assert!(PitchOptions { frame: 1470, ..default }.check(44100.0).is_ok());
    }
}
