//! The pitch of a recording of one voice: pYIN (M. Mauch and S. Dixon, "pYIN: a fundamental frequency estimator using
//! probabilistic threshold distributions", ICASSP 2014), with the constants of `librosa.pyin` and frame by frame its answers.
//!
//! | step | file |
//! |---|---|
//! | YIN's normalised difference of each frame, by FFT | `yin` |
//! | its troughs as candidates, weighted by a distribution of thresholds | `candidates` |
//! | the likeliest path through pitches of 10 cents, voiced and unvoiced | `viterbi` |
//! | samples in, f0 out | `track` |

mod candidates;
mod options;
mod track;
mod viterbi;
mod voice;
mod yin;

pub use options::PitchOptions;
pub use track::{PitchTrack, track};
pub use voice::Voice;
