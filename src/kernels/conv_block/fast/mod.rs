//! The fast twins: a block of sixteen samples at a time, and of that a tile of neighbouring positions, so that what one pass
//! makes the next one finds in the first cache.

mod bwd;
mod channels;
mod fwd;
mod pool;
mod rows;
mod tiles;
mod weights;

pub use bwd::{bwd, bwd_w};
pub use fwd::fwd;
pub use pool::{pool_bwd, pool_fwd};
