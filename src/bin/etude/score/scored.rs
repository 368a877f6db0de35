//! What becomes of a take.

use etude::audio::notes::{Outcome, Performed, PerformedNote};
use etude::data::NoteCost;
use serde::Serialize;

/// A note costs something from here on, on the scale of grades.
const NOTICED: f32 = 0.005;

/// A take and its grade.
#[derive(Serialize)]
pub struct Scored {
    pub id: String,
    /// In 0..=1.
    pub grade: Option<f32>,
    /// The lowest and the highest grade that judges are taken to give, where the model knows how far it is off.
    pub interval: Option<[f32; 2]>,
    /// Where the model has a threshold.
    pub pass: Option<bool>,
    /// On the graders' scale, where the model is calibrated to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<f64>,
    pub error: Option<String>,
    #[serde(flatten)]
    pub notes: Option<Notes>,
}

/// How a take was performed, and what that costs.
#[derive(Serialize)]
pub struct Notes {
    /// Semitones from the melody's key up to the take's.
    pub key: f32,
    /// Seconds of the take for each of the melody.
    pub tempo: f64,
    pub notes: Vec<Note>,
    /// What costs most, most first; none where the model is shown a contour, of which notes cannot be repaired.
    pub spans: Vec<CostlySpan>,
}

/// A note, in order of time.
#[derive(Serialize)]
pub struct Note {
    /// From 1; none of one that is not in the melody.
    pub number: Option<usize>,
    pub outcome: Outcome,
    /// MIDI pitch in the melody, and in the take.
    pub written: Option<f32>,
    pub pitch: Option<f32>,
    /// Seconds in the take.
    pub start: f64,
    pub end: f64,
    pub cents: Option<f32>,
    /// Seconds.
    pub late: Option<f64>,
    pub longer: Option<f64>,
    /// Of the grade.
    pub cost: Option<f32>,
}

/// Neighbouring notes that cost something.
#[derive(Serialize)]
pub struct CostlySpan {
    /// Seconds in the take.
    pub start: f64,
    pub end: f64,
    /// The first and the last note, from 1.
    pub notes: [usize; 2],
    pub cost: f32,
}

impl Notes {
    /// Of a take, and what each note of the melody costs it, where that is known.
    pub fn of(performed: &Performed, costs: &[NoteCost]) -> Self {
        let cost = |number: usize| costs.get(number).map(|cost| cost.cost());
        let note = |note: &PerformedNote| Note {
            number: note.written.map(|(number, _)| number + 1),
            outcome: note.outcome,
            written: note.written.map(|(_, pitch)| pitch),
            pitch: note.pitch,
            start: note.span.start,
            end: note.span.end,
            cents: note.cents,
            late: note.late,
            longer: note.longer,
            cost: note.written.and_then(|(number, _)| cost(number)),
        };
        let mut spans: Vec<CostlySpan> = Vec::new();
        for (number, part) in performed.parts.iter().enumerate() {
            let Some(cost) = cost(number).filter(|&cost| cost >= NOTICED) else { continue };
            match spans.last_mut() {
                Some(span) if span.notes[1] == number => {
                    (span.end, span.notes[1], span.cost) = (part.end, number + 1, span.cost + cost);
                }
                _ => {
                    spans.push(CostlySpan { start: part.start, end: part.end, notes: [number + 1; 2], cost })
                }
            }
        }
        spans.sort_by(|a, b| b.cost.total_cmp(&a.cost));
        Self {
            key: performed.key,
            tempo: performed.tempo,
            notes: performed.notes.iter().map(note).collect(),
            spans,
        }
    }
}
