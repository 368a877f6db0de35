//! How to train, as the page asks for it.

use crate::takes::Takes;
use etude::audio::Scale;
use etude::kernels::contrastive::Metric;
use etude::train::{Contrast, Protocol, TrainOptions};
use serde::Deserialize;

/// The page's form; what is absent is what `etude train` would take.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    protocol: Option<Protocol>,
    epochs: Option<usize>,
    seed: Option<u64>,
    metric: Option<Metric>,
    margin: Option<f32>,
    /// λ, of the joint protocol.
    weight: Option<f32>,
    /// Label bins; 0 compares grades as they are.
    bins: Option<usize>,
}

impl Settings {
    /// The options of the library, for these takes.
    pub fn options(&self, takes: &Takes) -> TrainOptions {
        let mut options = TrainOptions::for_inputs(takes.inputs.kind, Scale::default().semitone());
        options.protocol = self.protocol.unwrap_or(options.protocol);
        options.seed = self.seed.unwrap_or(options.seed);
        let contrast = &mut options.contrast;
        contrast.metric = self.metric.unwrap_or(contrast.metric);
        let usual = Contrast::margin(takes.inputs.kind, contrast.metric);
        contrast.margin = self.margin.unwrap_or(usual);
        contrast.weight = self.weight.unwrap_or(contrast.weight);
        contrast.bins = self.bins.map_or(contrast.bins, |bins| (bins > 0).then_some(bins));
        match self.epochs {
            None => options.for_takes(takes.split.train.len()),
            Some(epochs) => {
                options.epochs = epochs;
                options.encoder_epochs = TrainOptions::encoder_epochs(epochs);
                options
            }
        }
    }
}
