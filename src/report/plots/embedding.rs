//! The embedding.

use super::axis::{Axis, extent, frame, minus, nothing, padded, short, step};
use super::canvas::{At, Canvas, INK, RULE, Type};
use super::points::{radius, recordings};
use super::principal::principal;
use crate::{Error, Result};
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

/// The embedding's two principal components, coloured by rating.
///
/// `embedding` is row-major `[n, d]`. The axes are scaled apart, and each names its share of
/// the variance. Rows that are not finite are left out; a rating that is not is drawn grey.
///
/// # Errors
/// [`Error::Shape`] unless `embedding` holds `n·d` values and `ratings` holds `n`.
pub fn embedding_svg(embedding: &[f32], n: usize, d: usize, ratings: &[f32]) -> Result<String> {
    const SIZE: At = (760, 600);
    const ACROSS: At = (76, SIZE.0 - 120);
    const DOWN: At = (SIZE.1 - 60, 84);
    const BAR: At = (SIZE.0 - 92, SIZE.0 - 72);
    if n.checked_mul(d) != Some(embedding.len()) {
        let message = format!("{} values, where [n, d] is [{n}, {d}]", embedding.len());
        return Err(Error::shape("embedding_svg", "embedding", message));
    }
    if ratings.len() != n {
        let message = format!("{} values, where the embedding has {n} rows", ratings.len());
        return Err(Error::shape("embedding_svg", "ratings", message));
    }
    let row = |i: usize| &embedding[i * d..(i + 1) * d];
    let drawn: Vec<usize> = (0..n).filter(|&i| d > 0 && row(i).iter().all(|v| v.is_finite())).collect();
    let (points, share) = principal(&drawn.iter().map(|&i| row(i)).collect::<Vec<_>>());
    let axis = |k: usize, pixels: At, count: f64| {
        let range = padded(extent(points.iter().map(|p| p[k])).unwrap_or((0.0, 1.0)));
        Axis::linear(range, pixels, step(range.1 - range.0, count))
    };
    let (x, y) = (axis(0, ACROSS, 7.0), axis(1, DOWN, 6.0));

    let rated = extent(drawn.iter().map(|&i| f64::from(ratings[i])));
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    let subtitle = format!("{}, {d} dimensions", recordings(drawn.len(), n));
    c.heading("Embedding by rating", &subtitle, ACROSS, &[])?;
    let name =
        |k: usize| format!("principal component {} ({:.0} % of the variance)", k + 1, 100.0 * share[k]);
    frame(&mut c, &x, &y, &name(0), &name(1))?;
    if drawn.is_empty() {
        nothing(&mut c, &x, &y)?;
    }

    // The colour bar, from the lowest to the highest rating drawn.
    let colour = |v: f64| match rated {
        Some((lo, hi)) if lo < hi => viridis((v - lo) / (hi - lo)),
        _ => viridis(0.5),
    };
    if let Some((lo, hi)) = rated {
        let range = if lo < hi { (lo, hi) } else { padded((lo, hi)) };
        let mut bar = Axis::linear(range, DOWN, step(range.1 - range.0, 5.0));
        if lo == hi {
            bar.ticks = vec![(lo, minus(short(lo)))];
        }
        for k in 0..64 {
            // Each reaches to the top, so that no seam shows between neighbours.
            let v = range.0 + (range.1 - range.0) * f64::from(k) / 64.0;
            let middle = v + (range.1 - range.0) / 128.0;
            c.bar((BAR.0, DOWN.1), (BAR.1, bar.at(v)), colour(middle))?;
        }
        for (v, label) in &bar.ticks {
            c.line(vec![(BAR.1, bar.at(*v)), (BAR.1 + 5, bar.at(*v))], &RULE, 1)?;
            c.text(label, (BAR.1 + 9, bar.at(*v)), Type::SMALL)?;
        }
        let style = Type { px: 14.0, colour: INK, across: HPos::Center, upward: true, ..Type::SMALL };
        c.text("judge's rating", (SIZE.0 - 16, (DOWN.0 + DOWN.1) / 2), style)?;
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
