//! The tables of a study: for a terminal, as a page of Markdown with pictures, and as CSV.

use super::results::{Results, Row, TableOfResults};
use super::run::NEIGHBOURS;
use crate::compared::{self, cells, grid, head};
use etude::fs::write_atomic;
use etude::report::measure::Measure;
use etude::report::paired::Difference;
use etude::report::plots::intervals_svg;
use etude::{Error, Result};
use std::fmt::Write;
use std::path::Path;

/// The page.
pub const PAGE: &str = "study.md";

/// Every mean, deviation, difference and interval.
const VALUES: &str = "study.csv";

/// Writes the page, its pictures and the values.
///
/// # Errors
/// [`Error::Io`] where one cannot be written.
pub fn write(folder: &Path, results: &Results) -> Result<()> {
    for (i, table) in results.tables.iter().enumerate() {
        write_atomic(&folder.join(picture(i)), svg(table)?.as_bytes())?;
    }
    let values = folder.join(VALUES);
    let bytes = csv(results).map_err(|e| Error::data(&values, None, e.to_string()))?;
    write_atomic(&values, &bytes)?;
    write_atomic(&folder.join(PAGE), markdown(results).as_bytes())
}

fn picture(table: usize) -> String {
    format!("table-{}.svg", table + 1)
}

/// What a table is of.
fn about(results: &Results, table: &TableOfResults) -> String {
    let Results { seeds, folds, .. } = results;
    let (by, takes) = (table.by, table.takes);
    let plural = if *seeds == 1 { "" } else { "s" };
    let groups = by.count(table.groups);
    format!("{seeds} seed{plural}, {folds} folds by {by}; {takes} takes, {groups}.")
}

/// What the columns are, in lines for a terminal.
fn legend(results: &Results) -> String {
    let draws = results.draws;
    format!(
        "Measures are of all takes of a seed together, each rated by the network that it was kept from: the\n\
         mean over seeds, ± their deviation. Difference: to the first row, with the 95 % interval of a\n\
         bootstrap over performers (or melodies) and seeds, {draws} draws, paired. ▲ ▼: better or worse than the\n\
         first row, by such an interval without 0. ↓: lower is better. Order in melody: of two takes of one\n\
         melody, how often the better rated is predicted higher. kNN R²: of the mean rating of the {NEIGHBOURS} training\n\
         takes that lie nearest in the embedding. Calibration error: between mean prediction and mean rating,\n\
         over tenths of the takes by prediction.\n"
    )
}

/// The measures that a table has values of.
fn measures(table: &TableOfResults) -> Vec<Measure> {
    compared::measures(table.rows.iter().map(|row| &row.measures))
}

/// Its head, and a row of cells an arm.
fn lines(table: &TableOfResults, measures: &[Measure]) -> Vec<Vec<String>> {
    let row = |row: &Row| cells(&row.arm, &row.measures, measures);
    std::iter::once(head("arm", measures)).chain(table.rows.iter().map(row)).collect()
}

/// For a terminal.
pub fn text(results: &Results) -> String {
    let mut text = String::new();
    for table in &results.tables {
        let rows = grid(&lines(table, &measures(table)));
        let _ = write!(text, "{}\n\n{rows}", table.title);
        let _ = writeln!(text, "\n{}\n", about(results, table));
    }
    text + &legend(results)
}

fn markdown(results: &Results) -> String {
    let mut page = String::from("# Study\n");
    for (i, table) in results.tables.iter().enumerate() {
        let line = |cells: &Vec<String>| {
            format!("| {} |\n", cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let rows = lines(table, &measures(table));
        let rule = format!("|---|{}\n", "--:|".repeat(rows[0].len() - 1));
        let _ = write!(page, "\n## {}\n\n{}{rule}", table.title, line(&rows[0]));
        rows[1..].iter().for_each(|row| page += &line(row));
        let _ = write!(page, "\n{}\n\n![{}]({})\n", about(results, table), table.title, picture(i));
    }
    let _ = write!(
        page,
        "\n## What the columns are\n\n{}\nEvery value with its interval: [{VALUES}]({VALUES}).\n",
        legend(results)
    );
    page
}

/// A row for each measure of each arm.
fn csv(results: &Results) -> csv::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["table", "arm", "measure", "mean", "sd", "difference", "low", "high"])?;
    let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.6}"));
    for table in &results.tables {
        for row in &table.rows {
            for m in measures(table) {
                let value = row.measures.of(m);
                let d = value.difference.as_ref();
                let numbers = [value.mean, value.sd, d.map(|d| d.mean), d.map(|d| d.low), d.map(|d| d.high)];
                let names = [&*table.title, &*row.arm, m.name()].map(String::from);
                csv.write_record(names.into_iter().chain(numbers.map(number)))?;
            }
        }
    }
    csv.into_inner().map_err(|e| e.into_error().into())
}

/// The differences of R² as a picture.
fn svg(table: &TableOfResults) -> Result<String> {
    let rows: Vec<(String, Option<Difference>)> = table
        .rows
        .iter()
        .map(|row| (row.arm.clone(), row.measures.of(Measure::R2).difference.clone()))
        .collect();
    intervals_svg(&table.title, "R² beside the first, 95 % intervals", "difference of R²", &rows)
}
