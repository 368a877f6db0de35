//! The network among the graders.

use super::axis::{Axis, extent, frame, nothing, step};
use super::canvas::{At, BLUE, Canvas, Key, Mark, VERMILION};
use crate::Result;
use crate::report::metrics::{Metric, Metrics};

/// How good the graders are by each other, and the network by the same labels: a row for each metric that both have, in the order
/// of [`Metrics::TABLE`]. `graders` and `network` are those of [`crate::report::run::RunReport`].
///
/// # Errors
/// When the plot cannot be drawn.
pub fn agreement_svg(graders: &Metrics, network: &Metrics) -> Result<String> {
    let both = |Metric { name, label, value, .. }: Metric| {
        // The smaller the better, where all else is the other way round.
        let label = format!("{label}{}", if name.ends_with("mae") { " ↓" } else { "" });
        Some((label, value(graders)?, value(network)?)).filter(|row| row.1.is_finite() && row.2.is_finite())
    };
    let rows: Vec<(String, f64, f64)> = Metrics::TABLE.into_iter().filter_map(both).collect();
    let size: At = (640, 156 + 34 * rows.len().max(4) as i32);
    let (across, down) = ((168, size.0 - 28), (size.1 - 60, 74));
    let (lo, hi) = extent(rows.iter().flat_map(|row| [row.1, row.2])).unwrap_or((0.0, 1.0));
    let (lo, hi) = (lo.min(0.0), hi.max(1.0));
    let range = (lo - 0.03 * (hi - lo), hi + 0.03 * (hi - lo));
    let x = Axis::linear(range, across, step(range.1 - range.0, 6.0));
    let place = |row: usize| -(row as f64);
    let ticks = rows.iter().enumerate().map(|(i, row)| (place(i), row.0.clone())).collect();
    let bottom = place(rows.len().max(1) - 1) - 0.6;
    let y = Axis { lo: bottom, hi: 0.6, log: false, from: down.0, to: down.1, ticks };

    let keys = [
        Key { name: "network", colour: BLUE, mark: Mark::Disc },
        Key { name: "graders", colour: VERMILION, mark: Mark::Triangle },
    ];
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, size)?;
    c.heading("The network in the place of each grader", "by what the others gave", (24, across.1), &keys)?;
    frame(&mut c, &x, &y, "mean over the graders (↓: lower is better)", "")?;
    if rows.is_empty() {
        nothing(&mut c, &x, &y)?;
    }
    for (i, (_, graders, network)) in rows.iter().enumerate() {
        // Side by side, so that neither hides the other.
        c.disc((x.at(*network), y.at(place(i)) - 5), 5, BLUE)?;
        c.triangle((x.at(*graders), y.at(place(i)) + 6), 5, VERMILION)?;
    }
    c.done()?;
    Ok(svg)
}
