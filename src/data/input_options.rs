//! What the network is to see of takes.

use super::recordings::Recordings;
use crate::audio::notes::FEATURES;
use crate::audio::{AlignOptions, CHANNELS, Scale};
use crate::names::named;

/// What the network sees of a take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// The contour alone: 1 channel, a column per frame. One row.
    Contour,
    /// The contour, and the reference aligned to it and moved into its octave and key: 2 channels, a column
    /// per frame of the take. A row per reference.
    ContourReference,
    /// The alignment of take and reference: the 14 channels of [`CHANNELS`], a column per step of the path.
    /// A row per reference.
    AlignmentPath,
    /// The notes of the melody as the take sings them: the 59 numbers of [`FEATURES`], and no row.
    Notes,
    /// The alignment, and the notes beside it.
    AlignmentPathNotes,
}

named!(
    InputKind,
    "input": Contour "contour", ContourReference "contour-reference", AlignmentPath "alignment-path", Notes "notes",
    AlignmentPathNotes "alignment-path+notes"
);

impl InputKind {
    /// The best kind these recordings allow: alignment path and notes if there are references, else the contour.
    pub fn default_for(recordings: &Recordings) -> Self {
        if recordings.references.is_empty() { Self::Contour } else { Self::AlignmentPathNotes }
    }

    /// Channels of a row, C; 0 where there is none.
    pub fn channels(self) -> usize {
        match self {
            Self::Contour => 1,
            Self::ContourReference => 2,
            Self::AlignmentPath | Self::AlignmentPathNotes => CHANNELS.len(),
            Self::Notes => 0,
        }
    }

    /// Whether the network sees the path of an alignment.
    pub fn has_path(self) -> bool {
        matches!(self, Self::AlignmentPath | Self::AlignmentPathNotes)
    }

    /// Whether the network sees notes.
    pub fn has_notes(self) -> bool {
        matches!(self, Self::Notes | Self::AlignmentPathNotes)
    }

    /// Features of a take, F; 0 where the network sees no notes.
    pub fn features(self) -> usize {
        if self.has_notes() { FEATURES.len() } else { 0 }
    }

    /// Whether a take needs a reference.
    pub fn needs_reference(self) -> bool {
        self != Self::Contour
    }
}

/// How to make inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct InputOptions {
    /// What the network sees; `None` is [`InputKind::default_for`] the recordings.
    pub kind: Option<InputKind>,
    /// What to rate by, one criterion or several, each once; none is the first of the recordings.
    pub criteria: Vec<String>,
    /// How MIDI pitch becomes a number, for the kinds with a contour.
    pub scale: Scale,
    /// Compare a take with at most this many references of its melody, the most typical.
    pub max_references: usize,
    /// How to align, for the kinds with a reference.
    pub align: AlignOptions,
    /// Whether to make takes with planted errors of the references, for the kinds with one: [`super::Inputs::degraded`].
    pub degraded: bool,
}

impl Default for InputOptions {
    /// The best kind, the first criterion, MIDI/127, at most 24 references, no degraded takes.
    fn default() -> Self {
        Self {
            kind: None,
            criteria: Vec::new(),
            scale: Scale::default(),
            max_references: 24,
            align: AlignOptions::default(),
            degraded: false,
        }
    }
}
