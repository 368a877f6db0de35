//! From samples to f0.

use super::candidates::{BINS, Finder, Seen, bins};
use super::options::PitchOptions;
use super::viterbi::Model;
use super::yin::Yin;
use crate::{Error, Result};
use rayon::prelude::*;

/// Frames that one thread looks at before it takes others, and that the way back of the path keeps at once.
const PART: usize = 128;

/// Share of the loudest frame's energy below which a frame is silent: 60 dB.
const QUIET: f64 = 1e-6;

/// f0 over time: frame i is of the time i·hop/rate seconds, the middle of its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct PitchTrack {
    /// f0 in Hz, 0 where unvoiced.
    pub f0: Vec<f64>,
    /// The probability in 0..=1 that a frame is voiced, before its neighbours are asked; as many as `f0`.
    pub probability: Vec<f64>,
}

/// The pitch of a recording of one voice, mono, of `rate` samples per second: `1 + samples / hop` frames, zeros assumed around
/// the samples.
///
/// As `librosa.pyin`, but for two things. Its f0 are the middles of bins of 10 cents; here a frame has the f0 of the candidate in
/// the bin, as in Mauch's own program. And a frame 60 dB quieter than the loudest is unvoiced, so that what an echo or a
/// converter leaves in a pause is no note. The whole recording is one path. Its bits do not depend on the number of threads.
/// Silence is unvoiced.
///
/// # Errors
/// [`Error::Config`] where the options do not fit each other or the rate; [`Error::Shape`] for no samples, and for a sample that
/// is no finite number.
pub fn track(samples: &[f32], rate: f64, options: &PitchOptions) -> Result<PitchTrack> {
    options.check(rate)?;
    if samples.is_empty() {
        return Err(Error::shape("pitch", "samples", "no samples"));
    }
    if let Some(at) = samples.iter().position(|sample| !sample.is_finite()) {
        let message = format!("sample {at} is {}; expected finite numbers", samples[at]);
        return Err(Error::shape("pitch", "samples", message));
    }

    let PitchOptions { lowest, highest, frame, hop } = *options;
    let bins = bins(lowest, highest);
    let first = (rate / highest).floor() as usize;
    let last = ((rate / lowest).ceil() as usize).min(frame - 1);
    let tools = (Yin::new(frame, first..=last), Finder::new(rate, lowest, bins, first));
    let frames = 1 + samples.len() / hop;
    let look = |(yin, finder): &mut (Yin, Finder), part: usize| {
        let mut seen = Seen::default();
        for frame in part * PART..((part + 1) * PART).min(frames) {
            finder.see(yin.normalised(|to| cut(samples, frame * hop, to)), &mut seen);
            seen.energy.push(yin.energy());
        }
        seen
    };
    let parts = 0..frames.div_ceil(PART);
    let seen: Vec<Seen> = parts.into_par_iter().map_init(|| tools.clone(), look).collect();

    let path = Model::new(bins, hop as f64 / rate).decode(&seen);
    let energy = || seen.iter().flat_map(|seen| &seen.energy).copied();
    let audible = QUIET * energy().fold(0.0, f64::max);
    let mut looked = seen.iter().flat_map(|seen| (0..seen.len()).map(|frame| seen.candidates(frame)));
    let f0 = path.into_iter().zip(energy()).map(|(bin, energy)| {
        let candidates = looked.next().unwrap_or_default();
        bin.filter(|_| energy >= audible).map_or(0.0, |bin| {
            let middle = lowest * (f64::from(bin) / (12.0 * BINS)).exp2();
            let own = candidates.iter().find(|candidate| candidate.bin == bin);
            own.map_or(middle, |candidate| f64::from(candidate.hz).clamp(lowest, highest))
        })
    });
    Ok(PitchTrack {
        f0: f0.collect(),
        probability: seen.iter().flat_map(|seen| &seen.voiced).copied().collect(),
    })
}

/// Copies the samples about `middle`, zeros where there are none.
fn cut(samples: &[f32], middle: usize, to: &mut [f64]) {
    let before = to.len() / 2;
    let (zeros, start) = (before.saturating_sub(middle), middle.saturating_sub(before));
    let (zeros, to) = to.split_at_mut(zeros);
    zeros.fill(0.0);
    let there = samples.get(start..).unwrap_or_default();
    let there = &there[..there.len().min(to.len())];
    let (copied, rest) = to.split_at_mut(there.len());
    for (to, sample) in copied.iter_mut().zip(there) {
        *to = f64::from(*sample);
    }
    rest.fill(0.0);
}
