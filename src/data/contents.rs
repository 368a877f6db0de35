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
    /// The digest of some contours, in their order.
    pub fn digest(contours: &[&Contour]) -> u64 {
        let mut hash = Fnv1a::default();
        for contour in contours {
            hash.add(&contour.hop().to_bits().to_le_bytes());
            hash.add(&(contour.len() as u64).to_le_bytes());
            hash.add_words(bytemuck::cast_slice(contour.pitch()));
        }
        hash.get()
    }
}
