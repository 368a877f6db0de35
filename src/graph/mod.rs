//! Record once, replay every step: the tape, the recorder and the buffer planner.
//!
//! A [`Graph`] is recorded by calling ops. Each op appends launches and, where a
//! gradient may flow, pushes a closure that appends the backward launches.
//! [`Graph::backward`] runs the closures in reverse, once, at record time, so
//! that forward, backward and update are one flat list of launches.
//! [`Graph::compile`] drops what nothing reads, places intermediates in memory
//! that is reused within the step, and hands the list to a device as one
//! [`Step`] to replay.

mod grad;
mod memory;
mod step;
mod tape;

pub use step::Step;
pub use tape::{Graph, Var};
