//! From a recording's rate to the one rate that is analysed.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, SincInterpolationType,
};

/// Samples that are converted at a time, of the input.
const CHUNK: usize = 4096;

/// A filter of 128 samples. What lies between its 256 points a sample is interpolated, which errs by π²/(8·256²), 2e-5, of the
/// highest frequency at most, and less of lower ones.
fn filter() -> SincInterpolationParameters {
    SincInterpolationParameters {
        sinc_len: 128,
        oversampling_factor: 256,
        interpolation: SincInterpolationType::Linear,
        ..SincInterpolationParameters::default()
    }
}

/// Converts a mono stream to another rate, sample `i` of the result at time `i / rate` of the input.
pub(super) struct Resampler {
    /// Band-limited interpolation; absent where the rates are equal.
    sinc: Option<Async<f32>>,
    /// What of the input was not converted yet.
    pending: Vec<f32>,
    /// A converted piece.
    piece: Vec<f32>,
    /// Results that the converter's delay puts before the first sample, and which are still to be left out.
    delay: usize,
    rates: [u32; 2],
    taken: u64,
    pub converted: Vec<f32>,
}

impl Resampler {
    pub fn new(from: u32, to: u32) -> Result<Self, String> {
        let fault = |e: &dyn std::fmt::Display| format!("cannot be resampled from {from} Hz: {e}");
        let ratio = f64::from(to) / f64::from(from);
        let sinc = match from == to {
            true => None,
            false => Some(
                Async::<f32>::new_sinc(ratio, 1.0, &filter(), CHUNK, 1, FixedAsync::Input)
                    .map_err(|e| fault(&e))?,
            ),
        };
        let piece = vec![0.0; sinc.as_ref().map_or(0, |sinc| sinc.output_frames_max())];
        let delay = sinc.as_ref().map_or(0, |sinc| sinc.output_delay());
        Ok(Self {
            sinc,
            pending: Vec::new(),
            piece,
            delay,
            rates: [from, to],
            taken: 0,
            converted: Vec::new(),
        })
    }

    /// Takes what comes next.
    pub fn push(&mut self, samples: &[f32]) -> Result<(), String> {
        self.taken += samples.len() as u64;
        if self.sinc.is_none() {
            self.converted.extend_from_slice(samples);
            return Ok(());
        }
        self.pending.extend_from_slice(samples);
        self.convert(false)
    }

    /// Converts what is left and gives the whole.
    pub fn finish(mut self) -> Result<Vec<f32>, String> {
        let [from, to] = self.rates.map(u64::from);
        let length = (self.taken * to).div_ceil(from) as usize;
        while self.sinc.is_some() && self.converted.len() < length {
            self.convert(true)?;
        }
        self.converted.truncate(length);
        Ok(self.converted)
    }

    /// Converts whole chunks, or at the `end` one that silence makes whole.
    fn convert(&mut self, end: bool) -> Result<(), String> {
        let Some(sinc) = &mut self.sinc else { return Ok(()) };
        let fault = |e: &dyn std::fmt::Display| format!("resampling failed: {e}");
        let mut at = 0;
        if end {
            let whole = sinc.input_frames_next().max(self.pending.len());
            self.pending.resize(whole, 0.0);
        }
        while self.pending.len() - at >= sinc.input_frames_next() {
            let chunk = &self.pending[at..at + sinc.input_frames_next()];
            let input = InterleavedSlice::new(chunk, 1, chunk.len()).map_err(|e| fault(&e))?;
            let room = self.piece.len();
            let mut output = InterleavedSlice::new_mut(&mut self.piece, 1, room).map_err(|e| fault(&e))?;
            let (read, written) =
                sinc.process_into_buffer(&input, &mut output, None::<&Indexing>).map_err(|e| fault(&e))?;
            at += read;
            let late = self.delay.min(written);
            self.delay -= late;
            self.converted.extend_from_slice(&self.piece[late..written]);
        }
        self.pending.drain(..at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    /// A tone of 440 Hz, from its first sample on.
    fn tone(rate: u32, samples: usize) -> Vec<f32> {
        (0..samples).map(|i| (TAU * 440.0 * i as f64 / f64::from(rate)).sin() as f32).collect()
    }

    #[test]
    fn a_tone_stays_where_it_was_at_every_rate() {
        for from in [8_000, 11_025, 16_000, 22_050, 44_100, 44_099, 48_000, 96_000, 192_000] {
            let mut resampler = Resampler::new(from, 44_100).unwrap();
            let input = tone(from, from as usize);
            // In pieces of any size.
            for piece in input.chunks(1_013) {
                resampler.push(piece).unwrap();
            }
            let output = resampler.finish().unwrap();
            assert_eq!(output.len(), 44_100, "{from}");
            // Away from the ends, where the filter has no past or future.
            let off = output.iter().zip(tone(44_100, 44_100)).skip(4_000).take(36_000);
            let worst = off.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // The filter's delay is taken in whole samples; what is left of it is one and a fraction (29 µs at most), each of
            // which is 0.063 of a tone of 440 Hz.
            let most = if from == 44_100 { 0.0 } else { 0.08 };
            assert!(worst <= most, "{from} Hz: {worst}");
        }
    }

    #[test]
    fn of_little_and_of_nothing_comes_as_much() {
        for (samples, expected) in [(0, 0), (1, 1), (480, 441), (7, 7)] {
            let mut resampler = Resampler::new(48_000, 44_100).unwrap();
            resampler.push(&vec![0.5; samples]).unwrap();
            assert_eq!(resampler.finish().unwrap().len(), expected);
        }
    }
}
