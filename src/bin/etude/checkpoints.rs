//! What a run writes while it trains: its history, and checkpoints now and then.

use crate::args::RunArgs;
use crate::out::tell;
use crate::run::{Clock, Run};
use etude::report::files::{CHECKPOINT, EpochRow, History, OutDir};
use etude::train::Snapshot;
use etude::{Error, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The history, where checkpoints go, and when the last one did.
pub struct Checkpoints {
    history: History,
    /// None where the record, which is text, cannot hold the path of the data, the scores or the event files.
    path: Option<PathBuf>,
    every: Duration,
    written: Instant,
    clock: Clock,
}

impl Checkpoints {
    /// Those of a run in `out`, from whose options its files can be found again from wherever it is taken up.
    pub fn of(run: &mut Run, out: &OutDir, clock: Clock) -> Result<Self> {
        let mut path = Some(out.path().join(CHECKPOINT));
        let (RunArgs { data, tensorboard, .. }, scores) = (&mut run.args, &mut run.files.scores);
        for (named, what) in [(data, "the data"), (scores, "the scores"), (tensorboard, "the event files")] {
            let Some(named) = named else { continue };
            *named = std::path::absolute(&named).map_err(Error::io(&named, "find"))?;
            if named.to_str().is_none() {
                tell!("note: the path of {what} is not Unicode, so no checkpoints are written");
                path = None;
            }
        }
        let every = Duration::from_secs(run.args.checkpoint_every);
        let history = if run.epochs == 0 { out.history()? } else { out.history_from(run.history)? };
        Ok(Self { history, path, every, written: Instant::now(), clock })
    }

    /// Notes an epoch, and writes a checkpoint if it is time, or `at_once`.
    pub fn keep(&mut self, row: &EpochRow, now: &Snapshot<'_>, run: &mut Run, at_once: bool) -> Result<()> {
        self.history.add(row)?;
        let due = at_once || self.written.elapsed() >= self.every;
        if let Some(path) = self.path.as_ref().filter(|_| due) {
            run.seconds = self.clock.seconds();
            // What the checkpoint counts on is there first.
            run.history = self.history.flush()?;
            now.state()?.save(path, run)?;
            self.written = Instant::now();
        }
        Ok(())
    }

    /// Writes what is left of the history.
    pub fn finish(mut self) -> Result<()> {
        self.history.flush().map(drop)
    }
}
