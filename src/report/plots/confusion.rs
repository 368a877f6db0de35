//! Which grades are taken for which.

use super::canvas::{At, BLUE, Canvas, GRID, INK, Type, width};
use crate::names::shown;
use crate::{Error, Result};
use plotters::style::text_anchor::HPos;

/// The darkest that a cell gets, so that ink on it stays readable.
const DARKEST: f64 = 0.45;

/// Characters of a class's name that are shown at most.
const NAME: usize = 16;

/// Counts of takes by what was judged, a row each, and what was predicted, a column each. A cell is the darker the larger its
/// share of the row, which it names in per cent. `counts` is row-major `[k, k]`, of the k names in `classes`.
///
/// # Errors
/// [`Error::Shape`] unless there is a class and `counts` holds k².
pub fn confusion_svg(title: &str, classes: &[String], counts: &[u64]) -> Result<String> {
    let k = classes.len();
    if k == 0 || k.checked_mul(k) != Some(counts.len()) {
        let message = format!("{} values, where {k} classes have {k} each", counts.len());
        return Err(Error::shape("confusion_svg", "counts", message));
    }
    const TOP: i32 = 84;
    let names: Vec<String> = classes.iter().map(|name| shown(name, NAME).into_owned()).collect();
    let widest = names.iter().map(|name| width(name, Type::SMALL.px)).max().unwrap_or(0);
    let left = 56 + widest;
    let side = (widest + 16).max(480 / k as i32).clamp(34, 160);
    let tall = side.clamp(34, 80);
    let size: At = ((left + side * k as i32 + 28).max(480), TOP + tall * k as i32 + 60);
    let all: u64 = counts.iter().sum();
    let right: u64 = (0..k).map(|i| counts[i * k + i]).sum();

    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, size)?;
    let plural = if all == 1 { "" } else { "s" };
    let subtitle = format!("{right} of {all} recording{plural} on the diagonal");
    c.heading(title, &subtitle, (24, size.0 - 28), &[])?;
    let small = Type { across: HPos::Center, ..Type::SMALL };
    let large = Type { px: 14.0, colour: INK, ..small };
    for (i, (judged, row)) in names.iter().zip(counts.chunks_exact(k)).enumerate() {
        let y = TOP + tall * i as i32;
        c.text(judged, (left - 8, y + tall / 2), Type { across: HPos::Right, ..Type::SMALL })?;
        let sum = row.iter().sum::<u64>().max(1) as f64;
        for (j, &count) in row.iter().enumerate() {
            let (x, share) = (left + side * j as i32, count as f64 / sum);
            let (middle, centre) = (x + side / 2, y + tall / 2);
            c.shade((x + 1, y + 1), (x + side - 1, y + tall - 1), (GRID, 0.5))?;
            c.shade((x + 1, y + 1), (x + side - 1, y + tall - 1), (BLUE, DARKEST * share))?;
            if tall < 44 {
                c.text(&count.to_string(), (middle, centre), Type { px: 12.0, ..large })?;
                continue;
            }
            c.text(&count.to_string(), (middle, centre - 9), Type { bold: true, ..large })?;
            c.text(&format!("{:.0} %", 100.0 * share), (middle, centre + 10), Type { colour: INK, ..small })?;
        }
    }
    let bottom = TOP + tall * k as i32;
    for (j, name) in names.iter().enumerate() {
        c.text(name, (left + side * j as i32 + side / 2, bottom + 15), small)?;
    }
    c.text("predicted", (left + side * k as i32 / 2, bottom + 40), large)?;
    let judged = Type { upward: true, ..large };
    c.text("judged", (20, (TOP + bottom) / 2), judged)?;
    c.done()?;
    Ok(svg)
}
