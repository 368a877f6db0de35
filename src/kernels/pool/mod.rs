//! Means over time.
//!
//! Shapes: `x [B, C, T]`, `y [B, C]`, `lengths [B]`: of a masked row only frames before
//! `min(length, T)` count, and a row of length 0 has mean 0 and gradient 0.
//!
//! Threads: forward, one warp, less for short rows, owns one `y`, its lanes striding over time (in WGSL
//! 32 threads do); backward, one thread owns four neighbours of `dx`. Every device sums in an order that shapes alone fix.
//!
//! Cost: one flop and one read an element forward, one flop and one write backward.

mod fast;
mod oracle;
mod params;
mod rows;

pub use params::PoolParams;
pub use rows::{KERNELS, MASKED_BWD, MASKED_FWD, MEAN_BWD, MEAN_FWD};
