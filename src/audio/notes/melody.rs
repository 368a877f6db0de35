//! What a melody is: the notes that its reference takes agree on, or those of a score.

use super::super::align::{AlignOptions, Key, align_blocks};
use super::super::blocks::{Blocks, median};
use super::note::Note;
use crate::{Error, Result};
use rayon::prelude::*;

/// How often the references are aligned to what they agreed on before.
const ROUNDS: usize = 2;

/// Blocks of a score at most, 6 minutes.
const LONGEST: usize = 1 << 14;

/// A melody on a time axis of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Melody {
    /// Its pitch per block.
    pub blocks: Blocks,
    /// Its notes, in order, none overlapping another.
    pub notes: Vec<Note>,
}

impl Melody {
    /// What references agree on, the most typical first ([`super::rank`]): its time axis, octave and key are the first's.
    ///
    /// Twice, the best three quarters of them (at least 3) are aligned to what there is, in the same key, and a block becomes the
    /// median of the voiced blocks that met it, or unvoiced where more than half were. Notes are runs of a rounded pitch of 4
    /// blocks or more. Takes `1.5·K` alignments, on all threads; the result does not depend on their number.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no reference; as [`align_blocks`].
    pub fn consensus(references: &[&Blocks], options: &AlignOptions) -> Result<Self> {
        let Some(&first) = references.first() else {
            return Err(Error::shape("consensus", "references", "needs 1 at least"));
        };
        let best = &references[..(3 * references.len()).div_ceil(4).max(3).min(references.len())];
        let mut blocks = first.clone();
        for _ in 0..ROUNDS {
            let aligned: Vec<_> = best
                .par_iter()
                .map(|reference| align_blocks(reference, &blocks, Key::Same, options))
                .collect::<Result<_>>()?;
            let mut met: Vec<Vec<f32>> = vec![Vec::new(); blocks.pitch().len()];
            for (alignment, reference) in aligned.iter().zip(best) {
                for &[i, j] in &alignment.path {
                    let pitch = reference.pitch()[i - reference.start()];
                    let moved = pitch - alignment.octave - alignment.shift;
                    met[j - blocks.start()].push(if pitch > 0.0 { moved } else { 0.0 });
                }
            }
            let agreed = met.into_iter().map(|met| {
                let all = met.len();
                let mut voiced: Vec<f32> = met.into_iter().filter(|&pitch| pitch > 0.0).collect();
                if 2 * voiced.len() >= all { median(&mut voiced) } else { 0.0 }
            });
            // Where they agree on silence alone, the melody stays what it was.
            let Some(agreed) = blocks.of_pitch(agreed.collect()) else { break };
            blocks = agreed;
        }
        let notes = Note::runs(blocks.pitch());
        Ok(Self { blocks, notes })
    }

    /// A score's notes, on the time axis of blocks as long as those of `like`; rests are unvoiced.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no note, one has no block or a pitch outside 0..=128, they overlap or are not in order, or
    /// they reach beyond 16,384 blocks (6 minutes).
    pub fn score(notes: &[Note], like: &Blocks) -> Result<Self> {
        let wrong = |i: usize, what: &str| {
            let Note { pitch, start, end } = notes[i];
            Error::shape(
                "score",
                "notes",
                format!("note {i} of pitch {pitch}, blocks {start} to {end}, {what}"),
            )
        };
        let Some(first) = notes.first() else {
            return Err(Error::shape("score", "notes", "needs 1 at least"));
        };
        let mut pitch = Vec::new();
        for (i, note) in notes.iter().enumerate() {
            let (start, end) = (note.start.wrapping_sub(first.start), note.end.wrapping_sub(first.start));
            if note.end <= note.start || !(note.pitch > 0.0 && note.pitch <= 128.0) {
                return Err(wrong(i, "has no block, or a pitch outside 0..=128"));
            }
            if note.start < first.start || start < pitch.len() {
                return Err(wrong(i, "begins before the one before it ends"));
            }
            if end > LONGEST {
                let seconds = LONGEST as f64 * like.frames() as f64 * like.hop();
                let message =
                    format!("ends beyond {LONGEST} blocks ({seconds:.0} s): cut the score to what is sung");
                return Err(wrong(i, &message));
            }
            pitch.resize(start, 0.0);
            pitch.resize(end, note.pitch);
        }
        let moved =
            |note: &Note| Note { start: note.start - first.start, end: note.end - first.start, ..*note };
        let blocks = like.of_pitch(pitch).ok_or_else(|| wrong(0, "is not voiced"))?;
        Ok(Self { blocks, notes: notes.iter().map(moved).collect() })
    }

    /// The notes in a reference's own time, octave and key, to which it is aligned in the same key: blocks count from its first
    /// voiced one.
    ///
    /// A note sounds in the blocks that met its own; where alignment leaves one none, it is given one after the note before.
    ///
    /// # Errors
    /// As [`align_blocks`].
    pub fn notes_in(&self, reference: &Blocks, options: &AlignOptions) -> Result<Vec<Note>> {
        let alignment = align_blocks(reference, &self.blocks, Key::Same, options)?;
        let by = alignment.octave + alignment.shift;
        let mut notes: Vec<Note> = Vec::with_capacity(self.notes.len());
        for note in &self.notes {
            let steps = alignment.steps(note.start..note.end);
            let block = |step: Option<&[usize; 2]>| step.map_or(0, |step| step[0] - reference.start());
            let (mut start, end) = (block(steps.first()), block(steps.last()) + 1);
            if let Some(before) = notes.last_mut() {
                start = start.max(before.start + 1);
                before.end = before.end.min(start).max(before.start + 1);
            }
            notes.push(Note { pitch: note.pitch + by, start, end });
        }
        if let Some(last) = notes.last_mut() {
            last.end = last.end.max(last.start + 1);
        }
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tune::{TUNE, blocks, sing};
    use super::*;

    fn note(pitch: f32, start: usize, end: usize) -> Note {
        Note { pitch, start, end }
    }

    /// [`TUNE`] in blocks of 4 frames.
    const NOTES: [Note; 5] = [
        Note { pitch: 60.0, start: 0, end: 20 },
        Note { pitch: 64.0, start: 20, end: 30 },
        Note { pitch: 67.0, start: 33, end: 43 },
        Note { pitch: 65.0, start: 43, end: 63 },
        Note { pitch: 60.0, start: 63, end: 93 },
    ];

    fn consensus(takes: &[Blocks]) -> Melody {
        Melody::consensus(&takes.iter().collect::<Vec<_>>(), &AlignOptions::default()).unwrap()
    }

    #[test]
    fn references_agree_on_the_melody_whatever_one_of_them_does() {
        let mut takes: Vec<Blocks> = (0..4).map(|k| blocks(&sing(&TUNE, 12.0 * (k % 2) as f32))).collect();
        let mut wrong = TUNE;
        wrong[3].0 += 2.0;
        takes.insert(0, blocks(&sing(&wrong, 0.0)));
        assert_eq!(consensus(&takes).notes, NOTES);
        // One alone is right.
        assert_eq!(consensus(&takes[1..2]).notes, NOTES);
        assert_eq!(consensus(&takes[..1]).notes[2], note(69.0, 33, 43));
        let none = Melody::consensus(&[], &AlignOptions::default()).unwrap_err().to_string();
        assert!(none.contains("needs 1 at least"), "{none}");
    }

    #[test]
    fn notes_move_into_the_time_and_key_of_a_reference() {
        let melody = consensus(&[blocks(&sing(&TUNE, 0.0))]);
        let mut slow = TUNE;
        slow[0].1 += 40;
        let notes = melody.notes_in(&blocks(&sing(&slow, 12.5)), &AlignOptions::default()).unwrap();
        for (found, wanted) in notes.iter().zip(NOTES) {
            let later = |at: usize| at + if at > 0 { 10 } else { 0 };
            assert!((found.pitch - wanted.pitch - 12.5).abs() < 1e-4);
            assert_eq!((found.start, found.end), (later(wanted.start), later(wanted.end)));
        }
    }

    #[test]
    fn a_reference_too_short_for_its_notes_gives_each_a_block() {
        let melody = consensus(&[blocks(&sing(&TUNE, 0.0))]);
        let notes = melody.notes_in(&blocks(&sing(&[(60.0, 8)], 0.0)), &AlignOptions::default()).unwrap();
        assert_eq!(notes.len(), 5);
        assert!(notes.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(notes.iter().all(|note| note.blocks() >= 1));
    }

    #[test]
    fn a_score_is_a_melody_or_says_why_not() {
        let like = blocks(&sing(&TUNE, 0.0));
        let moved = NOTES.map(|n| note(n.pitch, n.start + 7, n.end + 7));
        let score = Melody::score(&moved, &like).unwrap();
        assert_eq!((score.notes.as_slice(), score.blocks.pitch()), (NOTES.as_slice(), like.pitch()));
        let refused = |notes: &[Note]| Melody::score(notes, &like).unwrap_err().to_string();
        assert!(refused(&[]).contains("needs 1 at least"));
        assert!(refused(&[note(60.0, 3, 3)]).contains("no block"));
        assert!(refused(&[note(f32::NAN, 0, 3)]).contains("pitch"));
        assert!(refused(&[note(60.0, 0, 9), note(62.0, 8, 12)]).contains("note 1 of pitch 62"));
        assert!(refused(&[note(60.0, 5, 9), note(62.0, 1, 3)]).contains("before"));
        assert!(refused(&[note(60.0, 0, usize::MAX)]).contains("beyond 16384"));
    }
}
