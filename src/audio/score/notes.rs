//! The notes of a score in seconds, and their contour.

use crate::Result;
use crate::audio::contour::{Contour, Span};
use std::fmt;

/// A note of a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreNote {
    /// MIDI pitch as it sounds, 0 to 128; quarter tones are halves.
    pub pitch: f32,
    /// When it begins, in seconds from the start of the score.
    pub start: f64,
    /// When it ends.
    pub end: f64,
}

/// What a score was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ScoreFormat {
    /// A Standard MIDI File.
    Midi,
    /// MusicXML, plain or compressed.
    MusicXml,
}

impl fmt::Display for ScoreFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Midi => "MIDI",
            Self::MusicXml => "MusicXML",
        })
    }
}

/// A melody as a score has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// In order, none overlapping another; at least one.
    pub notes: Vec<ScoreNote>,
    /// What it was read as.
    pub format: ScoreFormat,
    /// What was chosen or left out: a tempo that is not given, grace notes, notes cut short.
    pub remarks: Vec<String>,
}

impl Score {
    /// The melody as pitch per frame, `hop` seconds apart, from the first note's onset to the last's end; rests are unvoiced.
    ///
    /// Notes begin and end at the nearest frame. One shorter than that has a frame, and the next begins after it.
    ///
    /// # Errors
    /// As [`Contour::from_notes`]: more than 2^24 frames are too many.
    pub fn contour(&self, hop: f64) -> Result<Contour> {
        let first = self.notes.first().map_or(0.0, |note| note.start);
        // Casts saturate: what is no frame is beyond the last that a contour has.
        let frame = |time: f64| ((time - first) / hop).round() as usize;
        let mut end = 0;
        let span = |note: &ScoreNote| {
            let start = frame(note.start).max(end);
            end = frame(note.end).max(start.saturating_add(1));
            // 0 is unvoiced.
            Span { pitch: if note.pitch == 0.0 { f32::MIN_POSITIVE } else { note.pitch }, start, end }
        };
        Contour::from_notes(self.notes.iter().map(span).collect(), hop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contour(notes: &[(f32, f64, f64)], hop: f64) -> Result<Contour> {
        let notes = notes.iter().map(|&(pitch, start, end)| ScoreNote { pitch, start, end }).collect();
        Score { notes, format: ScoreFormat::Midi, remarks: Vec::new() }.contour(hop)
    }

    #[test]
    fn frames_count_from_the_first_onset() {
        let melody = contour(&[(60.0, 2.0, 2.021), (60.0, 2.021, 2.03), (0.0, 2.05, 2.06)], 0.01).unwrap();
        let spans: Vec<_> = melody.notes().iter().map(|span| (span.start, span.end)).collect();
        assert_eq!(spans, [(0, 2), (2, 3), (5, 6)]);
        assert_eq!(melody.pitch(), [60.0, 60.0, 60.0, 0.0, 0.0, f32::MIN_POSITIVE]);
    }

    #[test]
    fn short_notes_have_a_frame_each_and_long_ones_are_refused() {
        let short: Vec<_> = (0..9).map(|i| (60.0, 1e-3 * f64::from(i), 1e-3 * f64::from(i + 1))).collect();
        assert_eq!(contour(&short, 0.01).unwrap().notes().len(), 9);
        let refused = |notes: &[(f32, f64, f64)], hop| contour(notes, hop).unwrap_err().to_string();
        assert!(refused(&[(60.0, 0.0, 1e300)], 0.01).contains("beyond 16777216 frames (167772 s)"));
        assert!(refused(&[(60.0, 0.0, 1.0), (60.0, 1e300, 2e300)], 0.01).contains("note 1"));
        assert!(refused(&[(f32::NAN, 0.0, 1.0)], 0.01).contains("pitch"));
        assert!(refused(&[(f32::INFINITY, 0.0, 1.0)], 0.01).contains("pitch"));
        assert!(refused(&[], 0.01).contains("needs 1"));
        assert!(refused(&[(60.0, 0.0, 1.0)], 0.0).contains("hop"));
    }
}
