//! What takes of a melody are compared with.

use super::super::align::{AlignOptions, Alignment, Key, align_blocks};
use super::super::blocks::Blocks;
use super::super::contour::Contour;
use super::edit::{Edits, edits};
use super::features::{NOTE_FEATURES, edit_features, note_features};
use super::melody::Melody;
use super::note::Note;
use super::ranking::rank;
use super::sung::{Sung, sung};
use super::transcription::transcribe;
use crate::{Error, Result};
use rayon::prelude::*;

/// A reference take that others are compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct GuideReference {
    /// Which it was of those that the guide was made of.
    pub index: usize,
    /// Its pitch.
    pub blocks: Blocks,
    /// The melody's notes in its time, octave and key.
    pub notes: Vec<Note>,
}

/// The most typical references of a melody, and its notes in the time of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Guide {
    /// From the most typical to the least; at least one.
    pub references: Vec<GuideReference>,
    /// What they agree on.
    pub melody: Melody,
    options: AlignOptions,
}

/// A take beside each reference of a [`Guide`].
#[derive(Debug, Clone)]
pub struct Heard {
    /// Its alignment to each reference, in their order.
    pub alignments: Vec<Alignment>,
    /// The notes as it sings them, beside each.
    pub notes: Vec<Vec<Sung>>,
    edits: Edits,
}

impl Guide {
    /// The guide of a melody's reference takes: all of them tell what the melody is, the `most` most typical are what takes are
    /// compared with. [`rank`] and [`Melody::consensus`] say how, and what it costs.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no reference, or the hops differ; [`Error::Config`] for `most` of 0; as [`align_blocks`].
    pub fn of(references: &[&Contour], most: usize, options: &AlignOptions) -> Result<Self> {
        if most == 0 {
            return Err(Error::config("0 references to compare with: expected 1 at least"));
        }
        let blocks: Vec<Blocks> = references
            .par_iter()
            .map(|reference| Blocks::of(reference, options.block))
            .collect::<Result<_>>()?;
        let order = rank(&blocks, options)?;
        let ranked: Vec<&Blocks> = order.iter().map(|&index| &blocks[index]).collect();
        let melody = Melody::consensus(&ranked, options)?;
        let reference = |(index, blocks): (usize, &Blocks)| {
            let notes = melody.notes_in(blocks, options)?;
            Ok(GuideReference { index, blocks: blocks.clone(), notes })
        };
        let references = order.into_iter().zip(ranked).take(most).map(reference).collect::<Result<_>>()?;
        Ok(Self { references, melody, options: options.clone() })
    }

    /// The melody's notes in any reference of it, and the blocks that they are in.
    ///
    /// # Errors
    /// As [`align_blocks`].
    pub fn notes_in(&self, reference: &Contour) -> Result<(Blocks, Vec<Note>)> {
        let blocks = Blocks::of(reference, self.options.block)?;
        let notes = self.melody.notes_in(&blocks, &self.options)?;
        Ok((blocks, notes))
    }

    /// Aligns a take, in whatever key, to each reference, and finds the melody's notes in it.
    ///
    /// # Errors
    /// As [`align_blocks`].
    pub fn hear(&self, take: &Contour) -> Result<Heard> {
        let take = Blocks::of(take, self.options.block)?;
        let align =
            |reference: &GuideReference| align_blocks(&take, &reference.blocks, Key::Free, &self.options);
        let alignments: Vec<Alignment> = self.references.iter().map(align).collect::<Result<_>>()?;
        let notes =
            alignments.iter().zip(&self.references).map(|(a, reference)| sung(a, &reference.notes)).collect();
        // The melody is in the octave and key of the most typical.
        let by = alignments.first().map_or(0.0, |a| a.octave + a.shift);
        let edits = edits(&self.melody.notes, &transcribe(take.pitch()), by);
        Ok(Heard { alignments, notes, edits })
    }
}

impl Heard {
    /// The numbers of [`super::features::FEATURES`]: those of the notes the mean over the references, and those of the edits.
    pub fn features(&self) -> Vec<f32> {
        let mut sums = [0.0_f64; NOTE_FEATURES];
        for notes in &self.notes {
            sums.iter_mut().zip(note_features(notes)).for_each(|(sum, value)| *sum += f64::from(value));
        }
        let of = 1.0 / self.notes.len().max(1) as f64;
        let means = sums.into_iter().map(|sum| (sum * of) as f32);
        means.chain(edit_features(&self.edits)).collect()
    }

    /// How the take departs from the melody, note by note, as it was transcribed.
    pub fn edits(&self) -> &Edits {
        &self.edits
    }
}

#[cfg(test)]
mod tests {
    use super::super::tune::{TUNE, guide, sing};
    use super::*;

    #[test]
    fn a_guide_has_its_references_and_their_notes() {
        let guide = guide(8);
        assert_eq!((guide.references.len(), guide.melody.notes.len()), (6, 5));
        let heard = guide.hear(&sing(&TUNE, -7.0)).unwrap();
        assert_eq!((heard.alignments.len(), heard.notes.len()), (6, 6));
        for notes in &heard.notes {
            assert_eq!(notes.len(), 5);
            assert!(notes.iter().all(|note| note.error() < 0.05), "{notes:?}");
        }
        assert_eq!(heard.edits().cost, 0.0);
    }

    #[test]
    fn refuses_no_references() {
        let options = AlignOptions::default();
        assert!(Guide::of(&[], 6, &options).is_err());
        assert!(Guide::of(&[&sing(&TUNE, 0.0)], 0, &options).is_err());
    }
}
