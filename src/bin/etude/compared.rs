//! Ways to train, or runs, beside the first of them, as tables of text.

use etude::report::measure::Measure;
use etude::report::paired::{Compared, Difference};

/// The measures that any row has a value of.
pub fn measures<'a>(rows: impl Iterator<Item = &'a Compared> + Clone) -> Vec<Measure> {
    let has = |m: &Measure| rows.clone().any(|row| row.of(*m).mean.is_some());
    Measure::ALL.into_iter().filter(has).collect()
}

/// The head of a table: what a row is, R² and its difference, then the rest.
pub fn head(what: &str, measures: &[Measure]) -> Vec<String> {
    let mut head = vec![what.to_string()];
    for &m in measures {
        head.push(format!("{}{}", m.label(), if m.lower_is_better() { " ↓" } else { "" }));
        if m == Measure::R2 {
            head.push("difference".into());
        }
    }
    head
}

/// The cells of a row.
pub fn cells(name: &str, row: &Compared, measures: &[Measure]) -> Vec<String> {
    let mut cells = vec![name.to_string()];
    for &m in measures {
        let value = row.of(m);
        let (mean, difference) = (value.mean, value.difference.as_ref());
        let sign = match difference.and_then(|d| d.better(m)) {
            None => "",
            Some(true) => " ▲",
            Some(false) => " ▼",
        };
        if m != Measure::R2 {
            cells.push(mean.map_or(String::new(), |mean| minus(format!("{mean:.3}{sign}"))));
            continue;
        }
        let sd = value.sd.map_or(String::new(), |sd| format!(" ± {sd:.4}"));
        cells.push(mean.map_or(String::new(), |mean| minus(format!("{mean:.4}{sd}"))));
        let interval = |d: &Difference| format!("{:+.4} [{:+.4}, {:+.4}]{sign}", d.mean, d.low, d.high);
        cells.push(difference.map_or(String::new(), |d| minus(interval(d))));
    }
    cells
}

/// With a typographic minus sign.
pub fn minus(cell: String) -> String {
    cell.replace('-', "−")
}

/// Rows of cells for a terminal, a line each.
pub fn grid(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
