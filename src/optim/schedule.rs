//! Learning rates.

/// The learning rate over a training run; both kinds rise linearly over the first `warm_up` steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Then the same all along.
    Constant {
        /// The highest learning rate.
        lr: f64,
        /// Steps of the rise; 0 for none.
        warm_up: u64,
    },
    /// Then falls to 0 along half a cosine.
    Cosine {
        /// The highest learning rate.
        lr: f64,
        /// Steps of the rise; 0 for none.
        warm_up: u64,
    },
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0, of `total`; 0 from there on under the cosine.
    pub fn lr_at(&self, step: u64, total: u64) -> f64 {
        let (Self::Constant { lr, warm_up } | Self::Cosine { lr, warm_up }) = *self;
        match self {
            _ if step < warm_up => lr * (step + 1) as f64 / warm_up as f64,
            Self::Constant { .. } => lr,
            Self::Cosine { .. } if step >= total => 0.0,
            Self::Cosine { .. } => {
                let done = (step - warm_up) as f64 / (total - warm_up) as f64;
                lr * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}
