//! A contour.

use super::axis::{Axis, frame, step};
use super::canvas::{At, BLUE, Canvas, Key, Mark, RULE};
use crate::Result;
use crate::audio::contour::pitch_name;

/// The pitch of a recording or a score over time: MIDI `pitch` per frame, 0 where unvoiced, `hop` seconds apart.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the drawing fails, which no contour is known to cause.
pub fn contour_svg(title: &str, pitch: &[f32], hop: f64) -> Result<String> {
    const SIZE: At = (1100, 440);
    const ACROSS: At = (76, SIZE.0 - 28);
    const DOWN: At = (SIZE.1 - 60, 80);
    let seconds = (pitch.len() as f64 * hop).max(hop);
    let voiced = pitch.iter().filter(|&&p| p > 0.0);
    let (low, high) = voiced.fold((f32::INFINITY, 0.0_f32), |(low, high), &p| (low.min(p), high.max(p)));
    let (low, high) = if low <= high { (f64::from(low), f64::from(high)) } else { (60.0, 72.0) };
    // A whole tone of room, and never less than half an octave.
    let middle = (low + high) / 2.0;
    let (low, high) = ((low - 1.0).min(middle - 3.0), (high + 1.0).max(middle + 3.0));
    let x = Axis::linear((0.0, seconds), ACROSS, step(seconds, 10.0));
    let every = [1.0, 2.0, 3.0, 6.0].into_iter().find(|every| (high - low) / every <= 14.0).unwrap_or(12.0);
    let mut y = Axis::linear((low, high), DOWN, every);
    for (midi, label) in &mut y.ticks {
        *label = pitch_name(*midi);
    }
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    let share = pitch.iter().filter(|&&p| p > 0.0).count() as f64 / pitch.len().max(1) as f64;
    let subtitle = format!("{seconds:.1} s, {:.0} % voiced", 100.0 * share);
    let keys = [Key { name: "f0", colour: BLUE, mark: Mark::Line(2) }];
    c.heading(title, &subtitle, ACROSS, &keys)?;
    frame(&mut c, &x, &y, "time in s", "pitch")?;
    let mut at = 0;
    for run in pitch.chunk_by(|a, b| (*a > 0.0) == (*b > 0.0)) {
        let line = |(i, &p): (usize, &f32)| (x.at((at + i) as f64 * hop), y.at(f64::from(p)));
        if run[0] > 0.0 {
            let mut points: Vec<At> = run.iter().enumerate().map(line).collect();
            // Pixels are coarser than frames in a long take.
            points.dedup();
            if points.len() == 1 {
                c.dot(points[0], 1, BLUE)?;
            }
            c.line(points, &BLUE, 2)?;
        }
        at += run.len();
    }
    c.line(vec![(x.from, y.from), (x.to, y.from)], &RULE, 1)?;
    c.done()?;
    Ok(svg)
}
