//! Digests that tell whether a take is still what it was.

use crate::audio::Contour;
use crate::hash::Fnv1a;

/// Digests of what an example's rows were made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Of the take's pitch.
    pub contour: u64,
    /// Of that of each reference it is compared with, in their order.
    pub references: u64,
}

impl Contents {
    /// Of a take, and of the references that it is compared with.
    pub fn of(take: &Contour, references: &[&Contour]) -> Self {
        let digest = |contours: &[&Contour]| {
            let mut hash = Fnv1a::default();
            for contour in contours {
                hash.add(&contour.hop().to_bits().to_le_bytes());
                hash.add(&(contour.len() as u64).to_le_bytes());
                hash.add_words(bytemuck::cast_slice(contour.pitch()));
            }
            hash.get()
        };
        Self { contour: digest(&[take]), references: digest(references) }
    }
}
