//! Recordings written as WAV, for those who are to hear what was analysed.

use super::recorded::{RATE, Recording};
use super::resample::Resampler;
use crate::{Error, Result};

/// Samples that are resampled at a time.
const PIECE: usize = 1 << 16;

/// Bytes before the samples.
const HEADER: u32 = 44;

impl Recording {
    /// The bytes of a WAV file, PCM of 16 bits, one channel, of `rate` samples a second: it begins with the first sample that is
    /// analysed. What is beyond −1..=1 is clipped.
    ///
    /// # Errors
    /// [`Error::Config`] for a rate outside 4000..=192000, or if the recording cannot be resampled to it.
    pub fn wav(&self, rate: u32) -> Result<Vec<u8>> {
        if !(4_000..=192_000).contains(&rate) {
            return Err(Error::config(format!("a WAV file of {rate} Hz: expected 4000 to 192000")));
        }
        let mut resampler = Resampler::new(RATE, rate).map_err(Error::config)?;
        for piece in self.samples.chunks(PIECE) {
            resampler.push(piece).map_err(Error::config)?;
        }
        let samples = resampler.finish().map_err(Error::config)?;
        // An hour at the highest rate is 1.4 GB.
        let size = 2 * samples.len() as u32;
        let mut file = Vec::with_capacity((HEADER + size) as usize);
        file.extend(b"RIFF");
        file.extend((HEADER - 8 + size).to_le_bytes());
        // PCM, one channel, two bytes a sample.
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        file.extend([rate, 2 * rate].map(u32::to_le_bytes).concat());
        file.extend(b"\x02\0\x10\0data");
        file.extend(size.to_le_bytes());
        let word = |x: &f32| ((x.clamp(-1.0, 1.0) * 32_767.0).round() as i16).to_le_bytes();
        file.extend(samples.iter().flat_map(word));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::parse_recording;
    use super::*;
    use std::f64::consts::TAU;

    fn tone(rate: u32) -> impl Fn(usize) -> f32 {
        move |i| (0.5 * (TAU * 440.0 * i as f64 / f64::from(rate)).sin()) as f32
    }

    fn recording(samples: Vec<f32>) -> Recording {
        Recording { samples, rate: RATE, channels: 1, codec: String::new(), remarks: Vec::new() }
    }

    #[test]
    fn what_is_written_is_read_again_at_the_time_it_was() {
        let heard = recording((0..RATE as usize).map(tone(RATE)).collect());
        for rate in [RATE, 22_050, 16_000] {
            let wav = heard.wav(rate).unwrap();
            assert_eq!(wav.len(), 44 + 2 * rate as usize, "{rate}");
            let (header, samples) = wav.split_at(44);
            assert_eq!(header[40..], (2 * rate).to_le_bytes());
            let samples: Vec<f32> = samples
                .as_chunks::<2>()
                .0
                .iter()
                .map(|word| f32::from(i16::from_le_bytes(*word)) / 32_767.0)
                .collect();
            let off = samples.iter().enumerate().skip(2000).take(rate as usize - 4000);
            let worst = off.map(|(i, x)| (x - tone(rate)(i)).abs()).fold(0.0, f32::max);
            // A sample of the converter's delay is half of a tone of 440 Hz times its angle, 2π·440/16000 = 0.17.
            assert!(worst < if rate == RATE { 1e-4 } else { 0.1 }, "{rate}: {worst}");
            let again = parse_recording("again.wav".as_ref(), &wav).unwrap();
            assert_eq!((again.rate, again.channels, again.samples.len()), (rate, 1, RATE as usize));
        }
    }

    #[test]
    fn what_is_too_loud_is_clipped_and_an_impossible_rate_refused() {
        let wav = recording(vec![2.0, -2.0, 0.0]).wav(RATE).unwrap();
        assert_eq!(wav[44..], [0xff, 0x7f, 0x01, 0x80, 0, 0]);
        assert!(recording(vec![0.0]).wav(0).unwrap_err().to_string().contains("0 Hz"));
    }
}
