//! `etude train`: a network for each fold, and what they are worth.

use crate::args::{DataArgs, RunArgs, TrainArgs};
use crate::begin::begin;
use crate::checkpoints::Checkpoints;
use crate::failure::Failure;
use crate::fold::{Fold, Trained};
use crate::grades::note_labels;
use crate::options::{check, input_options, train_options, val_fraction};
use crate::out::tell;
use crate::run::{Clock, Run};
use crate::session::Session;
use crate::signals::{self, Signal};
use crate::tensorboard::Board;
use crate::{device, load, outcome, print};
use etude::Error;
use etude::audio::HOP;
use etude::data::split::k_folds;
use etude::data::{InputKind, Inputs, Recordings, SplitIndices};
use etude::names::shown;
use etude::report::files::{CHECKPOINT, OutDir};
use etude::train::State;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

pub fn train(args: &TrainArgs) -> Result<(), Failure> {
    let start = Instant::now();
    signals::watch()?;
    if args.resume.is_none() {
        check(&args.run)?;
    }
    let (mut run, state, out) = begin(args)?;
    let board = Board::begin(args, &run, out.as_ref())?;
    let (json, args, clock) = (args.common.json, run.args.clone(), Clock { start, before: run.seconds });
    let device = device::open(run.device, run.threads)?;
    let inputs = {
        let (args, files) = (args.clone(), run.files.clone());
        let keep = out.as_ref().map(|out| load::kept_beside(out.path()));
        signals::until_asked(move || inputs(&args, &files, keep))
            .map_err(|signal| Failure::Stopped { signal, left: "nothing was trained yet".into() })??
    };
    let options = train_options(&args, inputs.kind, inputs.criteria.len());
    if let Some(state) = &state {
        state.check(&inputs)?;
    }
    let splits = splits(&args, &inputs)?;
    let (inputs, args, options, out_dir) = (&inputs, &args, &options, out.as_ref());
    let session =
        Session { device: device.as_ref(), inputs, args, options, out: out_dir, board: board.as_ref() };
    announce(&session, &run, &splits, state.as_ref());
    if state.is_none() {
        // From here on what an earlier run left is no more: it could be taken for this one's.
        session.out.map_or(Ok(()), OutDir::clear)?;
        session.board.map_or(Ok(()), Board::clear)?;
    }
    let last = match train_folds(&session, &splits, &mut run, state, clock)? {
        Ok(last) => last,
        Err(signal) => return Err(Failure::Stopped { signal, left: left(session.out) }),
    };
    let report = outcome::report(&session, &run, &last, clock.seconds());
    if let Some(out) = session.out {
        outcome::write(out, &session, &run, &last, &report)?;
    }
    out.into_iter().for_each(OutDir::finish);
    let never_heard = args.split_by.plural();
    let over = args.folds.map_or(String::new(), |k| format!(", mean and deviation over {k} folds"));
    let heading = match report.test.n {
        0 => "Nothing was held out to test on".to_string(),
        _ => format!("Test on {never_heard} never heard{over}"),
    };
    Ok(print::report(&report, &format!("{heading} ({:.1} s)", report.seconds), json)?)
}

/// Where so many takes or fewer are learned from, degraded ones beside them helped (docs/study.md).
const FEW: usize = 50;

/// What is trained on.
fn inputs(args: &RunArgs, files: &DataArgs, keep: Option<PathBuf>) -> Result<Inputs, Failure> {
    let recordings = load::recordings(args.data.as_deref(), files, keep, HOP, args.seed)?;
    check_split(args, &recordings)?;
    let inputs = load::inputs(&recordings, &input_options(args))?;
    if args.calibrate && inputs.graders.as_ref().is_none_or(|graders| graders.scale.levels().is_none()) {
        let message = "the data does not say what each grader gave on a scale of whole steps, such as 1..4";
        return Err(Failure::hint("--calibrate needs that; without it ratings are learned all the same")(
            Error::config(message),
        ));
    }
    Ok(inputs)
}

/// Checks that the takes can be split as asked, before they are aligned.
fn check_split(args: &RunArgs, recordings: &Recordings) -> Result<(), Failure> {
    let (options, folds) = (input_options(args), args.folds.map(|k| k as usize));
    let check = |val| {
        let fractions = (val, args.test_fraction);
        Inputs::check_split(recordings, &options, args.split_by, folds, fractions, args.seed)
    };
    let kind = args.input.unwrap_or_else(|| InputKind::default_for(recordings));
    check(val_fraction(args, kind)).map_err(|error| match check(0.0) {
        Ok(()) => Failure::hint("--val-fraction 0 trains without validation")(error),
        Err(_) => error.into(),
    })
}

/// What a run that was stopped leaves.
fn left(out: Option<&OutDir>) -> String {
    match out.map(OutDir::path) {
        Some(dir) if dir.join(CHECKPOINT).exists() => {
            format!("`etude train --resume {}` goes on from here", dir.display())
        }
        Some(dir) => format!("{} holds no checkpoint to go on from", dir.display()),
        None => "without --out nothing is kept to go on from".into(),
    }
}

/// One split, or one a fold.
fn splits(args: &RunArgs, inputs: &Inputs) -> etude::Result<Vec<SplitIndices>> {
    let val_fraction = val_fraction(args, inputs.kind);
    match args.folds {
        Some(k) => k_folds(&inputs.groups(args.split_by)?, k as usize, val_fraction, args.seed),
        None => Ok(vec![inputs.holdout(args.split_by, val_fraction, args.test_fraction, args.seed)?]),
    }
}

/// Says what is about to be trained, and on what.
fn announce(session: &Session<'_>, run: &Run, splits: &[SplitIndices], state: Option<&State>) {
    let inputs = session.inputs;
    let sizes = [(inputs.channels, "channels"), (inputs.kind.features(), "features")];
    let sizes: Vec<String> =
        sizes.iter().filter(|s| s.0 > 0).map(|(n, what)| format!("{n} {what}")).collect();
    tell!(
        "{} takes by {} performers, {} ({}), rated by {}; {} on {}",
        inputs.examples.len(),
        inputs.examples.iter().map(|example| &example.performer).collect::<BTreeSet<_>>().len(),
        inputs.kind,
        sizes.join(", "),
        shown(&inputs.criterion(), 80),
        session.options.protocol.name(),
        session.device.name(),
    );
    note_labels(inputs, &(0..inputs.examples.len()).collect::<Vec<_>>());
    let learned = splits.iter().map(|split| split.train.len()).min().unwrap_or(0);
    if session.args.degraded > 0.0 {
        tell!(
            "{} reference takes with planted errors, {} for each training take",
            inputs.degraded.len(),
            session.args.degraded
        );
    } else if learned <= FEW && inputs.kind.needs_reference() {
        tell!(
            "note: {learned} takes to learn from are few: --degraded 1 adds reference takes with planted errors to them"
        );
    }
    if let Some(state) = state {
        let folds = session.args.folds;
        let fold = folds.map_or(String::new(), |k| format!(" of fold {} of {k}", run.folds.len() + 1));
        tell!("going on after epoch {}{fold}", state.epochs());
    }
}

/// Trains the folds that are left, the first from `state`; gives the last, or the signal that ended it.
fn train_folds(
    session: &Session<'_>,
    splits: &[SplitIndices],
    run: &mut Run,
    mut state: Option<State>,
    clock: Clock,
) -> etude::Result<Result<Trained, Signal>> {
    let mut checkpoints = match session.out {
        Some(out) => Some(Checkpoints::of(run, out, clock)?),
        None => None,
    };
    let mut last = None;
    for (i, split) in splits.iter().enumerate().skip(run.folds.len()) {
        let number = session.args.folds.map(|k| (i + 1, k as usize));
        let fold = Fold { number, split, last: i + 1 == splits.len() };
        last = fold.train(session, run, checkpoints.as_mut(), state.take())?;
        if let (None, Some(signal)) = (&last, signals::asked()) {
            return Ok(Err(signal));
        }
    }
    if let Some(checkpoints) = checkpoints {
        checkpoints.finish()?;
    }
    last.map(Ok).ok_or_else(|| Error::config("the checkpoint is of a run that has no fold left to train"))
}
