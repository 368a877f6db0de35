//! Pitch contours: MIDI pitch per frame at a fixed hop, 0 where unvoiced; of a score with its notes.

use crate::names::named;
use crate::{Error, Result};

/// The default hop in seconds: 256 samples at 44.1 kHz, 5.8 ms.
pub const HOP: f64 = 256.0 / 44100.0;

/// The highest f0 taken for a pitch, in Hz (MIDI 127). The lowest is MIDI 0, 8.18 Hz, where the sign of
/// the pitch would otherwise collide with "0 is unvoiced".
const MAX_HZ: f64 = 12543.9;
const MIN_HZ: f64 = 8.1758;

/// Longest contour in frames (27 hours at the default hop): a stray time stamp of 1e12 s in a file must
/// not ask for all the memory there is.
const MAX_FRAMES: usize = 1 << 24;

/// Longest time without a row, in seconds: a rest of five minutes is not part of a take.
const MAX_GAP: f64 = 300.0;

/// How many times longer than its rows at their median step a contour may be, [`MAX_GAP`] apart: trackers may leave out
/// unvoiced rows, but most of a take is voiced.
const MAX_SPARSENESS: f64 = 20.0;

/// MIDI pitch of a frequency in Hz: `69 + 12·log2(f/440)`.
pub fn hz_to_midi(hz: f64) -> f64 {
    69.0 + 12.0 * (hz / 440.0).log2()
}

/// Frequency in Hz of a MIDI pitch, the inverse of [`hz_to_midi`].
pub fn midi_to_hz(midi: f64) -> f64 {
    440.0 * ((midi - 69.0) / 12.0).exp2()
}

/// Names of the pitches of an octave.
const NAMES: [&str; 12] = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];

/// The name of the nearest whole MIDI pitch in 0..=128, such as A4 for 69.
pub fn pitch_name(midi: f64) -> String {
    let midi = midi.round().clamp(0.0, 128.0) as usize;
    format!("{}{}", NAMES[midi % 12], midi as i64 / 12 - 1)
}

/// The fundamental frequency of one recording, or the melody of one score, over time.
///
/// At least one frame is voiced and every voiced pitch is finite and above 0: the constructors see to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Contour {
    hop: f64,
    pitch: Vec<f32>,
    /// Of a score; in order, none overlapping another, each of a frame at least, the last ending with the contour.
    notes: Vec<Span>,
}

/// A note of a score: its pitch, and the frames `start..end` of a contour that it sounds in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// MIDI pitch, above 0.
    pub pitch: f32,
    /// Its first frame.
    pub start: usize,
    /// The frame after its last.
    pub end: usize,
}

impl Contour {
    /// A contour from MIDI pitch per frame, 0.0 where unvoiced, `hop` seconds apart.
    pub fn from_pitch(pitch: Vec<f32>, hop: f64) -> Result<Self> {
        check_hop(hop)?;
        if pitch.len() > MAX_FRAMES {
            return Err(error(format!("{} frames; at most {MAX_FRAMES} are taken", pitch.len())));
        }
        if let Some(i) = pitch.iter().position(|p| !(0.0..=128.0).contains(p)) {
            return Err(error(format!(
                "frame {i}: MIDI pitch {} is not in 0..=128 (0 is unvoiced)",
                pitch[i]
            )));
        }
        if pitch.iter().all(|&p| p == 0.0) {
            return Err(error(if pitch.is_empty() { "no frames" } else { "no voiced frame" }));
        }
        Ok(Self { hop, pitch, notes: Vec::new() })
    }

    /// The contour of a score's notes, `hop` seconds apart, which keeps where each begins: two of one pitch stay two. Rests are
    /// unvoiced.
    ///
    /// # Errors
    /// [`Error::Config`] for an impossible hop; [`Error::Shape`] where there is no note, one has no frame or a pitch that is not
    /// above 0 and at most 128, they overlap or are not in order, or they reach beyond 2^24 frames.
    pub fn from_notes(notes: Vec<Span>, hop: f64) -> Result<Self> {
        check_hop(hop)?;
        let wrong = |i: usize, what: &str| {
            let Span { pitch, start, end } = notes[i];
            let message = format!("note {i} of pitch {pitch}, frames {start} to {end}, {what}");
            Err(Error::shape("contour", "notes", message))
        };
        let mut pitch = Vec::new();
        for (i, note) in notes.iter().enumerate() {
            if note.end <= note.start || !(note.pitch > 0.0 && note.pitch <= 128.0) {
                return wrong(i, "has no frame, or a pitch outside 0..=128");
            }
            if note.start < pitch.len() {
                return wrong(i, "begins before the one before it ends");
            }
            if note.end > MAX_FRAMES {
                let message = format!("ends beyond {MAX_FRAMES} frames ({:.0} s)", MAX_FRAMES as f64 * hop);
                return wrong(i, &message);
            }
            pitch.resize(note.start, 0.0);
            pitch.resize(note.end, note.pitch);
        }
        if notes.is_empty() {
            return Err(Error::shape("contour", "notes", "needs 1 at least"));
        }
        Ok(Self { hop, pitch, notes })
    }

    /// A contour from f0 in Hz (0 is unvoiced) at `times` in seconds, resampled to `hop` by nearest time.
    ///
    /// The first frame is at `times[0]`. A frame is unvoiced where the nearest sample is further off than
    /// 3/4 of a hop or of the median time step, whichever is longer: a steady file never is, and one that
    /// leaves out its unvoiced rows reads right.
    pub fn from_f0(times: &[f64], f0: &[f64], hop: f64) -> Result<Self> {
        check_hop(hop)?;
        Self::resample(times, f0, hop, 0.0).map_err(|(row, message)| match row {
            Some(row) => error(format!("row {row}: {message}")),
            None => error(message),
        })
    }

    /// The resampling behind both readers, of times that are off by at most `rounding`; an error names the row (from 0) at
    /// fault, where one is.
    pub(super) fn resample(
        times: &[f64],
        f0: &[f64],
        hop: f64,
        rounding: f64,
    ) -> Result<Self, (Option<usize>, String)> {
        if times.len() != f0.len() {
            return Err((None, format!("{} times for {} f0 values", times.len(), f0.len())));
        }
        for (row, (&time, &hz)) in times.iter().zip(f0).enumerate() {
            let fault = if !time.is_finite() {
                format!("time {time} is not a finite number")
            } else if row > 0 && time <= times[row - 1] {
                format!("time {time} does not increase (the one before is {})", times[row - 1])
            } else if row > 0 && time - times[row - 1] > MAX_GAP {
                format!(
                    "time {time} is {:.0} s after the one before: is it in seconds? Rows are at most {MAX_GAP} s apart",
                    time - times[row - 1]
                )
            } else if !hz.is_finite() || hz < 0.0 {
                format!("f0 {hz} is not a frequency; expected Hz, 0 where unvoiced")
            } else if hz > 0.0 && !(MIN_HZ..=MAX_HZ).contains(&hz) {
                format!("f0 {hz} Hz is outside {MIN_HZ}..{MAX_HZ} (0 is unvoiced)")
            } else {
                continue;
            };
            return Err((Some(row), fault));
        }
        let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
            return Err((None, "no frames".into()));
        };

        let mut steps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        let middle = steps.len() / 2;
        let step =
            if steps.is_empty() { hop } else { *steps.select_nth_unstable_by(middle, f64::total_cmp).1 };
        if last - first > MAX_GAP + MAX_SPARSENESS * step * times.len() as f64 {
            let gap = |row: &usize| times[*row] - times[row - 1];
            let widest = (1..times.len()).max_by(|a, b| gap(a).total_cmp(&gap(b)));
            let message = format!(
                "{} rows, {step} s apart by the median, lie over {:.0} s; the widest gap is before this one",
                times.len(),
                last - first
            );
            return Err((widest, message));
        }
        // A little slack, so that a last time which rounding left just short of a whole hop still counts.
        let frames = ((last - first) / hop + 1e-3).floor() + 1.0;
        if frames > MAX_FRAMES as f64 {
            return Err((
                None,
                format!("{:.0} s is too long; at most {MAX_FRAMES} frames are taken", last - first),
            ));
        }
        let reach = 0.75 * hop.max(step) + rounding;
        let mut nearest = 0;
        let pitch: Vec<f32> = (0..frames as usize)
            .map(|frame| {
                let time = first + frame as f64 * hop;
                while nearest + 1 < times.len()
                    && (times[nearest + 1] - time).abs() <= (times[nearest] - time).abs()
                {
                    nearest += 1;
                }
                let voiced = f0[nearest] > 0.0 && (times[nearest] - time).abs() <= reach;
                if voiced { hz_to_midi(f0[nearest]).max(f64::from(f32::MIN_POSITIVE)) as f32 } else { 0.0 }
            })
            .collect();
        if pitch.iter().all(|&p| p == 0.0) {
            return Err((None, "no voiced frame: every f0 is 0".into()));
        }
        Ok(Self { hop, pitch, notes: Vec::new() })
    }

    /// Seconds from one frame to the next.
    pub fn hop(&self) -> f64 {
        self.hop
    }

    /// MIDI pitch per frame, 0.0 where unvoiced; never empty, never all unvoiced.
    pub fn pitch(&self) -> &[f32] {
        &self.pitch
    }

    /// The notes of a score, in order, none overlapping another; none of a recording.
    pub fn notes(&self) -> &[Span] {
        &self.notes
    }

    /// The number of frames.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.pitch.len()
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.pitch.len() as f64 * self.hop
    }
}

/// How a MIDI pitch becomes a network input. An unvoiced frame stays 0 in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Scale {
    /// `midi / 127`, the paper's.
    #[default]
    Midi127,
    /// `(midi − 36) / 72`: C2 to C8 onto 0 to 1, which spreads the singing range.
    Centered72,
}

named!(Scale, "scale": Midi127 "midi127", Centered72 "centered72");

impl Scale {
    /// The network input for a MIDI pitch; 0.0 (unvoiced) gives 0.0.
    pub fn apply(self, midi: f32) -> f32 {
        match self {
            _ if midi == 0.0 => 0.0,
            Self::Midi127 => midi / 127.0,
            Self::Centered72 => (midi - 36.0) / 72.0,
        }
    }

    /// A semitone in the network's input.
    pub fn semitone(self) -> f32 {
        match self {
            Self::Midi127 => 1.0 / 127.0,
            Self::Centered72 => 1.0 / 72.0,
        }
    }
}

/// Whether a hop is one.
pub(super) fn check_hop(hop: f64) -> Result<()> {
    if hop.is_finite() && hop > 0.0 {
        Ok(())
    } else {
        Err(Error::config(format!("hop {hop}: expected seconds above 0")))
    }
}

fn error(message: impl Into<String>) -> Error {
    Error::shape("contour", "f0", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midi_pitch_of_known_frequencies() {
        assert_eq!(hz_to_midi(440.0), 69.0);
        assert_eq!(hz_to_midi(220.0), 57.0);
        assert!((midi_to_hz(hz_to_midi(123.4)) - 123.4).abs() < 1e-9);
    }

    #[test]
    fn resamples_to_the_nearest_time() {
        // Twice the hop rate: every second row survives; 0 stays 0.
        let times: Vec<f64> = (0..9).map(|i| i as f64 * 0.005).collect();
        let f0 = [440.0, 1.0e3, 220.0, 1.0e3, 0.0, 1.0e3, 880.0, 1.0e3, 440.0];
        let contour = Contour::from_f0(&times, &f0, 0.01).unwrap();
        assert_eq!(contour.pitch(), [69.0, 57.0, 0.0, 81.0, 69.0]);
        assert_eq!(contour.hop(), 0.01);
        assert!((contour.seconds() - 0.05).abs() < 1e-12);
        // Half the hop rate: each row stands twice.
        let contour = Contour::from_f0(&[1.0, 1.02, 1.04], &[440.0, 0.0, 220.0], 0.01).unwrap();
        assert_eq!(contour.pitch().len(), 5);
        assert_eq!((contour.pitch()[0], contour.pitch()[2], contour.pitch()[4]), (69.0, 0.0, 57.0));
    }

    #[test]
    fn a_gap_in_the_times_is_unvoiced() {
        let contour =
            Contour::from_f0(&[0.0, 0.01, 0.02, 0.07, 0.08], &[440.0, 440.0, 440.0, 440.0, 440.0], 0.01)
                .unwrap();
        let voiced: Vec<bool> = contour.pitch().iter().map(|&p| p > 0.0).collect();
        assert_eq!(voiced, [true, true, true, false, false, false, false, true, true]);
    }

    #[test]
    fn one_row_is_one_frame() {
        assert_eq!(Contour::from_f0(&[3.0], &[440.0], HOP).unwrap().pitch(), [69.0]);
    }

    #[test]
    fn refuses_what_is_no_contour() {
        let message = |times: &[f64], f0: &[f64]| Contour::from_f0(times, f0, HOP).unwrap_err().to_string();
        assert!(message(&[0.0, 1.0], &[440.0, f64::NAN]).contains("row 1: f0 NaN"));
        assert!(message(&[0.0], &[f64::INFINITY]).contains("f0 inf"));
        assert!(message(&[0.0], &[-440.0]).contains("f0 -440"));
        assert!(message(&[0.0], &[1.0]).contains("outside"));
        assert!(message(&[f64::NAN], &[440.0]).contains("time NaN"));
        assert!(message(&[0.0, 0.0], &[440.0, 440.0]).contains("does not increase"));
        assert!(message(&[], &[]).contains("no frames"));
        assert!(message(&[0.0, 0.1], &[0.0, 0.0]).contains("no voiced frame"));
        assert!(message(&[0.0], &[440.0, 1.0]).contains("1 times for 2"));
        assert!(
            message(&[0.0, 1e12], &[440.0, 440.0])
                .contains("row 1: time 1000000000000 is 1000000000000 s after")
        );
        assert!(Contour::from_f0(&[0.0], &[440.0], 0.0).is_err());
        assert!(Contour::from_f0(&[0.0], &[440.0], f64::NAN).is_err());
        assert!(Contour::from_pitch(vec![], HOP).is_err());
        assert!(Contour::from_pitch(vec![0.0], HOP).is_err());
        assert!(Contour::from_pitch(vec![60.0, f32::NAN], HOP).is_err());
        assert!(Contour::from_pitch(vec![60.0, -1.0], HOP).is_err());
    }

    #[test]
    fn notes_of_a_score_stay_apart() {
        let span = |pitch, start, end| Span { pitch, start, end };
        let notes = vec![span(60.0, 0, 2), span(60.0, 2, 3), span(62.5, 5, 6)];
        let contour = Contour::from_notes(notes.clone(), HOP).unwrap();
        assert_eq!(contour.pitch(), [60.0, 60.0, 60.0, 0.0, 0.0, 62.5]);
        assert_eq!(contour.notes(), notes);
        assert!(Contour::from_pitch(vec![60.0], HOP).unwrap().notes().is_empty());
        let refused = |notes: &[Span]| Contour::from_notes(notes.to_vec(), HOP).unwrap_err().to_string();
        assert!(refused(&[]).contains("needs 1 at least"));
        assert!(refused(&[span(60.0, 1, 1)]).contains("note 0 of pitch 60, frames 1 to 1, has no frame"));
        assert!(refused(&[span(f32::NAN, 0, 1)]).contains("pitch"));
        assert!(refused(&[span(60.0, 0, 3), span(60.0, 2, 4)]).contains("note 1"));
        assert!(refused(&[span(60.0, 0, usize::MAX)]).contains("beyond 16777216 frames (97392 s)"));
        assert!(Contour::from_notes(notes, 0.0).is_err());
    }

    #[test]
    fn scales_keep_unvoiced_at_zero() {
        assert_eq!(Scale::default().apply(63.5), 0.5);
        assert_eq!(Scale::Centered72.apply(72.0), 0.5);
        for scale in Scale::ALL {
            assert_eq!(scale.apply(0.0), 0.0);
            assert_eq!(scale.to_string().parse::<Scale>().unwrap(), scale);
        }
        assert!("hz".parse::<Scale>().is_err());
    }
}
