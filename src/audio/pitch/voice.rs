//! Who sings or plays, and in which range.

use crate::names::named;

/// A voice or an instrument, for the range in which its pitch is looked for: the narrower, the fewer octave errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Voice {
    /// 60 to 2000 Hz: all voices and most instruments, but the top of a flute or a violin.
    #[default]
    Any,
    /// E2 to E4.
    Bass,
    /// G2 to A4.
    Baritone,
    /// C3 to C5.
    Tenor,
    /// F3 to F5.
    Alto,
    /// C4 to C6; treble voices too.
    Soprano,
    /// C4 to D7.
    Flute,
    /// Bb3 to A6.
    Oboe,
    /// In Bb: D3 to Bb6.
    Clarinet,
    /// Alto: Db3 to Ab5, and an octave above it for the altissimo register.
    Saxophone,
    /// In Bb: E3 to D6.
    Trumpet,
    /// E2 to F5.
    Trombone,
    /// G3 to E7, the end of the fingerboard.
    Violin,
    /// C2 to C6.
    Cello,
}

named!(Voice, "voice": Any "any", Bass "bass", Baritone "baritone", Tenor "tenor", Alto "alto", Soprano "soprano",
    Flute "flute", Oboe "oboe", Clarinet "clarinet", Saxophone "saxophone", Trumpet "trumpet", Trombone "trombone",
    Violin "violin", Cello "cello");

/// Semitones that a range is wider at both ends than the notes of a part: mistuning, vibrato and slides.
const MARGIN: f64 = 2.0;

impl Voice {
    /// The lowest and the highest f0 in Hz: that of the lowest and the highest note above, as they sound, and a whole tone more
    /// at both ends. Voices are the usual ranges of choral parts and soloists together, instruments those of textbooks of
    /// orchestration (S. Adler, "The Study of Orchestration").
    pub fn range(self) -> (f64, f64) {
        let (low, high) = match self {
            Self::Any => return (60.0, 2000.0),
            Self::Bass => (40, 64),
            Self::Baritone => (43, 69),
            Self::Tenor => (48, 72),
            Self::Alto => (53, 77),
            Self::Soprano => (60, 84),
            Self::Flute => (60, 98),
            Self::Oboe => (58, 93),
            Self::Clarinet => (50, 94),
            Self::Saxophone => (49, 92),
            Self::Trumpet => (52, 86),
            Self::Trombone => (40, 77),
            Self::Violin => (55, 100),
            Self::Cello => (36, 84),
        };
        let hz = |note: f64| 440.0 * ((note - 69.0) / 12.0).exp2();
        (hz(f64::from(low) - MARGIN), hz(f64::from(high) + MARGIN))
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::PitchOptions;
    use super::*;

    #[test]
    fn every_range_fits_the_default_frames() {
        for voice in Voice::ALL {
            for rate in [22050.0, 44100.0] {
                assert!(PitchOptions::of(voice).check(rate).is_ok(), "{voice}");
            }
            assert_eq!(voice.to_string().parse::<Voice>().unwrap(), voice);
        }
        let (low, high) = Voice::Cello.range();
        // Bb1 and D6.
        assert!((low - 58.270).abs() < 1e-3 && (high - 1174.659).abs() < 1e-3, "{low} {high}");
    }
}
