//! The command.

use super::page::Page;
use super::print::Form;
use super::scorer::{CHUNK, Scorer};
use crate::args::ScoreArgs;
use crate::failure::Failure;
use crate::out::{is_lost, tell};
use crate::{device, load, signals};
use etude::data::listing::{self, Listed};
use etude::model;
use etude::{Error, Result};
use std::path::Path;

/// What messages call the model that comes with etude.
const BUILT_IN: &str = "planted.safetensors, built in";

/// What who reads its grades must know.
const ABOUT_BUILT_IN: &str = "It has learned from synthetic takes with planted errors, not from judges: a grade is the share of \
                              notes that are performed without one.";

pub fn score(args: &ScoreArgs) -> Result<(), Failure> {
    let device = device::open(args.device, args.threads)?;
    let name = args.model.as_deref().unwrap_or(Path::new(BUILT_IN));
    let (info, mut net) = match &args.model {
        None => model::load_bytes(name, model::PLANTED, device.as_ref())?,
        Some(path) => model::load(path, device.as_ref())
            .map_err(Failure::hint("--model takes what `etude train --out` left: model.safetensors"))?,
    };
    let about = args.model.is_none().then_some(ABOUT_BUILT_IN);
    let takes = takes(args)?;
    // Before anything is graded.
    let mut page =
        args.out.as_deref().map(|out| Page::open((out, args.overwrite), name, &info, about)).transpose()?;
    let mut scorer = Scorer::new(&info, args)?;
    let no_references = takes.iter().all(|take| take.references.is_empty()) && args.references.is_empty();
    if info.input.needs_reference() && no_references {
        let message = "the model compares a take with references of its melody, and there is none";
        return Err(Failure::hint("--reference FILE names one, or a column of the manifest")(Error::data(
            name, None, message,
        )));
    }
    if !info.input.needs_reference() && !no_references {
        tell!("note: the model hears a take alone: references are not read");
    }
    if args.notes && !info.input.needs_reference() {
        let message = "the model hears a take alone and knows no notes";
        return Err(Failure::hint("leave out --notes, or train with references of the melodies")(
            Error::data(name, None, message),
        ));
    }
    if let Some(about) = about {
        tell!("note: {BUILT_IN}: {about} --model takes another.");
    }
    let form = match (args.json, args.csv, args.notes) {
        (true, _, _) => Form::Json,
        (_, true, false) => Form::Csv,
        (_, true, true) => Form::CsvOfNotes,
        _ => Form::Text,
    };
    form.heading(&info.criteria)?;
    let progress = load::bar(takes.len(), "grading");
    let mut bad = 0;
    for chunk in takes.chunks(CHUNK) {
        let (scores, back) = scorer.grade(device.as_ref(), net, chunk)?;
        net = back;
        if let Some(signal) = signals::asked() {
            return Err(Failure::Stopped { signal, left: "no page is written".into() });
        }
        bad += scores.iter().filter(|graded| graded.scored.error.is_some()).count();
        progress.suspend(|| {
            scores.iter().try_for_each(|graded| form.show(&graded.scored, info.criteria.len()))
        })?;
        if let Some(page) = &mut page {
            page.add(chunk, &scores)?;
        }
        progress.inc(chunk.len() as u64);
        if is_lost() && page.is_none() {
            // Nobody reads what is left to say.
            break;
        }
    }
    progress.finish_and_clear();
    if let Some(page) = page {
        page.write()?;
    }
    for note in scorer.reader.lines() {
        tell!("note: {note}");
    }
    match bad {
        0 => Ok(()),
        _ => Err(Error::config(format!("{bad} of {} takes could not be graded", takes.len())).into()),
    }
}

/// The takes that were named, and those of manifests that were.
fn takes(args: &ScoreArgs) -> Result<Vec<Listed>> {
    let mut takes = Vec::new();
    for path in &args.takes {
        let inside = path.join("manifest.csv");
        if path.is_dir() {
            if !inside.is_file() {
                return Err(Error::data(
                    path,
                    None,
                    "is a folder without manifest.csv: name f0 files or a manifest",
                ));
            }
            takes.extend(listing::list(&inside)?);
        } else if listing::is_manifest(path) {
            takes.extend(listing::list(path)?);
        } else {
            let id = path.display().to_string();
            takes.push(Listed { id, path: path.clone(), references: Vec::new() });
        }
    }
    Ok(takes)
}
