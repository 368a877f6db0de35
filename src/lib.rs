//! Hand-written kernels for convolution, pairwise similarity and the label-distance-weighted
//! contrastive loss, each with its backward pass, in a minimal autograd that trains a music
//! performance assessment network from scratch.
//!
//! - [`contrastive`] and [`similarity`] are the loss and the matrices alone: slices or device buffers in, results out.
//! - [`embed`] runs single kernels on memory that is another framework's.
//! - [`graph`] records [`ops`] once and replays them as a [`graph::Step`] on a [`device`].
//! - [`kernels`] is what the ops launch, and [`kernel`] what such a thing is; [`cases`] is what is known about them.
//! - [`data`], [`audio`], [`net`], [`train`], [`model`] and [`report`] grade performances with it.
//!
//! The README shows a kernel in use; ARCHITECTURE.md how the parts fit.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod audio;
pub mod cases;
pub mod contrastive;
pub mod data;
pub mod device;
pub mod embed;
mod error;
#[cfg(feature = "ffi")]
pub mod ffi;
pub mod fs;
pub mod graph;
mod hash;
pub mod kernel;
pub mod kernels;
pub mod model;
pub mod names;
pub mod net;
pub mod ops;
pub mod optim;
pub mod report;
pub mod simd;
pub mod similarity;
mod stems;
mod tensor_file;
pub mod train;

pub use error::{Error, Result};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
struct RustPage;
