//! The f32 instance: strips of rows, tile by tile.

mod bwd;
mod fwd;
mod top_k;

pub use bwd::bwd;
pub use fwd::{fwd, matrix};
pub use top_k::{best_of, top_k};
