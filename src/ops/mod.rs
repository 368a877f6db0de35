//! Ops: shape rules, forward launches and a closure that records the backward ones.
//!
//! An op is a function over a [`Graph`](crate::graph::Graph); it never sees a device.

mod anchors;
mod check;
mod conv;
mod samples;

use crate::stems::{public_modules, stems};
pub use elementwise::{add, fill, reshape, scale};

stems!(public_modules);
