//! How to train, as the page asks for it.

use crate::takes::Takes;
use etude::audio::Scale;
use etude::train::{Protocol, TrainOptions};
use serde::Deserialize;

/// The page's form; what is absent is what `etude train` would take.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    protocol: Option<Protocol>,
    epochs: Option<usize>,
    seed: Option<u64>,
    /// Held-out takes are predicted after every so many epochs.
    #[serde(default = "each")]
    pub watch: usize,
}

fn each() -> usize {
    1
}

impl Settings {
    /// The options of the library, for these takes.
    pub fn options(&self, takes: &Takes) -> TrainOptions {
        let mut options = TrainOptions::for_inputs(takes.inputs.kind, Scale::default().semitone());
        options.protocol = self.protocol.unwrap_or(options.protocol);
        options.seed = self.seed.unwrap_or(options.seed);
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
