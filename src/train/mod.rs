//! Training and evaluation of the music performance assessment network.
//!
//! Each phase of a protocol records one step — gather, forward, loss, backward, update — and replays
//! it; batch indices, learning rates and the random stream's counters are uploaded once an epoch, and its losses read once.

mod batch;
mod checkpoint;
mod feed;
mod fit;
mod predict;

pub use batch::Windows;
pub use checkpoint::{Snapshot, State};
pub use fit::{Epoch, Fit, Hooks, Progress, fit};
pub use predict::{Prediction, Predictor};

use crate::data::inputs::InputKind;
use crate::kernels::contrastive::Metric;
use crate::nn::NetConfig;
use crate::ops::optim::{Adam, Sgd};
use crate::optim::{Method, Schedule};
use serde::{Deserialize, Serialize};

/// What is minimised, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Mean squared error alone: the baseline.
    Mse,
    /// The encoder on the contrastive loss, then the head on the mean squared error.
    TwoPhase,
    /// Mean squared error plus λ times the contrastive loss.
    Joint,
}

impl Protocol {
    /// Name as the command line and files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mse => "mse",
            Self::TwoPhase => "two-phase",
            Self::Joint => "joint",
        }
    }
}

/// Which pairs of a batch the contrastive loss compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// All of them.
    All,
    /// Two random halves matched one to one, as the paper's code does.
    Halves,
}

/// The contrastive loss of a protocol.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    /// Distance between embeddings.
    pub metric: Metric,
    /// Distance at which a negative pair stops to matter, per unit of label distance.
    pub margin: f32,
    /// Number of label bins; `None` compares the ratings themselves.
    pub bins: Option<usize>,
    /// Largest label distance of a positive pair.
    pub tau: f32,
    /// Which pairs.
    pub pairs: Pairs,
    /// Weight λ beside the mean squared error, in [`Protocol::Joint`].
    pub weight: f32,
}

impl Default for Contrast {
    /// The paper's: Euclidean, margin 0.5, five bins; all pairs; λ = 0.1.
    fn default() -> Self {
        Self {
            metric: Metric::Euclidean,
            margin: 0.5,
            bins: Some(5),
            tau: 0.0,
            pairs: Pairs::All,
            weight: 0.1,
        }
    }
}

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// What is minimised.
    pub protocol: Protocol,
    /// The network.
    pub net: NetConfig,
    /// Rows to columns.
    pub windows: Windows,
    /// Most epochs of the only, or the second, phase.
    pub epochs: usize,
    /// Most epochs of the encoder's phase, in [`Protocol::TwoPhase`].
    pub encoder_epochs: usize,
    /// Epochs without a better validation loss after which a phase stops.
    pub patience: usize,
    /// Samples per step.
    pub batch: usize,
    /// The contrastive loss.
    pub contrast: Contrast,
    /// Whether the encoder stays as it is in the second phase of [`Protocol::TwoPhase`].
    pub freeze_encoder: bool,
    /// How parameters are updated.
    pub method: Method,
    /// Learning rate; warm-up counts epochs.
    pub schedule: Schedule,
    /// Seed of initial weights, batches and dropout.
    pub seed: u64,
    /// Run launch by launch and stop at the first NaN.
    pub checked: bool,
}

impl TrainOptions {
    /// Defaults for a kind of input: for alignment paths AdamW on a cosine over 50 epochs; for bare
    /// contours the paper's network, SGD at 0.005 and early stopping.
    pub fn for_inputs(kind: InputKind, protocol: Protocol, semitone: f32) -> Self {
        let windows = Windows::of(kind, semitone);
        let common = |net, epochs, method, schedule, batch| Self {
            protocol,
            net,
            windows,
            epochs,
            encoder_epochs: epochs.min(150),
            patience: 100,
            batch,
            contrast: Contrast::default(),
            freeze_encoder: true,
            method,
            schedule,
            seed: 0,
            checked: false,
        };
        match windows {
            Windows::Resampled => common(
                NetConfig::alignment(kind.channels(), 128),
                50,
                Method::Adam(Adam { weight_decay: 1e-4, decoupled: true, ..Adam::default() }),
                Schedule::Cosine { lr: 2e-3, warm_up: 2 },
                64,
            ),
            Windows::Chunks { .. } => common(
                NetConfig::paper(kind.channels(), 1000),
                300,
                Method::Sgd(Sgd { momentum: 0.9, weight_decay: 1e-5 }),
                Schedule::Constant { lr: 0.005, warm_up: 0 },
                64,
            ),
        }
    }
}
