//! How far two trackers agree on a melody, as MIREX measures it.

use super::track::Track;
use crate::{Error, Result};
use serde::Serialize;

/// f0 this near, in cents, is right.
const TOLERANCE: f64 = 50.0;

/// The measures of melody extraction (J. Salamon et al., "Melody extraction from polyphonic music signals", 2014), each in 0..=1,
/// as `mir_eval.melody.evaluate` computes them from the same two series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MelodyAgreement {
    /// Share of the reference's voiced frames that the estimate has voiced.
    pub voicing_recall: f64,
    /// Share of its unvoiced frames that the estimate has voiced; the less, the better.
    pub voicing_false_alarm: f64,
    /// Share of its voiced frames where the estimate's f0 is within 50 cents, voiced or not.
    pub raw_pitch_accuracy: f64,
    /// The same, octaves apart.
    pub raw_chroma_accuracy: f64,
    /// Share of all frames that are right: unvoiced in both, or voiced in both and within 50 cents.
    pub overall_accuracy: f64,
}

impl MelodyAgreement {
    /// Of an estimate with a reference, at the times of the reference; between its own the estimate is interpolated, in cents.
    ///
    /// As in mir_eval's files a negative f0 is an estimate of what is thought to be unvoiced.
    ///
    /// # Errors
    /// [`Error::Shape`] where one of them is empty, or times do not rise from 0 or more.
    pub fn of(reference: &Track, estimate: &Track) -> Result<Self> {
        let reference = Series::of("reference", reference)?;
        let estimate = Series::of("estimate", estimate)?.at(&reference.times);
        let frames = reference.times.len() as f64;
        let [mut voiced, mut recalled, mut alarms, mut pitch, mut chroma, mut right] = [0.0; 6];
        for (frame, &is_voiced) in reference.voiced.iter().enumerate() {
            let (cents, found) = (reference.cents[frame], estimate.cents[frame]);
            let estimated = estimate.voiced[frame];
            let off = (cents - found).abs();
            let near = |off: f64| found != 0.0 && cents != 0.0 && off < TOLERANCE;
            let octaves = 1200.0 * (off / 1200.0 + 0.5).floor();
            voiced += f64::from(u8::from(is_voiced));
            if is_voiced {
                recalled += f64::from(u8::from(estimated));
                pitch += f64::from(u8::from(near(off)));
                chroma += f64::from(u8::from(near((off - octaves).abs())));
                right += f64::from(u8::from(near(off) && estimated));
            } else {
                alarms += f64::from(u8::from(estimated));
                right += f64::from(u8::from(!estimated));
            }
        }
        let share = |part: f64, whole: f64, of_none: f64| if whole > 0.0 { part / whole } else { of_none };
        Ok(Self {
            voicing_recall: share(recalled, voiced, 1.0),
            voicing_false_alarm: share(alarms, frames - voiced, 0.0),
            raw_pitch_accuracy: share(pitch, voiced, 0.0),
            raw_chroma_accuracy: share(chroma, voiced, 0.0),
            overall_accuracy: right / frames,
        })
    }
}

/// A track in cents above 10 Hz, 0 where there is no f0.
struct Series {
    times: Vec<f64>,
    cents: Vec<f64>,
    voiced: Vec<bool>,
}

impl Series {
    fn of(what: &'static str, track: &Track) -> Result<Self> {
        let wrong = |message: String| Err(Error::shape("melody agreement", what, message));
        if track.times.is_empty() || track.times.len() != track.f0.len() {
            return wrong(format!("{} times for {} f0", track.times.len(), track.f0.len()));
        }
        let rising = track.times.windows(2).all(|pair| pair[0] < pair[1]);
        let (first, last) = (track.times[0], track.times[track.times.len() - 1]);
        if !rising || first.is_nan() || first < 0.0 || !last.is_finite() {
            return wrong("times must rise from 0 s or more".into());
        }
        if let Some(f0) = track.f0.iter().find(|f0| !f0.is_finite()) {
            return wrong(format!("f0 {f0} is no frequency"));
        }
        let late = track.times[0] > 0.0;
        let (mut times, mut f0) = (track.times.clone(), track.f0.clone());
        if late {
            times.insert(0, 0.0);
            f0.insert(0, f0[0]);
        }
        let cents = |&hz: &f64| if hz == 0.0 { 0.0 } else { 1200.0 * (hz.abs() / 10.0).log2() };
        Ok(Self {
            cents: f0.iter().map(cents).collect(),
            voiced: f0.iter().map(|&hz| hz > 0.0).collect(),
            times,
        })
    }

    /// At other times: f0 interpolated, but 0 where it was before; voiced as it was before.
    fn at(mut self, times: &[f64]) -> Self {
        let same = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-8 + 1e-5 * b.abs();
        if self.times.len() == times.len() && self.times.iter().zip(times).all(same) {
            return self;
        }
        let rounded = |time: &f64| (time * 1e10).round_ties_even() / 1e10;
        self.times = self.times.iter().map(rounded).collect();
        let times: Vec<f64> = times.iter().map(rounded).collect();
        let last = times.iter().copied().fold(0.0, f64::max);
        if last > self.times[self.times.len() - 1] {
            self.times.push(last);
            self.cents.push(0.0);
            self.voiced.push(false);
        }
        // Where there is no f0, interpolation goes on from the last that there was.
        let mut held = self.cents.clone();
        for i in 1..held.len() {
            if held[i] == 0.0 {
                held[i] = held[i - 1];
            }
        }
        let mut new = Self { times: Vec::new(), cents: Vec::new(), voiced: Vec::new() };
        for time in times {
            let before = self.times.partition_point(|&at| at <= time).saturating_sub(1);
            let after = (before + 1).min(self.times.len() - 1);
            let span = self.times[after] - self.times[before];
            let slope = if span > 0.0 { (held[after] - held[before]) / span } else { 0.0 };
            let cents = slope * (time - self.times[before]) + held[before];
            new.cents.push(if self.cents[before] == 0.0 { 0.0 } else { cents });
            new.voiced.push(self.voiced[before]);
            new.times.push(time);
        }
        new
    }
}
