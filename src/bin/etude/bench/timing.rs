//! How long launches take.

use super::target::Target;
use etude::device::{Buf, Device, Launch};
use etude::{Error, Result};
use serde_json::{Value, json};
use std::time::Instant;

/// A run of launches is repeated until it takes this long: waiting for it then weighs nothing. Seconds.
const SPAN: f64 = 5e-3;
/// Timed runs; the median counts.
const RUNS: usize = 9;
/// Seconds after which no more runs than [`LEAST`] are made.
const ENOUGH: f64 = 0.3;
const LEAST: usize = 3;

/// Seconds.
#[derive(Clone, Copy)]
pub struct Timing {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Timing {
    /// Times `run` again and again; each says how many seconds it took.
    pub fn of(mut run: impl FnMut() -> Result<f64>) -> Result<Self> {
        let (start, mut seconds) = (Instant::now(), Vec::new());
        while seconds.len() < RUNS && (seconds.len() < LEAST || start.elapsed().as_secs_f64() < ENOUGH) {
            seconds.push(run()?);
        }
        seconds.sort_by(f64::total_cmp);
        match (seconds.first(), seconds.get(seconds.len() / 2), seconds.last()) {
            (Some(&least), Some(&median), Some(&most)) => Ok(Self { least, median, most }),
            _ => Err(Error::config("nothing was timed")),
        }
    }

    pub fn json(&self) -> Value {
        json!({"least_us": self.least * 1e6, "median_us": self.median * 1e6, "most_us": self.most * 1e6})
    }
}

/// Waits for everything before: a read of one element.
pub struct Fence<'a> {
    target: &'a Target,
    probe: Buf,
}

impl<'a> Fence<'a> {
    pub fn new(target: &'a Target) -> Result<Self> {
        Ok(Self { target, probe: target.device().upload(&[0.0f32])? })
    }

    fn wait(&self) -> Result<()> {
        self.target.device().download(&self.probe).map(drop)
    }

    /// Seconds of `run` and everything it started.
    pub fn time(&self, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
        self.wait()?;
        let start = Instant::now();
        run()?;
        self.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// The same of `run` as often as waiting weighs nothing in, for one run.
    pub fn repeated(&self, mut run: impl FnMut() -> Result<()>) -> Result<Timing> {
        let once = self.time(&mut run)?.max(1e-9);
        let repeats = (10.0 * SPAN / once).ceil().clamp(1.0, 10_000.0);
        Timing::of(|| Ok(self.time(|| (0..repeats as usize).try_for_each(|_| run()))? / repeats))
    }

    /// The seconds that one launch of a list takes: by the device's clock, else the list repeated as one plan.
    pub fn launches(&self, list: &[Launch]) -> Result<Timing> {
        let device: &dyn Device = self.target.device();
        let mut plan = device.compile(list.to_vec())?;
        plan.run()?;
        let count = list.len() as f64;
        if self.target.has_clock() {
            self.wait()?;
            return Timing::of(
                || Ok((0..list.len()).map(|i| plan.time_one(i)).sum::<Result<f64>>()? / count),
            );
        }
        let once = self.time(|| plan.run())?.max(1e-9);
        let repeats = ((SPAN / once).ceil() as usize).clamp(1, 4096 / list.len().max(1) + 1);
        let mut plan = device.compile(vec![list; repeats].concat())?;
        plan.run()?;
        Timing::of(|| Ok(self.time(|| plan.run())? / (repeats as f64 * count)))
    }
}
