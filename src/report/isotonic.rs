//! Isotonic regression: the monotone map from predictions to targets with the least squared error.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A map that never falls, linear between its knots and constant beyond them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isotonic {
    /// Predictions, ascending.
    x: Vec<f32>,
    /// What they become, in 0..=1, never falling.
    y: Vec<f32>,
}

/// Neighbouring predictions of one value: the first and the last, and sum and number of their targets.
struct Block {
    first: f32,
    last: f32,
    sum: f64,
    count: f64,
}

impl Block {
    fn mean(&self) -> f64 {
        self.sum / self.count
    }
}

impl Isotonic {
    /// Fits `targets`, in 0..=1, by pooling adjacent violators: in the order of the predictions, equal ones together, a block
    /// that lies below the one before is joined with it (Ayer et al. 1955). scikit-learn's `IsotonicRegression` makes the same
    /// map.
    ///
    /// `None` where there is nothing to fit, or something is no number. Takes O(n·log n).
    pub fn fit(predictions: &[f32], targets: &[f32]) -> Option<Self> {
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        if predictions.is_empty()
            || predictions.len() != targets.len()
            || !finite(predictions)
            || !finite(targets)
        {
            return None;
        }
        let mut sorted: Vec<(f32, f32)> = predictions.iter().copied().zip(targets.iter().copied()).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut blocks: Vec<Block> = Vec::new();
        for same in sorted.chunk_by(|a, b| a.0 == b.0) {
            let sum = same.iter().map(|pair| f64::from(pair.1)).sum();
            let mut block = Block { first: same[0].0, last: same[0].0, sum, count: same.len() as f64 };
            while let Some(before) = blocks.pop_if(|before| before.mean() >= block.mean()) {
                block = Block {
                    first: before.first,
                    last: block.last,
                    sum: before.sum + block.sum,
                    count: before.count + block.count,
                };
            }
            blocks.push(block);
        }
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for block in &blocks {
            let ends = [block.first, block.last];
            for &end in &ends[..if block.first == block.last { 1 } else { 2 }] {
                x.push(end);
                y.push(block.mean().clamp(0.0, 1.0) as f32);
            }
        }
        Some(Self { x, y })
    }

    /// What a prediction becomes; what is no number stays so.
    pub fn at(&self, prediction: f32) -> f32 {
        if prediction.is_nan() {
            return prediction;
        }
        let next = self.x.partition_point(|&x| x <= prediction);
        if next == 0 || next == self.x.len() {
            return self.y[next.saturating_sub(1)];
        }
        let [x0, x1, y0, y1] =
            [self.x[next - 1], self.x[next], self.y[next - 1], self.y[next]].map(f64::from);
        (y0 + (y1 - y0) * (f64::from(prediction) - x0) / (x1 - x0)) as f32
    }

    /// Checks a map that was read: knots, ascending; values in 0..=1 that never fall.
    ///
    /// # Errors
    /// [`Error::Config`] that says so.
    pub fn check(&self) -> Result<()> {
        let ascending = self.x.windows(2).all(|w| w[0] < w[1]) && self.x.iter().all(|x| x.is_finite());
        let rising =
            self.y.windows(2).all(|w| w[0] <= w[1]) && self.y.iter().all(|y| (0.0..=1.0).contains(y));
        if self.x.is_empty() || self.x.len() != self.y.len() || !ascending || !rising {
            return Err(Error::config(
                "knots of a calibration: expected predictions that ascend and values in 0..=1 that never fall",
            ));
        }
        Ok(())
    }
}
