//! What a launch is told.

use crate::kernel::params;

/// What is computed of two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Similarity {
    /// `a·b`.
    Dot = 0,
    /// `a·b / (‖a‖‖b‖)`.
    Cosine = 1,
    /// `‖a − b‖²`.
    SquaredEuclidean = 2,
    /// `‖a − b‖`.
    Euclidean = 3,
}

params! {
    /// Params of both kernels.
    pub struct SimilarityParams {
        /// Rows of `a`.
        pub n: u32,
        /// Rows of `b`.
        pub m: u32,
        /// Columns of both.
        pub d: u32,
        /// A [`Similarity`].
        pub kind: u32,
    }
}

params! {
    /// Params of `similarity_topk`.
    pub struct TopKParams {
        /// Rows of `a`.
        pub n: u32,
        /// Rows of `b`.
        pub m: u32,
        /// Columns of both.
        pub d: u32,
        /// A [`Similarity`].
        pub kind: u32,
        /// How many of each row's similarities are wanted; at most `m`.
        pub k: u32,
    }
}

impl SimilarityParams {
    pub(super) fn kind(&self) -> Similarity {
        use Similarity::{Cosine, Dot, Euclidean, SquaredEuclidean};
        match self.kind {
            0 => Dot,
            1 => Cosine,
            2 => SquaredEuclidean,
            _ => Euclidean,
        }
    }

    pub(super) fn dims(&self) -> [usize; 3] {
        [self.n as usize, self.m as usize, self.d as usize]
    }
}

impl TopKParams {
    pub(super) fn pairs(&self) -> SimilarityParams {
        SimilarityParams { n: self.n, m: self.m, d: self.d, kind: self.kind }
    }
}

impl Similarity {
    /// Whether less is better.
    pub(super) fn is_distance(self) -> bool {
        matches!(self, Self::SquaredEuclidean | Self::Euclidean)
    }
}
