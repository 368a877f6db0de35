//! A melody to test with.

use super::super::align::AlignOptions;
use super::super::blocks::Blocks;
use super::super::contour::{Contour, HOP};
use super::guide::Guide;

/// Notes of (pitch, frames), pitch 0 a rest; in whole blocks of 4 frames.
pub const TUNE: [(f32, usize); 6] = [(60.0, 80), (64.0, 40), (0.0, 12), (67.0, 40), (65.0, 80), (60.0, 120)];

/// Notes sung `by` semitones higher.
pub fn sing(notes: &[(f32, usize)], by: f32) -> Contour {
    let note = |&(pitch, frames): &(f32, usize)| {
        std::iter::repeat_n(if pitch > 0.0 { pitch + by } else { 0.0 }, frames)
    };
    Contour::from_pitch(notes.iter().flat_map(note).collect(), HOP).unwrap()
}

pub fn blocks(contour: &Contour) -> Blocks {
    Blocks::of(contour, AlignOptions::default().block).unwrap()
}

/// Of so many references, each slower and higher than the last.
pub fn guide(references: usize) -> Guide {
    let slower = |k: usize| TUNE.map(|(pitch, frames)| (pitch, frames + 4 * k));
    let takes: Vec<Contour> = (0..references).map(|k| sing(&slower(k), 0.2 * k as f32)).collect();
    Guide::of(&takes.iter().collect::<Vec<_>>(), 6, &AlignOptions::default()).unwrap()
}
