//! Scores of a melody, told apart by what they hold: its notes with their times, and the contour that they make.
//!
//! | format | holds | times by |
//! |---|---|---|
//! | MIDI | Standard MIDI File, format 0 or 1, bare or in a RIFF wrapper | ticks and the tempo map of all tracks, or SMPTE |
//! | MusicXML | `score-partwise` or `score-timewise`, UTF-8 or UTF-16 | durations and tempos; repeats are played |
//! | compressed MusicXML | a zip archive with a MusicXML file | as MusicXML |
//!
//! A melody has one note at a time. What is beside it (chords, an accompaniment, a second voice) is refused and not guessed away;
//! what does not matter for it (percussion, pitch bend, grace notes) is left out and told in [`Score::remarks`].

mod melody;
mod midi;
mod musicxml;
mod mxl;
mod notes;
mod order;
mod read;
mod tempo;
mod written;

pub use notes::{Score, ScoreFormat, ScoreNote};
pub use read::{is_score, parse_score, read_score};
