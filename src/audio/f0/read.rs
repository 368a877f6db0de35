//! f0 files read: what they hold becomes a contour.

use super::columns::Roles;
use super::options::{F0Options, F0Unit};
use super::rows::{Fault, Rows};
use super::table::{Table, unexpected};
use super::{praat, text, times};
use crate::audio::contour::{Contour, midi_to_hz};
use crate::audio::track::Track;
use crate::{Error, Result, fs};
use std::fmt;
use std::path::Path;

/// Largest f0 file: a day of rows a millisecond apart is some 2 GB, an hour of them 80 MB.
pub(crate) const MAX_BYTES: u64 = 1 << 28;

/// What a file was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum F0Format {
    /// Time and f0.
    TwoColumns,
    /// Time, f0 and confidence.
    Crepe,
    /// Time, f0, whether it is voiced, and perhaps how probably.
    Librosa,
    /// A file name or labels beside time and f0.
    SonicAnnotator,
    /// f0 alone.
    OneColumn,
    /// Praat's Pitch.
    PraatPitch,
    /// Praat's PitchTier.
    PraatPitchTier,
}

impl fmt::Display for F0Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoColumns => "two columns (time, f0)",
            Self::Crepe => "CREPE (time, frequency, confidence)",
            Self::Librosa => "librosa (times, f0, voiced_flag, voiced_probs)",
            Self::SonicAnnotator => "sonic-annotator (file, time, f0, label)",
            Self::OneColumn => "one column (f0)",
            Self::PraatPitch => "Praat Pitch",
            Self::PraatPitchTier => "Praat PitchTier",
        })
    }
}

/// An f0 file.
#[derive(Debug, Clone, PartialEq)]
pub struct F0File {
    /// What it holds.
    pub contour: Contour,
    /// Its rows, f0 in Hz: what the contour was made of.
    pub track: Track,
    /// What it was read as.
    pub format: F0Format,
    /// What else was found out or done: units, decimal commas, rows without confidence.
    pub notes: Vec<&'static str>,
}

/// Reads an f0 file of any format of [this table](super).
///
/// # Errors
/// [`Error::Config`] for impossible options; [`Error::Data`] with the line for what cannot be read as one, or is no regular file;
/// [`Error::Io`].
pub fn read_f0(path: impl AsRef<Path>, options: &F0Options) -> Result<F0File> {
    options.check()?;
    let path = path.as_ref();
    parse_f0(path, &fs::read(path, MAX_BYTES)?, options)
}

/// Reads an f0 file's bytes as [`read_f0`] does; `path` is for messages.
///
/// # Errors
/// As [`read_f0`].
pub fn parse_f0(path: &Path, bytes: &[u8], options: &F0Options) -> Result<F0File> {
    options.check()?;
    parse(bytes, options).map_err(|Fault { line, message }| Error::data(path, line, message))
}

impl Contour {
    /// The contour of an f0 file; see [`read_f0`], which also tells what the file was read as.
    ///
    /// # Errors
    /// As [`read_f0`].
    pub fn read(path: impl AsRef<Path>, options: &F0Options) -> Result<Self> {
        Ok(read_f0(path, options)?.contour)
    }
}

fn parse(bytes: &[u8], options: &F0Options) -> Result<F0File, Fault> {
    if bytes.starts_with(b"ooBinaryFile") {
        return Err(Fault::new(None, "is a binary Praat file: save it as a text file"));
    }
    let text = text::decode(bytes)?;
    let (mut rows, unit, format, mut notes) = if praat::is_praat(&text) {
        let (rows, tier) = praat::parse(&text)?;
        let format = if tier { F0Format::PraatPitchTier } else { F0Format::PraatPitch };
        (rows, times::TimeUnit::Seconds, format, Vec::new())
    } else {
        table(&text, options)?
    };
    let at = |lines: &[u64], (row, message): (Option<usize>, String)| {
        Fault::new(row.and_then(|row| lines.get(row).copied()), message)
    };
    let done =
        times::seconds(&mut rows.times, unit, options.row_hop).map_err(|fault| at(&rows.lines, fault))?;
    notes.extend(done.notes);
    let contour = Contour::resample(&rows.times, &rows.hz, options.hop, done.rounding)
        .map_err(|fault| at(&rows.lines, fault))?;
    let track = Track { times: rows.times, f0: rows.hz, probability: Vec::new() };
    Ok(F0File { contour, track, format, notes })
}

/// The rows of a table; times are still in the file's unit.
fn table(
    text: &str,
    options: &F0Options,
) -> Result<(Rows, times::TimeUnit, F0Format, Vec<&'static str>), Fault> {
    let table = Table::parse(text)?;
    let roles = Roles::of(&table, options.unit)?;
    let mut notes = Vec::new();
    for column in [roles.time, Some(roles.f0), roles.confidence, roles.flag].into_iter().flatten() {
        if let Some(row) = table.columns[column].text {
            let line = table.lines[row];
            return Err(unexpected(line, text.lines().nth(line as usize - 1).unwrap_or_default()));
        }
    }
    let times = match (roles.time, options.row_hop) {
        (Some(time), _) => table.columns[time].values.clone(),
        (None, Some(hop)) => (0..table.lines.len()).map(|row| row as f64 * hop).collect(),
        (None, None) => {
            let message = format!("holds f0 without times: {}", F0Options::ROW_HOP_ASKED);
            return Err(Fault::new(None, message));
        }
    };
    let hz = hz(&table, &roles, options, &mut notes)?;
    let format = match &roles {
        Roles { time: None, .. } => F0Format::OneColumn,
        Roles { confidence: Some(_), .. } => F0Format::Crepe,
        Roles { flag, probability, .. } if flag.or(*probability).is_some() => F0Format::Librosa,
        Roles { texts: true, .. } => F0Format::SonicAnnotator,
        _ => F0Format::TwoColumns,
    };
    let unit = if roles.time.is_none() { times::TimeUnit::Seconds } else { roles.time_unit };
    Ok((Rows { times, hz, lines: table.lines }, unit, format, notes))
}

/// f0 in Hz of each row, 0 where unvoiced.
fn hz(
    table: &Table<'_>,
    roles: &Roles,
    options: &F0Options,
    notes: &mut Vec<&'static str>,
) -> Result<Vec<f64>, Fault> {
    let f0 = &table.columns[roles.f0].values;
    let values = |column: Option<usize>| column.map(|column| &table.columns[column].values);
    let mut confidence = values(roles.confidence);
    if confidence.is_none() && roles.flag.is_none() && f0.iter().all(|f0| *f0 > 0.0) {
        // Nothing else says what is voiced.
        confidence = values(roles.probability);
    }
    let flag = values(roles.flag);
    let unit = roles.f0_unit.unwrap_or(options.unit);
    if unit == F0Unit::Midi {
        notes.push("f0 in MIDI note numbers");
    } else if options.unit == F0Unit::Midi {
        notes.push("f0 in Hz, as its name says");
    }
    let mut doubtful = false;
    let mut hz = Vec::with_capacity(f0.len());
    for (row, &value) in f0.iter().enumerate() {
        let certain = confidence.is_none_or(|c| c[row] >= options.min_confidence);
        if let Some(c) = confidence.map(|c| c[row])
            && !c.is_nan()
            && !(0.0..=1.0).contains(&c)
        {
            return Err(Fault::new(table.lines[row], format!("confidence {c} is not in 0..=1")));
        }
        doubtful |= !certain && value > 0.0;
        let voiced = value > 0.0 && certain && flag.is_none_or(|flag| flag[row] >= 0.5);
        hz.push(match unit {
            _ if !voiced => 0.0,
            F0Unit::Hz => value,
            F0Unit::Midi if value <= 127.0 => midi_to_hz(value),
            F0Unit::Midi => {
                let message = format!("f0 {value} is no MIDI note number; expected 0 to 127");
                return Err(Fault::new(table.lines[row], message));
            }
        });
    }
    if doubtful {
        notes.push("rows of little confidence are unvoiced");
    }
    let suspicious = |v: &f64| v.is_nan() || *v <= 0.0 || (v.fract() == 0.0 && (20.0..=127.0).contains(v));
    if unit == F0Unit::Hz && f0.len() > 1 && f0.iter().all(suspicious) {
        notes.push("every f0 is a whole number of at most 127: are they MIDI note numbers, not Hz?");
    }
    Ok(hz)
}
