//! Pitch contours and their alignment to a reference: no device, no model.

pub mod align;
pub mod contour;

pub use align::{AlignOptions, Alignment, CHANNELS, align};
pub use contour::{Contour, F0Options, HOP, Scale};
