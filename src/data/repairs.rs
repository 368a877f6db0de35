//! What each note of a take costs it, by occlusion: the network is shown what it would have been shown, had notes been performed
//! as they are written.

use super::comparison::Comparison;
use super::contents::Contents;
use super::inputs::Example;
use crate::audio::notes::{Heard, Repair};

/// A take with notes of it repaired: two examples for each of [`Performed::notes`](crate::audio::notes::Performed::notes), and
/// one more.
///
/// What a note costs is the mean of what the grade would gain were it alone right, and what it would lose were it alone as it is
/// in a take otherwise right. Either says little where grades are near 0 or 1: of a take in which everything is wrong no single
/// note helps. Their mean is the Shapley value (1953) of the note, sampled at its two ends, so that the costs of all notes come
/// near to what the take lacks.
pub struct Repairs<'a> {
    comparison: &'a Comparison,
    repair: Repair<'a>,
}

/// What a note costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoteCost {
    /// What the grade would gain, were this note alone right.
    pub gain: f32,
    /// What the grade of a take otherwise right would lose by it.
    pub loss: f32,
}

impl NoteCost {
    /// The mean of both, in −1..=1; below 0 where the note as it is pleases more than as it is written.
    pub fn cost(self) -> f32 {
        0.5 * (self.gain + self.loss)
    }
}

impl<'a> Repairs<'a> {
    /// Of a take that [`Comparison::hear`] heard; `None` where the melody has no note that is known, or the network is shown a
    /// contour.
    pub fn of(comparison: &'a Comparison, heard: &'a Heard) -> Option<Self> {
        Some(Self { comparison, repair: comparison.repair(heard)? })
    }

    /// How many examples there are.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        2 * self.repair.notes() + 1
    }

    /// The example of that number: the first has all notes right, and then each note has one where it alone is, and one where all
    /// others are. `None` where there are not so many.
    pub fn example(&self, number: usize) -> Option<Example> {
        let heard = match number.checked_sub(1) {
            None => self.repair.all(),
            Some(number) if number % 2 == 0 => self.repair.only(number / 2)?,
            Some(number) => self.repair.all_but(number / 2)?,
        };
        Some(Example::of(self.comparison.of_heard(&heard), Contents::default()))
    }

    /// What each note costs a take of this grade, of the grades of all [`Repairs::example`]s in order.
    pub fn costs(grade: f32, repaired: &[f32]) -> Vec<NoteCost> {
        let Some((&all, pairs)) = repaired.split_first() else { return Vec::new() };
        let cost = |pair: &[f32; 2]| NoteCost { gain: pair[0] - grade, loss: all - pair[1] };
        pairs.as_chunks().0.iter().map(cost).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::input_options::{InputKind, InputOptions};
    use super::*;
    use crate::audio::{Contour, HOP, Span};

    const TUNE: [f32; 5] = [60.0, 64.0, 67.0, 65.0, 60.0];

    fn compared(kind: InputKind) -> Comparison {
        let span = |(i, &pitch): (usize, &f32)| Span { pitch, start: 80 * i, end: 80 * i + 80 };
        let score = Contour::from_notes(TUNE.iter().enumerate().map(span).collect(), HOP).unwrap();
        Comparison::of(kind, &[&score], &InputOptions::default()).unwrap()
    }

    fn take(tune: [f32; 5]) -> Contour {
        Contour::from_pitch(tune.into_iter().flat_map(|pitch| [pitch; 80]).collect(), HOP).unwrap()
    }

    #[test]
    fn each_example_has_the_notes_right_that_it_says() {
        let comparison = compared(InputKind::AlignmentPathNotes);
        let right = comparison.show(&take(TUNE)).unwrap();
        let mut wrong = TUNE;
        (wrong[1], wrong[3]) = (66.0, 63.5);
        let heard = comparison.hear(&take(wrong)).unwrap().unwrap();
        let repairs = Repairs::of(&comparison, &heard).unwrap();
        assert_eq!(repairs.len(), 11);
        let example = |number: usize| repairs.example(number).unwrap();
        assert!(repairs.example(11).is_none());
        let is = |example: &Example, tune: [f32; 5]| {
            let shown = comparison.show(&take(tune)).unwrap();
            let near = |a: &[f32], b: &[f32]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4)
            };
            near(&example.features, &shown.features) && near(&example.rows[0].data, &shown.rows[0].data)
        };
        assert_eq!(example(0).features.len(), right.features.len());
        assert!(is(&example(0), TUNE));
        assert!(is(&example(1), wrong) && is(&example(2), TUNE));
        assert!(
            is(&example(3), [60.0, 64.0, 67.0, 63.5, 60.0])
                && is(&example(4), [60.0, 66.0, 67.0, 65.0, 60.0])
        );
        assert!(!is(&example(3), wrong));
    }

    #[test]
    fn costs_are_gains_and_losses() {
        let costs = Repairs::costs(0.25, &[1.0, 0.25, 1.0, 0.5, 0.25]);
        assert_eq!(costs[0], NoteCost { gain: 0.0, loss: 0.0 });
        assert_eq!(costs[1], NoteCost { gain: 0.25, loss: 0.75 });
        assert_eq!((costs.len(), costs[1].cost()), (2, 0.5));
        assert!(Repairs::costs(0.5, &[]).is_empty());
    }

    #[test]
    fn a_network_that_sees_contours_has_none() {
        let comparison = compared(InputKind::ContourReference);
        let heard = comparison.hear(&take(TUNE)).unwrap().unwrap();
        assert!(Repairs::of(&comparison, &heard).is_none());
        assert!(compared(InputKind::Contour).hear(&take(TUNE)).unwrap().is_none());
    }
}
