//! One network of a study.

use super::arm::Arm;
use super::prepared::Prepared;
use super::records::Outcome;
use crate::grades::Grades;
use crate::options::{options_for, train_options, val_fraction};
use crate::signals;
use etude::Result;
use etude::data::k_folds;
use etude::device::Cpu;
use etude::report::neighbours::neighbours;
use etude::train::{Epoch, Hooks, Snapshot, fit};
use std::ops::ControlFlow;
use std::time::Instant;

/// Takes whose ratings tell of one that lies among them in the embedding.
pub const NEIGHBOURS: usize = 10;

/// Trains an arm's network on one thread, as `etude train --folds` does, and tests it; nothing, if a signal ended that.
pub fn run(arm: &Arm, prepared: &Prepared, seed: u32, fold: u32, folds: u32) -> Result<Option<Outcome>> {
    let start = Instant::now();
    let device = Cpu::<f32>::new(1)?;
    let mut args = arm.args.run.clone();
    args.seed = seed.into();
    let told = &prepared.inputs;
    let by_one_pass = if arm.args.one_pass { Some(told.by_one_pass(args.seed)?) } else { None };
    let inputs = by_one_pass.as_ref().unwrap_or(told);
    let groups = inputs.groups(args.split_by)?;
    let mut splits = k_folds(&groups, folds as usize, val_fraction(&args, inputs.kind), args.seed)?;
    let mut split = splits.swap_remove(fold as usize - 1);
    if let Some(labels) = arm.args.labels {
        split = split.with_few(labels as usize, args.seed);
    }
    let mut watch = |_: &Epoch, _: &mut Snapshot<'_>| match signals::asked() {
        Some(_) => Ok(ControlFlow::Break(())),
        None => Ok(ControlFlow::Continue(())),
    };
    let hooks = Hooks { progress: Some(&mut watch), ..Hooks::default() };
    let options =
        options_for(split.train.len(), &train_options(&args, told.kind, told.criteria.len()), &args);
    let mut fitted = fit(&device, inputs, &split, &options, hooks)?;
    if fitted.stopped {
        return Ok(None);
    }
    let known: Vec<usize> = split.train.iter().chain(&split.val).copied().collect();
    let known = Grades::new(inputs, &known, &fitted.predict(&device, &known)?);
    let tested = Grades::new(inputs, &split.test, &fitted.predict(&device, &split.test)?);
    let passed = known
        .threshold()
        .filter(|_| tested.pass.is_some())
        .map(|threshold| tested.predictions.iter().map(|p| *p >= threshold).collect());
    let width = fitted.net.config.embedding();
    Ok(Some(Outcome {
        takes: split.test.iter().map(|&e| prepared.takes[e]).collect(),
        neighbours: neighbours(
            &known.embedding,
            &known.ratings,
            &tested.embedding,
            width,
            NEIGHBOURS,
            args.metric.into(),
        )?,
        predictions: tested.predictions,
        passed,
        seconds: start.elapsed().as_secs_f64(),
    }))
}
