//! The command.

use super::arm::usual;
use super::file::Study;
use super::prepared::{Preparations, check};
use super::records::{Header, Records};
use super::results::results;
use super::table;
use super::work::{Worked, work};
use crate::args::StudyArgs;
use crate::failure::Failure;
use crate::out::{note, print, say, tell};
use crate::signals;
use crate::{device, load};
use etude::Error;
use etude::audio::HOP;
use etude::names::shown;

/// Of the files that records are written to.
const FORMAT: u32 = 1;

pub fn study(args: &StudyArgs) -> Result<(), Failure> {
    signals::watch()?;
    let study = Study::read(&args.file)?;
    let threads = device::pool(args.threads)?;
    let (data, files, keep) = (args.data.clone(), args.files.clone(), load::kept_beside(&args.out));
    let left = "nothing was trained yet";
    let recordings =
        until_asked(left, move || load::recordings(data.as_deref(), &files, Some(keep), HOP, 0))?;
    check(&study, &recordings)?;
    let header = Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        data: format!("{:016x}", recordings.digest()),
        folds: study.folds,
        usual: usual()?,
    };
    let mut records = Records::open(&args.out, args.shard, &header, recordings.takes.len())?;
    let takes = recordings.takes.len();
    let (study, prepared) =
        until_asked(left, move || Preparations::new(&study, &recordings).map(|made| (study, made)))?;
    let (arms, seeds, folds) = (study.arms.len(), study.seeds.len(), study.folds);
    tell!("{arms} arms, {seeds} seeds, {folds} folds; {takes} takes; {threads} runs at once");
    let worked = work(&study, &prepared, &mut records, args.shard, threads)?;
    finished(args, &study, &worked)?;
    if let Some(share) = args.shard {
        tell!(
            "share {share} is done, {} runs in {}. When all shares lie in one folder, the same command without --shard makes the \
             tables",
            worked.of,
            records.path().display()
        );
        return Ok(());
    }
    let left = "every run is recorded; the same command makes the tables";
    let results = until_asked(left, move || Ok(results(&study, &prepared, &records)?))?;
    table::write(&args.out, &results)?;
    if args.json {
        note(&table::text(&results));
        let line =
            serde_json::to_string(&results).map_err(|e| Error::config(format!("cannot print JSON: {e}")))?;
        say!("{line}");
    } else {
        print(&table::text(&results));
    }
    tell!("wrote {}", args.out.join(table::PAGE).display());
    Ok(())
}

/// What `work` gives, unless a signal comes before; `left` is what there is then.
fn until_asked<T: Send + 'static>(
    left: &str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    signals::until_asked(work).map_err(|signal| Failure::Stopped { signal, left: left.into() })?
}

/// An error where runs are missing.
fn finished(args: &StudyArgs, study: &Study, worked: &Worked) -> Result<(), Failure> {
    let Worked { of, done, failed, signal } = worked;
    if let Some(signal) = signal {
        let left = format!("{done} of {of} runs are in {}; the same command goes on", args.out.display());
        return Err(Failure::Stopped { signal: *signal, left });
    }
    if failed.is_empty() {
        return Ok(());
    }
    for (arm, (runs, first)) in failed {
        tell!("failed: {}: {runs} runs, the first {first}", shown(&study.arms[*arm].name, 200));
    }
    let message = format!("{} of {of} runs failed", failed.values().map(|arm| arm.0).sum::<usize>());
    let hint = "the others are recorded; mend or remove these arms, and the same command goes on";
    Err(Failure::hint(hint)(Error::config(message)))
}
