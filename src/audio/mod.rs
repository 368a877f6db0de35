//! Pitch contours, the files they come from, and their alignment to a reference: no device, no model.

pub mod align;
pub mod contour;
pub mod f0;
mod warp;

pub use align::{AlignOptions, Alignment, CHANNELS, align};
pub use contour::{Contour, HOP, Scale};
pub use f0::{F0File, F0Format, F0Options, F0Unit, parse_f0, read_f0};
