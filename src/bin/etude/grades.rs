//! What a network was told and what it made of it.

use etude::Result;
use etude::contrastive::bins;
use etude::data::Inputs;
use etude::report::metrics::Metrics;
use etude::report::scores::best_threshold;
use etude::train::Prediction;

/// Ratings, decisions and predictions of some examples, side by side.
pub struct Grades {
    pub ratings: Vec<f32>,
    pub predictions: Vec<f32>,
    /// The predictions' embeddings, one after the other.
    pub embedding: Vec<f32>,
    /// Where all of them have one.
    pub pass: Option<Vec<bool>>,
}

impl Grades {
    pub fn new(inputs: &Inputs, examples: &[usize], predictions: &[Prediction]) -> Self {
        Self {
            ratings: examples.iter().map(|&e| inputs.examples[e].rating).collect(),
            predictions: predictions.iter().map(|p| p.rating).collect(),
            embedding: predictions.iter().flat_map(|p| p.embedding.iter().copied()).collect(),
            pass: examples.iter().map(|&e| inputs.examples[e].pass).collect(),
        }
    }

    /// The predicted rating from which on a take best passes.
    pub fn threshold(&self) -> Option<f32> {
        self.pass.as_ref().filter(|p| !p.is_empty()).map(|pass| best_threshold(&self.predictions, pass))
    }

    /// How good the predictions are; `label_bins` are those of the embedding's metrics.
    pub fn metrics(&self, label_bins: usize, threshold: Option<f32>) -> Result<Metrics> {
        let labels: Vec<usize> =
            bins(&self.ratings, label_bins)?.into_iter().map(|bin| bin as usize).collect();
        let metrics = Metrics::new(&self.predictions, &self.ratings).with_embedding(&self.embedding, &labels);
        Ok(match (&self.pass, threshold) {
            (Some(pass), Some(threshold)) => metrics.with_pass(&self.predictions, pass, threshold),
            _ => metrics,
        })
    }
}
