//! Etude's WGSL kernels on [burn](https://burn.dev)'s wgpu tensors: the label-distance-weighted contrastive loss, similarity
//! matrices and a one-dimensional convolution, with their gradients in burn's autodiff.
//!
//! The kernels read and write burn's own memory, on burn's device and queue: nothing is copied, but a tensor whose elements do
//! not lie in a row (transposed, say), which burn lays out anew first. With burn's fusion an op waits its turn as burn's own
//! do, and runs on the tensors that fusion has by then. Tensors are f32.
//!
//! ```no_run
//! use burn::tensor::{Device, Tensor};
//! use etude_burn::{ContrastiveOptions, Samples, contrastive};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = etude_burn::init(Device::wgpu_options())?.autodiff();
//! let z = Tensor::<2>::from_data([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], &device).require_grad();
//! let labels = Tensor::<1>::from_data([0.0, 2.0, 4.0], &device);
//! let loss = contrastive(Samples::new(z.clone(), labels), ContrastiveOptions::default())?;
//! let gradient = z.grad(&loss.backward());
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod autodiff;
mod contrastive;
mod conv1d;
mod device;
mod extension;
mod similarity;
mod tensor;

pub use contrastive::{Samples, contrastive, contrastive_cross};
pub use conv1d::conv1d;
pub use device::{init, share};
pub use etude::contrastive::{ContrastiveOptions, Metric, bins};
pub use etude::ops::conv1d::ConvOptions1d;
pub use etude::similarity::Similarity;
pub use etude::{Error, Result};
pub use similarity::similarity;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
