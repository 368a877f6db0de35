//! Digests that tell whether a take is still what it was.

use crate::audio::Contour;
use crate::hash::Fnv1a;

/// Digests of what an example's rows were made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Of the take's pitch.
    pub contour: u64,
    /// Of that of every reference of its melody, in their order: they tell together what the melody is.
    pub references: u64,
}

impl Contents {
    /// The digest of some contours, in their order: of their pitch, and of a score's where each note begins and ends.
    pub fn digest(contours: &[&Contour]) -> u64 {
        let mut hash = Fnv1a::default();
        for contour in contours {
            hash.add(&contour.hop().to_bits().to_le_bytes());
            hash.add(&(contour.len() as u64).to_le_bytes());
            hash.add_words(bytemuck::cast_slice(contour.pitch()));
            for note in contour.notes() {
                hash.add(&(note.start as u64).to_le_bytes());
                hash.add(&(note.end as u64).to_le_bytes());
            }
        }
        hash.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::HOP;
    use crate::audio::contour::Span;

    #[test]
    fn a_score_with_other_notes_is_another() {
        let score = |ends: &[usize]| {
            let starts = std::iter::once(&0).chain(ends);
            let notes = starts.zip(ends).map(|(&start, &end)| Span { pitch: 60.0, start, end }).collect();
            Contour::from_notes(notes, HOP).unwrap()
        };
        let recording = Contour::from_pitch(vec![60.0; 9], HOP).unwrap();
        let digests = [&recording, &score(&[9]), &score(&[4, 9]), &score(&[5, 9])]
            .map(|contour| Contents::digest(&[contour]));
        assert!((0..4).all(|i| digests[..i].iter().all(|other| *other != digests[i])), "{digests:?}");
        // Of recordings it is what it was before there were scores: models keep it.
        assert_eq!(digests[0], 0x6d29_8c1e_f7ae_33bc);
    }
}
