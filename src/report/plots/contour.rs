//! A contour.

use super::axis::{Axis, frame, step};
use super::canvas::{At, BLUE, Canvas, Key, Mark, RULE};
use super::pitch::{pitch_axis, pitch_lines};
use crate::Result;

/// The pitch of a recording or a score over time: MIDI `pitch` per frame, 0 where unvoiced, `hop` seconds apart.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the drawing fails, which no contour is known to cause.
pub fn contour_svg(title: &str, pitch: &[f32], hop: f64) -> Result<String> {
    const SIZE: At = (1100, 440);
    const ACROSS: At = (76, SIZE.0 - 28);
    const DOWN: At = (SIZE.1 - 60, 80);
    let seconds = (pitch.len() as f64 * hop).max(hop);
    let x = Axis::linear((0.0, seconds), ACROSS, step(seconds, 10.0));
    let y = pitch_axis(pitch.iter().filter(|&&p| p > 0.0).map(|&p| f64::from(p)), DOWN);
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    let share = pitch.iter().filter(|&&p| p > 0.0).count() as f64 / pitch.len().max(1) as f64;
    let subtitle = format!("{seconds:.1} s, {:.0} % voiced", 100.0 * share);
    let keys = [Key { name: "f0", colour: BLUE, mark: Mark::Line(2) }];
    c.heading(title, &subtitle, ACROSS, &keys)?;
    frame(&mut c, &x, &y, "time in s", "pitch")?;
    pitch_lines(&mut c, (&x, &y), pitch, (0.0, hop))?;
    c.line(vec![(x.from, y.from), (x.to, y.from)], &RULE, 1)?;
    c.done()?;
    Ok(svg)
}
