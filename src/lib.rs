//! Hand-written kernels for convolution, pairwise similarity and the
//! label-distance-weighted contrastive loss, wrapped in a minimal autograd.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod audio;
pub mod cases;
pub mod data;
pub mod device;
mod error;
pub mod graph;
pub mod kernels;
pub mod model;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod report;
pub mod train;

pub use error::{Error, Result};
