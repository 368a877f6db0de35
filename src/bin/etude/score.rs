//! `etude score`: grades of takes that nobody has graded.

use crate::args::ScoreArgs;
use crate::failure::Failure;
use crate::options::source_options;
use crate::out::{is_lost, print, say, tell};
use crate::{device, load};
use etude::audio::Contour;
use etude::data::listing::{self, Listed};
use etude::data::{Comparison, ContourReader, Example, InputOptions, Inputs};
use etude::device::Device;
use etude::model::{self, ModelInfo};
use etude::names::shown;
use etude::net::PcConvNet;
use etude::train::Fit;
use etude::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Takes that are read, aligned and graded at a time: what bounds the memory.
const CHUNK: usize = 64;

/// What becomes of a take.
#[derive(Serialize)]
struct Score {
    id: String,
    /// In 0..=1.
    grade: Option<f32>,
    /// Where the model has a threshold.
    pass: Option<bool>,
    /// On the graders' scale, where the model is calibrated to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<f64>,
    error: Option<String>,
}

/// How it is printed.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Json,
    Csv,
}

pub fn score(args: &ScoreArgs) -> Result<(), Failure> {
    let device = device::open(args.device, args.threads)?;
    let (info, mut net) = model::load(&args.model, device.as_ref())
        .map_err(Failure::hint("--model takes what `etude train --out` left: model.safetensors"))?;
    let takes = takes(args)?;
    let mut scorer = Scorer::new(&info, args)?;
    let no_references = takes.iter().all(|take| take.references.is_empty()) && args.references.is_empty();
    if info.input.needs_reference() && no_references {
        let message = "the model compares a take with references of its melody, and there is none";
        return Err(Failure::hint("--reference FILE names one, or a column of the manifest")(Error::data(
            &args.model,
            None,
            message,
        )));
    }
    if !info.input.needs_reference() && !no_references {
        tell!("note: the model hears a take alone: references are not read");
    }
    let form = match (args.json, args.csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Text,
    };
    if let Form::Csv = form {
        say!("id,grade,pass,error{}", if info.calibration.is_some() { ",mark" } else { "" });
    }
    let progress = load::bar(takes.len(), "grading");
    let mut bad = 0;
    for chunk in takes.chunks(CHUNK) {
        let (scores, back) = scorer.grade(device.as_ref(), net, chunk)?;
        net = back;
        bad += scores.iter().filter(|score| score.error.is_some()).count();
        progress
            .suspend(|| scores.iter().try_for_each(|score| show(score, form, info.calibration.is_some())))?;
        progress.inc(chunk.len() as u64);
        if is_lost() {
            // Nobody reads what is left to say.
            break;
        }
    }
    progress.finish_and_clear();
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

/// Prints a line, with a mark on the graders' scale if it is `marked`; what is wrong with a take goes to standard error too.
fn show(score: &Score, form: Form, marked: bool) -> Result<()> {
    let fault = |e: &dyn std::fmt::Display| Error::config(format!("cannot print a grade: {e}"));
    if let Some(error) = &score.error {
        tell!("not graded: {}", shown(error, 1000));
    }
    let mark = score.mark.map(|mark| mark.to_string());
    let verdict = score.pass.map(|pass| if pass { "pass" } else { "fail" });
    let line = match (form, score.grade) {
        (Form::Text, None) => return Ok(()),
        (Form::Text, Some(grade)) => {
            // A line stays one, whatever a file is called.
            let escaped = |c: char| match c.is_control() {
                true => c.escape_default().to_string(),
                false => c.to_string(),
            };
            let id: String = score.id.chars().map(escaped).collect();
            let more = verdict.into_iter().chain(mark.as_deref()).map(|cell| format!("\t{cell}"));
            format!("{id}\t{grade:.4}{}\n", more.collect::<String>())
        }
        (Form::Json, _) => serde_json::to_string(score).map_err(|e| fault(&e))? + "\n",
        (Form::Csv, grade) => {
            let grade = grade.map_or(String::new(), |grade| grade.to_string());
            let mut csv = csv::Writer::from_writer(Vec::new());
            let cells = [&score.id, &grade, verdict.unwrap_or(""), score.error.as_deref().unwrap_or("")];
            let mark = marked.then(|| mark.as_deref().unwrap_or(""));
            csv.write_record(cells.into_iter().chain(mark)).map_err(|e| fault(&e))?;
            String::from_utf8(csv.into_inner().map_err(|e| fault(&e))?).map_err(|e| fault(&e))?
        }
    };
    print(&line);
    Ok(())
}

/// A model's way to hear takes.
struct Scorer<'a> {
    info: &'a ModelInfo,
    options: InputOptions,
    /// What all takes are compared with, in place of their own references.
    shared: Option<Comparison>,
    reader: ContourReader<'a>,
    /// What takes with these references are compared with, each list of them read once.
    read: BTreeMap<Vec<PathBuf>, Result<Comparison, String>>,
}

impl<'a> Scorer<'a> {
    fn new(info: &'a ModelInfo, args: &ScoreArgs) -> Result<Self> {
        let contours = source_options(&args.f0, info.hop);
        contours.check()?;
        let reader = ContourReader::new(&contours, load::kept_for(&args.model).as_deref(), &|_, _| {});
        let mut paths = args.references.clone();
        paths.sort();
        paths.dedup();
        let (kind, max_references) = (Some(info.input), info.max_references);
        let options = InputOptions { kind, scale: info.scale, max_references, ..InputOptions::default() };
        let shared = match info.input.needs_reference() && paths.is_empty() {
            true => None,
            false if !info.input.needs_reference() => Some(Comparison::of(info.input, &[], &options)?),
            false => {
                let read = |path: &PathBuf| reader.read(path);
                let contours: Vec<Contour> = paths.par_iter().map(read).collect::<Result<_>>()?;
                Some(Comparison::of(info.input, &contours.iter().collect::<Vec<_>>(), &options)?)
            }
        };
        Ok(Self { info, options, shared, reader, read: BTreeMap::new() })
    }

    /// Grades some takes; gives the network back.
    fn grade(
        &mut self,
        device: &dyn Device,
        net: PcConvNet,
        takes: &[Listed],
    ) -> Result<(Vec<Score>, PcConvNet)> {
        if self.shared.is_none() {
            let mut lists: Vec<&Vec<PathBuf>> = takes.iter().map(|take| &take.references).collect();
            lists.sort();
            lists.dedup();
            self.read.retain(|list, _| lists.binary_search(&list).is_ok());
            lists.retain(|&list| !list.is_empty() && !self.read.contains_key(list));
            let new: Vec<_> = lists.par_iter().map(|&list| (list.clone(), self.comparison(list))).collect();
            self.read.extend(new);
        }
        let made: Vec<Result<Example, String>> = takes.par_iter().map(|take| self.example(take)).collect();
        let examples: Vec<Example> = made.iter().filter_map(|made| made.as_ref().ok()).cloned().collect();
        let (mut predictions, net) = self.predict(device, net, examples)?;
        let mut scores = Vec::new();
        for (take, made) in takes.iter().zip(made) {
            let grade = made.and_then(|_| match predictions.next() {
                Some(grade) if grade.is_finite() => Ok(grade),
                _ => Err(format!("{}: the model makes no number of it", take.id)),
            });
            let id = take.id.clone();
            scores.push(match grade {
                Err(error) => Score { id, grade: None, pass: None, mark: None, error: Some(error) },
                Ok(grade) => {
                    let pass = self.info.threshold.map(|threshold| grade >= threshold);
                    let mark = self.info.calibration.as_ref().and_then(|c| c.grade(grade));
                    Score { id, grade: Some(grade), pass, mark, error: None }
                }
            });
        }
        Ok((scores, net))
    }

    fn predict(
        &self,
        device: &dyn Device,
        net: PcConvNet,
        examples: Vec<Example>,
    ) -> Result<(std::vec::IntoIter<f32>, PcConvNet)> {
        if examples.is_empty() {
            return Ok((Vec::new().into_iter(), net));
        }
        let all: Vec<usize> = (0..examples.len()).collect();
        let (channels, kind, criterion) = (net.config.channels, self.info.input, self.info.criterion.clone());
        let inputs = Inputs {
            channels,
            kind,
            criterion,
            graders: None,
            examples,
            notes: Vec::new(),
            degraded: Vec::new(),
        };
        let mut fitted = Fit::of(device, net, &inputs, self.info.windows())?;
        let ratings: Vec<f32> = fitted.predict(device, &all)?.into_iter().map(|p| p.rating).collect();
        Ok((ratings.into_iter(), fitted.net))
    }

    fn contour(&self, path: &Path) -> Result<Contour, String> {
        self.reader.read(path).map_err(|e| e.to_string())
    }

    /// What takes with these references are compared with.
    fn comparison(&self, references: &[PathBuf]) -> Result<Comparison, String> {
        let contours: Vec<Contour> =
            references.iter().map(|path| self.contour(path)).collect::<Result<_, _>>()?;
        let contours: Vec<&Contour> = contours.iter().collect();
        Comparison::of(self.info.input, &contours, &self.options).map_err(|e| e.to_string())
    }

    /// What the network is shown of a take; its rating is not looked at.
    fn example(&self, take: &Listed) -> Result<Example, String> {
        let contour = self.contour(&take.path)?;
        let comparison = match (&self.shared, self.read.get(&take.references)) {
            (Some(shared), _) => shared,
            (None, Some(read)) => read.as_ref().map_err(String::clone)?,
            (None, None) => return Err(format!("{}: no reference of its melody", take.id)),
        };
        let shown = Example::ungraded(comparison, &contour).map_err(|e| format!("{}: {e}", take.id))?;
        Ok(Example { id: take.id.clone(), ..shown })
    }
}
