//! The fast twins of both convolutions: sixteen (sample, tile) pairs side by side.
//!
//! A tile is a rectangle of output positions of one sample. Sixteen of them, the lanes, are
//! transposed into scratch as `[row][channel][column][lane]` with the padding's zeros in place, so
//! that in the inner loops of [`microkernel`](super::microkernel) stride and dilation are only
//! addresses and nothing has an edge. Any batch fills the lanes: few samples are cut in more tiles.
//! What lanes compute beyond the output is not written back. How the work is cut depends on the
//! shapes alone.

mod bias;
mod correlation;
mod lanes;
mod pass;
mod tiling;
mod weights;

pub use bias::bwd_b;
pub use correlation::{bwd_x, fwd};
pub use weights::bwd_w;
