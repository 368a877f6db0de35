//! What the predictions are off by.

use super::axis::{Axis, extent, frame, nothing, step};
use super::canvas::{At, BLUE, Canvas, RULE};
use super::points::{radius, recordings};
use crate::{Error, Result};

/// Predicted less judged rating against the predicted one: above the line the network is too kind, below it too strict.
///
/// Pairs that are not finite are left out and counted in the heading.
///
/// # Errors
/// [`Error::Shape`] unless both slices are equally long.
pub fn residuals_svg(ratings: &[f32], predictions: &[f32]) -> Result<String> {
    const SIZE: At = (640, 480);
    const ACROSS: At = (76, SIZE.0 - 28);
    const DOWN: At = (SIZE.1 - 60, 84);
    if ratings.len() != predictions.len() {
        let message = format!("{} values, where the ratings are {}", predictions.len(), ratings.len());
        return Err(Error::shape("residuals_svg", "predictions", message));
    }
    let pairs = ratings.iter().zip(predictions).map(|(&y, &p)| (f64::from(p), f64::from(p) - f64::from(y)));
    let drawn: Vec<(f64, f64)> = pairs.filter(|pair| pair.1.is_finite()).collect();
    // Ratings live in [0, 1]; make room only for what does not.
    let (lo, hi) =
        extent(drawn.iter().map(|p| p.0)).map_or((0.0, 1.0), |(lo, hi)| (lo.min(0.0), hi.max(1.0)));
    let most = drawn.iter().map(|p| p.1.abs()).fold(0.25, f64::max);
    let span = 0.03 * (hi - lo);
    let x = Axis::linear((lo - span, hi + span), ACROSS, step(hi - lo, 6.0));
    let y = Axis::linear((-1.06 * most, 1.06 * most), DOWN, step(2.0 * most, 6.0));
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    c.heading("What predictions are off by", &recordings(drawn.len(), ratings.len()), ACROSS, &[])?;
    frame(&mut c, &x, &y, "predicted rating", "predicted less judged rating")?;
    c.line(vec![(x.from, y.at(0.0)), (x.to, y.at(0.0))], &RULE, 2)?;
    if drawn.is_empty() {
        nothing(&mut c, &x, &y)?;
    }
    let radius = radius(drawn.len());
    for (made, off) in drawn {
        c.disc((x.at(made), y.at(off)), radius, BLUE)?;
    }
    c.done()?;
    Ok(svg)
}
