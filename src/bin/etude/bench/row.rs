//! What was measured of a launch or a step.

use super::timing::Timing;
use etude::kernel::Cost;
use serde_json::{Value, json};

/// What a device does at most. Operations and bytes a second.
#[derive(Clone, Copy)]
pub struct Ceilings {
    /// Copied, read and written both counted.
    pub bytes: f64,
    /// Multiply-adds in f32, each counted as two.
    pub flops: f64,
    /// The same in f16, where it has it.
    pub half: Option<f64>,
}

impl Ceilings {
    /// Seconds below which nothing of that cost can be, and whether bytes are why.
    pub fn floor(&self, cost: Cost) -> (f64, bool) {
        let (flops, bytes) = (cost.flops as f64 / self.flops, cost.bytes as f64 / self.bytes);
        (flops.max(bytes), bytes > flops)
    }
}

/// A launch or a step.
pub struct Row {
    /// The workload.
    pub what: String,
    /// The launch's kernel, or how a step runs.
    pub how: String,
    pub timing: Timing,
    pub cost: Cost,
    /// What else the JSON has.
    pub more: Value,
}

impl Row {
    pub fn json(&self) -> Value {
        let Self { what, timing, cost, .. } = self;
        let mut row = json!({"what": what, "gb_s": cost.bytes as f64 / timing.median / 1e9,
                             "tflop_s": cost.flops as f64 / timing.median / 1e12,
                             "flops": cost.flops, "bytes": cost.bytes});
        if let Value::Object(row) = &mut row {
            let more = [timing.json(), self.more.clone()];
            row.extend(more.into_iter().filter_map(|v| v.as_object().cloned()).flatten());
        }
        row
    }
}
