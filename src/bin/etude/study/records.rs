//! What the trained networks made of their test takes, a line each, in files that survive whatever ends a study.
//!
//! A file belongs to one process at a time. Its first line says of what data it is; each other line is a run. A line that was cut
//! short is no line: it is removed when the file is written again, and overlooked when it is read.

use etude::fs::{self, Lock};
use etude::names::quoted;
use etude::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Bytes of a file of records at most.
const MAX_BYTES: u64 = 1 << 32;

/// What a file of records is called.
const PREFIX: &str = "runs";

/// What all runs of a study have in common.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Of these files.
    pub format: u32,
    /// Of the program that trained.
    pub version: String,
    /// The digest of the recordings.
    pub data: String,
    pub folds: u32,
    /// The options that an arm has without saying so.
    pub usual: String,
}

/// A network: which arm, seed and fold.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Job {
    /// The arm's id.
    pub arm: String,
    pub seed: u32,
    /// From 1.
    pub fold: u32,
}

/// What it made of the takes it was tested on, in one order.
#[derive(Serialize, Deserialize)]
pub struct Outcome {
    /// Places among the recordings.
    pub takes: Vec<u32>,
    /// Ratings in 0..=1.
    pub predictions: Vec<f32>,
    /// Whether they pass, where the data says who did.
    pub passed: Option<Vec<bool>>,
    /// The mean rating of their neighbours in the embedding.
    pub neighbours: Vec<f32>,
    /// Seconds of one core.
    pub seconds: f64,
}

impl Outcome {
    fn is_whole(&self, takes: usize) -> bool {
        let n = self.takes.len();
        let passed = self.passed.as_ref().is_none_or(|passed| passed.len() == n);
        let numbers = self.predictions.iter().chain(&self.neighbours).all(|v| v.is_finite());
        let known = self.takes.iter().all(|&take| (take as usize) < takes);
        n > 0 && passed && numbers && known && self.predictions.len() == n && self.neighbours.len() == n
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    job: Job,
    #[serde(flatten)]
    outcome: Outcome,
}

/// The records of a study: those of all its files, and the file that this process adds to.
pub struct Records {
    pub known: BTreeMap<Job, Outcome>,
    path: PathBuf,
    file: File,
    /// Given up at the end.
    _lock: Lock,
}

impl Records {
    /// Reads every file of records in `folder`, which is made where it is missing, and opens the one of a share of the runs, or
    /// of all of them. `takes` is the number of recordings.
    ///
    /// # Errors
    /// [`Error::Data`] where another process adds to the same file, or a file is of other data or damaged; [`Error::Io`].
    pub fn open(folder: &Path, share: Option<Share>, header: &Header, takes: usize) -> Result<Self> {
        if folder.exists() && !folder.is_dir() {
            return Err(Error::data(folder, None, "is a file; name a new or empty directory"));
        }
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        if files(folder)?.is_empty() {
            must_be_empty(folder)?;
        }
        let name = share.map_or(format!("{PREFIX}.jsonl"), |share| {
            format!("{PREFIX}-{}-of-{}.jsonl", share.number, share.of)
        });
        let path = folder.join(&name);
        let lock = Lock::take(&folder.join(format!(".{name}.lock")), &path)?;
        let (mut known, mut length) = (BTreeMap::new(), 0);
        for file in files(folder)? {
            let whole = read(&file, header, takes, &mut known)?;
            if file == path {
                length = whole;
            }
        }
        let file = open(&path, header, length)?;
        Ok(Self { known, path, file, _lock: lock })
    }

    /// The file that this process adds to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a run.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; what was written before stays.
    pub fn add(&mut self, job: Job, outcome: Outcome) -> Result<()> {
        let line = Line { job, outcome };
        let text = serde_json::to_string(&line).map_err(|e| Error::data(&self.path, None, e.to_string()))?;
        let written = self.file.write_all((text + "\n").as_bytes());
        written.map_err(Error::io(&self.path, "write"))?;
        self.known.insert(line.job, line.outcome);
        Ok(())
    }
}

/// A share of the runs: every `of`-th, beginning with the `number`-th.
#[derive(Clone, Copy)]
pub struct Share {
    /// From 1.
    pub number: u32,
    pub of: u32,
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl std::str::FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err(Error::config("expected I/N, such as 1/4 for the first of four shares")),
        }
    }
}

/// Checks that nothing is there which the tables could replace, where no records are: those are a stranger's files.
fn must_be_empty(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let name = entry.map_err(Error::io(folder, "read"))?.file_name();
        // Another share's, which begins at this moment.
        let is_lock = name.to_string_lossy().ends_with(".lock");
        if !is_lock && !fs::is_stray(&name) {
            let name = quoted(&name.to_string_lossy());
            let message = format!("holds {name} and no records of a study; name a new or empty directory");
            return Err(Error::data(folder, None, message));
        }
    }
    Ok(())
}

/// The files of records in a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let path = entry.map_err(Error::io(folder, "read"))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(".jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The whole lines of a file.
fn whole(bytes: &[u8]) -> &[u8] {
    bytes.iter().rposition(|b| *b == b'\n').map_or(&[], |end| &bytes[..=end])
}

/// Adds the runs of a file to those that are known; gives the bytes of its whole lines.
fn read(path: &Path, header: &Header, takes: usize, known: &mut BTreeMap<Job, Outcome>) -> Result<u64> {
    let bytes = fs::read(path, MAX_BYTES)?;
    let whole = whole(&bytes);
    for (number, line) in whole.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.is_empty()) {
        let damaged = |why: &str| {
            let message = format!("{why}: remove the line, or name another directory");
            Error::data(path, Some(number as u64 + 1), message)
        };
        if number == 0 {
            let found: Header = serde_json::from_slice(line).map_err(|e| damaged(&e.to_string()))?;
            check(path, &found, header)?;
            continue;
        }
        let Line { job, outcome } = serde_json::from_slice(line).map_err(|e| damaged(&e.to_string()))?;
        if !outcome.is_whole(takes) {
            return Err(damaged("a run that does not fit the data"));
        }
        known.entry(job).or_insert(outcome);
    }
    Ok(whole.len() as u64)
}

/// Checks that records are of the same data, folds and program.
fn check(path: &Path, found: &Header, wanted: &Header) -> Result<()> {
    let what = if found.format != wanted.format {
        format!("format {}, this program writes {}", found.format, wanted.format)
    } else if found.version != wanted.version {
        format!("etude {}, this is {}", found.version, wanted.version)
    } else if found.folds != wanted.folds {
        format!("{} folds, the study has {}", found.folds, wanted.folds)
    } else if found.usual != wanted.usual {
        "an etude whose usual options are others".into()
    } else if found.data != wanted.data {
        "other data, or data that has changed".into()
    } else {
        return Ok(());
    };
    Err(Error::data(path, None, format!("holds runs of {what}; name another directory for --out")))
}

/// Opens a file to add to, behind its whole lines, which are so many bytes.
fn open(path: &Path, header: &Header, length: u64) -> Result<File> {
    let mut file = File::options().create(true).append(true).open(path).map_err(Error::io(path, "create"))?;
    file.set_len(length).map_err(Error::io(path, "write"))?;
    if length == 0 {
        let text = serde_json::to_string(header).map_err(|e| Error::data(path, None, e.to_string()))?;
        file.write_all((text + "\n").as_bytes()).map_err(Error::io(path, "write"))?;
    }
    Ok(file)
}
