//! Hand-written kernels for convolution, pairwise similarity and the
//! label-distance-weighted contrastive loss, wrapped in a minimal autograd.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod audio;
pub mod data;
mod error;
pub mod report;

pub use error::{Error, Result};
