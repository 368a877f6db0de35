//! The fast twins: a block of sixteen samples at a time.

mod bwd;
mod channels;
mod fwd;
mod pool;

pub use bwd::{bwd, bwd_w};
pub use fwd::fwd;
pub use pool::{pool_bwd, pool_fwd};
