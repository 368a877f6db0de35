//! The f32 instance: blocks of sums in registers, over strips of rows.

mod block;
mod bwd;
mod coefficients;
mod fwd;
mod gemm;
mod gradient;
mod near;
mod pack;
mod rows;
mod sides;
mod sweep;
mod top_k;

pub use bwd::bwd;
pub use fwd::{fwd, matrix};
pub use top_k::{best_of, top_k};
