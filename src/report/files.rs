//! The files a run leaves behind, each written whole or not at all, but for its history, which grows with it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::run::RunReport;
use crate::fs::{Lock, is_stray, read, write_atomic};
use crate::names::quoted;
use crate::{Error, Result};

/// What an unfinished run goes on from.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

/// What a run writes last, but for its plots and its page.
pub(super) const METRICS: &str = "metrics.json";

/// What the network made of each take.
pub(super) const PREDICTIONS: &str = "predictions.csv";

/// Runs side by side, for programs: what lies beside the [`PAGE`] of a comparison.
pub const COMPARISON: &str = "comparison.csv";

/// What the run came to, for people.
pub const PAGE: &str = "report.html";

/// What each epoch gave.
const HISTORY: &str = "history.csv";

/// The files of an earlier run, or comparison, which a new one may replace; with folds, `fold-<N>.safetensors` too.
const OURS: [&str; 11] = [
    CHECKPOINT,
    "model.safetensors",
    METRICS,
    HISTORY,
    PREDICTIONS,
    COMPARISON,
    "history.svg",
    "scatter.svg",
    "embedding.svg",
    "agreement.svg",
    PAGE,
];

/// How the file begins that tells whether a directory can be written.
const PROBE: &str = ".etude-probe-";

/// What the run that writes to a directory holds locked.
const LOCK: &str = ".etude-lock";

fn is_ours(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let fold = name.strip_prefix("fold-").and_then(|rest| rest.strip_suffix(".safetensors"));
    OURS.contains(&name) || fold.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a run that was killed while writing left this: see [`write_atomic`] and [`OutDir::open`].
fn is_leftover(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let tmp = || {
        let (name, _call) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
        Some(is_ours(OsStr::new(name)))
    };
    name.starts_with(PROBE) || tmp() == Some(true)
}

/// One row of `history.csv`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Epoch, counted through all phases.
    pub epoch: u64,
    /// Phase of the protocol, e.g. `encoder`.
    pub phase: String,
    /// Learning rate.
    pub lr: f64,
    /// Mean training loss.
    pub train_loss: f64,
    /// Validation loss, if measured.
    pub val_loss: Option<f64>,
    /// Validation R², if defined.
    pub val_r2: Option<f64>,
}

/// One row of `predictions.csv`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// Recording.
    pub id: String,
    /// Performer, by whom the data is split.
    pub performer: String,
    /// `train`, `val` or `test`.
    pub split: String,
    /// The judges' rating, in [0, 1].
    pub rating: f32,
    /// The predicted rating, in [0, 1].
    pub prediction: f32,
    /// Whether the judges let it pass, where known.
    pub pass: Option<bool>,
    /// Fold, where there are folds.
    pub fold: Option<u64>,
    /// Whether the network lets it pass, where that was learned.
    #[serde(default)]
    pub passed: Option<bool>,
    /// Melody, where known.
    #[serde(default)]
    pub melody: Option<String>,
    /// Of several criteria the one that rating and prediction are of; none where they are of the take as a whole.
    #[serde(default)]
    pub criterion: Option<String>,
}

/// A line of CSV of the file at `path`.
fn line(path: &Path, row: impl Serialize) -> Result<Vec<u8>> {
    let bad = |e: &dyn std::fmt::Display| Error::data(path, None, e.to_string());
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    csv.serialize(row).map_err(|e| bad(&e))?;
    csv.into_inner().map_err(|e| bad(&e))
}

/// `history.csv` while it grows, epoch by epoch: no run keeps its history in memory.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl History {
    /// The file, cut after `bytes`; its header where that is its begin.
    fn open(path: PathBuf, bytes: u64) -> Result<Self> {
        let open = || {
            let mut file = File::options().write(true).create(true).truncate(false).open(&path)?;
            file.set_len(bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = BufWriter::new(open().map_err(Error::io(&path, "write"))?);
        let mut history = Self { path, file, bytes };
        if bytes == 0 {
            history.line(["epoch", "phase", "lr", "train_loss", "val_loss", "val_r2"])?;
        }
        Ok(history)
    }

    fn line(&mut self, row: impl Serialize) -> Result<()> {
        let line = line(&self.path, row)?;
        self.bytes += line.len() as u64;
        self.file.write_all(&line).map_err(Error::io(&self.path, "write"))
    }

    /// Adds an epoch.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn add(&mut self, row: &EpochRow) -> Result<()> {
        self.line(row)
    }

    /// Makes sure that all of it is on the disk; gives its bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn flush(&mut self) -> Result<u64> {
        let done = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        done.map(|()| self.bytes).map_err(Error::io(&self.path, "write"))
    }
}

/// What an earlier run left in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// Nothing.
    Nothing,
    /// A checkpoint that the run can go on from.
    Unfinished,
    /// These files and no checkpoint: its results, or what a run without checkpoints had written when it ended.
    Files(Vec<String>),
}

/// The directory of a run, claimed before training starts and locked against other processes.
///
/// Dropped without [`OutDir::finish`], a directory it created and left empty is removed again.
#[derive(Debug)]
pub struct OutDir {
    path: PathBuf,
    created: bool,
    earlier: Earlier,
    /// Given up before the directory is removed.
    lock: Option<Lock>,
}

impl OutDir {
    /// Creates the directory or takes over an empty one or that of an earlier run, whose files stay until [`OutDir::clear`].
    ///
    /// What file managers leave in a folder is overlooked. What killed runs left half-written is removed.
    ///
    /// # Errors
    /// [`Error::Data`] if `path` is a file, holds files that are not a run's, or another process has it open; [`Error::Io`]
    /// if it cannot be created, read, locked or written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.exists() && !path.is_dir() {
            return Err(Error::data(path, None, "is a file; name a new or empty directory"));
        }
        let created = !path.exists();
        fs::create_dir_all(path).map_err(Error::io(path, "create"))?;
        let mut out = Self { path: path.to_path_buf(), created, earlier: Earlier::Nothing, lock: None };
        // Strangers' directories get no file of ours, not even for a moment.
        out.entries()?;
        out.lock = Some(Lock::take(&path.join(LOCK), path)?);
        let (ours, leftovers) = out.entries()?;
        for name in leftovers {
            fs::remove_file(path.join(&name)).map_err(Error::io(path.join(&name), "remove"))?;
        }
        out.earlier = match ours {
            ours if ours.is_empty() => Earlier::Nothing,
            ours if ours.iter().any(|name| name == CHECKPOINT) => Earlier::Unfinished,
            ours => Earlier::Files(ours),
        };
        // Permission bits do not tell (root, read-only mounts): try it.
        let probe = path.join(format!("{PROBE}{}", std::process::id()));
        fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(Error::io(path, "write"))?;
        Ok(out)
    }

    /// Names of a run's files, in order, and of what killed runs left half-written.
    fn entries(&self) -> Result<(Vec<String>, Vec<OsString>)> {
        let (mut ours, mut leftovers) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.path).map_err(Error::io(&self.path, "read"))? {
            let name = entry.map_err(Error::io(&self.path, "read"))?.file_name();
            if is_leftover(&name) {
                leftovers.push(name);
            } else if is_ours(&name) {
                ours.push(name.to_string_lossy().into_owned());
            } else if name != LOCK && !is_stray(&name) {
                let message = format!(
                    "holds {}, which is no file of an earlier run; name a new or empty directory",
                    quoted(&name.to_string_lossy())
                );
                return Err(Error::data(&self.path, None, message));
            }
        }
        ours.sort();
        Ok((ours, leftovers))
    }

    /// What an earlier run had left when the directory was opened.
    pub fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    /// Removes every file of a run, the one first by which a run is known to be finished.
    ///
    /// # Errors
    /// [`Error::Io`] if one cannot be removed.
    pub fn clear(&self) -> Result<()> {
        self.remove(METRICS)?;
        self.entries()?.0.iter().try_for_each(|name| self.remove(name))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one file of the run.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_atomic(&self.path.join(name), bytes)
    }

    /// Removes a file of the run, where there is one.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
            _ => Ok(()),
        }
    }

    /// Begins `history.csv`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn history(&self) -> Result<History> {
        History::open(self.path.join(HISTORY), 0)
    }

    /// Goes on with `history.csv` after its first `bytes`, see [`History::flush`]; what is behind them goes.
    ///
    /// # Errors
    /// [`Error::Data`] if it is shorter, [`Error::Io`] if it cannot be read or written.
    pub fn history_from(&self, bytes: u64) -> Result<History> {
        let path = self.path.join(HISTORY);
        let there = fs::metadata(&path).map_err(Error::io(&path, "read"))?.len();
        if there < bytes {
            let message =
                format!("has {there} bytes, fewer than the {bytes} that the checkpoint goes on from");
            return Err(Error::data(path, None, message));
        }
        History::open(path, bytes)
    }

    /// Reads `history.csv`.
    ///
    /// # Errors
    /// [`Error::Data`] if it is no table of epochs, [`Error::Io`] if it cannot be read.
    pub fn read_history(&self) -> Result<Vec<EpochRow>> {
        let path = self.path.join(HISTORY);
        let bytes = read(&path, u64::MAX - 1)?;
        let rows = csv::Reader::from_reader(&bytes[..]).into_deserialize().collect::<csv::Result<_>>();
        rows.map_err(|e| Error::data(&path, None, e.to_string()))
    }

    /// Writes `predictions.csv`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn predictions(&self, rows: &[PredictionRow]) -> Result<()> {
        let header = [
            "id",
            "performer",
            "split",
            "rating",
            "prediction",
            "pass",
            "fold",
            "passed",
            "melody",
            "criterion",
        ];
        let mut csv = line(&self.path.join(PREDICTIONS), header)?;
        for row in rows {
            csv.extend(line(&self.path.join(PREDICTIONS), row)?);
        }
        self.write(PREDICTIONS, &csv)
    }

    /// Writes `metrics.json`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn metrics(&self, report: &RunReport) -> Result<()> {
        let path = self.path.join(METRICS);
        let mut json =
            serde_json::to_vec_pretty(report).map_err(|e| Error::data(path, None, e.to_string()))?;
        json.push(b'\n');
        self.write(METRICS, &json)
    }

    /// Keeps the directory, whatever it holds.
    pub fn finish(mut self) {
        self.created = false;
    }
}

impl Drop for OutDir {
    fn drop(&mut self) {
        self.lock = None;
        if self.created {
            // Only succeeds on an empty directory, which is what is wanted.
            let _ = fs::remove_dir(&self.path);
        }
    }
}
