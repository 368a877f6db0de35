//! Where `--tensorboard` keeps the event files of a run: its directory, with folds one below it for each.

use crate::args::TrainArgs;
use crate::failure::Failure;
use crate::run::Run;
use etude::fs::Lock;
use etude::names::{few, shown};
use etude::report::event_file::event_files;
use etude::report::files::OutDir;
use etude::report::page::Setting;
use etude::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Event files that a message lists at most.
const SHOWN: usize = 3;
/// Characters of an option's value that are shown at most.
const VALUE: usize = 1000;

/// The directory, claimed before training starts and locked against other processes; others' files in it are left alone.
///
/// Dropped while it is empty, it is removed again if it was made for this.
pub struct Board {
    dir: PathBuf,
    created: bool,
    /// Given up before the directory is removed.
    lock: Option<Lock>,
}

impl Board {
    /// The directory that the run names, if it does. A new run finds no event files there, unless they may be replaced.
    pub fn begin(args: &TrainArgs, run: &Run, out: Option<&OutDir>) -> Result<Option<Self>, Failure> {
        let Some(dir) = &run.args.tensorboard else { return Ok(None) };
        if let Some(out) = out {
            must_be_beside(dir, out.path())?;
        }
        let board = Self::open(dir)?;
        if args.resume.is_none() && !args.overwrite {
            board.must_be_new()?;
        }
        Ok(Some(board))
    }

    fn open(dir: &Path) -> Result<Self> {
        if dir.exists() && !dir.is_dir() {
            return Err(Error::data(dir, None, "is a file; name a directory for event files"));
        }
        let created = !dir.exists();
        fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        let mut board = Self { dir: dir.to_path_buf(), created, lock: None };
        // Where this file can be written, event files can.
        board.lock = Some(Lock::take(&dir.join(".etude-lock"), dir)?);
        Ok(board)
    }

    fn must_be_new(&self) -> Result<(), Failure> {
        let earlier = self.earlier()?;
        if earlier.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = earlier.iter().map(|path| path.strip_prefix(&self.dir).unwrap_or(path)).collect();
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        let what = format!("holds event files of an earlier run: {}", few(names.iter().map(|n| &**n), SHOWN));
        let hint = "name another directory for --tensorboard; --overwrite removes the event files there";
        Err(Failure::hint(hint)(Error::data(&self.dir, None, what)))
    }

    /// The event files that are there, also of folds that this run does not have: TensorBoard would show them beside its own.
    fn earlier(&self) -> Result<Vec<PathBuf>> {
        let mut files = event_files(&self.dir)?;
        for entry in fs::read_dir(&self.dir).map_err(Error::io(&self.dir, "read"))? {
            let entry = entry.map_err(Error::io(&self.dir, "read"))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("fold-"));
            let is_fold = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            if is_fold && entry.path().is_dir() {
                files.extend(event_files(&entry.path())?);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Removes the event files that are there, and nothing else.
    pub fn clear(&self) -> Result<()> {
        self.earlier()?.iter().try_for_each(|path| fs::remove_file(path).map_err(Error::io(path, "remove")))
    }

    /// Where the event files of a fold go, by its number from 1; those of a run without folds.
    pub fn fold(&self, number: Option<usize>) -> PathBuf {
        number.map_or(self.dir.clone(), |i| self.dir.join(format!("fold-{i}")))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.lock = None;
        if self.created {
            // Only succeeds on an empty directory, which is what is wanted.
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// A run's own directory holds its files alone: with event files in it `--resume` would take it for a stranger's.
fn must_be_beside(dir: &Path, out: &Path) -> Result<(), Failure> {
    let whole = std::path::absolute(dir).map_err(Error::io(dir, "find"))?;
    let out = out.canonicalize().map_err(Error::io(out, "find"))?;
    // What is there of the path, its links followed.
    let inside = whole
        .ancestors()
        .find_map(|part| part.canonicalize().ok())
        .is_some_and(|part| part.starts_with(&out));
    if !inside {
        return Ok(());
    }
    let error =
        Error::data(dir, None, "is inside the directory of --out, which holds the run's own files alone");
    Err(Failure::hint("name one beside it for --tensorboard")(error))
}

/// Options and their values as a table in Markdown.
pub fn table(settings: &[Setting]) -> String {
    let row = |Setting { name, value, .. }: &Setting| format!("| {name} | {} |\n", plain(value));
    format!("| option | value |\n|---|---|\n{}", settings.iter().map(row).collect::<String>())
}

/// A text that Markdown takes for nothing but a text, in one line.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in shown(text, VALUE).chars() {
        match c {
            '&' => plain += "&amp;",
            '<' => plain += "&lt;",
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '>' => plain.extend(['\\', c]),
            c => plain.push(c),
        }
    }
    plain
}
