//! Loader for a data set described by a CSV manifest: one row per take.
//!
//! | column | holds |
//! |---|---|
//! | `path` | f0 file of the take, relative to the manifest: two columns, time in s and f0 in Hz, 0 where unvoiced |
//! | `performer` | who performs; a split never parts one performer's takes |
//! | `rating` or `rating_<criterion>`, one or more | in 0..=1; `rating` is the criterion `overall` |
//! | `reference` (optional) | f0 file of the same melody as it should be; several separated by `;`; may be empty |
//! | `melody` (optional) | name of the melody; its takes share all their references |
//! | `pass` (optional) | `1`/`0`, `true`/`false` or `pass`/`fail`; may be empty |
//! | `split` (optional) | `train`, `val` or `test`, in every row |
//!
//! Without a `melody` column, takes share a melody where their `reference` cells are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;

use super::csv_error::{MAX_BYTES, csv_error};
use super::f0_notes::F0Notes;
use super::load_options::LoadOptions;
use super::recordings::{OVERALL, Recordings, Reference, Take};
use super::split::Split;
use crate::{Error, Result, fs};

/// Which column holds what.
#[derive(Default)]
struct Columns {
    path: usize,
    performer: usize,
    /// (column, criterion)
    ratings: Vec<(usize, String)>,
    reference: Option<usize>,
    melody: Option<usize>,
    pass: Option<usize>,
    split: Option<usize>,
}

impl Columns {
    fn of(path: &Path, header: &csv::StringRecord) -> Result<Self> {
        let fail = |message: String| Err(Error::data(path, Some(1), message));
        let mut columns = Self::default();
        let (mut seen, mut unknown) = (BTreeSet::new(), Vec::new());
        for (index, name) in header.iter().enumerate() {
            if !seen.insert(name) {
                return fail(format!("column {name:?} appears twice"));
            }
            match name {
                "path" => columns.path = index,
                "performer" => columns.performer = index,
                "reference" => columns.reference = Some(index),
                "melody" => columns.melody = Some(index),
                "pass" => columns.pass = Some(index),
                "split" => columns.split = Some(index),
                "rating" => columns.ratings.push((index, OVERALL.into())),
                _ => match name.strip_prefix("rating_") {
                    Some(criterion) if !criterion.is_empty() => {
                        columns.ratings.push((index, criterion.into()));
                    }
                    _ => unknown.push(format!("{name:?}")),
                },
            }
        }
        if !unknown.is_empty() {
            return fail(format!(
                "unknown column {}; expected path, performer, rating or rating_<criterion>, reference, melody, \
                 pass, split",
                unknown.join(", ")
            ));
        }
        let mut missing: Vec<&str> =
            ["path", "performer"].into_iter().filter(|name| !seen.contains(name)).collect();
        if columns.ratings.is_empty() {
            missing.push("rating");
        }
        if !missing.is_empty() {
            return fail(format!("missing column {}", missing.join(", ")));
        }
        if seen.contains("rating") && seen.contains("rating_overall") {
            return fail("rating and rating_overall are the same criterion; keep one".into());
        }
        Ok(columns)
    }
}

/// A row before its files are read.
struct Line {
    number: u64,
    id: String,
    performer: String,
    melody: Option<String>,
    references: Vec<String>,
    ratings: Vec<f32>,
    pass: Option<bool>,
    split: Option<Split>,
}

impl Line {
    fn parse(path: &Path, columns: &Columns, record: &csv::StringRecord) -> Result<Self> {
        let number = record.position().map_or(0, csv::Position::line);
        let fail = |message: String| Error::data(path, Some(number), message);
        let filled =
            |column: Option<usize>| column.map(|column| &record[column]).filter(|cell| !cell.is_empty());
        let required = |column: usize, name: &str| {
            filled(Some(column)).map(str::to_owned).ok_or_else(|| fail(format!("{name} is empty")))
        };
        let rating = |&(column, ref criterion): &(usize, String)| {
            let cell = &record[column];
            cell.parse().ok().filter(|rating: &f32| (0.0..=1.0).contains(rating)).ok_or_else(|| {
                fail(format!("rating for {criterion} is {cell:?}, expected a number from 0 to 1"))
            })
        };
        let cell = filled(columns.reference);
        Ok(Self {
            number,
            id: required(columns.path, "path")?,
            performer: required(columns.performer, "performer")?,
            melody: filled(columns.melody).or(cell).map(str::to_owned),
            references: cell
                .into_iter()
                .flat_map(|cell| cell.split(';').map(|name| name.trim().to_owned()))
                .filter(|name| !name.is_empty())
                .collect(),
            ratings: columns.ratings.iter().map(rating).collect::<Result<_>>()?,
            pass: match filled(columns.pass).map(str::to_ascii_lowercase).as_deref() {
                None => None,
                Some("1" | "true" | "pass") => Some(true),
                Some("0" | "false" | "fail") => Some(false),
                Some(other) => {
                    return Err(fail(format!("pass is {other:?}, expected 1, 0, true, false, pass or fail")));
                }
            },
            split: match columns.split {
                None => None,
                Some(column) => Some(record[column].parse().map_err(|error: Error| fail(error.to_string()))?),
            },
        })
    }
}

/// Loads the takes that a manifest lists. A take's id is its `path` as written there, a reference's likewise.
///
/// Everything malformed is an error that names the file and line.
pub fn load(manifest: impl AsRef<Path>, options: &LoadOptions) -> Result<Recordings> {
    let manifest = manifest.as_ref();
    let bytes = fs::read(manifest, MAX_BYTES)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
    let header = reader.headers().map_err(|error| csv_error(manifest, error))?.clone();
    let columns = Columns::of(manifest, &header)?;
    let mut lines = Vec::new();
    let mut first_at: BTreeMap<String, u64> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| csv_error(manifest, error))?;
        let line = Line::parse(manifest, &columns, &record)?;
        if let Some(first) = first_at.insert(line.id.clone(), line.number) {
            let message = format!("path {:?} is in line {first} too", line.id);
            return Err(Error::data(manifest, Some(line.number), message));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(Error::data(manifest, None, "no takes below the header"));
    }

    // Each reference once per melody, however many takes name it, with the first line that does.
    let mut named: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in &lines {
        for reference in &line.references {
            let melody = line.melody.as_deref().unwrap_or(reference);
            named.entry((reference, melody)).or_insert(line.number);
        }
    }
    let base = manifest.parent().unwrap_or(Path::new(""));
    let f0 = F0Notes::default();
    let read = |name: &str, line: u64| match f0.read(base.join(name), &options.f0) {
        // The manifest is where a missing file is to be put right.
        Err(Error::Io { path, source, .. }) => {
            Err(Error::data(manifest, Some(line), format!("{}: {source}", path.display())))
        }
        other => other,
    };
    let references = named
        .par_iter()
        .map(|(&(id, melody), &line)| {
            Ok(Reference { id: id.to_owned(), melody: melody.to_owned(), contour: read(id, line)? })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut takes = lines
        .into_par_iter()
        .map(|line| {
            Ok(Take {
                contour: read(&line.id, line.number)?,
                id: line.id,
                performer: line.performer,
                melody: line.melody,
                ratings: line.ratings,
                pass: line.pass,
                split: line.split,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    takes.sort_by(|a, b| a.id.cmp(&b.id));

    let criteria = columns.ratings.into_iter().map(|(_, criterion)| criterion).collect();
    Ok(Recordings { criteria, takes, references, notes: f0.lines() })
}
