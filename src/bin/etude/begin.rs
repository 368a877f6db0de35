//! Where a run of `etude train` begins: anew, or from a checkpoint.

use crate::args::{Common, DeviceName, TrainArgs};
use crate::run::Run;
use etude::report::files::{CHECKPOINT, OutDir};
use etude::train::State;
use etude::{Error, Result};
use std::path::Path;

/// The run to train, where its fit goes on from, and its directory.
pub fn begin(args: &TrainArgs) -> Result<(Run, Option<State>, Option<OutDir>)> {
    let Common { device, threads, .. } = args.common;
    let Some(dir) = &args.resume else {
        let out = args.out.as_ref().map(OutDir::create).transpose()?;
        let (args, files) = (args.run.clone(), args.files.clone());
        let (folds, history, predictions) = (vec![], vec![], vec![]);
        let run = Run { args, files, device, threads, seconds: 0.0, folds, history, predictions };
        return Ok((run, None, out));
    };
    let path = dir.join(CHECKPOINT);
    if !path.exists() {
        return Err(Error::data(dir, None, no_checkpoint(dir)?));
    }
    let (state, mut run) = State::read::<Run>(&path)?;
    if device != DeviceName::Auto {
        run.device = device;
    }
    if threads != 0 {
        run.threads = threads;
    }
    Ok((run, Some(state), Some(OutDir::create(dir)?)))
}

/// Why a directory without a checkpoint cannot be resumed.
fn no_checkpoint(dir: &Path) -> Result<String> {
    if dir.exists() && !dir.is_dir() {
        return Ok("is a file; --resume needs the directory that was --out".into());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
        names.push(entry.map_err(Error::io(dir, "read"))?.file_name().display().to_string());
    }
    names.sort();
    Ok(match &names[..] {
        [] => "is empty: a run was stopped before its first checkpoint, or none was begun; train anew".into(),
        _ if names.iter().any(|n| n == "metrics.json") => {
            "holds a finished run: nothing is left to resume".into()
        }
        _ => format!("holds no {CHECKPOINT} to go on from, only {}", names.join(", ")),
    })
}
