//! Wide convolutions with fewer multiplications than terms: Toom–Cook tiles, which networks know as Winograd's.

mod correlation;
mod plan;
mod planes;
mod points;
mod product;
mod transform;
mod weights;

pub use correlation::{bwd_x, fwd};
pub use plan::Plan;
pub use weights::bwd_w;
