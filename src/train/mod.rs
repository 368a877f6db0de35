//! Training and evaluation of the music performance assessment network.
//!
//! Each phase of a protocol records one step — gather, forward, loss, backward, update — and replays
//! it; batch indices, learning rates and the random stream's counters are uploaded once an epoch, and its losses read once.

mod batch;
mod checkpoint;
mod data_id;
mod feed;
mod fit;
mod fitted;
mod heads;
mod history;
mod options;
mod phase;
mod predict;
mod record;
mod resident;
mod validate;

pub use checkpoint::{Snapshot, State};
pub use fit::{Hooks, Progress, fit, fit_async};
pub use fitted::Fit;
pub use history::Epoch;
pub use options::{Contrast, Encoder, Pairs, Protocol, Rule, TrainOptions, Windows};
pub use predict::{Prediction, Predictor};
