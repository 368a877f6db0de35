//! What a launch is told.

use crate::kernel::params;
use crate::names::named;

/// How far apart two embeddings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Metric {
    /// `‖a − b‖`.
    #[default]
    Euclidean = 0,
    /// `1 − a·b / (‖a‖‖b‖)`; 1 when a row is zero.
    Cosine = 1,
}

named!(Metric, "metric": Euclidean "euclidean", Cosine "cosine");

params! {
    /// Params of every kernel here.
    pub struct ContrastiveParams {
        /// Rows of `z`.
        pub n: u32,
        /// Rows of `others` in `contrastive_cross`, pairs in `contrastive_halves`, else 0.
        pub m: u32,
        /// Columns of both.
        pub d: u32,
        /// A [`Metric`].
        pub metric: u32,
        /// How far apart a negative pair of label distance 1 should be.
        pub margin: f32,
        /// Largest label distance of a positive pair, with its tolerance.
        pub tau: f32,
        /// Multiplies the mean over pairs.
        pub weight: f32,
        /// Which samples have weights: bit 0 the rows of `z`, bit 1 those of `others`. Where a bit is not set, the
        /// buffer of weights is any and not read, and each weight is 1.
        pub weighted: u32,
        /// Multiplies the gradients alone.
        pub grad_scale: f32,
    }
}

impl ContrastiveParams {
    pub(super) fn cosine(&self) -> bool {
        self.metric == Metric::Cosine as u32
    }

    /// The weights of the rows of `z` (`side` 0) or of `others` (1), where there are any.
    pub(super) fn weights<'a, F>(&self, side: u32, weights: &'a [F]) -> Option<&'a [F]> {
        (self.weighted >> side & 1 == 1).then_some(weights)
    }

    /// `weight / total`; 0 where no pair counts.
    pub(super) fn share(&self, total: f64) -> f64 {
        if total > 0.0 { f64::from(self.weight) / total } else { 0.0 }
    }
}
