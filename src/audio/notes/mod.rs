//! Notes: what a melody consists of, as its reference takes or a score tell it, and how a take sings each of them.
//!
//! [`rank`] orders the reference takes of a melody by how typical they are, [`Melody`] is what they agree on, [`Sung`] is a note of
//! it in a take, [`features`] are the 59 numbers that a network is shown of a take, and [`Guide`] does all of it for takes of one
//! melody. Times are in blocks ([`super::Blocks`]) unless a name says seconds, pitches in semitones (MIDI).

mod edit;
mod features;
mod guide;
mod melody;
mod note;
mod ranking;
mod statistics;
mod sung;
mod transcription;

pub use edit::{Edit, Edits, edits};
pub use features::{EDIT_FEATURES, FEATURES, NOTE_FEATURES, edit_features, note_features};
pub use guide::{Guide, GuideReference, Heard};
pub use melody::Melody;
pub use note::Note;
pub use ranking::{rank, typicality};
pub use sung::{Sung, sung};
pub use transcription::transcribe;
