//! The predictions.

use super::axis::{Axis, extent, frame, minus, nothing, step};
use super::canvas::{At, BLUE, Canvas, Key, Mark, RULE, VERMILION};
use super::points::{radius, recordings};
use crate::report::scores::{pearson, r2};
use crate::{Error, Result};

/// Predicted against judge's rating, with the identity line, R² and Pearson's r.
///
/// With `pass`, recordings that passed are discs and those that failed triangles. R² and r
/// are those of the recordings drawn: a pair that is not finite is left out and counted in
/// the heading.
///
/// # Errors
/// [`Error::Shape`] unless all slices are equally long.
pub fn scatter_svg(ratings: &[f32], predictions: &[f32], pass: Option<&[bool]>) -> Result<String> {
    const SIZE: At = (640, 680);
    const ACROSS: At = (76, SIZE.0 - 28);
    const DOWN: At = (SIZE.1 - 60, 84);
    same_len("scatter_svg", "predictions", predictions.len(), ratings.len())?;
    if let Some(pass) = pass {
        same_len("scatter_svg", "pass", pass.len(), ratings.len())?;
    }
    let drawn: Vec<usize> =
        (0..ratings.len()).filter(|&i| ratings[i].is_finite() && predictions[i].is_finite()).collect();
    let of = |v: &[f32]| drawn.iter().map(|&i| v[i]).collect::<Vec<f32>>();
    let (seen, guessed) = (of(ratings), of(predictions));
    let both = || seen.iter().chain(&guessed).map(|v| f64::from(*v));
    // Ratings live in [0, 1]; make room only for what does not.
    let (lo, hi) = extent(both()).map_or((0.0, 1.0), |(lo, hi)| (lo.min(0.0), hi.max(1.0)));
    let range = (lo - 0.03 * (hi - lo), hi + 0.03 * (hi - lo));
    let every = step(range.1 - range.0, 6.0);
    let (x, y) = (Axis::linear(range, ACROSS, every), Axis::linear(range, DOWN, every));

    let figure = |v: Option<f64>| v.map_or_else(|| "–".into(), |v| minus(format!("{v:.3}")));
    let title = format!(
        "Predicted against judged rating: R² {}, r {}",
        figure(r2(&guessed, &seen)),
        figure(pearson(&guessed, &seen))
    );
    let subtitle = recordings(drawn.len(), ratings.len());
    let mut keys = vec![Key { name: "identity", colour: RULE, mark: Mark::Line(2) }];
    if pass.is_some() {
        keys.push(Key { name: "pass", colour: BLUE, mark: Mark::Disc });
        keys.push(Key { name: "fail", colour: VERMILION, mark: Mark::Triangle });
    }
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    c.heading(&title, &subtitle, ACROSS, &keys)?;
    frame(&mut c, &x, &y, "judge's rating", "predicted rating")?;
    c.line(vec![(x.at(lo), y.at(lo)), (x.at(hi), y.at(hi))], &RULE, 2)?;
    if drawn.is_empty() {
        nothing(&mut c, &x, &y)?;
    }
    let radius = radius(drawn.len());
    for &i in &drawn {
        let at = (x.at(f64::from(ratings[i])), y.at(f64::from(predictions[i])));
        match pass {
            Some(pass) if !pass[i] => c.triangle(at, radius as i32, VERMILION)?,
            _ => c.disc(at, radius, BLUE)?,
        }
    }
    c.done()?;
    Ok(svg)
}

fn same_len(op: &'static str, argument: &'static str, got: usize, want: usize) -> Result<()> {
    if got == want {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("{got} values, where the ratings are {want}")))
}
