//! Pitch contours, the files they come from, their alignment to a reference, and notes: no device, no model.

pub mod align;
pub mod blocks;
pub mod contour;
pub mod f0;
pub mod notes;
mod warp;

pub use align::{AlignOptions, Alignment, CHANNELS, Key, align, align_blocks};
pub use blocks::Blocks;
pub use contour::{Contour, HOP, Scale};
pub use f0::{F0File, F0Format, F0Options, F0Unit, parse_f0, read_f0};
pub use notes::{Guide, Note};
