//! The data of a command.

use crate::args::DataArgs;
use crate::failure::Failure;
use crate::options::load_options;
use crate::out::tell;
use etude::audio::F0Options;
use etude::data::synth::{self, SynthOptions};
use etude::data::{self, InputOptions, Inputs, RatingScale, Recordings};
use etude::names::shown;
use etude::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

/// A progress bar on standard error; silent where that is no terminal.
pub fn bar(length: usize, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:<18} {bar:30} {pos}/{len}  {msg}  eta {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style).with_prefix(what.to_string())
}

/// Where runs in the directory `out` keep the f0 of recordings: beside it, so that other runs find it.
pub fn kept_beside(out: &Path) -> PathBuf {
    out.parent().unwrap_or(Path::new("")).join("etude-contours")
}

/// Where the runs that left `model` kept the f0 of recordings, if they did.
pub fn kept_for(model: &Path) -> Option<PathBuf> {
    let run = std::path::absolute(model.parent()?).ok()?;
    Some(kept_beside(&run)).filter(|directory| directory.is_dir())
}

/// The recordings at `data`, their contours of frames `hop` seconds apart, or the synthetic set of a seed; says what was read and
/// dropped. The f0 of recordings is kept in `keep`.
pub fn recordings(
    data: Option<&Path>,
    files: &DataArgs,
    keep: Option<PathBuf>,
    hop: f64,
    seed: u64,
) -> Result<Recordings, Failure> {
    let options = load_options(files, hop, keep);
    options.contours.check()?;
    let Some(path) = data else {
        if files.scores.is_some() {
            let error = Error::config("--scores: the synthetic set has references of its own");
            return Err(Failure::hint("--data names recordings to compare with scores")(error));
        }
        return Ok(synth::generate(&SynthOptions { seed, ..SynthOptions::default() })?);
    };
    let progress = bar(0, "reading");
    let recordings = data::load_with_progress(path, &options, &|done, of| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    });
    progress.finish_and_clear();
    let recordings = recordings.map_err(with_option)?;
    note(&recordings.notes);
    Ok(recordings)
}

/// An error of data that an option can tell how to read, with that option.
fn with_option(error: Error) -> Failure {
    let hints = [
        (RatingScale::OUTSIDE, "--rating-scale 1..4 reads ratings from 1 to 4"),
        (F0Options::ROW_HOP_ASKED, "--f0-hop 0.01 reads rows that are 10 ms apart"),
    ];
    let Error::Data { message, .. } = &error else { return error.into() };
    match hints.into_iter().find(|(said, _)| message.contains(said)) {
        Some((_, hint)) => Failure::hint(hint)(error),
        None => error.into(),
    }
}

/// What was found out or dropped, with names of files in it.
fn note(notes: &[String]) {
    for note in notes {
        tell!("note: {}", shown(note, 1000));
    }
}

/// What the network sees of them.
pub fn inputs(recordings: &Recordings, options: &InputOptions) -> Result<Inputs> {
    let progress = bar(recordings.takes.len(), "aligning");
    let inputs = Inputs::build(recordings, options, &|done, of| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    });
    progress.finish_and_clear();
    let inputs = inputs?;
    note(&inputs.notes);
    Ok(inputs)
}
