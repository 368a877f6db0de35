//! The page of runs beside the first of them.

use super::base::{Cell, Column, Figure, NAME, Table, count, number, render};
use super::measures::{meaning, with_sd};
use crate::names::shown;
use crate::report::beside::{Beside, Folds};
use crate::report::finished::FinishedRun;
use crate::report::measure::Measure;
use crate::report::paired::{Compared, Difference};
use crate::report::plots::intervals_svg;
use crate::report::run::RunReport;
use crate::{Error, Result};
use askama::Template;

/// Runs that the lead speaks of at most.
const TOLD: usize = 6;

#[derive(Template)]
#[template(path = "compared.html")]
struct Page {
    title: String,
    version: &'static str,
    lead: Vec<String>,
    measures: Table,
    meanings: Vec<[&'static str; 2]>,
    figures: Vec<Figure>,
    folds: Vec<Table>,
    moved: Option<Table>,
    runs: Table,
}

/// The page: what each run reached and what it differs from the first by, with intervals; fold by fold; the takes that they
/// differ in most; and how each was made. `names` are the runs', in their order.
///
/// # Errors
/// [`Error::Shape`] where numbers of names, runs and compared runs differ; [`Error::Config`] if it cannot be drawn.
pub fn compared_page(names: &[String], runs: &[FinishedRun], beside: &Beside) -> Result<String> {
    let n = beside.runs.len();
    if names.len() != n || runs.len() != n || beside.folds.len() != n {
        let message = format!("{} names and {} runs, where {n} were compared", names.len(), runs.len());
        return Err(Error::shape("compared_page", "runs", message));
    }
    let names: Vec<String> = names.iter().map(|name| shown(name, NAME).into_owned()).collect();
    let there: Vec<Measure> = Measure::ALL
        .into_iter()
        .filter(|m| beside.runs.iter().any(|run| run.of(*m).mean.is_some()))
        .collect();
    render(&Page {
        title: format!("Comparison of {}", count(n, "run")),
        version: env!("CARGO_PKG_VERSION"),
        lead: lead(&names, beside),
        measures: measures(&names, beside, &there),
        meanings: there.iter().map(|m| [m.label(), meaning(m.name())]).collect(),
        figures: figures(&names, beside, &there)?,
        folds: there.iter().filter_map(|m| folds(&names, beside, *m)).collect(),
        moved: moved(&names, beside),
        runs: made(&names, runs),
    })
}

/// With its sign.
fn signed(value: f64, digits: usize) -> String {
    let text = number(Some(value), digits);
    if value > 0.0 { format!("+{text}") } else { text }
}

/// A difference in words: whether its interval says that a run is better.
fn verdict(measure: Measure, difference: &Difference) -> &'static str {
    match difference.better(measure) {
        None => "not told apart from the first",
        Some(true) => "better than the first",
        Some(false) => "worse than the first",
    }
}

fn lead(names: &[String], beside: &Beside) -> Vec<String> {
    let (draws, by) = (beside.draws, beside.by.plural());
    let first = number(beside.runs[0].of(Measure::R2).mean, 3);
    let mut lead = vec![format!(
        "Each run is put beside the first, {}, on the {} by {} that every run tested with a network that had not been trained on \
         them. An interval holds 95 % of {draws} draws of the {by}, the same for both sides: where it holds 0, these takes do \
         not tell the two apart. What another seed of either run would have changed is not in it.",
        names[0],
        count(beside.takes, "take"),
        beside.by.count(beside.groups),
    )];
    for (name, run) in names.iter().zip(&beside.runs).skip(1).take(TOLD) {
        let value = run.of(Measure::R2);
        let told = match &value.difference {
            Some(d) => format!(
                "; the difference is {}, between {} and {}: {}",
                signed(d.mean, 3),
                signed(d.low, 3),
                signed(d.high, 3),
                verdict(Measure::R2, d)
            ),
            None => String::new(),
        };
        lead.push(format!(
            "{name} reaches an R² of {}, {} one of {first}{told}.",
            number(value.mean, 3),
            names[0]
        ));
    }
    lead
}

fn measures(names: &[String], beside: &Beside, there: &[Measure]) -> Table {
    let cell = |measure: Measure, run: &Compared| {
        let value = run.of(measure);
        let about = value.difference.as_ref().map_or(String::new(), |d| {
            format!(
                "{} [{}, {}], {}",
                signed(d.mean, 4),
                signed(d.low, 4),
                signed(d.high, 4),
                verdict(measure, d)
            )
        });
        Cell { about, ..number(value.mean, 4).into() }
    };
    let row = |m: &Measure| {
        std::iter::once(m.label().to_string().into())
            .chain(beside.runs.iter().map(|run| cell(*m, run)))
            .collect()
    };
    Table {
        id: "measures-table".into(),
        caption: "Measures of all tested takes together, those of all folds; below each the difference to the first run, with \
                  its 95 % interval."
            .into(),
        columns: columns("measure", names),
        rows: there.iter().map(row).collect(),
    }
}

fn columns(first: &str, names: &[String]) -> Vec<Column> {
    std::iter::once(Column::text(first)).chain(names.iter().map(Column::number)).collect()
}

/// Of each run but the first what it gains in each measure; before them the R² of all, where there are several.
fn figures(names: &[String], beside: &Beside, there: &[Measure]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let first = &names[0];
    if names.len() > 2 {
        let rows: Vec<(String, Option<Difference>)> = names
            .iter()
            .zip(&beside.runs)
            .map(|(name, run)| (name.clone(), run.of(Measure::R2).difference.clone()))
            .collect();
        let svg =
            intervals_svg("R² of every run", "beside the first, 95 % intervals", "difference of R²", &rows)?;
        let caption = format!("The R² of each run less that of {first}.");
        figures.push(Figure::new(
            "all-runs",
            "Differences of R², a run a row, with their intervals",
            &svg,
            caption,
        ));
    }
    for (i, (name, run)) in names.iter().zip(&beside.runs).enumerate().skip(1) {
        let row = |m: &Measure| {
            let gain = |d: &Difference| match m.lower_is_better() {
                true => Difference { mean: -d.mean, low: -d.high, high: -d.low },
                false => d.clone(),
            };
            Some((m.label().to_string(), Some(gain(run.of(*m).difference.as_ref()?))))
        };
        let rows: Vec<(String, Option<Difference>)> = there.iter().filter_map(row).collect();
        if rows.is_empty() {
            continue;
        }
        let (title, under) = (shown(name, 40), format!("beside {}, 95 % intervals", shown(first, 40)));
        let svg = intervals_svg(&title, &under, "better by (of errors: lower by)", &rows)?;
        let caption = format!(
            "What {name} gains over {first} in each measure. On the right of the line it is better; errors, which are better the \
             lower, are turned round."
        );
        let label = format!("Gains of {name} over {first}, a measure a row, with their intervals");
        figures.push(Figure::new(&format!("run-{}", i + 1), label, &svg, caption));
    }
    Ok(figures)
}

/// A measure in each fold.
fn folds(names: &[String], beside: &Beside, measure: Measure) -> Option<Table> {
    let there: Vec<(&String, &Folds)> =
        names.iter().zip(&beside.folds).filter_map(|(name, folds)| Some((name, folds.as_ref()?))).collect();
    let count = there.first().filter(|_| there.len() > 1)?.1.of(measure).len();
    let row = |(name, folds): &(&String, &Folds)| {
        let mut row = vec![(*name).clone()];
        row.extend(folds.of(measure).into_iter().map(|v| number(v, 3)));
        row.extend(match folds.difference(measure) {
            Some(d) => [with_sd(signed(d.mean, 3), d.sd), format!("{} of {count}", d.better)],
            None => [String::new(), String::new()],
        });
        row.into_iter().map(Cell::from).collect()
    };
    let lower = if measure.lower_is_better() { ", lower is better" } else { "" };
    let mut columns = vec![Column::text("run")];
    columns.extend((1..=count).map(|fold| Column::number(format!("fold {fold}"))));
    columns.extend(["difference", "better in"].map(Column::number));
    Some(Table {
        id: format!("folds-{}", measure.name()),
        caption: format!("{}{lower}.", measure.label()),
        columns,
        rows: there.iter().map(row).collect(),
    })
}

fn moved(names: &[String], beside: &Beside) -> Option<Table> {
    if beside.moved.is_empty() {
        return None;
    }
    let mut columns = vec![Column::text("take"), Column::number("judged")];
    columns.extend(names.iter().map(Column::number));
    let rows = beside.moved.iter().map(|take| {
        let mut row = vec![shown(&take.id, NAME).into_owned(), number(Some(take.rating.into()), 3)];
        row.extend(take.predictions.iter().map(|p| number(Some((*p).into()), 3)));
        row.into_iter().map(Cell::from).collect()
    });
    Some(Table {
        id: "takes-table".into(),
        caption:
            "What was judged and what each run predicted, of takes that one run is near and another far off."
                .into(),
        columns,
        rows: rows.collect(),
    })
}

/// How each run was made, as its metrics.json says.
fn made(names: &[String], runs: &[FinishedRun]) -> Table {
    type Fact = (&'static str, fn(&FinishedRun) -> String);
    const FACTS: [Fact; 12] = [
        ("directory", |run| shown(&run.path.to_string_lossy(), 200).into_owned()),
        ("criterion", |run| shown(&run.report.criterion, NAME).into_owned()),
        ("protocol", |run| shown(&run.report.protocol, NAME).into_owned()),
        ("seed", |run| run.report.seed.to_string()),
        ("folds", |run| folds_of(&run.report)),
        ("takes tested", |run| run.tested.len().to_string()),
        ("epochs of all folds", |run| run.report.epochs.to_string()),
        ("parameters", |run| run.report.parameters.to_string()),
        ("input channels", |run| run.report.inputs.to_string()),
        ("device", |run| shown(&run.report.device, NAME).into_owned()),
        ("seconds", |run| number(Some(run.report.seconds), 1)),
        ("etude", |run| shown(&run.report.version, NAME).into_owned()),
    ];
    let row = |(name, of): &Fact| {
        std::iter::once(name.to_string()).chain(runs.iter().map(of)).map(Cell::from).collect()
    };
    let mut columns = vec![Column::text("what")];
    columns.extend(names.iter().map(Column::text));
    Table {
        id: "runs-table".into(),
        caption: "How each run was made, as its metrics.json says.".into(),
        columns,
        rows: FACTS.iter().map(row).collect(),
    }
}

fn folds_of(report: &RunReport) -> String {
    match report.folds.len() {
        0 | 1 => "none: one part held out".into(),
        k => k.to_string(),
    }
}
