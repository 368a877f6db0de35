//! `etude compare`: finished runs side by side.

use crate::args::CompareArgs;
use crate::claim::claim;
use crate::compared::{self, cells, grid, head, minus};
use crate::failure::Failure;
use crate::out::{note, print, say, tell};
use crate::signals;
use etude::names::shown;
use etude::report::beside::{Beside, FoldDifference};
use etude::report::files::{COMPARISON, PAGE};
use etude::report::finished::FinishedRun;
use etude::report::measure::Measure;
use etude::report::page::compared_page;
use etude::{Error, Result};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Draws of the bootstrap.
const DRAWS: usize = 2000;

/// What helps where there is no run.
const HINT: &str =
    "RUN is what `etude train --out` left; `etude train --resume` goes on with what was cut short";

/// Characters of a run's name that a table shows at most.
const NAME: usize = 40;

pub fn compare(args: &CompareArgs) -> Result<(), Failure> {
    signals::watch()?;
    let names = names(&args.runs)?;
    let out = args.out.as_deref().map(|out| claim(out, args.overwrite, &[COMPARISON, PAGE])).transpose()?;
    let (paths, by) = (args.runs.clone(), args.by);
    let work = move || -> Result<_, Failure> {
        let read = |path: &PathBuf| FinishedRun::read(path).map_err(Failure::hint(HINT));
        let runs = paths.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
        let beside = Beside::new(&runs, by, DRAWS)?;
        Ok((runs, beside))
    };
    let (runs, beside) = signals::until_asked(work)
        .map_err(|signal| Failure::Stopped { signal, left: "nothing was written".into() })??;
    for (run, name) in runs.iter().zip(&names).filter(|(run, _)| run.tested.len() > beside.takes) {
        tell!("note: {name} tested {} takes, {} of which every run tested", run.tested.len(), beside.takes);
    }
    if let Some(out) = out {
        out.write(COMPARISON, &csv(&names, &beside, &out.path().join(COMPARISON))?)?;
        out.write(PAGE, compared_page(&names, &runs, &beside)?.as_bytes())?;
        tell!("wrote {}", shown(&out.path().join(PAGE).display().to_string(), 1000));
        out.finish();
    }
    let text = text(&names, &beside);
    if args.json {
        note(&text);
        let line = Line { names: &names, beside: &beside };
        let line =
            serde_json::to_string(&line).map_err(|e| Error::config(format!("cannot print JSON: {e}")))?;
        say!("{line}");
    } else {
        print(&text);
    }
    Ok(())
}

/// What --json prints.
#[derive(Serialize)]
struct Line<'a> {
    /// Of the runs, in the order of every list.
    names: &'a [String],
    #[serde(flatten)]
    beside: &'a Beside,
}

/// A name of its own for each run: the last part of its path, or all of it where that is not enough.
fn names(paths: &[PathBuf]) -> Result<Vec<String>> {
    let whole = |path: &PathBuf| shown(&path.to_string_lossy(), usize::MAX).into_owned();
    let last = |path: &PathBuf| {
        path.file_name().map_or_else(|| whole(path), |name| shown(&name.to_string_lossy(), NAME).into_owned())
    };
    let distinct = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    let [short, long] = [paths.iter().map(last).collect(), paths.iter().map(whole).collect::<Vec<_>>()];
    if distinct(&short) {
        return Ok(short);
    }
    if distinct(&long) {
        return Ok(long);
    }
    Err(Error::config("a run is named twice: name each directory once"))
}

/// For a terminal.
fn text(names: &[String], beside: &Beside) -> String {
    let measures = compared::measures(beside.runs.iter());
    let mut rows = vec![head("run", &measures)];
    rows.extend(names.iter().zip(&beside.runs).map(|(name, run)| cells(name, run, &measures)));
    let groups = beside.by.count(beside.groups);
    let mut text = format!("{} takes that every run tested, {groups}\n\n{}\n", beside.takes, grid(&rows));
    let folds = folds(names, beside);
    if folds.len() > 2 {
        let _ = write!(text, "R² fold by fold\n\n{}\n", grid(&folds));
    }
    text + &legend(beside)
}

/// The R² of each fold, and what it differs from the first run's.
fn folds(names: &[String], beside: &Beside) -> Vec<Vec<String>> {
    let numbers = beside.folds.iter().flatten().next().map_or(0, |folds| folds.of(Measure::R2).len());
    let mut head = vec!["run".to_string()];
    head.extend((1..=numbers).map(|fold| format!("fold {fold}")));
    head.extend(["difference".into(), "better in".into()]);
    let row = |(name, folds): (&String, &Option<etude::report::beside::Folds>)| {
        let folds = folds.as_ref()?;
        let of_fold = |value: Option<f64>| value.map_or("–".into(), |v| minus(format!("{v:.4}")));
        let difference = folds.difference(Measure::R2).map_or([String::new(), String::new()], |d| {
            let FoldDifference { mean, sd, better } = d;
            let sd = sd.map_or(String::new(), |sd| format!(" ± {sd:.4}"));
            [minus(format!("{mean:+.4}{sd}")), format!("{better} of {numbers}")]
        });
        let values = folds.of(Measure::R2).into_iter().map(of_fold);
        Some(std::iter::once(name.clone()).chain(values).chain(difference).collect())
    };
    std::iter::once(head).chain(names.iter().zip(&beside.folds).filter_map(row)).collect()
}

fn legend(beside: &Beside) -> String {
    let (draws, by) = (beside.draws, beside.by.plural());
    format!(
        "Measures are of all tested takes together, those of all folds. Difference: to the first run, with the\n\
         95 % interval of {draws} draws of a paired bootstrap over the {by}. ▲ ▼: better or worse than the first, by\n\
         such an interval without 0. ↓: lower is better. Order in melody: of two takes of one melody, how often\n\
         the better rated is predicted higher. Calibration error: between mean prediction and mean rating, over\n\
         tenths of the takes by prediction. What another seed would change, no interval of one run each says.\n"
    )
}

/// A row for each measure of each run.
fn csv(names: &[String], beside: &Beside, path: &Path) -> Result<Vec<u8>> {
    let written = || -> csv::Result<Vec<u8>> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        let folds = ["fold_difference", "fold_sd", "folds_better", "folds"];
        csv.write_record(["run", "measure", "value", "difference", "low", "high"].iter().chain(&folds))?;
        for (i, (name, run)) in names.iter().zip(&beside.runs).enumerate() {
            for m in compared::measures(beside.runs.iter()) {
                let (value, folds) = (run.of(m), beside.folds[i].as_ref());
                let (d, over) = (value.difference.as_ref(), folds.and_then(|folds| folds.difference(m)));
                let numbers = [value.mean, d.map(|d| d.mean), d.map(|d| d.low), d.map(|d| d.high)];
                let of_folds = [over.map(|d| d.mean), over.and_then(|d| d.sd)];
                let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.6}"));
                let count = |n: Option<usize>| n.map_or(String::new(), |n| n.to_string());
                let counts = [over.map(|d| d.better), over.and(folds).map(|folds| folds.of(m).len())];
                let cells = numbers.into_iter().chain(of_folds).map(number).chain(counts.map(count));
                csv.write_record([name.clone(), m.name().into()].into_iter().chain(cells))?;
            }
        }
        csv.into_inner().map_err(|e| e.into_error().into())
    };
    written().map_err(|e| Error::data(path, None, e.to_string()))
}
