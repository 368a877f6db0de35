//! What a network was told and what it made of it.

use crate::out::tell;
use crate::run::Decision;
use etude::contrastive::bins;
use etude::data::Inputs;
use etude::report::calibration::Calibration;
use etude::report::graded::Graded;
use etude::report::metrics::Metrics;
use etude::report::scores::best_threshold;
use etude::train::Prediction;
use etude::{Error, Result};

/// Ratings, decisions and predictions of some examples, side by side.
pub struct Grades {
    pub ratings: Vec<f32>,
    pub predictions: Vec<f32>,
    /// The predictions' embeddings, one after the other.
    pub embedding: Vec<f32>,
    /// Where all of them have one.
    pub pass: Option<Vec<bool>>,
    /// What each grader gave them, where the data says so.
    pub graded: Option<Graded>,
    /// Of several criteria each.
    pub criteria: Vec<ByCriterion>,
}

/// Ratings by one of several criteria, and predictions, of the examples that were rated by it.
pub struct ByCriterion {
    pub ratings: Vec<f32>,
    pub predictions: Vec<f32>,
}

impl ByCriterion {
    fn all(inputs: &Inputs, examples: &[usize], predictions: &[Prediction]) -> Vec<Self> {
        let several = inputs.criteria.len() > 1;
        let of = |place: usize| {
            let rated = examples.iter().zip(predictions).filter_map(|(&e, made)| {
                Some(((*inputs.examples[e].ratings.get(place)?)?, *made.ratings.get(place)?))
            });
            let (ratings, predictions) = rated.unzip();
            Self { ratings, predictions }
        };
        (0..inputs.criteria.len()).filter(|_| several).map(of).collect()
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::new(&self.predictions, &self.ratings)
    }
}

impl Grades {
    pub fn new(inputs: &Inputs, examples: &[usize], predictions: &[Prediction]) -> Self {
        Self {
            ratings: examples.iter().map(|&e| inputs.examples[e].rating).collect(),
            predictions: (examples.iter().zip(predictions))
                .map(|(&e, made)| made.beside(&inputs.examples[e]))
                .collect(),
            embedding: predictions.iter().flat_map(|p| p.embedding.iter().copied()).collect(),
            pass: examples.iter().map(|&e| inputs.examples[e].pass).collect(),
            graded: graded(inputs, examples),
            criteria: ByCriterion::all(inputs, examples, predictions),
        }
    }

    /// The predicted rating from which on a take best passes.
    pub fn threshold(&self) -> Option<f32> {
        self.pass.as_ref().filter(|p| !p.is_empty()).map(|pass| best_threshold(&self.predictions, pass))
    }

    /// The map from these predictions to the graders' scale.
    pub fn calibration(&self, inputs: &Inputs) -> Result<Calibration> {
        let of = inputs.graders.as_ref().map(|graders| graders.scale).zip(self.graded.as_ref());
        let nobody = || Error::config("nothing to calibrate by: the data does not say what each grader gave");
        of.ok_or_else(nobody).and_then(|(scale, graded)| Calibration::fit(scale, graded, &self.predictions))
    }

    /// The predictions that become grades on the graders' scale.
    fn on_scale(&self, calibration: Option<&Calibration>) -> Vec<f32> {
        let at = |&p: &f32| calibration.map_or(p, |calibration| calibration.at(p));
        self.predictions.iter().map(at).collect()
    }

    /// How good the predictions are; `label_bins` are those of the embedding's metrics. What is calibrated are the grades on the
    /// graders' scale alone: ratings, and pass or fail, are told as the network tells them.
    pub fn metrics(
        &self,
        label_bins: usize,
        threshold: Option<f32>,
        calibration: Option<&Calibration>,
    ) -> Result<Metrics> {
        let labels: Vec<usize> =
            bins(&self.ratings, label_bins)?.into_iter().map(|bin| bin as usize).collect();
        let metrics = Metrics::new(&self.predictions, &self.ratings).with_embedding(&self.embedding, &labels);
        let metrics = match (&self.pass, threshold) {
            (Some(pass), Some(threshold)) => metrics.with_pass(&self.predictions, pass, threshold),
            _ => metrics,
        };
        Ok(match &self.graded {
            Some(graded) => graded.measure(metrics, &self.on_scale(calibration)),
            None => metrics,
        })
    }

    /// What is decided of each take: pass or fail from `threshold` on, and its grade on the graders' scale.
    pub fn decisions(&self, threshold: Option<f32>, calibration: Option<&Calibration>) -> Vec<Decision> {
        let grades = self.graded.as_ref().map(|graded| graded.beside_labels(&self.on_scale(calibration)));
        let decision = |(i, &p): (usize, &f32)| Decision {
            pass: threshold.map(|threshold| p >= threshold),
            grade: grades.as_ref().and_then(|grades| grades.get(i).copied().flatten()),
        };
        self.predictions.iter().enumerate().map(decision).collect()
    }

    /// How good the graders are by each other, where several graded; between pass and fail they decide by `thresholds`.
    pub fn agreement(&self, thresholds: Option<&[f32]>) -> Option<Metrics> {
        self.graded.as_ref()?.agreement(self.pass.as_deref(), thresholds)
    }

    /// How good the predictions are in the graders' place, where several graded.
    pub fn as_grader(&self, calibration: Option<&Calibration>) -> Option<Metrics> {
        self.graded.as_ref()?.in_their_place(&self.predictions, &self.on_scale(calibration))
    }

    /// The grade of each grader from which on a take best passes.
    pub fn grader_thresholds(&self) -> Option<Vec<f32>> {
        Some(self.graded.as_ref()?.thresholds(self.pass.as_ref()?))
    }
}

/// Says how many of these takes count in measures on the graders' scale, where some do and some don't.
pub fn note_labels(inputs: &Inputs, examples: &[usize]) {
    let labels = graded(inputs, examples).map_or(Vec::new(), |graded| graded.labels());
    let (some, all) = (labels.iter().flatten().count(), labels.len());
    if (1..all).contains(&some) {
        tell!(
            "note: {some} of {all} takes have a grade that most of their graders gave: these are measured on the graders' scale"
        );
    }
}

/// What each grader gave some examples, where the data says so.
fn graded(inputs: &Inputs, examples: &[usize]) -> Option<Graded> {
    let takes = examples.iter().map(|&e| &*inputs.examples[e].grades);
    inputs.graders.as_ref().map(|graders| Graded::new(graders, takes))
}
