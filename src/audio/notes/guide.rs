//! What takes of a melody are compared with.

use super::super::align::{AlignOptions, Alignment, Key, align_blocks};
use super::super::blocks::Blocks;
use super::super::contour::Contour;
use super::edit::{Edits, edits, edits_of_score};
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
    /// The score, where there is one, then from the most typical to the least; at least one.
    pub references: Vec<GuideReference>,
    /// What the score says, or what they agree on.
    pub melody: Melody,
    /// Whether the melody is a score's.
    score: bool,
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
    /// The guide of a melody's references: all of them tell what the melody is, and the `most` most typical are what takes are
    /// compared with. [`rank`] and [`Melody::consensus`] say how, and what it costs.
    ///
    /// Where references are scores ([`Contour::notes`]), the first of them is the melody, whatever the others hold, and takes are
    /// compared with it first.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no reference, or the hops differ; [`Error::Config`] for `most` of 0; as [`align_blocks`],
    /// and of a score as [`Melody::score`].
    pub fn of(references: &[&Contour], most: usize, options: &AlignOptions) -> Result<Self> {
        if most == 0 {
            return Err(Error::config("0 references to compare with: expected 1 at least"));
        }
        let (blocks, mut scores): (Vec<Blocks>, Vec<Option<Melody>>) = references
            .par_iter()
            .map(|reference| blocks_of(reference, options.block))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        let mut order = rank(&blocks, options)?;
        let score = scores.iter().position(Option::is_some);
        if let Some(score) = score {
            order.retain(|&index| index != score);
            order.insert(0, score);
        }
        let ranked: Vec<&Blocks> = order.iter().map(|&index| &blocks[index]).collect();
        let melody = match score.and_then(|index| scores[index].take()) {
            Some(melody) => melody,
            None => Melody::consensus(&ranked, options)?,
        };
        let reference = |(index, blocks): (usize, &Blocks)| {
            let notes = match score == Some(index) {
                true => melody.notes.clone(),
                false => melody.notes_in(blocks, options)?,
            };
            Ok(GuideReference { index, blocks: blocks.clone(), notes })
        };
        let references = order.into_iter().zip(ranked).take(most).map(reference).collect::<Result<_>>()?;
        Ok(Self { references, melody, score: score.is_some(), options: options.clone() })
    }

    /// The melody's notes in any reference of it, and the blocks that they are in.
    ///
    /// # Errors
    /// As [`align_blocks`], and of a score as [`Melody::score`].
    pub fn notes_in(&self, reference: &Contour) -> Result<(Blocks, Vec<Note>)> {
        let (blocks, score) = blocks_of(reference, self.options.block)?;
        let notes = match score {
            Some(score) if score == self.melody => score.notes,
            _ => self.melody.notes_in(&blocks, &self.options)?,
        };
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
        Ok(self.heard(alignments))
    }

    /// A take of these alignments, one to each reference.
    pub(super) fn heard(&self, alignments: Vec<Alignment>) -> Heard {
        let notes =
            alignments.iter().zip(&self.references).map(|(a, reference)| sung(a, &reference.notes)).collect();
        // The melody is in the octave and key of the first, of which there is one at least.
        let of_first = alignments.first().map(|first| {
            let edits = if self.score { edits_of_score } else { edits };
            edits(&self.melody.notes, &transcribe(first.blocks()[0].pitch()), first.octave + first.shift)
        });
        Heard { alignments, notes, edits: of_first.unwrap_or_default() }
    }
}

/// The blocks of a reference, and of a score the melody that it says. A block of a score has the pitch of a note, never one
/// between two.
fn blocks_of(reference: &Contour, block: f64) -> Result<(Blocks, Option<Melody>)> {
    let blocks = Blocks::of(reference, block)?;
    let notes = Note::of_score(reference.notes(), blocks.frames());
    let Some(first) = notes.first() else { return Ok((blocks, None)) };
    let melody = Melody::score(&notes, &blocks)?;
    Ok((melody.blocks.clone().later(first.start), Some(melody)))
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
    use super::super::super::contour::{HOP, Span};
    use super::super::tune::{TUNE, guide, sing};
    use super::*;

    /// Notes of (pitch, frames), pitch 0 a rest; the first two are one pitch, and a take has no break between them.
    const REPEATED: [(f32, usize); 6] =
        [(60.0, 40), (60.0, 40), (64.0, 40), (0.0, 12), (67.0, 80), (65.0, 120)];

    fn score(notes: &[(f32, usize)], by: f32) -> Contour {
        let mut end = 0;
        let spans = notes.iter().map(|&(pitch, frames)| {
            let start = end;
            end += frames;
            Span { pitch: pitch + by, start, end }
        });
        let kept = spans.zip(notes).filter(|(_, note)| note.0 > 0.0).map(|(span, _)| span).collect();
        Contour::from_notes(kept, HOP).unwrap()
    }

    fn guide_of(references: &[&Contour]) -> Guide {
        Guide::of(references, 6, &AlignOptions::default()).unwrap()
    }

    #[test]
    fn a_score_says_what_the_notes_are() {
        let score = score(&REPEATED, 0.0);
        let guide = guide_of(&[&score]);
        let spans: Vec<_> =
            guide.melody.notes.iter().map(|note| (note.pitch, note.start, note.end)).collect();
        assert_eq!(spans, [(60.0, 0, 10), (60.0, 10, 20), (64.0, 20, 30), (67.0, 33, 53), (65.0, 53, 83)]);
        assert_eq!(guide.references[0].notes, guide.melody.notes);
        assert_eq!(guide.notes_in(&score).unwrap().1, guide.melody.notes);
        // Runs of pitch would be one note less.
        assert_eq!(guide_of(&[&sing(&REPEATED, 0.0)]).melody.notes.len(), 4);
        for by in [0.0, -7.0, 12.3] {
            let heard = guide.hear(&sing(&REPEATED, by)).unwrap();
            assert!(heard.notes[0].iter().all(|note| note.error() < 0.01 && note.in_tune == 1.0));
            assert!(heard.edits().cost < 1e-4, "{:?}", heard.edits());
            assert_eq!(heard.edits().notes, [5, 4]);
        }
        let mut wrong = REPEATED;
        wrong[2].0 += 1.0;
        let heard = guide.hear(&sing(&wrong, 0.0)).unwrap();
        let errors: Vec<f32> = heard.notes[0].iter().map(|note| note.error().round()).collect();
        assert_eq!(errors, [0.0, 0.0, 1.0, 0.0, 0.0]);
        assert!(heard.edits().cost > 0.4);
    }

    #[test]
    fn a_score_beside_takes_is_first_and_they_have_its_notes() {
        let takes: Vec<Contour> = (0..3).map(|k| sing(&REPEATED, 0.1 * k as f32)).collect();
        let mut slip = REPEATED;
        slip[3].1 += 40;
        let (score, other) = (score(&REPEATED, -12.0), score(&slip, 0.0));
        let guide = guide_of(&[&takes[0], &takes[1], &score, &takes[2], &other]);
        assert_eq!(guide.references[0].index, 2);
        assert_eq!(guide.references.len(), 5);
        for reference in &guide.references {
            assert_eq!(reference.notes.len(), 5);
            assert!(reference.notes.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
        let heard = guide.hear(&sing(&REPEATED, 3.0)).unwrap();
        assert!(heard.edits().cost < 1e-4, "{:?}", heard.edits());
        assert!(heard.notes.iter().flatten().all(|note| note.error() < 0.05));
        // Without the score, nothing is as it was with it.
        let takes = guide_of(&[&takes[0], &takes[1], &takes[2]]);
        assert_eq!((takes.melody.notes.len(), takes.score), (4, false));
    }

    #[test]
    fn a_score_of_notes_too_short_for_a_block_still_guides() {
        let short: Vec<(f32, usize)> = (0..20).map(|k| (60.0 + (k % 3) as f32, 1)).collect();
        let late = Contour::from_notes(vec![Span { pitch: 60.0, start: 41, end: 42 }], HOP).unwrap();
        for score in [score(&short, 0.0), score(&[(60.0, 1), (0.0, 9), (62.0, 9)], 0.0), late] {
            let guide = guide_of(&[&score]);
            assert!(!guide.melody.notes.is_empty());
            let last = guide.melody.notes.last().unwrap().end;
            assert_eq!(last, guide.references[0].blocks.pitch().len());
            assert!(guide.hear(&sing(&TUNE, 0.0)).is_ok());
        }
    }

    #[test]
    fn refuses_a_score_that_nobody_sings() {
        let long = score(&[(60.0, 80_000)], 0.0);
        let error = Guide::of(&[&long], 6, &AlignOptions::default()).unwrap_err().to_string();
        assert!(error.contains("beyond 16384 blocks (380 s): cut the score to what is sung"), "{error}");
    }

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
