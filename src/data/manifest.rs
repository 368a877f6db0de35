//! Loader for a data set described by a manifest, a table with one row per take.
//!
//! | column | holds |
//! |---|---|
//! | `path` | the take, relative to the manifest: an f0 file, or with feature `audio` a recording |
//! | `performer` | who performs; a split never parts one performer's takes |
//! | `rating` or `rating_<criterion>`, one or more | a number on the scale; `rating` is the criterion `overall` |
//! | `grade_<grader>` (optional) | what one grader gave it, on the same scale as the ratings |
//! | `scale` or `rating_scale` (optional) | the scale of the row's ratings, such as `1..4` |
//! | `reference` (optional) | the melody as it should be: f0 file, recording or score; several separated by `;`; may be empty |
//! | `melody` (optional) | name of the melody; its takes share all their references |
//! | `pass` (optional) | `1`/`0`, `yes`/`no`, `true`/`false` or `pass`/`fail`; may be empty |
//! | `split` (optional) | `train`, `val` or `test`, in every row |
//!
//! **The table** is CSV in UTF-8, or in UTF-16 with a byte order mark, separated by commas, semicolons or tabs: the header
//! tells. Where commas separate nothing, numbers may have decimal commas. Names of columns may be written in any case, with a
//! space, `-` or `.` for `_`. A first column without a name is an index; other columns are left alone, which a note says.
//!
//! **The scale** is 0..1 unless the name of a column of ratings says another in brackets (`rating_rhythm (1..4)`), a column
//! does, or [`LoadOptions::rating_scale`]; ratings are mapped to 0..=1 by it. An empty cell, `NA`, `NaN`, `-` and −1 (where −1
//! is no rating) say that a take was not rated by that criterion. A manifest without ratings holds takes that nobody has graded.
//!
//! **Grades** of several graders ([`Take::grades`]) say how far they agree, and what most of them said. All are on one scale.
//! Where there is no column `rating`, the rating `overall` is the mean of the grades that a take was given.
//!
//! **A path** may be written with `\` for `/`. A file is the same through links, and by its name in composed or decomposed
//! Unicode; a take stands in one row alone.
//!
//! Without a `melody` column, takes share a melody where their references are the same.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use unicode_normalization::UnicodeNormalization;

use super::columns::{Columns, RatingColumn};
use super::files::{Files, Named};
use super::load_options::LoadOptions;
use super::rating_scale::RatingScale;
use super::reader::ContourReader;
use super::recordings::{Graders, OVERALL, Recordings, Reference, Take};
use super::split::Split;
use super::table::{self, Row, Table};
use crate::names::{few, quoted};
use crate::{Error, Result, fs};

/// What a manifest says, before the files that it names are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    criteria: Vec<String>,
    graders: Option<Graders>,
    lines: Vec<Line>,
    notes: Vec<String>,
}

/// A row before its files are read.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    number: u64,
    path: String,
    performer: String,
    melody: Option<String>,
    references: Vec<String>,
    ratings: Vec<Option<f32>>,
    grades: Vec<Option<f32>>,
    pass: Option<bool>,
    split: Option<Split>,
}

/// The table of a manifest as its rows are read.
struct Reader<'a> {
    path: &'a Path,
    table: &'a Table,
    columns: &'a Columns,
    asked: Option<RatingScale>,
}

impl Reader<'_> {
    fn line(&self, row: &Row) -> Result<Line> {
        let Self { columns, .. } = self;
        let fail = |message: String| Error::data(self.path, Some(row.line), message);
        let filled = |column: Option<usize>| {
            column.map(|column| row.cells[column].as_str()).filter(|cell| !table::is_missing(cell))
        };
        let required = |column: usize, name: &str| match row.cells[column].as_str() {
            "" => Err(fail(format!("{name} is empty"))),
            cell => Ok(cell),
        };
        let references =
            filled(columns.reference).into_iter().flat_map(|cell| cell.split(';')).map(str::trim);
        let read = |columns: &[RatingColumn]| -> Result<Vec<Option<f32>>> {
            columns.iter().map(|column| self.rating(row, column).map_err(fail)).collect()
        };
        let (mut ratings, grades) = (read(&columns.ratings)?, read(&columns.grades)?);
        if columns.mean_of_grades() {
            ratings.push(mean(&grades));
        }
        Ok(Line {
            number: row.line,
            path: required(columns.path, "path")?.to_owned(),
            performer: required(columns.performer, "performer")?.nfc().collect(),
            melody: filled(columns.melody).map(|melody| melody.nfc().collect()),
            references: references.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            ratings,
            grades,
            pass: filled(columns.pass).map(|cell| pass(cell).map_err(fail)).transpose()?.flatten(),
            split: columns.split.map(|column| split(&row.cells[column]).map_err(fail)).transpose()?,
        })
    }

    /// In 0..=1; `None` where the take was not rated.
    fn rating(&self, row: &Row, rating: &RatingColumn) -> Result<Option<f32>, String> {
        let cell = row.cells[rating.column].as_str();
        if table::is_missing(cell) {
            return Ok(None);
        }
        let criterion = &rating.criterion;
        let scale = self.scale(row, rating)?;
        let number = self.table.number(cell).filter(|number| number.is_finite()).ok_or_else(|| {
            format!("rating for {criterion} is {}, expected a number on the scale {scale}", quoted(cell))
        })?;
        if number == -1.0 && scale.low() > -1.0 {
            return Ok(None);
        }
        let mapped = if scale == RatingScale::UNIT {
            // Read as it will be kept: rounded once.
            self.table.decimal(cell).parse().ok().filter(|rating: &f32| (0.0..=1.0).contains(rating))
        } else {
            scale.unit(number)
        };
        mapped.map(Some).ok_or_else(|| {
            format!(
                "rating for {criterion} is {}, {} {scale}; if it is another, such as 1..4, say which",
                quoted(cell),
                RatingScale::OUTSIDE
            )
        })
    }

    /// Who graded, and on which scale: that of every grade.
    fn graders(&self) -> Result<Option<Graders>> {
        let mut scale = None;
        for (row, column) in
            self.table.rows.iter().flat_map(|row| self.columns.grades.iter().map(move |c| (row, c)))
        {
            let fail = |message: String| Error::data(self.path, Some(row.line), message);
            let own = self.scale(row, column).map_err(fail)?;
            match *scale.get_or_insert(own) {
                first if first == own => {}
                first => {
                    return Err(fail(format!(
                        "grade by {} is on {own}, but others are on {first}",
                        column.criterion
                    )));
                }
            }
        }
        let experts = self.columns.grades.iter().map(|column| column.criterion.clone()).collect();
        Ok(scale.map(|scale| Graders { scale, experts }))
    }

    /// The scale that is said, by whomever; 0..1 where nobody says one.
    fn scale(&self, row: &Row, rating: &RatingColumn) -> Result<RatingScale, String> {
        let cell =
            self.columns.scale.map(|column| row.cells[column].as_str()).filter(|cell| !cell.is_empty());
        let in_row: Option<RatingScale> = cell.and_then(|cell| cell.parse().ok());
        let mut said = [rating.scale, in_row, self.asked].into_iter().flatten();
        let scale = said.next().unwrap_or(RatingScale::UNIT);
        match said.find(|other| *other != scale) {
            None => Ok(scale),
            Some(other) => Err(format!(
                "rating for {}: the data says that its rating scale is {scale}, but {other} was given too",
                rating.criterion
            )),
        }
    }
}

/// The mean of the grades that there are.
fn mean(grades: &[Option<f32>]) -> Option<f32> {
    let given: Vec<f64> = grades.iter().flatten().map(|&grade| f64::from(grade)).collect();
    (!given.is_empty()).then(|| (given.iter().sum::<f64>() / given.len() as f64) as f32)
}

fn pass(cell: &str) -> Result<Option<bool>, String> {
    match cell.to_ascii_lowercase().as_str() {
        // Scripts that know no missing truth values write numbers with a point.
        "1" | "1.0" | "true" | "t" | "yes" | "y" | "pass" | "passed" => Ok(Some(true)),
        "0" | "0.0" | "false" | "f" | "no" | "n" | "fail" | "failed" => Ok(Some(false)),
        "-1" | "-1.0" => Ok(None),
        _ => Err(format!("pass is {}, expected 1, 0, yes, no, true, false, pass or fail", quoted(cell))),
    }
}

fn split(cell: &str) -> Result<Split, String> {
    match cell.to_ascii_lowercase().as_str() {
        "train" | "training" => Ok(Split::Train),
        "val" | "valid" | "validation" | "dev" | "development" => Ok(Split::Val),
        "test" | "testing" => Ok(Split::Test),
        _ => Err(format!("split {}: expected train, val or test", quoted(cell))),
    }
}

/// Reads the `bytes` of a manifest; errors name the file at `path`, which is not touched, and the line.
///
/// # Errors
/// [`Error::Data`] where anything is malformed or there are no takes.
pub fn parse(path: &Path, bytes: &[u8], options: &LoadOptions) -> Result<Manifest> {
    let table = Table::parse(path, bytes)?;
    let columns = Columns::of(path, &table)?;
    let reader = Reader { path, table: &table, columns: &columns, asked: options.rating_scale };
    let lines = table.rows.iter().map(|row| reader.line(row)).collect::<Result<Vec<_>>>()?;
    if lines.is_empty() {
        return Err(Error::data(path, None, "no takes below the header"));
    }
    let mut notes = Vec::new();
    if !columns.left_alone.is_empty() {
        // As many as one can read.
        let names = few(columns.left_alone.iter().map(String::as_str), 20);
        notes.push(format!("columns of the manifest left alone: {names}"));
    }
    let graders = reader.graders()?;
    let mut criteria: Vec<String> = columns.ratings.iter().map(|rating| rating.criterion.clone()).collect();
    if columns.mean_of_grades() {
        criteria.push(OVERALL.into());
    }
    Ok(Manifest { criteria, graders, lines, notes })
}

/// Whether a file begins as a manifest does.
pub(super) fn is_manifest(path: &Path, bytes: &[u8]) -> bool {
    Table::parse(path, bytes).and_then(|table| Columns::of(path, &table)).is_ok()
}

/// A reference that a manifest names.
struct Wanted {
    id: String,
    melody: String,
    path: PathBuf,
    /// The first line that names it.
    line: u64,
}

/// The files of all lines: those of the takes, and the references, by id.
fn find_files(manifest: &Path, lines: &mut [Line]) -> Result<(Vec<Named>, Vec<Wanted>)> {
    let base = manifest.parent().unwrap_or(Path::new(""));
    let mut files = Files::default();
    let (mut takes, mut first_at) = (Vec::new(), HashMap::new());
    for line in lines.iter() {
        let fail = |message: String| Error::data(manifest, Some(line.number), message);
        let take = files.find(base, &line.path).map_err(fail)?;
        if let Some((earlier, name)) = first_at.insert(take.number, (line.number, &line.path)) {
            let same = if *name == line.path {
                format!("path {} is in line {earlier} too", quoted(name))
            } else {
                format!("path {} is the take of line {earlier}, {}", quoted(&line.path), quoted(name))
            };
            return Err(fail(same));
        }
        takes.push(take);
    }
    // Each reference once per melody, however many takes name it, and by the name that it has first.
    let mut ids: HashMap<usize, (String, PathBuf)> = HashMap::new();
    let mut wanted: BTreeMap<(String, String), Wanted> = BTreeMap::new();
    for line in lines {
        let fail = |message: String| Error::data(manifest, Some(line.number), message);
        let mut named = Vec::new();
        for name in &line.references {
            let file = files.find(base, name).map_err(fail)?;
            named.push(ids.entry(file.number).or_insert((file.id, file.path)).clone());
        }
        named.sort();
        named.dedup();
        if line.melody.is_none() && !named.is_empty() {
            line.melody = Some(named.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(";"));
        }
        for (id, path) in named {
            let melody = line.melody.clone().unwrap_or_default();
            let key = (id.clone(), melody.clone());
            wanted.entry(key).or_insert(Wanted { id, melody, path, line: line.number });
        }
    }
    Ok((takes, wanted.into_values().collect()))
}

/// Loads the takes that a manifest lists. A take's id is its `path` as written there (with `/` for `\`, without `./`), a
/// reference's likewise.
///
/// # Errors
/// [`Error::Data`] with file and line for everything malformed, [`Error::Io`] if the manifest cannot be read.
pub(super) fn load(
    manifest: impl AsRef<Path>,
    options: &LoadOptions,
    reader: &ContourReader<'_>,
) -> Result<Recordings> {
    let manifest = manifest.as_ref();
    let Manifest { criteria, graders, mut lines, notes } =
        parse(manifest, &fs::read(manifest, table::MAX_BYTES)?, options)?;
    let (files, wanted) = find_files(manifest, &mut lines)?;
    reader.expect(files.len() + wanted.len());
    let read = |path: &Path, line: u64| match reader.read(path) {
        // The manifest is where a missing file is to be put right.
        Err(Error::Io { path, source, .. }) => {
            Err(Error::data(manifest, Some(line), format!("{}: {source}", path.display())))
        }
        other => other,
    };
    let references = wanted
        .into_par_iter()
        .map(|Wanted { id, melody, path, line }| Ok(Reference { contour: read(&path, line)?, id, melody }))
        .collect::<Result<Vec<_>>>()?;
    let mut takes = lines
        .into_par_iter()
        .zip(files)
        .map(|(line, Named { id, path, .. })| {
            Ok(Take {
                contour: read(&path, line.number)?,
                id,
                performer: line.performer,
                melody: line.melody,
                ratings: line.ratings,
                grades: line.grades,
                pass: line.pass,
                split: line.split,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    takes.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Recordings { criteria, takes, references, graders, notes })
}
