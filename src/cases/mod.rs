//! The case table: one list of (op, shapes, options, data, tolerance and its reason) that drives
//! the gradient checks, the parity of every device with the oracle, and the benchmarks.
//!
//! Nothing is fast and unchecked: what is timed here is what is tested here.

mod case;
mod table;

use crate::stems::{modules, stems};
pub use case::{Case, Data, F32_SUMS, Input, Outcome, Prepared, Role, farthest, normal, relative, uniform};
use case::{TF32, TF32_FACTORS};
pub use table::all;

stems!(modules);
