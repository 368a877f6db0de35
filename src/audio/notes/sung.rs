//! The notes of a melody as a take sings them.

use super::super::align::Alignment;
use super::super::blocks::fold;
use super::note::Note;
use super::statistics::median;
use std::ops::Range;

/// A residual below this, in semitones, is in tune.
const IN_TUNE: f32 = 0.5;

/// A deviation of this, in semitones, and one that cannot be told, is as wrong as a note gets.
pub(super) const WRONG: f32 = 3.0;

/// A note as a take sings it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sung {
    /// The note, in the reference's time, octave and key.
    pub note: Note,
    /// The blocks of the take that met it, from the take's first voiced one; empty where none did.
    pub blocks: Range<usize>,
    /// How far from the note it is sung, in semitones folded into −6..=6: the median of its core, its blocks without a fifth at
    /// each end where they are more than 4. `None` where none of the core is voiced.
    pub deviation: Option<f32>,
    /// Share of its blocks that are within half a semitone of the note, in 0..=1.
    pub in_tune: f32,
    /// Share of its blocks that are voiced, in 0..=1.
    pub voiced: f32,
    /// `ln((blocks sung + 1) / (blocks of the note + 1))`, less the median over the take's notes: 0 where it is as long as the
    /// take's tempo makes it.
    pub length: f32,
}

impl Sung {
    /// How wrong its pitch is, in semitones, 0 to 3; 3 where it cannot be told.
    pub fn error(&self) -> f32 {
        self.deviation.map_or(WRONG, |z| z.abs().min(WRONG))
    }

    /// Its first block in the take, if it has any.
    pub fn onset(&self) -> Option<usize> {
        (!self.blocks.is_empty()).then_some(self.blocks.start)
    }
}

/// The `notes` of the reference of an alignment as its performance sings them; `notes` are in the reference's time, octave and
/// key, as [`super::Melody::notes_in`] gives them.
pub fn sung(alignment: &Alignment, notes: &[Note]) -> Vec<Sung> {
    let [take, _] = alignment.blocks();
    let by = alignment.octave + alignment.shift;
    let residual = |pitch: f32, note: &Note| fold(pitch - note.pitch - by);
    let mut all: Vec<Sung> = notes
        .iter()
        .map(|note| {
            let steps = alignment.steps(note.start..note.end);
            let blocks = match (steps.first(), steps.last()) {
                (Some([first, _]), Some([last, _])) => first - take.start()..last + 1 - take.start(),
                _ => 0..0,
            };
            let pitch = &take.pitch()[blocks.clone()];
            let ends = if pitch.len() > 4 { pitch.len() / 5 } else { 0 };
            let core: Vec<f32> =
                pitch[ends..pitch.len() - ends].iter().copied().filter(|&p| p > 0.0).collect();
            let of = 1.0 / pitch.len().max(1) as f32;
            let near = |&&p: &&f32| p > 0.0 && residual(p, note).abs() < IN_TUNE;
            Sung {
                note: *note,
                deviation: (!core.is_empty()).then(|| residual(median(&core), note)),
                in_tune: pitch.iter().filter(near).count() as f32 * of,
                voiced: pitch.iter().filter(|&&p| p > 0.0).count() as f32 * of,
                length: ((pitch.len() + 1) as f32 / (note.blocks() + 1) as f32).ln(),
                blocks,
            }
        })
        .collect();
    let tempo = median(&all.iter().map(|sung| sung.length).collect::<Vec<f32>>());
    all.iter_mut().for_each(|sung| sung.length -= tempo);
    all
}
