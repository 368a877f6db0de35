//! The options of a run as the library takes them.

use crate::args::{DataArgs, F0Args, RunArgs};
use etude::audio::{F0Options, SourceOptions};
use etude::data::split::check_fractions;
use etude::data::{InputKind, InputOptions, LoadOptions, Scores};
use etude::net::NetConfig;
use etude::train::{Contrast, Rule, TrainOptions};
use etude::{Error, Result};
use std::path::PathBuf;

/// Checks every number, before anything is read: what takes minutes to load should not fail on a typing error.
pub fn check(args: &RunArgs) -> Result<()> {
    // No default of a number that is checked depends on the kind.
    let kind = args.input.unwrap_or(InputKind::AlignmentPath);
    train_options(args, kind, 1).check()?;
    let test_fraction = if args.folds.is_some() { 0.0 } else { args.test_fraction };
    check_fractions(args.val_fraction.unwrap_or(0.0), test_fraction)?;
    if args.references == 0 && args.input.is_none_or(InputKind::needs_reference) {
        return Err(Error::config("--references 0: at least 1, or --input contour, which takes none"));
    }
    if args.degraded > 0.0 && args.input == Some(InputKind::Contour) {
        return Err(Error::config(
            "--degraded: such takes are made of references, which input contour has not",
        ));
    }
    if args.degraded > 0.0 && args.criterion.len() > 1 {
        return Err(Error::config("--degraded: such takes have one rating; learn one --criterion from them"));
    }
    if args.net.is_some() && args.input == Some(InputKind::Notes) {
        return Err(Error::config("--net: input notes has a note head alone, and no network of a path"));
    }
    Ok(())
}

/// How to read the files of a data set, into contours of frames `hop` seconds apart; the f0 of recordings stays in `keep`.
pub fn load_options(args: &DataArgs, hop: f64, keep: Option<PathBuf>) -> LoadOptions {
    let scores = args.scores.clone().map(|directory| Scores { directory, alone: args.score_only });
    LoadOptions { contours: source_options(&args.f0, hop), keep, scores, rating_scale: args.rating_scale }
}

/// How to read files of any kind, into contours of frames `hop` seconds apart.
pub fn source_options(args: &F0Args, hop: f64) -> SourceOptions {
    let f0 = F0Options { hop, row_hop: args.f0_hop, min_confidence: args.min_confidence, unit: args.f0_unit };
    SourceOptions { f0, range: args.voice.range() }
}

/// How to make inputs.
pub fn input_options(args: &RunArgs) -> InputOptions {
    InputOptions {
        kind: args.input,
        criteria: args.criterion.clone(),
        scale: args.scale,
        max_references: args.references,
        degraded: args.degraded > 0.0,
        ..InputOptions::default()
    }
}

/// The share of the takes to validate on, for inputs of this kind.
pub fn val_fraction(args: &RunArgs, kind: InputKind) -> f64 {
    args.val_fraction.unwrap_or(args.optimizer.unwrap_or(Rule::of(kind)).val_fraction())
}

/// How to train on so many takes: with as many epochs as they need, where none are given.
pub fn options_for(takes: usize, options: &TrainOptions, args: &RunArgs) -> TrainOptions {
    if args.epochs.is_some() {
        return options.clone();
    }
    let TrainOptions { encoder_epochs, .. } = *options;
    let more = options.clone().for_takes(takes);
    if args.encoder_epochs.is_some() { TrainOptions { encoder_epochs, ..more } } else { more }
}

/// How to train on inputs of this kind, rated by so many criteria.
pub fn train_options(args: &RunArgs, kind: InputKind, criteria: usize) -> TrainOptions {
    let mut o = TrainOptions::for_inputs(kind, args.scale.semitone()).for_criteria(criteria);
    o.protocol = args.protocol.unwrap_or(o.protocol);
    if let Some(epochs) = args.epochs {
        o.epochs = epochs as usize;
        o.encoder_epochs = TrainOptions::encoder_epochs(o.epochs);
    }
    if let Some(epochs) = args.encoder_epochs {
        o.encoder_epochs = epochs as usize;
    }
    if let Some(net) = args.net {
        let NetConfig { notes, criteria, .. } = o.net;
        o.net = NetConfig { notes, criteria, ..net.config(o.net.channels, o.net.frames) };
    }
    let rule = args.optimizer.unwrap_or(Rule::of(kind));
    o.method = rule.method(args.weight_decay);
    o.schedule = rule.schedule(args.lr);
    o.patience = args.patience;
    o.batch = args.batch as usize;
    o.contrast.margin = args.margin.unwrap_or(Contrast::margin(kind, args.metric));
    o.contrast.weight = args.lambda;
    o.contrast.metric = args.metric;
    o.contrast.bins = args.tau.is_none().then_some(args.bins);
    o.contrast.tau = args.tau.unwrap_or(0.0);
    o.contrast.pairs = args.pairs;
    o.freeze_encoder = !args.no_freeze;
    o.degraded = args.degraded;
    o.seed = args.seed;
    o.checked = std::env::var_os("ETUDE_DEBUG").is_some_and(|v| v != "0");
    o
}
