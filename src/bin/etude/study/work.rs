//! The runs of a study over the cores: one thread a network, as many at once as there are threads.

use super::file::Study;
use super::prepared::Preparations;
use super::records::{Job, Records, Share};
use super::run::run;
use crate::load;
use crate::out::tell;
use crate::signals::{self, Signal};
use etude::Result;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Instant;

/// A run that is to be made.
struct Task {
    arm: usize,
    job: Job,
}

/// The runs of a study: all, or a share of them. A fold after the other of a seed, of all arms: so that what there is after a
/// while compares all arms.
fn tasks(study: &Study, share: Option<Share>) -> Vec<Task> {
    let mut tasks = Vec::new();
    let mut number = 0;
    for arm in 0..study.arms.len() {
        for &seed in &study.seeds {
            for fold in 1..=study.folds {
                let job = Job { arm: study.arms[arm].id.clone(), seed, fold };
                // By arm first, so that each share has runs of every arm.
                if share.is_none_or(|share| number % share.of == share.number - 1) {
                    tasks.push(Task { arm, job });
                }
                number += 1;
            }
        }
    }
    let place = |seed: u32| study.seeds.iter().position(|s| *s == seed);
    tasks.sort_by_key(|task| (place(task.job.seed), task.job.fold, task.arm));
    tasks
}

/// How it ended.
pub struct Worked {
    /// Runs of the study, or of its share.
    pub of: usize,
    /// Those that are recorded.
    pub done: usize,
    /// Of each arm with runs that failed its place, how many did, and why the first.
    pub failed: BTreeMap<usize, (usize, String)>,
    /// The signal that ended it.
    pub signal: Option<Signal>,
}

/// Makes the runs that are not recorded yet, on so many threads.
///
/// # Errors
/// Where a record cannot be written. What a run itself says is listed, and the others go on.
pub fn work(
    study: &Study,
    prepared: &Preparations,
    records: &mut Records,
    share: Option<Share>,
    threads: usize,
) -> Result<Worked> {
    let tasks = tasks(study, share);
    let of = tasks.len();
    let open: Vec<Task> = tasks.into_iter().filter(|task| !records.known.contains_key(&task.job)).collect();
    let (mut done, mut failed) = (of - open.len(), BTreeMap::<usize, (usize, String)>::new());
    if done > 0 {
        tell!("{done} of {of} runs were made before");
    }
    let progress = load::bar(of, "runs");
    progress.set_position(done as u64);
    // The time that is left goes by the runs of this process.
    progress.reset_eta();
    let start = Instant::now();
    let made_before = done;
    let next = Mutex::new(open.into_iter());
    let (tell_of, told) = channel();
    let result = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (tell_of, next) = (tell_of.clone(), &next);
            scope.spawn(move || {
                while signals::asked().is_none()
                    && let Some(task) = next.lock().ok().and_then(|mut next| next.next())
                {
                    let Job { seed, fold, .. } = task.job;
                    let arm = &study.arms[task.arm];
                    let made = run(arm, prepared.of(task.arm), seed, fold, study.folds);
                    // Nobody listens any more once a record could not be written.
                    if tell_of.send((task, made)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(tell_of);
        let mut said = Said { start, made_before, of, last: (10 * made_before / of.max(1), 0) };
        for (Task { arm, job }, made) in told {
            match made {
                Ok(Some(outcome)) => {
                    records.add(job, outcome)?;
                    done += 1;
                    progress.set_position(done as u64);
                    said.progress(done, progress.is_hidden());
                }
                Ok(None) => {}
                Err(e) => {
                    let first = || (0, format!("seed {}, fold {}: {e}", job.seed, job.fold));
                    failed.entry(arm).or_insert_with(first).0 += 1;
                }
            }
        }
        Ok(())
    });
    progress.finish_and_clear();
    result?;
    Ok(Worked { of, done, failed, signal: signals::asked() })
}

/// Where no bar can be seen, a line now and then: for each tenth of the runs, and each minute.
struct Said {
    start: Instant,
    made_before: usize,
    of: usize,
    /// Tenths of all runs, and minutes, that were told of.
    last: (usize, u64),
}

impl Said {
    fn progress(&mut self, done: usize, hidden: bool) {
        let seconds = self.start.elapsed().as_secs_f64();
        let now = (10 * done / self.of, seconds as u64 / 60);
        if hidden && now != self.last && done < self.of {
            self.last = now;
            let left = seconds / (done - self.made_before) as f64 * (self.of - done) as f64;
            tell!("{done} of {} runs, about {left:.0} s left", self.of);
        }
    }
}
