//! Pitch contours, the files, recordings and scores they come from, their alignment to a reference, and notes: no device.

pub mod agreement;
pub mod align;
pub mod blocks;
pub mod contour;
pub mod f0;
pub mod notes;
#[cfg(feature = "audio")]
pub mod pitch;
#[cfg(feature = "audio")]
pub mod recording;
#[cfg(feature = "audio")]
pub mod score;
pub mod source;
pub mod track;
mod warp;

pub use agreement::MelodyAgreement;
pub use align::{AlignOptions, Alignment, CHANNELS, Key, align, align_blocks};
pub use blocks::Blocks;
pub use contour::{Contour, HOP, Scale, Span};
pub use f0::{F0File, F0Format, F0Options, F0Unit, parse_f0, read_f0};
pub use notes::{Guide, Note};
#[cfg(feature = "audio")]
pub use score::{Score, ScoreFormat, ScoreNote, is_score, parse_score, read_score};
pub use source::{Source, SourceOptions, read_source};
pub use track::{Track, TrackFormat};
