//! What a CPU twin is given: its params, its buffers as slices, threads and scratch.

mod scratch;
mod team;
mod twin;
mod work;

pub use scratch::{Lines, with_scratch};
pub(crate) use team::Team;
pub(crate) use twin::Memory;
pub use twin::{Args, Bound, Real, Twin};
pub use work::{PIECE, Work};
