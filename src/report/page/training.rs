//! The page of a run of training.

use super::base::{Cell, Column, Figure, NAME, Table, count, number, render, sees};
use super::figures::{agreement, curves, embeddings, predictions};
use super::measures::{criteria, folds, meanings, measures, melodies};
use super::run::{Setting, TrainingRun};
use crate::Result;
use crate::data::SplitBy;
use crate::names::shown;
use askama::Template;

#[derive(Template)]
#[template(path = "training.html")]
struct Page {
    title: String,
    version: String,
    lead: Vec<String>,
    measures: Table,
    meanings: Vec<[&'static str; 2]>,
    criteria: Option<Table>,
    agreement: Option<Figure>,
    predictions: Vec<Figure>,
    curves: Option<Figure>,
    about_embedding: String,
    embeddings: Vec<Figure>,
    melodies: Option<Table>,
    folds: Option<Table>,
    settings: Table,
    machine: Table,
    command: Option<String>,
}

/// The page: how good the network is beside the graders, its predictions and what they are off by, what it takes for what, its
/// losses, its embedding before and after training, melodies, folds, and how the run was made. What the run has not got is left
/// out. Nothing in it depends on when it was made.
///
/// # Errors
/// [`crate::Error::Shape`] where `embeddings` do not fit their ratings; [`crate::Error::Config`] if it cannot be drawn.
pub fn training_page(run: &TrainingRun<'_>) -> Result<String> {
    let report = run.report;
    let (about_embedding, embeddings) = embeddings(run)?;
    render(&Page {
        title: format!("Training report: {}", shown(&report.criterion, NAME)),
        version: report.version.clone(),
        lead: lead(run),
        measures: measures(report),
        meanings: meanings(report),
        criteria: criteria(report),
        agreement: agreement(report)?,
        predictions: predictions(run)?,
        curves: curves(run)?,
        about_embedding,
        embeddings,
        melodies: melodies(&run.tested),
        folds: folds(report),
        settings: settings(&run.settings),
        machine: machine(&run.machine),
        command: run.command.clone(),
    })
}

/// What was trained on what, and how good it is.
fn lead(run: &TrainingRun<'_>) -> Vec<String> {
    let report = run.report;
    let sees = sees(run.kind);
    let never = match run.split_by {
        SplitBy::Performer => "performers that the network never heard in training",
        SplitBy::Melody => "melodies that the network never heard in training",
    };
    let folds = match report.folds.len() {
        0 | 1 => String::new(),
        k => format!(", in {k} folds: each is graded once, by a network trained on the other folds"),
    };
    let trained = format!(
        "A network was trained to grade performances as judges do: it predicts the {} “{}” of {} by {} ({}), from {sees}. It \
         was tested on {} by {never}{folds}.",
        if report.criteria.is_empty() { "rating" } else { "ratings" },
        shown(&report.criterion, NAME),
        count(run.takes, "take"),
        count(run.performers, "performer"),
        shown(&run.data, NAME),
        count(run.tested.len(), "take"),
    );
    let mean = if report.folds.len() > 1 { " (mean over folds)" } else { "" };
    let mut good = Vec::new();
    if let Some(mae) = report.test.mae {
        good.push(format!("are off by {} on average, where ratings go from 0 to 1", number(Some(mae), 3)));
    }
    match report.test.r2 {
        Some(r2) if r2 > 0.0 => {
            good.push(format!(
                "account for {} % of the ratings’ variance (R² {})",
                number(Some(100.0 * r2), 0),
                number(Some(r2), 3)
            ));
        }
        Some(r2) => good.push(format!(
            "do no better than always saying the mean rating would (R² {})",
            number(Some(r2), 3)
        )),
        None => {}
    }
    if let Some(accuracy) = report.test.accuracy {
        good.push(format!("tell pass from fail for {} % of the takes", number(Some(100.0 * accuracy), 0)));
    }
    let good = match &good[..] {
        [] => return vec![trained],
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        all => all.concat(),
    };
    let held = report.coverage.as_ref().map_or(String::new(), |coverage| {
        let [level, held] = [coverage.level, coverage.held].map(|share| number(Some(100.0 * share), 0));
        format!(" Intervals that are to hold {level} % of the ratings, learned from the other folds, held {held} %.")
    });
    vec![trained, format!("Its predictions{mean} {good}.{held}")]
}

fn settings(settings: &[Setting]) -> Table {
    let row = |Setting { name, value, about }: &Setting| {
        let (text, about) = (shown(value, 1000).into_owned(), about.clone());
        vec![name.clone().into(), Cell { about, ..text.into() }]
    };
    Table {
        id: "settings-table".into(),
        caption: "Every option that has a say in what the run came to, given or taken by default.".into(),
        columns: ["option", "value, and what it is"].map(Column::text).into(),
        rows: settings.iter().map(row).collect(),
    }
}

fn machine(facts: &[[String; 2]]) -> Table {
    Table {
        id: "machine-table".into(),
        caption: "What the run was made with.".into(),
        columns: ["what", "value"].map(Column::text).into(),
        rows: facts.iter().map(|fact| fact.iter().cloned().map(Cell::from).collect()).collect(),
    }
}
