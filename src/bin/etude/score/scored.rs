//! What becomes of a take.

use etude::audio::Contour;
use etude::audio::notes::{Outcome, Performed, PerformedNote};
use etude::data::{CostlySpan, NoteCost};
use etude::report::page::CriterionGrade;
use serde::Serialize;

/// A take and its grade.
#[derive(Serialize, Default)]
pub struct Scored {
    pub id: String,
    /// In 0..=1.
    pub grade: Option<f32>,
    /// Between which ratings nine in ten takes of this grade are taken to lie, where the model knows how far it is off.
    pub interval: Option<[f32; 2]>,
    /// Where the model has a threshold.
    pub pass: Option<bool>,
    /// On the graders' scale, where the model is calibrated to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<f64>,
    pub error: Option<String>,
    /// The grade by each of several criteria, whose mean is the grade.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<CriterionGrade>,
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

impl Notes {
    /// Of a take, and what each of its notes costs it, where that is known.
    pub fn of(performed: &Performed, costs: &[NoteCost]) -> Self {
        let note = |(place, note): (usize, &PerformedNote)| Note {
            number: note.written.map(|(number, _)| number + 1),
            outcome: note.outcome,
            written: note.written.map(|(_, pitch)| pitch),
            pitch: note.pitch,
            start: note.span.start,
            end: note.span.end,
            cents: note.cents,
            late: note.late,
            longer: note.longer,
            cost: costs.get(place).map(|cost| cost.cost()),
        };
        Self {
            key: performed.key,
            tempo: performed.tempo,
            notes: performed.notes.iter().enumerate().map(note).collect(),
            spans: CostlySpan::of(&performed.notes, costs),
        }
    }
}

/// What a page shows of a take beside its grade.
pub struct Told {
    pub contour: Contour,
    pub performed: Option<Performed>,
    /// Of each of its notes, where that is known.
    pub costs: Vec<NoteCost>,
}

/// A take as it was graded.
pub struct Graded {
    pub scored: Scored,
    /// Where there is a page, and a grade.
    pub told: Option<Told>,
}
