//! The losses.

use super::axis::{Axis, extent, frame, minus, nothing, padded, short, step, usable};
use super::canvas::{At, BLUE, Canvas, INK, Key, Mark, RULE, Type, VERMILION, width};
use crate::Result;
use crate::report::files::EpochRow;

/// Training and validation loss per epoch, with the phases of the protocol marked.
///
/// The loss axis is logarithmic where positive losses span more than a factor of 20. Lines
/// break between phases, whose losses differ in kind, where epochs start over (folds), and
/// at losses that are not finite. A ring marks the lowest validation loss of the last phase.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the drawing fails, which no rows are known to cause.
pub fn history_svg(rows: &[EpochRow]) -> Result<String> {
    history_svg_of(rows, (900, 540))
}

/// The same in so many pixels across and down.
///
/// # Errors
/// As [`history_svg`].
pub fn history_svg_of(rows: &[EpochRow], size: (i32, i32)) -> Result<String> {
    let across: At = (84, size.0 - 28);
    let down: At = (size.1 - 60, 96);
    let losses = || rows.iter().flat_map(|r| [Some(r.train_loss), r.val_loss]).flatten();
    let (first, last) = extent(rows.iter().map(|r| r.epoch as f64)).unwrap_or((0.0, 1.0));
    let epochs = if first < last { (first, last) } else { (first - 0.5, last + 0.5) };
    let x = Axis::linear(epochs, across, step(epochs.1 - epochs.0, 8.0).max(1.0));
    let y = match extent(losses()) {
        Some((lo, hi)) if lo > 0.0 && hi > 20.0 * lo => Axis::log((lo, hi), down),
        range => {
            let range = padded(range.unwrap_or((0.0, 1.0)));
            Axis::linear(range, down, step(range.1 - range.0, 6.0))
        }
    };

    // 1. The lowest validation loss of the last phase, which is the one that is kept.
    let kept = rows.iter().filter(|r| rows.last().is_some_and(|l| l.phase == r.phase));
    let best = kept
        .filter_map(|r| r.val_loss.filter(|v| usable(*v)).map(|v| (r.epoch, v)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let subtitle = best.map_or_else(String::new, |(epoch, v)| {
        format!("lowest validation loss {} at epoch {epoch}", minus(short(v)))
    });
    let keys = [
        Key { name: "training", colour: BLUE, mark: Mark::Line(2) },
        Key { name: "validation", colour: VERMILION, mark: Mark::Line(2) },
    ];
    let keys = &keys[..if rows.iter().any(|r| r.val_loss.is_some()) { 2 } else { 1 }];
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, size)?;
    c.heading("Loss by epoch", &subtitle, across, keys)?;
    let y_name = if y.log { "mean loss (logarithmic)" } else { "mean loss" };
    frame(&mut c, &x, &y, "epoch", y_name)?;
    if extent(losses()).is_none() {
        nothing(&mut c, &x, &y)?;
    }

    // 2. Runs of rows that belong together: one phase (of one fold).
    let runs: Vec<&[EpochRow]> = rows.chunk_by(|a, b| a.phase == b.phase && a.epoch < b.epoch).collect();
    let mut marked: Vec<(i32, &str)> = Vec::new();
    let mut free = i32::MIN;
    for run in &runs {
        let mark = (x.at(run[0].epoch as f64), run[0].phase.as_str());
        if mark.1.is_empty() || marked.contains(&mark) {
            continue;
        }
        c.line(vec![(mark.0, y.from), (mark.0, y.to - 18)], &RULE, 1)?;
        // Later folds repeat the names; phases too short for their name stay unnamed.
        if mark.0 >= free {
            c.text(mark.1, (mark.0 + 6, y.to - 12), Type::SMALL)?;
            free = mark.0 + width(mark.1, Type::SMALL.px) + 12;
        }
        marked.push(mark);
    }

    // 3. The losses.
    let dots = rows.len() <= 60;
    for run in &runs {
        let train = run.iter().map(|r| (r.epoch, r.train_loss)).collect::<Vec<_>>();
        let val = run.iter().filter_map(|r| Some((r.epoch, r.val_loss?))).collect::<Vec<_>>();
        for (points, colour) in [(train, BLUE), (val, VERMILION)] {
            for line in points.split(|p| !usable(p.1)).filter(|l| !l.is_empty()) {
                let line: Vec<At> = line.iter().map(|p| (x.at(p.0 as f64), y.at(p.1))).collect();
                if dots || line.len() == 1 {
                    for at in &line {
                        c.dot(*at, 3, colour)?;
                    }
                }
                c.line(line, &colour, 2)?;
            }
        }
    }
    if let Some((epoch, v)) = best {
        c.ring((x.at(epoch as f64), y.at(v)), 6, INK)?;
    }
    c.done()?;
    Ok(svg)
}
