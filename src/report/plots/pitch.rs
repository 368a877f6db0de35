//! Pitch over time.

use super::axis::{Axis, extent};
use super::canvas::{At, BLUE, Canvas};
use crate::Result;
use crate::audio::contour::pitch_name;

/// An axis with names of notes for MIDI pitches: a whole tone of room, and never less than half an octave.
pub(super) fn pitch_axis(pitches: impl IntoIterator<Item = f64>, down: At) -> Axis {
    let (low, high) = extent(pitches).unwrap_or((60.0, 72.0));
    let middle = (low + high) / 2.0;
    let (low, high) = ((low - 1.0).min(middle - 3.0), (high + 1.0).max(middle + 3.0));
    let every = [1.0, 2.0, 3.0, 6.0].into_iter().find(|every| (high - low) / every <= 14.0).unwrap_or(12.0);
    let mut y = Axis::linear((low, high), down, every);
    for (midi, label) in &mut y.ticks {
        *label = pitch_name(*midi);
    }
    y
}

/// A line for each stretch of voiced frames: MIDI `pitch`, 0 where unvoiced, the first at `start` seconds.
pub(super) fn pitch_lines(
    c: &mut Canvas,
    (x, y): (&Axis, &Axis),
    pitch: &[f32],
    (start, hop): (f64, f64),
) -> Result<()> {
    let mut at = 0;
    for run in pitch.chunk_by(|a, b| (*a > 0.0) == (*b > 0.0)) {
        let line = |(i, &p): (usize, &f32)| (x.at(start + (at + i) as f64 * hop), y.at(f64::from(p)));
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
    Ok(())
}
