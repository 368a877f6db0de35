//! What a prediction is worth on the graders' scale, learned from takes that several graded.

use super::graded::Graded;
use super::isotonic::Isotonic;
use super::ordinal::level;
use crate::data::RatingScale;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A monotone map from predictions to the graders' scale.
///
/// The mean of several grades, which a network learns, is not what most of them say: of the grades 1, 1, 1, 2, 4 the mean is
/// nearly 2. The map learns the latter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The graders' scale.
    scale: RatingScale,
    /// From predictions to grades, both in 0..=1.
    map: Isotonic,
}

impl Calibration {
    /// Fits the map to the labels ([`Graded::labels`]) of takes: choose them among those that a network was trained or validated
    /// on, never those that it is tested on.
    ///
    /// # Errors
    /// [`Error::Config`] where no take has a label, or a prediction is no number.
    pub fn fit(scale: RatingScale, graded: &Graded, predictions: &[f32]) -> Result<Self> {
        let labelled = predictions.iter().zip(graded.targets()).filter_map(|(&p, target)| Some((p, target?)));
        let (predictions, targets): (Vec<f32>, Vec<f32>) = labelled.unzip();
        let nothing =
            || Error::config("nothing to calibrate by: no take has a grade that most of its graders gave");
        Isotonic::fit(&predictions, &targets).map(|map| Self { scale, map }).ok_or_else(nothing)
    }

    /// The calibrated prediction, in 0..=1.
    pub fn at(&self, prediction: f32) -> f32 {
        self.map.at(prediction)
    }

    /// The grade on the graders' scale.
    pub fn grade(&self, prediction: f32) -> Option<f64> {
        Some(self.scale.low() + f64::from(level(self.at(prediction), self.scale.levels()?)?))
    }

    /// Checks one that was read.
    ///
    /// # Errors
    /// [`Error::Config`] that says what cannot be.
    pub fn check(&self) -> Result<()> {
        if self.scale.levels().is_none() {
            return Err(Error::config(format!("calibration to a scale without whole steps: {}", self.scale)));
        }
        self.map.check()
    }
}
