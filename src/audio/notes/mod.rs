//! Notes: what a melody consists of, as its reference takes or a score tell it, and how a take sings each of them.
//!
//! [`rank`] orders the reference takes of a melody by how typical they are, [`Melody`] is what they agree on, [`Sung`] is a
//! note of it in a take, [`FEATURES`] are the 59 numbers that a network is shown of a take, [`Performed`] is what people are
//! shown of it, and [`Guide`] does all of it for takes of one melody. Times are in blocks ([`super::Blocks`]) unless a name
//! says seconds, pitches in semitones (MIDI).
//!
//! ```
//! use etude::audio::notes::Guide;
//! use etude::audio::{AlignOptions, Contour, HOP};
//!
//! # fn main() -> etude::Result<()> {
//! let sing = |notes: [f32; 3]| Contour::from_pitch(notes.into_iter().flat_map(|pitch| [pitch; 80]).collect(), HOP);
//! let guide = Guide::of(&[&sing([60.0, 64.0, 67.0])?], 6, &AlignOptions::default())?;
//! let heard = guide.hear(&sing([55.0, 58.0, 62.0])?)?; // a fourth lower, and the second note flat
//! let off: Vec<f32> = heard.notes[0].iter().map(|sung| sung.error().round()).collect();
//! assert_eq!(off, [0.0, 1.0, 0.0]); // semitones
//! assert_eq!(heard.features().len(), 59);
//! # Ok(())
//! # }
//! ```

mod edit;
mod features;
mod following;
mod guide;
mod melody;
mod note;
mod performed;
mod ranking;
mod reading;
mod repair;
mod statistics;
mod sung;
mod transcription;
#[cfg(test)]
mod tune;
mod words;

pub(crate) use edit::{DELETION, insertion, substitution};
pub use edit::{Edit, Edits, edits};
pub use features::{EDIT_FEATURES, FEATURES, NOTE_FEATURES, edit_features, note_features};
pub use guide::{Guide, GuideReference, Heard};
pub use melody::Melody;
pub use note::Note;
pub use performed::{Outcome, Performed, PerformedNote};
pub use ranking::{rank, typicality};
pub use repair::Repair;
pub use sung::{Sung, sung};
pub use transcription::transcribe;
pub use words::key_and_tempo;
