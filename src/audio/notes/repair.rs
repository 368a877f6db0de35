//! What would be heard, had notes of a take been performed as they are written.

use super::super::align::Alignment;
use super::guide::{Guide, Heard};
use super::reading::{Reading, What};
use std::borrow::Cow;
use std::ops::Range;

/// Blocks before and after a repaired note within which the take is aligned anew: 2.2 s.
const MARGIN: usize = 96;

/// A take, and the same take with every note as it is written: in the take's octave, key and tempo, each with the rest after it,
/// and nothing else. Notes can be moved from either to the other. They are those of [`super::Performed::notes`], in its order:
/// of one that is not in the melody nothing is written, or the rest that it is performed in.
pub struct Repair<'a> {
    guide: &'a Guide,
    played: Take<'a>,
    written: Take<'a>,
}

/// One of both.
struct Take<'a> {
    alignments: Cow<'a, [Alignment]>,
    pitch: Vec<f32>,
    /// The blocks of each note.
    parts: Vec<Range<usize>>,
}

impl<'a> Repair<'a> {
    /// Of a take that the guide heard; `None` where the melody has no note.
    pub fn of(guide: &'a Guide, heard: &'a Heard) -> Option<Self> {
        let (alignment, sung) = heard.alignments.first().zip(heard.notes.first())?;
        let Reading { followed, pieces, .. } = Reading::of(alignment, sung);
        if followed.notes.is_empty() {
            return None;
        }
        let pitch = alignment.blocks()[0].pitch().to_vec();
        let blocks = |from: usize, to: usize| (followed.tempo * (to - from) as f64).round() as usize;
        let (mut written, mut parts, mut rest) = (Vec::new(), Vec::new(), 0);
        for (k, piece) in pieces.iter().enumerate() {
            let start = written.len();
            if let What::Written(number) = piece.what {
                let note = &followed.notes[number];
                let until = followed.notes.get(number + 1).map_or(note.end, |next| next.start).max(note.end);
                let sounds = (note.pitch + followed.key).clamp(f32::MIN_POSITIVE, 128.0);
                written.resize(start + blocks(note.start, note.end).max(1), sounds);
                rest = blocks(note.end, until);
            }
            // Of all that is performed from a note up to the next the last has the rest that is written there.
            if pieces.get(k + 1).is_none_or(|next| matches!(next.what, What::Written(_))) {
                written.resize(written.len() + std::mem::take(&mut rest), 0.0);
            }
            parts.push(start..written.len());
        }
        let all = 0..pitch.len();
        let right = heard.alignments.iter().map(|a| a.realigned(all.clone(), &written, 0)).collect();
        let played_parts = pieces.into_iter().map(|piece| piece.blocks).collect();
        let played = Take { alignments: (&heard.alignments[..]).into(), pitch, parts: played_parts };
        let written = Take { alignments: Vec::into(right), pitch: written, parts };
        Some(Self { guide, played, written })
    }

    /// Notes of the take, those that are missing and those that are not in the melody among them.
    pub fn notes(&self) -> usize {
        self.played.parts.len()
    }

    /// Every note as it is written.
    pub fn all(&self) -> Heard {
        self.guide.heard(self.written.alignments.to_vec())
    }

    /// The note of that number as it is written, and all others as they are; `None` where there is no such note.
    pub fn only(&self, note: usize) -> Option<Heard> {
        self.played.with(self.guide, note, &self.written)
    }

    /// The note of that number as it is, and all others as they are written; `None` where there is no such note.
    pub fn all_but(&self, note: usize) -> Option<Heard> {
        self.written.with(self.guide, note, &self.played)
    }
}

impl Take<'_> {
    /// This with a note of the other.
    fn with(&self, guide: &Guide, note: usize, other: &Self) -> Option<Heard> {
        let (here, there) = (self.parts.get(note)?, other.parts.get(note)?);
        let pitch = &other.pitch[there.clone()];
        let alignments = self.alignments.iter().map(|a| a.realigned(here.clone(), pitch, MARGIN));
        Some(guide.heard(alignments.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tune::{TUNE, guide, sing};
    use super::*;

    fn errors(heard: &Heard) -> Vec<f32> {
        heard.notes[0].iter().map(|note| note.error().round()).collect()
    }

    #[test]
    fn what_is_not_in_the_melody_is_left_out_alone() {
        let guide = guide(1);
        let mut notes = TUNE.to_vec();
        notes[1].0 -= 1.0;
        notes.insert(4, (69.0, 40));
        let heard = guide.hear(&sing(&notes, -3.0)).unwrap();
        let repair = Repair::of(&guide, &heard).unwrap();
        assert_eq!((repair.notes(), errors(&repair.all())), (6, vec![0.0; 5]));
        let cost = |heard: &Heard| heard.edits().cost;
        assert_eq!(cost(&repair.all()), 0.0);
        // Notes of the take in order: the extra one is the fourth.
        let (only, all_but) = (|note| repair.only(note).unwrap(), |note| repair.all_but(note).unwrap());
        assert_eq!(errors(&only(3)), [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(errors(&all_but(1)), errors(&only(3)));
        assert_eq!(cost(&all_but(1)), cost(&only(3)));
        assert!(cost(&only(3)) < cost(&heard) && cost(&only(1)) < cost(&heard));
        assert_eq!(cost(&all_but(3)), cost(&only(1)));
        assert!(repair.only(6).is_none());
    }

    #[test]
    fn notes_are_as_they_are_written_or_as_they_were() {
        let guide = guide(3);
        let mut notes = TUNE;
        notes[1].0 -= 1.0;
        notes[3].0 += 1.0;
        notes[4].1 += 80;
        let heard = guide.hear(&sing(&notes, 5.0)).unwrap();
        let repair = Repair::of(&guide, &heard).unwrap();
        assert_eq!((repair.notes(), errors(&heard)), (5, vec![0.0, 1.0, 1.0, 0.0, 0.0]));
        let all = repair.all();
        assert_eq!((errors(&all), all.edits().cost), (vec![0.0; 5], 0.0));
        assert!(all.notes[0].iter().all(|note| note.length.abs() < 0.15));
        let (only, all_but) = (|note| repair.only(note).unwrap(), |note| repair.all_but(note).unwrap());
        assert_eq!(errors(&only(1)), [0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(errors(&only(2)), [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(errors(&all_but(1)), [0.0, 1.0, 0.0, 0.0, 0.0]);
        let longest = |heard: &Heard| heard.notes[0].iter().map(|note| note.length).fold(0.0, f32::max);
        assert!(longest(&only(3)) < 0.2 && longest(&only(1)) > 0.5);
        assert!(longest(&all_but(3)) > 0.5 && longest(&all_but(1)) < 0.2);
        assert!(repair.only(5).is_none() && repair.all_but(5).is_none());
        // Of a note that is right as it is, all stays.
        assert_eq!(only(0).features().len(), heard.features().len());
        assert_eq!(errors(&only(0)), errors(&heard));
    }
}
