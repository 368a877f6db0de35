//! Graded performances in memory.

use super::split::Split;
use crate::audio::Contour;

/// The criterion a data set with a single unnamed rating rates by.
pub const OVERALL: &str = "overall";

/// One graded performance.
#[derive(Debug, Clone, PartialEq)]
pub struct Take {
    /// Unique among the takes.
    pub id: String,
    /// Who performs: splits never part one performer's takes.
    pub performer: String,
    /// What is performed; [`Reference`]s of the same melody are what it can be compared with.
    pub melody: Option<String>,
    /// The pitch.
    pub contour: Contour,
    /// One rating in 0..=1 per criterion of the [`Recordings`].
    pub ratings: Vec<f32>,
    /// Whether the judges passed it, where the data says.
    pub pass: Option<bool>,
    /// The part of the split the data itself puts it in, if it does.
    pub split: Option<Split>,
}

/// A take of a melody as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Unique among the references.
    pub id: String,
    /// The melody played.
    pub melody: String,
    /// The pitch.
    pub contour: Contour,
}

/// A data set in memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recordings {
    /// What the ratings are for, e.g. `overall`, `rhythm`.
    pub criteria: Vec<String>,
    /// The graded performances, by id.
    pub takes: Vec<Take>,
    /// The reference takes, by id.
    pub references: Vec<Reference>,
    /// What was dropped on loading and why, with counts; for the log.
    pub notes: Vec<String>,
}
