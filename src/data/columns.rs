//! Which column of a manifest holds what.

use std::collections::BTreeMap;
use std::path::Path;

use super::rating_scale::RatingScale;
use super::recordings::{OVERALL, plain};
use super::table::Table;
use crate::names::quoted;
use crate::{Error, Result};

/// A column of ratings.
pub(super) struct RatingColumn {
    pub column: usize,
    pub criterion: String,
    /// What its name says of its scale.
    pub scale: Option<RatingScale>,
}

/// Indices of the columns.
pub(super) struct Columns {
    pub path: usize,
    pub performer: usize,
    pub ratings: Vec<RatingColumn>,
    /// What each grader gave, under the grader's name.
    pub grades: Vec<RatingColumn>,
    pub reference: Option<usize>,
    pub melody: Option<usize>,
    pub pass: Option<usize>,
    pub split: Option<usize>,
    pub scale: Option<usize>,
    /// The names of the others.
    pub left_alone: Vec<String>,
}

impl Columns {
    /// Whether the grades' mean is the rating [`OVERALL`], which no column holds then.
    pub fn mean_of_grades(&self) -> bool {
        !self.grades.is_empty() && self.ratings.iter().all(|rating| rating.criterion != OVERALL)
    }

    /// Finds the columns by their names, in any case and with any of space, `_`, `-` and `.` between their words.
    pub fn of(path: &Path, table: &Table) -> Result<Self> {
        let fail = |message: String| Err(Error::data(path, Some(table.header_line), message));
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut ratings, mut grades): (Vec<RatingColumn>, Vec<RatingColumn>) = (Vec::new(), Vec::new());
        let mut left_alone = Vec::new();
        for (column, written) in table.header.iter().enumerate() {
            let (base, scale) = match without_scale(written) {
                Ok(parts) => parts,
                Err(message) => return fail(message),
            };
            let name = plain(base);
            let known = ["path", "performer", "reference", "melody", "pass", "split"]
                .into_iter()
                .find(|k| *k == name);
            let scales = || matches!(name.as_str(), "scale" | "rating_scale") && holds_scales(table, column);
            if let Some(known) = known.or_else(|| scales().then_some("scale")) {
                if let Some(earlier) = found.insert(known, column) {
                    let earlier = quoted(&table.header[earlier]);
                    return fail(format!("column {} appears twice, first as {earlier}", quoted(written)));
                }
            } else if let Some((of, what)) = criterion(&name)
                .map(|of| (of, "criterion"))
                .or_else(|| grader(&name).map(|of| (of, "grader")))
            {
                let columns = if what == "grader" { &mut grades } else { &mut ratings };
                if let Some(earlier) = columns.iter().find(|rating| rating.criterion == of) {
                    let earlier = quoted(&table.header[earlier.column]);
                    return fail(format!("{} and {earlier} are the same {what}; keep one", quoted(written)));
                }
                columns.push(RatingColumn { column, criterion: of.to_owned(), scale });
            } else if !(name.is_empty()
                && (column == 0 || table.rows.iter().all(|row| row.cells[column].is_empty())))
            {
                // The first column without a name is an index; scripts write one, and spreadsheets leave empty ones behind.
                left_alone.push(quoted(written));
            }
        }
        match (found.get("path"), found.get("performer")) {
            (Some(&path), Some(&performer)) => Ok(Self {
                path,
                performer,
                ratings,
                grades,
                reference: found.get("reference").copied(),
                melody: found.get("melody").copied(),
                pass: found.get("pass").copied(),
                split: found.get("split").copied(),
                scale: found.get("scale").copied(),
                left_alone,
            }),
            (path, performer) => {
                let missing = [("path", path), ("performer", performer)];
                let missing = missing.iter().filter(|(_, column)| column.is_none()).map(|(name, _)| *name);
                fail(format!(
                    "missing column {}; a manifest has path, performer, rating or rating_<criterion>, and may have reference, \
                     melody, pass, split, scale, grade_<grader>; this header has {}",
                    missing.collect::<Vec<_>>().join(", "),
                    quoted(&table.header.join(", "))
                ))
            }
        }
    }
}

/// The criterion that a column of this name rates by.
fn criterion(name: &str) -> Option<&str> {
    match name.strip_prefix("rating")? {
        "" => Some(OVERALL),
        rest => rest.strip_prefix('_'),
    }
}

/// Whether a column of this name holds ratings or grades.
fn holds_ratings(name: &str) -> bool {
    criterion(name).or_else(|| grader(name)).is_some()
}

/// Whose grades a column of this name holds.
fn grader(name: &str) -> Option<&str> {
    name.strip_prefix("grade_").filter(|grader| !grader.is_empty())
}

/// A name in two parts: what it names, and the scale in brackets behind a rating.
fn without_scale(written: &str) -> Result<(&str, Option<RatingScale>), String> {
    let open = if written.ends_with(')') { '(' } else { '[' };
    let bracketed = written.strip_suffix([')', ']']).and_then(|rest| rest.rsplit_once(open));
    match bracketed {
        Some((base, scale)) if holds_ratings(&plain(base)) => match scale.parse() {
            Ok(scale) => Ok((base, Some(scale))),
            Err(error) => Err(format!("column {}: {error}", quoted(written))),
        },
        _ => Ok((written, None)),
    }
}

/// Whether a column holds scales, and not the scales of a tune.
fn holds_scales(table: &Table, column: usize) -> bool {
    let mut filled =
        table.rows.iter().map(|row| &row.cells[column]).filter(|cell| !cell.is_empty()).peekable();
    filled.peek().is_some() && filled.all(|cell| cell.parse::<RatingScale>().is_ok())
}
