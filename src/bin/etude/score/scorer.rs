//! A model's way to hear takes.

use super::scored::{Graded, Notes, Scored, Told};
use crate::args::ScoreArgs;
use crate::load;
use crate::options::source_options;
use crate::signals;
use etude::Result;
use etude::audio::Contour;
use etude::audio::notes::{Heard, Performed};
use etude::data::listing::Listed;
use etude::data::{Comparison, ContourReader, Example, InputOptions, Inputs, NoteCost, Repairs};
use etude::device::Device;
use etude::model::{Criterion, ModelInfo};
use etude::net::PcConvNet;
use etude::report::page::CriterionGrade;
use etude::train::{Fit, Prediction};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Takes that are read, aligned and graded at a time: what bounds the memory.
pub const CHUNK: usize = 64;

/// What was made of a take.
struct Made {
    example: Example,
    /// Where notes are told.
    heard: Option<Heard>,
    /// Where there is a page.
    contour: Option<Contour>,
}

/// A model's way to hear takes.
pub struct Scorer<'a> {
    info: &'a ModelInfo,
    options: InputOptions,
    /// Whether notes are printed, and what each costs.
    notes: bool,
    /// Whether takes are told on a page.
    page: bool,
    /// What all takes are compared with, in place of their own references.
    shared: Option<Comparison>,
    pub reader: ContourReader<'a>,
    /// What takes with these references are compared with, each list of them read once.
    read: BTreeMap<Vec<PathBuf>, Result<Comparison, String>>,
}

impl<'a> Scorer<'a> {
    pub fn new(info: &'a ModelInfo, args: &ScoreArgs) -> Result<Self> {
        let contours = source_options(&args.f0, info.hop);
        contours.check()?;
        let reader = ContourReader::new(
            &contours,
            args.model.as_deref().and_then(load::kept_for).as_deref(),
            &|_, _| {},
        );
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
        Ok(Self {
            info,
            options,
            notes: args.notes,
            page: args.out.is_some(),
            shared,
            reader,
            read: BTreeMap::new(),
        })
    }

    /// Grades some takes, and keeps what a page tells of them; as good as none once it is asked to stop. Gives the network back.
    pub fn grade(
        &mut self,
        device: &dyn Device,
        net: PcConvNet,
        takes: &[Listed],
    ) -> Result<(Vec<Graded>, PcConvNet)> {
        self.compare_with(takes);
        let made: Vec<Result<Made, String>> = takes.par_iter().map(|take| self.make(take)).collect();
        let mut examples = Vec::new();
        let mut kept = |Made { example, heard, contour }| {
            examples.push(example);
            (heard, contour)
        };
        let made: Vec<Result<_, String>> = made.into_iter().map(|made| made.map(&mut kept)).collect();
        let (predictions, mut net) = self.predict(device, net, examples)?;
        let mut predictions = predictions.into_iter();
        let mut scores = Vec::new();
        for (take, made) in takes.iter().zip(made) {
            let graded = made.and_then(|made| match predictions.next() {
                Some(made_of_it) if made_of_it.rating.is_finite() => Ok((made_of_it, made)),
                _ => Err(format!("{}: the model makes no number of it", take.id)),
            });
            let id = take.id.clone();
            let (prediction, (heard, contour)) = match graded {
                Ok(graded) => graded,
                Err(error) => {
                    let scored = Scored { id, error: Some(error), ..Scored::default() };
                    scores.push(Graded { scored, told: None });
                    continue;
                }
            };
            let grade = prediction.rating;
            let (mut performed, mut costs) = (None, Vec::new());
            if let (Some(heard), Ok(comparison)) = (heard, self.comparison_of(take)) {
                (costs, net) = self.costs(device, net, comparison, &heard, grade)?;
                performed = Some(Performed::of(&heard));
            }
            let info = self.info;
            let scored = Scored {
                id,
                grade: Some(grade),
                interval: info.interval.as_ref().map(|interval| interval.at(grade)),
                pass: info.threshold.map(|threshold| grade >= threshold),
                mark: info.calibration.as_ref().and_then(|c| c.grade(grade)),
                error: None,
                criteria: criteria(info, &prediction),
                notes: performed
                    .as_ref()
                    .filter(|_| self.notes)
                    .map(|performed| Notes::of(performed, &costs)),
            };
            scores.push(Graded { scored, told: contour.map(|contour| Told { contour, performed, costs }) });
        }
        Ok((scores, net))
    }

    /// Reads what some takes are compared with, where that is not the same for all.
    fn compare_with(&mut self, takes: &[Listed]) {
        if self.shared.is_some() {
            return;
        }
        let mut lists: Vec<&Vec<PathBuf>> = takes.iter().map(|take| &take.references).collect();
        lists.sort();
        lists.dedup();
        self.read.retain(|list, _| lists.binary_search(&list).is_ok());
        lists.retain(|&list| !list.is_empty() && !self.read.contains_key(list));
        let new: Vec<_> = lists.par_iter().map(|&list| (list.clone(), self.comparison(list))).collect();
        self.read.extend(new);
    }

    /// What each note costs a take of this grade; nothing where the model is shown a contour. Gives the network back.
    fn costs(
        &self,
        device: &dyn Device,
        mut net: PcConvNet,
        comparison: &Comparison,
        heard: &Heard,
        grade: f32,
    ) -> Result<(Vec<NoteCost>, PcConvNet)> {
        let Some(repairs) = Repairs::of(comparison, heard) else { return Ok((Vec::new(), net)) };
        let mut grades = Vec::with_capacity(repairs.len());
        for from in (0..repairs.len()).step_by(CHUNK).take_while(|_| signals::asked().is_none()) {
            let numbers: Vec<usize> = (from..repairs.len().min(from + CHUNK)).collect();
            let examples = numbers.into_par_iter().filter_map(|number| repairs.example(number)).collect();
            let (made, back) = self.predict(device, net, examples)?;
            net = back;
            grades.extend(made.into_iter().map(|made| made.rating));
        }
        Ok((Repairs::costs(grade, &grades), net))
    }

    fn predict(
        &self,
        device: &dyn Device,
        net: PcConvNet,
        examples: Vec<Example>,
    ) -> Result<(Vec<Prediction>, PcConvNet)> {
        if examples.is_empty() {
            return Ok((Vec::new(), net));
        }
        let all: Vec<usize> = (0..examples.len()).collect();
        let (channels, kind, criteria) = (net.config.channels, self.info.input, self.info.criteria());
        let inputs = Inputs {
            channels,
            kind,
            criteria,
            graders: None,
            examples,
            notes: Vec::new(),
            degraded: Vec::new(),
        };
        let mut fitted = Fit::of(device, net, &inputs, self.info.windows())?;
        let predictions = fitted.predict(device, &all)?;
        Ok((predictions, fitted.net))
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

    /// What a take is compared with.
    fn comparison_of(&self, take: &Listed) -> Result<&Comparison, String> {
        match (&self.shared, self.read.get(&take.references)) {
            (Some(shared), _) => Ok(shared),
            (None, Some(read)) => read.as_ref().map_err(String::clone),
            (None, None) => Err(format!("{}: no reference of its melody", take.id)),
        }
    }

    /// What the network is shown of a take.
    fn make(&self, take: &Listed) -> Result<Made, String> {
        if signals::asked().is_some() {
            return Err("asked to stop".into());
        }
        let contour = self.contour(&take.path)?;
        let comparison = self.comparison_of(take)?;
        let heard = comparison.hear(&contour).map_err(|e| format!("{}: {e}", take.id))?;
        let shown = comparison.shown(&contour, heard.as_ref());
        let example = Example { id: take.id.clone(), ..Example::of(shown, comparison.contents(&contour)) };
        let heard = heard.filter(|_| self.notes || self.page);
        Ok(Made { example, heard, contour: self.page.then_some(contour) })
    }
}

/// The grade by each of several criteria.
fn criteria(info: &ModelInfo, prediction: &Prediction) -> Vec<CriterionGrade> {
    let each = info.criteria.iter().zip(&prediction.ratings);
    let of = |(criterion, &grade): (&Criterion, &f32)| CriterionGrade {
        name: criterion.name.clone(),
        grade,
        interval: criterion.interval.as_ref().map(|interval| interval.at(grade)),
    };
    each.map(of).collect()
}
