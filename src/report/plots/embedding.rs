//! The embedding.

use super::axis::{Axis, extent, frame, minus, nothing, padded, short, step};
use super::canvas::{At, Canvas, INK, RULE, Type};
use super::points::{radius, recordings};
use super::principal::principal;
use super::tsne::{ROWS, tsne};
use crate::{Error, Result};
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

/// How an embedding's dimensions become two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// Onto the two principal components. The axes are scaled apart, and each names its share of the variance.
    Principal,
    /// By t-SNE, exact, of perplexity 30 or what fewer rows allow: neighbours stay neighbours, but distances between groups mean
    /// nothing. Axes have one scale and no numbers. Of more than 1000 rows evenly spaced ones are drawn.
    Neighbours,
}

/// The embedding's two principal components, coloured by rating; see [`projection_svg`].
///
/// # Errors
/// As [`projection_svg`].
pub fn embedding_svg(embedding: &[f32], n: usize, d: usize, ratings: &[f32]) -> Result<String> {
    projection_svg("Embedding by rating", Projection::Principal, (embedding, n, d), ratings)
}

/// An embedding in two dimensions, coloured by rating.
///
/// It is given as values, row-major `[n, d]`, `n` and `d`. Rows that are not finite are left out; a rating that is not is drawn
/// grey.
///
/// # Errors
/// [`Error::Shape`] unless there are `n·d` values and `n` ratings.
pub fn projection_svg(
    title: &str,
    by: Projection,
    (embedding, n, d): (&[f32], usize, usize),
    ratings: &[f32],
) -> Result<String> {
    const SIZE: At = (760, 600);
    const ACROSS: At = (76, SIZE.0 - 120);
    const DOWN: At = (SIZE.1 - 60, 84);
    if n.checked_mul(d) != Some(embedding.len()) {
        let message = format!("{} values, where [n, d] is [{n}, {d}]", embedding.len());
        return Err(Error::shape("projection_svg", "embedding", message));
    }
    if ratings.len() != n {
        let message = format!("{} values, where the embedding has {n} rows", ratings.len());
        return Err(Error::shape("projection_svg", "ratings", message));
    }
    let row = |i: usize| &embedding[i * d..(i + 1) * d];
    let mut drawn: Vec<usize> = (0..n).filter(|&i| d > 0 && row(i).iter().all(|v| v.is_finite())).collect();
    let mut subtitle = format!("{}, {d} dimensions", recordings(drawn.len(), n));
    if by == Projection::Neighbours && drawn.len() > ROWS {
        subtitle += &format!("; evenly spaced {ROWS} drawn");
        drawn = (0..ROWS).map(|i| drawn[i * drawn.len() / ROWS]).collect();
    }
    let rows: Vec<&[f32]> = drawn.iter().map(|&i| row(i)).collect();
    let Plane { points, x, y, names } = match by {
        Projection::Principal => Plane::of_components(&rows, ACROSS, DOWN),
        Projection::Neighbours => Plane::of_neighbours(&rows, ACROSS, DOWN),
    };

    let rated = extent(drawn.iter().map(|&i| f64::from(ratings[i])));
    let colour = |v: f64| match rated {
        Some((lo, hi)) if lo < hi => viridis((v - lo) / (hi - lo)),
        _ => viridis(0.5),
    };
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    c.heading(title, &subtitle, ACROSS, &[])?;
    frame(&mut c, &x, &y, &names[0], &names[1])?;
    if drawn.is_empty() {
        nothing(&mut c, &x, &y)?;
    }
    if let Some(rated) = rated {
        colour_bar(&mut c, rated, (SIZE.0 - 92, DOWN), &colour)?;
    }
    let radius = radius(drawn.len());
    for (&i, p) in drawn.iter().zip(&points) {
        let v = f64::from(ratings[i]);
        let colour = if v.is_finite() { colour(v) } else { RULE };
        c.disc((x.at(p[0]), y.at(p[1])), radius, colour)?;
    }
    c.done()?;
    Ok(svg)
}

/// Where rows are drawn, on axes of these names.
struct Plane {
    points: Vec<[f64; 2]>,
    x: Axis,
    y: Axis,
    names: [String; 2],
}

impl Plane {
    fn of_components(rows: &[&[f32]], across: At, down: At) -> Self {
        let (points, share) = principal(rows);
        let axis = |k: usize, pixels: At, count: f64| {
            let range = padded(extent(points.iter().map(|p| p[k])).unwrap_or((0.0, 1.0)));
            Axis::linear(range, pixels, step(range.1 - range.0, count))
        };
        let name =
            |k: usize| format!("principal component {} ({:.0} % of the variance)", k + 1, 100.0 * share[k]);
        let (x, y, names) = (axis(0, across, 7.0), axis(1, down, 6.0), [name(0), name(1)]);
        Self { points, x, y, names }
    }

    fn of_neighbours(rows: &[&[f32]], across: At, down: At) -> Self {
        let points = tsne(rows);
        let range = |k: usize| padded(extent(points.iter().map(|p| p[k])).unwrap_or((0.0, 1.0)));
        let pixels = |(from, to): At| f64::from((to - from).abs());
        // One scale: what the tighter of the two needs.
        let unit = |k: usize, along: At| (range(k).1 - range(k).0) / pixels(along);
        let unit = unit(0, across).max(unit(1, down));
        let axis = |k: usize, along: At| {
            let (middle, half) = (0.5 * (range(k).0 + range(k).1), 0.5 * unit * pixels(along));
            let (lo, hi) = (middle - half, middle + half);
            Axis { lo, hi, log: false, from: along.0, to: along.1, ticks: Vec::new() }
        };
        let (x, y) = (axis(0, across), axis(1, down));
        Self { points, x, y, names: ["t-SNE, first coordinate".into(), "t-SNE, second coordinate".into()] }
    }
}

/// The bar at `left`, `down` from bottom to top, of the colours from the lowest to the highest rating drawn.
fn colour_bar(
    c: &mut Canvas,
    (lo, hi): (f64, f64),
    (left, down): (i32, At),
    colour: &dyn Fn(f64) -> RGBColor,
) -> Result<()> {
    let right = left + 20;
    let range = if lo < hi { (lo, hi) } else { padded((lo, hi)) };
    let mut bar = Axis::linear(range, down, step(range.1 - range.0, 5.0));
    if lo == hi {
        bar.ticks = vec![(lo, minus(short(lo)))];
    }
    for k in 0..64 {
        // Each reaches to the top, so that no seam shows between neighbours.
        let v = range.0 + (range.1 - range.0) * f64::from(k) / 64.0;
        let middle = v + (range.1 - range.0) / 128.0;
        c.bar((left, down.1), (right, bar.at(v)), colour(middle))?;
    }
    for (v, label) in &bar.ticks {
        c.line(vec![(right, bar.at(*v)), (right + 5, bar.at(*v))], &RULE, 1)?;
        c.text(label, (right + 9, bar.at(*v)), Type::SMALL)?;
    }
    let style = Type { px: 14.0, colour: INK, across: HPos::Center, upward: true, ..Type::SMALL };
    c.text("judge's rating", (left + 76, (down.0 + down.1) / 2), style)
}

/// Viridis (van der Walt and Smith, 2015), interpolated between eight of its colours.
fn viridis(v: f64) -> RGBColor {
    const STOPS: [[f64; 3]; 8] = [
        [68.0, 1.0, 84.0],
        [70.0, 50.0, 127.0],
        [54.0, 92.0, 141.0],
        [39.0, 127.0, 142.0],
        [31.0, 161.0, 135.0],
        [74.0, 194.0, 109.0],
        [159.0, 218.0, 58.0],
        [253.0, 231.0, 37.0],
    ];
    let v = v.clamp(0.0, 1.0) * 7.0;
    let k = (v as usize).min(6);
    let mix = |i: usize| (STOPS[k][i] + (v - k as f64) * (STOPS[k + 1][i] - STOPS[k][i])).round() as u8;
    RGBColor(mix(0), mix(1), mix(2))
}
