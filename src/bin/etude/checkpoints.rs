//! Checkpoints, now and then, while a run trains.

use crate::out::tell;
use crate::run::{Clock, Run};
use etude::report::files::{CHECKPOINT, OutDir};
use etude::train::Snapshot;
use etude::{Error, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where they go, and when the last one did.
pub struct Checkpoints {
    path: PathBuf,
    every: Duration,
    written: Instant,
    clock: Clock,
}

impl Checkpoints {
    /// Those of a run in `out`, from whose options its data can be found again from wherever it is taken up; none where the
    /// record, which is text, cannot hold its path.
    pub fn of(run: &mut Run, out: &OutDir, clock: Clock) -> Result<Option<Self>> {
        if let Some(data) = &mut run.args.data {
            *data = std::path::absolute(&data).map_err(Error::io(&data, "find"))?;
            if data.to_str().is_none() {
                tell!("note: the path of the data is not Unicode, so no checkpoints are written");
                return Ok(None);
            }
        }
        let every = Duration::from_secs(run.args.checkpoint_every);
        Ok(Some(Self { path: out.path().join(CHECKPOINT), every, written: Instant::now(), clock }))
    }

    /// Writes one if it is time, or `now_or_never`.
    pub fn keep(&mut self, now: &Snapshot<'_>, run: &mut Run, now_or_never: bool) -> Result<()> {
        if now_or_never || self.written.elapsed() >= self.every {
            run.seconds = self.clock.seconds();
            now.state()?.save(&self.path, run)?;
            self.written = Instant::now();
        }
        Ok(())
    }
}
