//! What the page of a run of training is made of.

use crate::data::{InputKind, RatingScale, SplitBy};
use crate::report::files::EpochRow;
use crate::report::run::RunReport;

/// A take that was tested, and what was decided of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tested<'a> {
    /// What it performs, where known.
    pub melody: Option<&'a str>,
    /// The judges' rating, in 0..=1.
    pub rating: f32,
    /// The predicted one.
    pub prediction: f32,
    /// Whether the judges passed it, and whether the network does, where both are known.
    pub pass: Option<(bool, bool)>,
    /// The grade that most graders gave and the network's, on the graders' scale from 0, where both are known.
    pub grade: Option<(u8, u8)>,
}

/// The embeddings of some takes before training and after it.
#[derive(Debug, Clone, Copy)]
pub struct Embeddings<'a> {
    /// The takes' ratings, in 0..=1; n of them.
    pub ratings: &'a [f32],
    /// Dimensions, d.
    pub width: usize,
    /// Of the network as initialised, row-major `[n, d]`.
    pub before: &'a [f32],
    /// Of the trained network.
    pub after: &'a [f32],
    /// Label bins of the silhouettes.
    pub bins: usize,
    /// Silhouettes before and after, where defined.
    pub silhouettes: [Option<f64>; 2],
}

/// An option of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What was taken.
    pub value: String,
    /// What it does.
    pub about: String,
}

/// What a run of training came to, as a page shows it.
#[derive(Debug, Clone)]
pub struct TrainingRun<'a> {
    /// What `metrics.json` holds.
    pub report: &'a RunReport,
    /// What the data is called.
    pub data: String,
    /// Takes of all parts.
    pub takes: usize,
    /// Who performed them.
    pub performers: usize,
    /// What the network sees of them.
    pub kind: InputKind,
    /// What training and test never share.
    pub split_by: SplitBy,
    /// Those that were tested, of all folds.
    pub tested: Vec<Tested<'a>>,
    /// The graders' scale, where grades of [`Tested`] are on one.
    pub scale: Option<RatingScale>,
    /// The epochs of the only, or the first, fold.
    pub history: &'a [EpochRow],
    /// Of the test takes of the only, or the last, fold.
    pub embeddings: Embeddings<'a>,
    /// Every option.
    pub settings: Vec<Setting>,
    /// What it ran on: name and value.
    pub machine: Vec<[String; 2]>,
    /// What repeats it, where that can be typed.
    pub command: Option<String>,
}
