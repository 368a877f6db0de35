//! What the page of graded takes is made of.

use crate::audio::Contour;
use crate::audio::notes::Performed;
use crate::data::{InputKind, NoteCost};
use serde::Serialize;

/// Who graded: what a model's record says of it.
#[derive(Debug, Clone, Copy)]
pub struct Grader<'a> {
    /// What the model is called.
    pub name: &'a str,
    /// What its ratings are for.
    pub criterion: &'a str,
    /// Whether these are several criteria.
    pub several: bool,
    /// Version of the crate that trained it.
    pub version: &'a str,
    /// Epochs it was trained for.
    pub epochs: usize,
    /// What its grades are worth, where more is known than its record says: sentences.
    pub about: Option<&'a str>,
    /// What it was trained on, where it says so: what the data is called, and how many takes.
    pub trained_on: Option<(&'a str, usize)>,
    /// Its own fold, from 1, and how many there were, where there were folds.
    pub fold: Option<(usize, usize)>,
    /// What it sees of a take.
    pub kind: InputKind,
}

/// The grade of a take by one of several criteria.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CriterionGrade {
    /// What the criterion is called.
    pub name: String,
    /// In 0..=1.
    pub grade: f32,
    /// Between which ratings nine in ten takes of this grade are taken to lie, where the model knows how far it is off.
    pub interval: Option<[f32; 2]>,
}

/// The sound of a take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sound {
    /// It has none: it is f0, or a score.
    None,
    /// It has, and the page has not; why.
    LeftOut(String),
    /// The bytes of a WAV file that begins where the take's contour does.
    Wav(Vec<u8>),
}

/// A take and what became of it.
#[derive(Debug, Clone)]
pub struct GradedTake<'a> {
    /// What it is called.
    pub name: &'a str,
    /// In 0..=1.
    pub grade: f32,
    /// Between which ratings nine in ten takes of this grade are taken to lie, where the model knows how far it is off.
    pub interval: Option<[f32; 2]>,
    /// Where the model has a threshold.
    pub pass: Option<bool>,
    /// On the graders' scale, where the model is calibrated to it.
    pub mark: Option<f64>,
    /// By each of several criteria, whose mean the grade is; none of one.
    pub criteria: &'a [CriterionGrade],
    /// Its pitch.
    pub contour: &'a Contour,
    /// Its notes, where the model knows any.
    pub performed: Option<&'a Performed>,
    /// What each of its notes costs; none where that is not known.
    pub costs: &'a [NoteCost],
    /// What is heard of it.
    pub sound: Sound,
}
