//! What a finished run left, read back.

use super::files::{CHECKPOINT, METRICS, PREDICTIONS, PredictionRow};
use super::run::RunReport;
use crate::data::Split;
use crate::fs::read;
use crate::{Error, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Bytes of a file that are read at most: of predictions, some ten million takes.
const MAX_BYTES: u64 = 1 << 30;

/// A run that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedRun {
    /// Its directory.
    pub path: PathBuf,
    /// Of `metrics.json`.
    pub report: RunReport,
    /// The takes of `predictions.csv` that were tested, each once: as a whole, where there are several criteria.
    pub tested: Vec<PredictionRow>,
}

impl FinishedRun {
    /// Reads the directory that a run wrote to, see [`super::files::OutDir`].
    ///
    /// # Errors
    /// [`Error::Data`] where it is no directory, holds no finished run, or a file that no run wrote: what is no table, a
    /// take that was tested twice, a rating or prediction that is no number, no take at all. [`Error::Io`] where a file cannot be
    /// read.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let message = if path.exists() { "is a file" } else { "is not there" };
            let message = format!("{message}: a run is the directory that it was written to");
            return Err(Error::data(path, None, message));
        }
        let metrics = path.join(METRICS);
        if !metrics.exists() {
            let message = match path.join(CHECKPOINT).exists() {
                true => "holds a run that was cut short: its checkpoint, and no metrics.json",
                false => "holds no finished run: metrics.json is missing",
            };
            return Err(Error::data(path, None, message));
        }
        let report = serde_json::from_slice(&read(&metrics, MAX_BYTES)?).map_err(|e| {
            Error::data(&metrics, Some(e.line() as u64), format!("is no report of a run: {e}"))
        })?;
        Ok(Self { path: path.into(), report, tested: tested(&path.join(PREDICTIONS))? })
    }
}

/// The rows of tested takes.
fn tested(path: &Path) -> Result<Vec<PredictionRow>> {
    let bytes = read(path, MAX_BYTES)?;
    let mut csv = csv::Reader::from_reader(&bytes[..]);
    let mut rows: Vec<PredictionRow> = Vec::new();
    let mut known = HashSet::new();
    let headers = csv.headers().map_err(|e| bad(path, &e))?.clone();
    for record in csv.records() {
        let record = record.map_err(|e| bad(path, &e))?;
        let line = record.position().map(csv::Position::line);
        let row: PredictionRow = record.deserialize(Some(&headers)).map_err(|e| bad(path, &e))?;
        if row.split != Split::Test.name() || row.criterion.is_some() {
            continue;
        }
        if !row.rating.is_finite() || !row.prediction.is_finite() {
            let message = format!("take {:?} has a rating or a prediction that is no number", row.id);
            return Err(Error::data(path, line, message));
        }
        if !known.insert(row.id.clone()) {
            return Err(Error::data(path, line, format!("take {:?} was tested twice", row.id)));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(Error::data(path, None, "lists no take that was tested"));
    }
    Ok(rows)
}

fn bad(path: &Path, e: &csv::Error) -> Error {
    Error::data(path, e.position().map(csv::Position::line), format!("is no table of predictions: {e}"))
}
