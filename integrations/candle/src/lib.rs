//! Etude's label-distance-weighted contrastive loss and `conv1d` as [candle](candle_core) ops.
//!
//! They read tensors where they lie and write into tensors that candle owns: the CPU's, in f32 and f64, and with the feature
//! `cuda` those of NVIDIA cards, in f32, on the stream that candle uses. Gradients flow through `backward` as through candle's
//! own ops.
//!
//! - [`contrastive`] and [`contrastive_cross`]: value and gradient in one pass over the pairs, without an N × N matrix.
//! - [`conv1d`]: with stride, padding, dilation, groups and bias.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use etude_candle::{ContrastiveOptions, Samples, bins, contrastive};
//!
//! let z = Var::from_slice(&[0.1f32, 0.2, 0.3, 0.4, 0.5, 0.6], (3, 2), &Device::Cpu)?;
//! let labels = Tensor::new(bins(&[0.0, 0.5, 1.0], 5)?, &Device::Cpu)?;
//! let loss = contrastive(Samples::new(&z, &labels), ContrastiveOptions::default())?;
//! let gradients = loss.backward()?;
//! assert_eq!(gradients.get(&z).unwrap().dims(), [3, 2]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! A tensor that is not contiguous is copied first, as candle's `contiguous` does; one that merely starts inside its storage is
//! not. Gradients are constants of the pass that made them: second derivatives are not there.
#![deny(missing_docs)]

mod arguments;
mod contrastive;
mod conv1d;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

pub use contrastive::{Samples, contrastive, contrastive_cross};
pub use conv1d::conv1d;
pub use etude::contrastive::{ContrastiveOptions, Metric, bins};
pub use etude::ops::conv1d::{ConvOptions1d, Precision};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
