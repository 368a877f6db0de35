//! Median pitch per block of a contour: the unit of time of alignments and notes.

use super::contour::Contour;
use crate::{Error, Result};

/// Median pitch per block: of a recording, trimmed of its unvoiced ends, or of a melody ([`super::notes::Melody`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks {
    /// Seconds per frame of the contour.
    hop: f64,
    /// Frames per block.
    frames: usize,
    /// Blocks trimmed from the start.
    start: usize,
    /// MIDI pitch per block, 0.0 where unvoiced; one at least is voiced.
    pitch: Vec<f32>,
    /// Median of the voiced blocks.
    median: f32,
}

impl Blocks {
    /// The blocks of a contour, each of `seconds` to the nearest whole frame, at least 1: the median of its voiced frames where
    /// half of its frames are voiced, else 0.
    ///
    /// # Errors
    /// [`Error::Config`] unless `seconds` is a finite number above 0.
    pub fn of(contour: &Contour, seconds: f64) -> Result<Self> {
        if !(seconds.is_finite() && seconds > 0.0) {
            return Err(Error::config(format!("align block {seconds}: expected seconds above 0")));
        }
        let frames = ((seconds / contour.hop()).round().min(1e6) as usize).max(1);
        let pitch_of = |enough: fn(voiced: usize, of: usize) -> bool| -> Vec<f32> {
            let mut voiced = Vec::with_capacity(frames.min(contour.len()));
            let block = |block: &[f32]| {
                voiced.clear();
                voiced.extend(block.iter().copied().filter(|&p| p > 0.0));
                if enough(voiced.len(), block.len()) { median(&mut voiced) } else { 0.0 }
            };
            contour.pitch().chunks(frames).map(block).collect()
        };
        let mut pitch = pitch_of(|voiced, of| voiced > 0 && 2 * voiced >= of);
        if pitch.iter().all(|&p| p == 0.0) {
            // Only specks are voiced. A contour has at least one voiced frame, so this leaves a block.
            pitch = pitch_of(|voiced, _| voiced > 0);
        }
        let start = pitch.iter().position(|&p| p > 0.0).unwrap_or(0);
        let end = pitch.iter().rposition(|&p| p > 0.0).map_or(pitch.len(), |last| last + 1);
        pitch.truncate(end);
        pitch.drain(..start);
        Ok(Self { hop: contour.hop(), frames, start, median: voiced_median(&pitch), pitch })
    }

    /// Blocks of the same length, not trimmed, of other pitches; `None` where none of them is voiced.
    pub(super) fn of_pitch(&self, pitch: Vec<f32>) -> Option<Self> {
        let voiced = pitch.iter().any(|&p| p > 0.0);
        voiced.then(|| Self { start: 0, median: voiced_median(&pitch), pitch, ..*self })
    }

    /// The same, so many blocks later.
    pub(super) fn later(self, by: usize) -> Self {
        Self { start: self.start + by, ..self }
    }

    /// MIDI pitch per block, 0.0 where unvoiced; of a recording from the first voiced block to the last.
    pub fn pitch(&self) -> &[f32] {
        &self.pitch
    }

    /// The median of the voiced blocks, MIDI pitch.
    pub fn median(&self) -> f32 {
        self.median
    }

    /// Blocks before the first of [`Blocks::pitch`].
    pub fn start(&self) -> usize {
        self.start
    }

    /// Frames of the contour per block.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Seconds per frame of the contour.
    pub fn hop(&self) -> f64 {
        self.hop
    }
}

fn voiced_median(pitch: &[f32]) -> f32 {
    median(&mut pitch.iter().copied().filter(|&p| p > 0.0).collect::<Vec<f32>>())
}

/// `x` less whole octaves, in −6..=6.
pub(super) fn fold(x: f32) -> f32 {
    x - 12.0 * (x / 12.0).round()
}

/// The median, the mean of the two middle values where the count is even; 0 of none. Reorders `values`.
pub(super) fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let odd = values.len() % 2 == 1;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    if odd {
        return upper;
    }
    let lower = below.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    0.5 * (lower + upper)
}

#[cfg(test)]
mod tests {
    use super::super::contour::HOP;
    use super::*;

    #[test]
    fn blocks_take_the_median_of_the_voiced_frames() {
        let pitch = vec![0.0, 0.0, 0.0, 50.0, 60.0, 0.0, 62.0, 0.0, 0.0, 0.0, 0.0, 70.0, 64.0];
        let blocks = Blocks::of(&Contour::from_pitch(pitch, HOP).unwrap(), 4.0 * HOP).unwrap();
        // One voiced frame of four is not enough; one of a last block of one is.
        assert_eq!((blocks.start, blocks.pitch), (1, vec![61.0, 0.0, 64.0]));
        assert_eq!(blocks.median, 62.5);
    }
}
