//! What a run reports of itself.

use super::metrics::{Metric, Metrics};
use serde::{Deserialize, Serialize};

/// What `metrics.json` holds: how a run was made and how well it did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Device, e.g. `cpu`.
    pub device: String,
    /// `mse`, `two-phase` or `joint`.
    pub protocol: String,
    /// Seed of the run.
    pub seed: u64,
    /// Epochs run.
    pub epochs: u64,
    /// Wall-clock time, seconds; NaN where unknown, which JSON writes as `null`.
    #[serde(deserialize_with = "null_as_nan")]
    pub seconds: f64,
    /// Trainable parameters.
    pub parameters: u64,
    /// Kernel launches in one training step.
    pub launches_per_step: u64,
    /// Kernels started for them, on a device where a launch may take several; counted in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatches_per_step: Option<f64>,
    /// The criterion rated, e.g. `musicality`.
    pub criterion: String,
    /// Channels of the network's input: 1 of a contour, 2 of a contour and its reference, 14 of an alignment path.
    pub inputs: u64,
    /// Version of this crate that made the run.
    pub version: String,
    /// On the test set; with folds, their mean.
    pub test: Metrics,
    /// Sample deviation over folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_sd: Option<Metrics>,
    /// One per fold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<Metrics>,
}

/// JSON has no NaN: serde_json writes `null`, which this reads back.
fn null_as_nan<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NAN))
}

impl RunReport {
    /// A table for people: one row per metric, `mean ± sd` with folds, `–` where undefined.
    pub fn table(&self) -> String {
        let cell = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
        let mut out = format!("{:<16}{:>9}\n", "recordings", self.test.n);
        for Metric { label, value, .. } in Metrics::TABLE {
            out += &format!("{label:<16}{:>9}", cell(value(&self.test)));
            if let Some(sd) = &self.test_sd {
                out += &format!(" ± {}", cell(value(sd)));
            }
            out.push('\n');
        }
        out
    }
}
