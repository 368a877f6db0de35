//! Plots as SVG text: of a run the losses, the predictions, what they are off by and the embedding; the contour of a recording,
//! and a take beside the notes that it should have.
//!
//! Values that are not finite are left out, never drawn somewhere made up. Colours are
//! Okabe and Ito's and viridis, which colour-blind readers can tell apart.

mod agreement;
mod axis;
mod canvas;
mod confusion;
mod contour;
mod embedding;
mod history;
mod intervals;
mod performed;
mod pitch;
mod points;
mod principal;
mod residuals;
mod scatter;
mod theme;
mod tsne;

pub use agreement::agreement_svg;
pub use confusion::confusion_svg;
pub use contour::contour_svg;
pub use embedding::{Projection, embedding_svg, projection_svg};
pub use history::{history_svg, history_svg_of};
pub use intervals::intervals_svg;
pub use performed::{PerformedTake, performed_svg};
pub use residuals::residuals_svg;
pub use scatter::scatter_svg;
pub use theme::themed;
