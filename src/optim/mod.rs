//! Parameters and how they are updated.
//!
//! A [`ParamSet`] lays named tensors out in one flat buffer, and their gradients in another, so that
//! an [`Optimizer`] updates all of them in one launch. What changes from step to step, the learning
//! rate and Adam's bias corrections, is written to a small buffer by [`Optimizer::before_step`]; the
//! recorded launch stays the same.

mod optimizer;
mod params;
mod schedule;

pub use optimizer::{Method, Optimizer};
pub use params::{ALIGNMENT, Leaves, ParamSet, Tensor};
pub use schedule::Schedule;
