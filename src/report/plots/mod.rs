//! Plots as SVG text: of a run the losses, the predictions and the embedding; the contour of a recording.
//!
//! Values that are not finite are left out, never drawn somewhere made up. Colours are
//! Okabe and Ito's and viridis, which colour-blind readers can tell apart.

mod agreement;
mod axis;
mod canvas;
mod contour;
mod embedding;
mod history;
mod intervals;
mod points;
mod principal;
mod scatter;

pub use agreement::agreement_svg;
pub use contour::contour_svg;
pub use embedding::embedding_svg;
pub use history::history_svg;
pub use intervals::intervals_svg;
pub use scatter::scatter_svg;
