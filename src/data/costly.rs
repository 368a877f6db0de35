//! Where in a take what it lacks is lost.

use super::repairs::NoteCost;
use crate::audio::notes::PerformedNote;
use serde::Serialize;

/// A note costs something from here on, on the scale of grades.
const NOTICED: f32 = 0.005;

/// A note that costs something. Neighbours are not joined: where an error is would be lost in what is around it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CostlySpan {
    /// Seconds in the take.
    pub start: f64,
    /// Seconds in the take.
    pub end: f64,
    /// The note's number in the melody, from 1; `None` of one that is not in it.
    pub note: Option<usize>,
    /// What it costs, on the scale of grades.
    pub cost: f32,
}

impl CostlySpan {
    /// The spans of a take, what costs most first, of its notes and what each costs: each is the [`PerformedNote::part`] of one
    /// that costs 0.005 or more.
    pub fn of(notes: &[PerformedNote], costs: &[NoteCost]) -> Vec<Self> {
        let all = notes.iter().zip(costs).map(|(note, cost)| Self {
            start: note.part.start,
            end: note.part.end,
            note: note.written.map(|(number, _)| number + 1),
            cost: cost.cost(),
        });
        let mut spans: Vec<Self> = all.filter(|span| span.cost >= NOTICED).collect();
        spans.sort_by(|a, b| b.cost.total_cmp(&a.cost));
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::notes::{Outcome, Performed};

    #[test]
    fn what_costs_most_is_first_and_what_costs_nothing_is_left_out() {
        let note = |i: usize| {
            let part = i as f64..i as f64 + 1.0;
            let known = PerformedNote::unknown(Outcome::Right, part.clone(), part);
            PerformedNote { written: (i != 3).then_some((i, 60.0)), ..known }
        };
        let notes: Vec<PerformedNote> = (0..6).map(note).collect();
        let costs = [0.02, 0.0, 0.25, 0.5, 0.004, f32::NAN].map(|cost| NoteCost { gain: cost, loss: cost });
        let spans = CostlySpan::of(&notes, &costs);
        let found: Vec<_> = spans.iter().map(|s| (s.start, s.end, s.note, s.cost)).collect();
        assert_eq!(found, [(3.0, 4.0, None, 0.5), (2.0, 3.0, Some(3), 0.25), (0.0, 1.0, Some(1), 0.02)]);
        assert!(CostlySpan::of(&notes, &[]).is_empty());
        assert!(CostlySpan::of(&Performed::default().notes, &costs).is_empty());
    }
}
