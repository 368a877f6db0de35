//! Differences with their intervals.

use super::axis::{Axis, extent, frame, nothing, padded, step, usable};
use super::canvas::{At, BLUE, Canvas, INK, Key, MUTED, Mark, Type, VERMILION, width};
use crate::Result;
use crate::names::shown;
use crate::report::paired::Difference;

/// Characters of a row's label and of a heading that are shown at most.
const LABEL: usize = 60;
const HEADING: usize = 110;

/// A forest plot: of each row a dot at the mean difference and a line along its interval, of a measure that is better the higher
/// it is. An interval without 0 is blue where it is better than the first row, vermilion where worse; one that holds 0 is grey.
///
/// The first row, without a difference, is the baseline; others without one say so. `title` and `under` stand above, `axis`
/// below.
///
/// # Errors
/// When the plot cannot be drawn.
pub fn intervals_svg(
    title: &str,
    under: &str,
    axis: &str,
    rows: &[(String, Option<Difference>)],
) -> Result<String> {
    const TOP: i32 = 74;
    let keys = [
        Key { name: "better", colour: BLUE, mark: Mark::Disc },
        Key { name: "worse", colour: VERMILION, mark: Mark::Disc },
        Key { name: "holds 0", colour: MUTED, mark: Mark::Disc },
    ];
    let (title, under) = (shown(title, HEADING), shown(under, HEADING));
    let labels: Vec<String> = rows.iter().map(|row| shown(&row.0, LABEL).into_owned()).collect();
    let left = 40 + labels.iter().map(|label| width(label, Type::SMALL.px)).max().unwrap_or(0);
    let headings = (52 + width(&title, 18.0)).max(52 + width(&under, Type::SMALL.px) + 280);
    let size: At = ((left + 448).max(headings).max(640), TOP + 60 + 24 * rows.len().max(3) as i32);
    let (across, down) = ((left, size.0 - 28), (size.1 - 60, TOP));

    let drawable = |d: &&Difference| [d.mean, d.low, d.high].into_iter().all(usable);
    let differences: Vec<Option<&Difference>> =
        rows.iter().map(|row| row.1.as_ref().filter(drawable)).collect();
    let ends = differences.iter().flatten().flat_map(|d| [d.low, d.mean, d.high]);
    let range = padded(extent(ends.chain([0.0])).unwrap_or((0.0, 0.0)));
    let x = Axis::linear(range, across, step(range.1 - range.0, 6.0));
    let place = |row: usize| -(row as f64);
    let ticks = labels.into_iter().enumerate().map(|(i, label)| (place(i), label)).collect();
    let bottom = place(rows.len().max(1) - 1) - 0.6;
    let y = Axis { lo: bottom, hi: 0.6, log: false, from: down.0, to: down.1, ticks };

    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, size)?;
    c.heading(&title, &under, (24, across.1), &keys)?;
    frame(&mut c, &x, &y, axis, "")?;
    if rows.is_empty() {
        nothing(&mut c, &x, &y)?;
    }
    let zero = x.at(0.0);
    c.line(vec![(zero, down.0), (zero, down.1)], &INK, 1)?;
    for (i, difference) in differences.into_iter().enumerate() {
        let at = y.at(place(i));
        let Some(d) = difference else {
            let word = if i == 0 && rows[0].1.is_none() { "baseline" } else { "no interval" };
            word_at(&mut c, word, (zero, at), across)?;
            continue;
        };
        let colour = match d.excludes_zero() {
            false => MUTED,
            true if d.mean > 0.0 => BLUE,
            true => VERMILION,
        };
        c.line(vec![(x.at(d.low), at), (x.at(d.high), at)], &colour, 2)?;
        c.dot((x.at(d.mean), at), 5, colour)?;
    }
    c.done()?;
    Ok(svg)
}

/// A word beside the line at 0, on the side that has room.
fn word_at(c: &mut Canvas, word: &str, (zero, at): At, across: At) -> Result<()> {
    let room = width(word, Type::SMALL.px) + 10;
    let from = if zero + room <= across.1 { zero + 10 } else { zero - room };
    c.text(word, (from, at), Type::SMALL)
}
