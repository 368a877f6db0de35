//! What the runs of a study come to.

use super::file::{Study, TableOfArms};
use super::prepared::{Preparations, Prepared};
use super::records::{Job, Outcome, Records};
use crate::load;
use etude::data::SplitBy;
use etude::report::measure::{Takes, Tested, numbers};
use etude::report::paired::{Compared, compare};
use etude::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Draws of the bootstrap.
const DRAWS: usize = 2000;

/// The tables of a study.
#[derive(Serialize)]
pub struct Results {
    pub seeds: usize,
    pub folds: u32,
    pub draws: usize,
    pub tables: Vec<TableOfResults>,
}

/// Arms, each beside the first.
#[derive(Serialize)]
pub struct TableOfResults {
    pub title: String,
    /// Takes that every arm was tested on.
    pub takes: usize,
    /// What the bootstrap draws, and how many there are.
    pub by: SplitBy,
    pub groups: usize,
    pub rows: Vec<Row>,
}

/// An arm's.
#[derive(Serialize)]
pub struct Row {
    pub arm: String,
    pub measures: Compared,
}

/// Fills the tables.
///
/// # Errors
/// [`Error::Config`] where a run is missing.
pub fn results(study: &Study, prepared: &Preparations, records: &Records) -> Result<Results> {
    let progress = load::bar(study.tables.len(), "intervals");
    let tables = study.tables.iter().map(|table| {
        let filled = fill(study, table, prepared, records);
        progress.inc(1);
        filled
    });
    let tables = tables.collect::<Result<_>>();
    progress.finish_and_clear();
    let tables = tables?;
    Ok(Results { seeds: study.seeds.len(), folds: study.folds, draws: DRAWS, tables })
}

/// What a network made of a take: its prediction, whether that passes, and what the neighbours say.
type Made = (f32, Option<bool>, f32);

fn fill(
    study: &Study,
    table: &TableOfArms,
    prepared: &Preparations,
    records: &Records,
) -> Result<TableOfResults> {
    let arms = || table.rows.iter().map(|(_, arm)| *arm);
    let made = |arm: usize| study.seeds.iter().map(move |&seed| by_take(study, arm, seed, records));
    let ways: Vec<Vec<BTreeMap<u32, Made>>> = arms().map(|arm| made(arm).collect()).collect::<Result<_>>()?;
    let mut shared: BTreeSet<u32> = ways[0][0].keys().copied().collect();
    ways.iter().flatten().for_each(|way| shared.retain(|take| way.contains_key(take)));
    let first = table.rows[0].1;
    let by = study.arms[first].args.run.split_by;
    let takes = takes(prepared.of(first), by, &shared)?;
    let tested: Vec<Vec<Tested>> =
        ways.iter().map(|way| way.iter().map(|made| tested(made, &shared)).collect()).collect();
    let compared = compare(&takes, &tested, DRAWS)?;
    let groups = takes.groups.iter().collect::<BTreeSet<_>>().len();
    let rows = table.rows.iter().zip(compared).map(|((arm, _), measures)| Row { arm: arm.clone(), measures });
    Ok(TableOfResults { title: table.title.clone(), takes: shared.len(), by, groups, rows: rows.collect() })
}

/// What an arm's networks of one seed made of the takes that each was tested on.
fn by_take(study: &Study, arm: usize, seed: u32, records: &Records) -> Result<BTreeMap<u32, Made>> {
    let mut made = BTreeMap::new();
    for fold in 1..=study.folds {
        let job = Job { arm: study.arms[arm].id.clone(), seed, fold };
        let Some(Outcome { takes, predictions, passed, neighbours, .. }) = records.known.get(&job) else {
            return Err(Error::config(format!("seed {seed}, fold {fold} is missing of an arm")));
        };
        let passed = |i: usize| passed.as_ref().map(|passed| passed[i]);
        made.extend(
            takes.iter().enumerate().map(|(i, take)| (*take, (predictions[i], passed(i), neighbours[i]))),
        );
    }
    Ok(made)
}

/// The same as lists of these takes.
fn tested(made: &BTreeMap<u32, Made>, shared: &BTreeSet<u32>) -> Tested {
    let of = || shared.iter().filter_map(|take| made.get(take));
    Tested {
        predictions: of().map(|made| made.0).collect(),
        passed: of().map(|made| made.1).collect(),
        neighbours: of().map(|made| made.2).collect(),
    }
}

/// What was said of these takes.
fn takes(prepared: &Prepared, by: SplitBy, shared: &BTreeSet<u32>) -> Result<Takes> {
    let groups = prepared.inputs.groups(by)?.names;
    let of = || (0..prepared.takes.len()).filter(|&e| shared.contains(&prepared.takes[e]));
    let example = |e: usize| &prepared.inputs.examples[e];
    Ok(Takes {
        ratings: of().map(|e| example(e).rating).collect(),
        pass: of().map(|e| example(e).pass).collect(),
        melodies: numbers(of().map(|e| example(e).melody.as_deref())),
        groups: numbers(of().map(|e| Some(groups[e]))).into_iter().flatten().collect(),
    })
}
