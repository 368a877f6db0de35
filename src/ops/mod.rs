//! Ops: shape rules, forward launches and a closure that records the backward ones.
//!
//! An op is a function over a [`Graph`](crate::graph::Graph); it never sees a device.

pub mod activation;
pub mod batch_norm;
pub mod contrastive;
pub mod conv1d;
pub mod conv2d;
pub mod conv_block;
pub mod dropout;
pub mod elementwise;
pub mod feed;
pub mod gather;
pub mod linear;
pub mod loss;
pub mod optim;
pub mod pool;
pub mod similarity;

pub(crate) use elementwise::{accumulate, copy, give_scaled};
pub use elementwise::{add, fill, reshape, scale};
