//! What a run of `etude train` keeps of itself.

use crate::args::{DataArgs, DeviceName, RunArgs};
use etude::report::files::PredictionRow;
use etude::report::metrics::Metrics;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a run has done so far, and how it goes on; a checkpoint keeps it beside the fit's state.
#[derive(Serialize, Deserialize)]
pub struct Run {
    pub args: RunArgs,
    pub files: DataArgs,
    pub device: DeviceName,
    pub threads: usize,
    /// Seconds it took before it was last interrupted.
    pub seconds: f64,
    /// The test of each finished fold.
    pub folds: Vec<Metrics>,
    /// How good the graders are by each other on the takes of each, where several graded.
    pub graders: Vec<Metrics>,
    /// How good the network is in their place.
    pub as_grader: Vec<Metrics>,
    /// Epochs of all folds.
    pub epochs: u64,
    /// Bytes of `history.csv` that tell of them.
    pub history: u64,
    pub predictions: Vec<PredictionRow>,
    /// The same by each of several criteria.
    #[serde(default)]
    pub by_criterion: Vec<PredictionRow>,
    /// How good each fold is by each.
    #[serde(default)]
    pub criteria: Vec<Vec<Metrics>>,
    /// What was decided of those of them that were tested, in their order.
    #[serde(default)]
    pub decisions: Vec<Decision>,
}

/// What a network decides of a take that it is tested on.
#[derive(Serialize, Deserialize)]
pub struct Decision {
    /// Whether it passes, where that was learned.
    pub pass: Option<bool>,
    /// The grade that most graders gave it and the network's, on the graders' scale from 0, where there are both.
    pub grade: Option<(u8, u8)>,
}

/// How long a run takes, through all interruptions.
#[derive(Clone, Copy)]
pub struct Clock {
    pub start: Instant,
    /// Seconds before that.
    pub before: f64,
}

impl Clock {
    pub fn seconds(self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }
}
