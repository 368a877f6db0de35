//! Where in a take what it lacks is lost.

use super::repairs::NoteCost;
use serde::Serialize;
use std::ops::Range;

/// A note costs something from here on, on the scale of grades.
const NOTICED: f32 = 0.005;

/// Neighbouring notes that cost something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CostlySpan {
    /// Seconds in the take.
    pub start: f64,
    /// Seconds in the take.
    pub end: f64,
    /// The first and the last note, from 1.
    pub notes: [usize; 2],
    /// What the notes cost together, on the scale of grades.
    pub cost: f32,
}

impl CostlySpan {
    /// The spans of a take, what costs most first, of where each note of the melody is with what follows it
    /// ([`crate::audio::notes::Performed::parts`]) and what each costs. A note counts from 0.005 on.
    pub fn of(parts: &[Range<f64>], costs: &[NoteCost]) -> Vec<Self> {
        let mut spans: Vec<Self> = Vec::new();
        for (number, (part, cost)) in parts.iter().zip(costs).enumerate() {
            let cost = cost.cost();
            match spans.last_mut() {
                _ if cost.is_nan() || cost < NOTICED => {}
                Some(span) if span.notes[1] == number => {
                    (span.end, span.notes[1], span.cost) = (part.end, number + 1, span.cost + cost);
                }
                _ => {
                    spans.push(Self { start: part.start, end: part.end, notes: [number + 1; 2], cost });
                }
            }
        }
        spans.sort_by(|a, b| b.cost.total_cmp(&a.cost));
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_span_and_what_costs_most_is_first() {
        let parts: Vec<Range<f64>> = (0..5).map(|i| f64::from(i)..f64::from(i + 1)).collect();
        let costs = [0.02, 0.0, 0.25, 0.5, 0.004].map(|cost| NoteCost { gain: cost, loss: cost });
        let spans = CostlySpan::of(&parts, &costs);
        let found: Vec<_> = spans.iter().map(|s| (s.start, s.end, s.notes, s.cost)).collect();
        assert_eq!(found, [(2.0, 4.0, [3, 4], 0.75), (0.0, 1.0, [1, 1], 0.02)]);
        assert!(CostlySpan::of(&parts, &[]).is_empty());
    }
}
