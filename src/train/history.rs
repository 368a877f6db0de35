//! What a run tells of each of its epochs.

/// What one epoch gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch {
    /// Epoch from 1, counted through all phases.
    pub epoch: usize,
    /// `mse`, `joint`, `encoder` or `head`.
    pub phase: String,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean loss over the epoch's steps.
    pub train_loss: f64,
    /// Validation loss; `None` without validation data.
    pub val_loss: Option<f64>,
    /// Validation R², where ratings are trained and it is defined.
    pub val_r2: Option<f64>,
    /// Most epochs that all phases together may take.
    pub of: usize,
}
