//! A contour from a file of any kind: f0 as trackers write it, a recording, a score.

use super::contour::Contour;
#[cfg(feature = "audio")]
use super::f0::text::NO_TEXT;
use super::f0::{F0Options, MAX_BYTES, parse_f0};
#[cfg(feature = "audio")]
use super::pitch::{self, PitchOptions};
#[cfg(feature = "audio")]
use super::recording::{Container, RATE, Recording, parse_recording, read_recording};
#[cfg(feature = "audio")]
use super::score::{is_score, parse_score};
use super::track::Track;
#[cfg(feature = "audio")]
use crate::Error;
use crate::{Result, fs};
#[cfg(feature = "audio")]
use std::io::Read;
use std::path::Path;

/// How contours are got from files.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceOptions {
    /// How f0 files are read, and the hop of every contour.
    pub f0: F0Options,
    /// The lowest and the highest f0 that is looked for in recordings, in Hz.
    pub range: (f64, f64),
}

impl Default for SourceOptions {
    /// f0 files as they say, recordings from 60 to 2000 Hz.
    fn default() -> Self {
        Self { f0: F0Options::default(), range: (60.0, 2000.0) }
    }
}

impl SourceOptions {
    /// Whether the values are possible.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for what is out of range.
    pub fn check(&self) -> Result<()> {
        #[cfg(feature = "audio")]
        self.pitch().check(f64::from(RATE))?;
        self.f0.check()
    }

    #[cfg(feature = "audio")]
    fn pitch(&self) -> PitchOptions {
        PitchOptions { lowest: self.range.0, highest: self.range.1, ..PitchOptions::default() }
    }
}

/// What a file was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// f0.
    F0,
    /// Sound.
    Recording,
    /// Notes.
    Score,
}

impl SourceKind {
    /// What so many of them are called.
    pub fn noun(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::F0, 1) => "f0 file",
            (Self::F0, _) => "f0 files",
            (Self::Recording, 1) => "recording",
            (Self::Recording, _) => "recordings",
            (Self::Score, 1) => "score",
            (Self::Score, _) => "scores",
        }
    }
}

/// What was read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its pitch.
    pub contour: Contour,
    /// What the contour was made of: the rows of an f0 file, or of a recording one every 256 samples at 44.1 kHz; of a score its
    /// frames.
    pub track: Track,
    /// What it was.
    pub kind: SourceKind,
    /// Which format it was read as.
    pub format: String,
    /// What else was found out, chosen or left out.
    pub notes: Vec<String>,
}

/// Reads a file of any kind, told by what is in it.
///
/// # Errors
/// As [`super::read_f0`], and with feature `audio` as [`super::recording::read_recording`], [`super::pitch::track`] and
/// [`super::score::parse_score`]; [`crate::Error::Data`] too for a recording in which no pitch is found.
pub fn read_source(path: impl AsRef<Path>, options: &SourceOptions) -> Result<Source> {
    let path = path.as_ref();
    options.check()?;
    #[cfg(feature = "audio")]
    if is_recording(path)? {
        return of_recording(path, read_recording(path)?, options);
    }
    parse_text(path, &fs::read(path, MAX_BYTES)?, options)
}

/// Reads a file's bytes as [`read_source`] does; `path` is for messages.
///
/// # Errors
/// As [`read_source`].
pub fn parse_source(path: &Path, bytes: &[u8], options: &SourceOptions) -> Result<Source> {
    options.check()?;
    #[cfg(feature = "audio")]
    if Container::of(bytes).is_some() {
        return of_recording(path, parse_recording(path, bytes)?, options);
    }
    parse_text(path, bytes, options)
}

/// What is no recording.
fn parse_text(path: &Path, bytes: &[u8], options: &SourceOptions) -> Result<Source> {
    #[cfg(feature = "audio")]
    if is_score(bytes) {
        let score = parse_score(path, bytes)?;
        let contour = score.contour(options.f0.hop).map_err(|e| Error::data(path, None, e.to_string()))?;
        let (kind, format, notes) = (SourceKind::Score, score.format.to_string(), score.remarks);
        return Ok(Source { track: Track::of(&contour), contour, kind, format, notes });
    }
    let file = parse_f0(path, bytes, &options.f0).map_err(|e| match e {
        #[cfg(feature = "audio")]
        Error::Data { message, .. } if message == NO_TEXT => {
            let message = "is no recording or score of a kind that is read, and no text with f0: convert it to WAV or FLAC";
            Error::data(path, None, message)
        }
        other => other,
    })?;
    let notes = file.notes.into_iter().map(str::to_owned).collect();
    let (kind, format) = (SourceKind::F0, file.format.to_string());
    Ok(Source { contour: file.contour, track: file.track, kind, format, notes })
}

/// Whether a file begins as a recording; a build without feature `audio` knows none.
///
/// # Errors
/// [`crate::Error::Io`] if it cannot be read, [`crate::Error::Data`] where it is no regular file.
pub fn is_recording(path: &Path) -> Result<bool> {
    #[cfg(feature = "audio")]
    {
        let mut head = Vec::new();
        fs::open(path)?.take(Container::HEAD).read_to_end(&mut head).map_err(Error::io(path, "read"))?;
        Ok(Container::of(&head).is_some())
    }
    #[cfg(not(feature = "audio"))]
    {
        fs::open(path).map(|_| false)
    }
}

#[cfg(feature = "audio")]
fn of_recording(path: &Path, recording: Recording, options: &SourceOptions) -> Result<Source> {
    let found = pitch::track(&recording.samples, f64::from(RATE), &options.pitch())
        .map_err(|e| Error::data(path, None, e.to_string()))?;
    let hop = options.pitch().hop as f64 / f64::from(RATE);
    let times = (0..found.f0.len()).map(|frame| frame as f64 * hop).collect();
    let track = Track { times, f0: found.f0, probability: found.probability };
    let contour = contour(path, &track, options)?;
    let format = format!("{}, {} Hz", recording.codec, recording.rate);
    Ok(Source { contour, track, kind: SourceKind::Recording, format, notes: recording.remarks })
}

/// The contour of a recording's track.
#[cfg(feature = "audio")]
fn contour(path: &Path, track: &Track, options: &SourceOptions) -> Result<Contour> {
    let (low, high) = options.range;
    if track.f0.iter().all(|&hz| hz == 0.0) {
        let message = format!(
            "no pitch from {low} to {high} Hz is heard in {:.1} s: is it silent, noise, or sung lower or higher?",
            track.times.last().unwrap_or(&0.0)
        );
        return Err(Error::data(path, None, message));
    }
    Contour::from_f0(&track.times, &track.f0, options.f0.hop)
        .map_err(|e| Error::data(path, None, e.to_string()))
}
