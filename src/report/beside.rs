//! Finished runs beside the first of them, on the takes that all of them tested.

use super::files::PredictionRow;
use super::finished::FinishedRun;
use super::measure::{Measure, Prepared, Takes, Tested, Truth, Values, Weighted, numbers};
use super::paired::{Compared, average, compare, deviation};
use crate::data::SplitBy;
use crate::{Error, Result};
use serde::{Serialize, Serializer};
use std::collections::HashMap;

/// Takes that are listed as those that runs differ in most.
const MOVED: usize = 20;

/// What runs come to, side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beside {
    /// Takes that every run tested.
    pub takes: usize,
    /// What the bootstrap draws: all takes of a performer, or of a melody.
    pub by: SplitBy,
    /// How many there are of these.
    pub groups: usize,
    /// Draws of the bootstrap.
    pub draws: usize,
    /// A run each, on these takes, all folds together: see [`compare`].
    pub runs: Vec<Compared>,
    /// A run each, fold by fold. Nothing of one that has no folds, or whose folds are not the first run's.
    pub folds: Vec<Option<Folds>>,
    /// The takes of which the absolute errors of two runs differ most, in this order.
    pub moved: Vec<Moved>,
}

/// A run, fold by fold.
#[derive(Debug, Clone, PartialEq)]
pub struct Folds {
    /// Of each fold a value of each measure.
    values: Vec<Values>,
    /// To the first run's.
    differences: [Option<FoldDifference>; Measure::ALL.len()],
}

/// What a run differs from the first in a measure, fold by fold.
///
/// That folds share most of their training takes, so that their values are not independent, makes the deviation say too little
/// (Bengio and Grandvalet 2004): how sure a difference is, the bootstrap's interval says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoldDifference {
    /// Over folds.
    pub mean: f64,
    /// The sample deviation (n − 1) over folds; `None` with one.
    pub sd: Option<f64>,
    /// Folds in which the run is better than the first.
    pub better: usize,
}

/// A take that runs differ in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    /// Recording.
    pub id: String,
    /// What it was rated.
    pub rating: f32,
    /// What each run predicted.
    pub predictions: Vec<f32>,
}

impl Folds {
    /// Of each fold, in the order of their numbers, the value of a measure, where it is defined.
    pub fn of(&self, measure: Measure) -> Vec<Option<f64>> {
        self.values.iter().map(|values| values[measure as usize]).collect()
    }

    /// What it differs from the first run in a measure; `None` of the first itself, and where the measure is undefined in a fold.
    pub fn difference(&self, measure: Measure) -> Option<&FoldDifference> {
        self.differences[measure as usize].as_ref()
    }
}

impl Serialize for Folds {
    /// An object with the names of the measures.
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Of<'a> {
            values: Vec<Option<f64>>,
            difference: Option<&'a FoldDifference>,
        }
        let of = |&m: &Measure| (m, Of { values: self.of(m), difference: self.difference(m) });
        to.collect_map(Measure::ALL.iter().map(of))
    }
}

impl Beside {
    /// Puts runs beside the first, by `draws` draws of performers or melodies, see [`compare`].
    ///
    /// Of [`Measure::Neighbours`], which takes embeddings, nothing is known.
    ///
    /// # Errors
    /// [`Error::Config`] of fewer than two runs; [`Error::Data`], with the directory of a run, where it tested none of the takes
    /// that the runs before it tested, where a take was rated otherwise than in the first run, or, for draws of melodies, where
    /// predictions do not name the melody of each take.
    pub fn new(runs: &[FinishedRun], by: SplitBy, draws: usize) -> Result<Self> {
        let [first, others @ ..] = runs else { return Err(few()) };
        if others.is_empty() {
            return Err(few());
        }
        let rows = shared(runs)?;
        for (run, own) in runs.iter().zip(&rows) {
            let rated = own.iter().zip(&rows[0]).find(|(own, first)| own.rating != first.rating);
            if let Some((own, of_first)) = rated {
                let message = format!(
                    "take {:?} is rated {} here and {} in {}: runs are compared that were tested against the same ratings ({} \
                     here, {} there)",
                    own.id,
                    own.rating,
                    of_first.rating,
                    first.path.display(),
                    run.report.criterion,
                    first.report.criterion
                );
                return Err(Error::data(&run.path, None, message));
            }
        }
        let takes = takes(first, &rows[0], by)?;
        let tested: Vec<Tested> = rows.iter().map(|own| tested(own)).collect();
        let groups = takes.groups.iter().max().map_or(0, |most| most + 1);
        let ways: Vec<Vec<Tested>> = tested.iter().map(|tested| vec![tested.clone()]).collect();
        Ok(Self {
            takes: takes.ratings.len(),
            by,
            groups,
            draws,
            runs: compare(&takes, &ways, draws)?,
            folds: folds(&takes, &rows, &tested),
            moved: moved(&rows),
        })
    }
}

fn few() -> Error {
    Error::config("a comparison takes two runs or more")
}

/// Of each run the rows of the takes that all of them tested, in the order of the first.
fn shared(runs: &[FinishedRun]) -> Result<Vec<Vec<&PredictionRow>>> {
    let of: Vec<HashMap<&str, &PredictionRow>> =
        runs.iter().map(|run| run.tested.iter().map(|row| (row.id.as_str(), row)).collect()).collect();
    let mut ids: Vec<&str> = runs[0].tested.iter().map(|row| row.id.as_str()).collect();
    for (run, of) in runs.iter().zip(&of) {
        ids.retain(|id| of.contains_key(id));
        if ids.is_empty() {
            let message = "tested none of the takes that the runs before it tested: runs are compared on the takes that \
                           all tested, those with folds on every take";
            return Err(Error::data(&run.path, None, message));
        }
    }
    Ok(of.iter().map(|of| ids.iter().map(|id| of[id]).collect()).collect())
}

/// What is known of the takes.
fn takes(first: &FinishedRun, rows: &[&PredictionRow], by: SplitBy) -> Result<Takes> {
    let melodies = numbers(rows.iter().map(|row| row.melody.as_deref()));
    let groups = match by {
        SplitBy::Performer => numbers(rows.iter().map(|row| Some(row.performer.as_str()))),
        SplitBy::Melody => melodies.clone(),
    };
    let groups: Option<Vec<usize>> = groups.into_iter().collect();
    let unnamed = "its predictions do not name the melody of each take: draw performers";
    Ok(Takes {
        ratings: rows.iter().map(|row| row.rating).collect(),
        pass: rows.iter().map(|row| row.pass).collect(),
        melodies,
        groups: groups.ok_or_else(|| Error::data(&first.path, None, unnamed))?,
    })
}

/// What a run made of them.
fn tested(rows: &[&PredictionRow]) -> Tested {
    Tested {
        predictions: rows.iter().map(|row| row.prediction).collect(),
        passed: rows.iter().map(|row| row.passed).collect(),
        neighbours: vec![f32::NAN; rows.len()],
    }
}

/// Each run fold by fold, where its folds are the first run's.
fn folds(takes: &Takes, rows: &[Vec<&PredictionRow>], tested: &[Tested]) -> Vec<Option<Folds>> {
    let of_run = |own: &Vec<&PredictionRow>| own.iter().map(|row| row.fold).collect::<Option<Vec<u64>>>();
    let Some(of_first) = of_run(&rows[0]) else { return vec![None; rows.len()] };
    let mut in_order = of_first.clone();
    in_order.sort_unstable();
    in_order.dedup();
    let units = of_first.iter().map(|fold| in_order.partition_point(|known| known < fold)).collect();
    let truth = Truth::new(takes, units);
    let values = |tested: &Tested| {
        let prepared = Prepared::new(&truth, tested);
        let of_fold = |fold: usize| {
            let mut weights = vec![0.0; in_order.len()];
            weights[fold] = 1.0;
            prepared.measures(&Weighted::new(&truth, &weights))
        };
        (0..in_order.len()).map(of_fold).collect::<Vec<Values>>()
    };
    let first = values(&tested[0]);
    let run = |(i, own): (usize, &Vec<&PredictionRow>)| {
        (of_run(own)? == of_first).then(|| {
            let values = values(&tested[i]);
            let differences =
                Measure::ALL.map(|m| if i == 0 { None } else { difference(m, &values, &first) });
            Folds { values, differences }
        })
    };
    rows.iter().enumerate().map(run).collect()
}

fn difference(measure: Measure, own: &[Values], first: &[Values]) -> Option<FoldDifference> {
    let place = measure as usize;
    let each: Option<Vec<f64>> =
        own.iter().zip(first).map(|(own, first)| Some(own[place]? - first[place]?)).collect();
    let each = each.filter(|each| !each.is_empty())?;
    let better =
        each.iter().filter(|d| if measure.lower_is_better() { **d < 0.0 } else { **d > 0.0 }).count();
    Some(FoldDifference { mean: average(&each), sd: deviation(&each), better })
}

/// The takes of which two runs' absolute errors differ most.
fn moved(rows: &[Vec<&PredictionRow>]) -> Vec<Moved> {
    let spread = |take: usize| {
        let errors = rows.iter().map(|own| (own[take].prediction - own[take].rating).abs());
        let (low, high) =
            errors.fold((f32::INFINITY, 0f32), |(low, high), error| (low.min(error), high.max(error)));
        high - low
    };
    let mut order: Vec<(usize, f32)> =
        (0..rows[0].len()).map(|take| (take, spread(take))).filter(|(_, spread)| *spread > 0.0).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.truncate(MOVED);
    let of = |(take, _): (usize, f32)| Moved {
        id: rows[0][take].id.clone(),
        rating: rows[0][take].rating,
        predictions: rows.iter().map(|own| own[take].prediction).collect(),
    };
    order.into_iter().map(of).collect()
}
