//! Where a run of `etude train` begins: anew, or from a checkpoint.

use crate::args::{Common, DeviceName, TrainArgs};
use crate::failure::Failure;
use crate::run::Run;
use etude::fs::is_stray;
use etude::names::few;
use etude::report::files::{CHECKPOINT, Earlier, OutDir};
use etude::train::State;
use etude::{Error, Result};
use std::path::Path;

/// Names of files that a message lists at most.
const SHOWN: usize = 8;

/// The run to train, where its fit goes on from, and its directory.
pub fn begin(args: &TrainArgs) -> std::result::Result<(Run, Option<State>, Option<OutDir>), Failure> {
    let Common { device, threads, .. } = args.common;
    let Some(dir) = &args.resume else {
        let out = args.out.as_ref().map(OutDir::open).transpose()?;
        if let Some(out) = out.as_ref().filter(|_| !args.overwrite) {
            must_be_new(out)?;
        }
        let (args, files, folds) = (args.run.clone(), args.files.clone(), vec![]);
        let (predictions, by_criterion, decisions, criteria) = (vec![], vec![], vec![], vec![]);
        let (seconds, epochs, history, graders, as_grader) = (0.0, 0, 0, vec![], vec![]);
        let run = Run {
            args,
            files,
            device,
            threads,
            seconds,
            folds,
            graders,
            as_grader,
            epochs,
            history,
            predictions,
            by_criterion,
            criteria,
            decisions,
        };
        return Ok((run, None, out));
    };
    let path = dir.join(CHECKPOINT);
    if !path.exists() {
        return Err(Error::data(dir, None, no_checkpoint(dir)?).into());
    }
    // Before the checkpoint is read, which another process may be about to replace.
    let out = OutDir::open(dir)?;
    let (state, mut run) = State::read::<Run>(&path)?;
    if device != DeviceName::Auto {
        run.device = device;
    }
    if threads != 0 {
        run.threads = threads;
    }
    Ok((run, Some(state), Some(out)))
}

/// Whether nothing is there that a new run would replace.
fn must_be_new(out: &OutDir) -> std::result::Result<(), Failure> {
    const ANEW: &str = "--overwrite removes what is there and trains anew";
    let dir = out.path();
    let (what, hint) = match out.earlier() {
        Earlier::Nothing => return Ok(()),
        Earlier::Unfinished => (
            "holds a run that was cut short, and its checkpoint".to_string(),
            format!("etude train --resume {} goes on with it; {ANEW}", dir.display()),
        ),
        Earlier::Files(names) => {
            let what = if is_finished(names) { "a finished run" } else { "files of an earlier run" };
            (
                format!("holds {what}: {}", few(names.iter().map(String::as_str), SHOWN)),
                format!("name another directory for --out; {ANEW}"),
            )
        }
    };
    Err(Failure::hint(hint)(Error::data(dir, None, what)))
}

fn is_finished(names: &[String]) -> bool {
    names.iter().any(|name| name == "metrics.json")
}

/// Why a directory without a checkpoint cannot be resumed.
fn no_checkpoint(dir: &Path) -> Result<String> {
    if dir.exists() && !dir.is_dir() {
        return Ok("is a file; --resume needs the directory that was --out".into());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
        let name = entry.map_err(Error::io(dir, "read"))?.file_name();
        let name = name.to_string_lossy();
        if !is_stray(name.as_ref().as_ref()) && !name.starts_with(".etude-") {
            names.push(name.escape_debug().to_string());
        }
    }
    names.sort();
    Ok(match &names[..] {
        [] => {
            // It may be another process that has not come so far yet.
            OutDir::open(dir)?;
            "is empty: a run was stopped before its first checkpoint, or none was begun; train anew".into()
        }
        [history] if history == "history.csv" => {
            "holds no checkpoint: a run was stopped before its first; train anew, with --overwrite".into()
        }
        _ if is_finished(&names) => "holds a finished run: nothing is left to resume".into(),
        _ => format!(
            "holds no {CHECKPOINT} to go on from, only {}",
            few(names.iter().map(String::as_str), SHOWN)
        ),
    })
}
