//! Loader for MASTmelody: conservatory entrance examinations, a melody played on the piano and sung back,
//! graded by a jury (Bozkurt, Baysal and Yuret, CMMR 2017; github.com/barisbozkurt/MASTmelody_dataset).
//!
//! ```text
//! annotations/annotations.csv          a row per recording: `file` (stem + `.wav`), a column per grading pass
//! f0data/<melody>_per<singer>_pass.f0s.txt   a candidate's singing; `_fail` likewise, or neither
//! f0data/<melody>_ref<singer>.f0s.txt        the piano take played for that candidate: a reference
//! ```
//!
//! A grading pass is a column whose name is a number and an expert's name, such as `2Asli`: one expert may
//! grade in several passes. Grades are 1 to 4; a cell that is empty, `NA`, `NaN`, `-` or −1 holds none. The rating is
//! `(grade − 1)/3` of the expert-balanced mean grade: an expert's passes are averaged first, then the experts. What each pass
//! gave is kept beside it, as `(grade − 1)/3` too ([`Take::grades`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::load_options::LoadOptions;
use super::rating_scale::RatingScale;
use super::reader::ContourReader;
use super::recordings::{Graders, OVERALL, Recordings, Reference, Take, plain};
use super::table::{self, Table};
use crate::audio::Contour;
use crate::names::quoted;
use crate::{Error, Result, fs};

/// What a file name in `f0data/` says.
#[derive(Debug, PartialEq)]
struct Name<'a> {
    melody: &'a str,
    singer: &'a str,
    reference: bool,
    pass: Option<bool>,
    /// The name as annotated, without `_pass` or `_fail`.
    stem: &'a str,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (stem, pass) = if let Some(stem) = name.strip_suffix("_pass") {
            (stem, Some(true))
        } else if let Some(stem) = name.strip_suffix("_fail") {
            (stem, Some(false))
        } else {
            (name, None)
        };
        // From the right: the melody itself has an underscore in it, as in `510_mel1_per109558`.
        let (melody, role) = stem.rsplit_once('_')?;
        let (reference, singer) = match (role.strip_prefix("per"), role.strip_prefix("ref")) {
            (Some(singer), _) => (false, singer),
            (_, Some(singer)) => (true, singer),
            _ => return None,
        };
        let well_formed = !melody.is_empty() && !singer.is_empty();
        well_formed.then_some(Self { melody, singer, reference, pass, stem })
    }
}

/// The grades of one stem: a cell per grading pass, and the line each came from.
type Grades = Vec<Option<(f64, u64)>>;

/// `annotations.csv`, with the rows of a stem merged.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotations {
    /// The expert of each grading pass.
    experts: Vec<String>,
    grades: BTreeMap<String, Grades>,
    merged: usize,
}

impl Annotations {
    /// Reads the `bytes` of the annotations; errors name the file at `path`, which is not touched, and the line.
    ///
    /// # Errors
    /// [`Error::Data`] where anything is malformed.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let table = Table::parse(path, bytes)?;
        let header = &table.header;
        let in_header = |message: &str| Error::data(path, Some(table.header_line), message);
        let file = header.iter().position(|name| plain(name) == "file");
        let file = file.ok_or_else(|| in_header("no column `file`"))?;

        // (column, expert) per grading pass
        let passes: Vec<(usize, &str)> = header
            .iter()
            .enumerate()
            .map(|(column, name)| (column, &**name, name.trim_start_matches(|c: char| c.is_ascii_digit())))
            .filter(|(_, name, expert)| !expert.is_empty() && expert.len() < name.len())
            .map(|(column, _, expert)| (column, expert))
            .collect();
        if passes.is_empty() {
            return Err(in_header(
                "no grade columns; expected a number and an expert's name, such as `1Asli`",
            ));
        }

        let mut grades: BTreeMap<String, Grades> = BTreeMap::new();
        let mut merged = 0;
        for row in &table.rows {
            let fail = |message: String| Error::data(path, Some(row.line), message);
            let name = &row.cells[file];
            let stem = name.strip_suffix(".wav").unwrap_or(name);
            if stem.is_empty() {
                return Err(fail("no file name in column `file`".into()));
            }
            let merges = grades.contains_key(stem);
            merged += usize::from(merges);
            let of_stem = grades.entry(stem.to_owned()).or_insert_with(|| vec![None; passes.len()]);
            for (cell, &(column, _)) in of_stem.iter_mut().zip(&passes) {
                let place = || format!("{}, column {}", quoted(stem), quoted(&header[column]));
                let grade = grade(&table, &row.cells[column])
                    .map_err(|text| fail(format!("{}: grade {}, expected 1 to 4", place(), quoted(text))))?;
                match (grade, *cell) {
                    (Some(grade), Some((earlier, at))) if earlier != grade => {
                        return Err(fail(format!(
                            "{}: grade {grade}, but line {at} says {earlier}",
                            place()
                        )));
                    }
                    (Some(grade), _) => *cell = Some((grade, row.line)),
                    (None, _) => {}
                }
            }
        }
        let experts = passes.into_iter().map(|(_, expert)| expert.to_owned()).collect();
        Ok(Self { experts, grades, merged })
    }
}

/// The rating in 0..=1: the passes of each expert averaged, then the experts. `None` if no cell is filled.
fn rating(grades: &Grades, passes: &[Vec<usize>]) -> Option<f32> {
    let mean =
        |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let of_expert = |own: &Vec<usize>| mean(own.iter().filter_map(|&pass| Some(grades[pass]?.0)).collect());
    mean(passes.iter().filter_map(of_expert).collect()).map(unit)
}

/// A grade in 0..=1.
fn unit(grade: f64) -> f32 {
    ((grade - 1.0) / 3.0) as f32
}

/// The grade in a cell, if it holds one; the cell where it is neither.
fn grade<'a>(table: &Table, cell: &'a str) -> Result<Option<f64>, &'a str> {
    if table::is_missing(cell) {
        return Ok(None);
    }
    match table.number(cell) {
        Some(-1.0) => Ok(None),
        Some(grade) if (1.0..=4.0).contains(&grade) => Ok(Some(grade)),
        _ => Err(cell),
    }
}

/// The f0 files by name, and how many files have other names.
fn f0_files(f0data: &Path) -> Result<(Vec<(String, PathBuf)>, usize)> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    let mut other_names = 0;
    for entry in std::fs::read_dir(f0data).map_err(Error::io(f0data, "read"))? {
        let path = entry.map_err(Error::io(f0data, "read"))?.path();
        if path.file_name().is_some_and(fs::is_stray) {
            continue;
        }
        match path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".f0s.txt")) {
            Some(name) if Name::parse(name).is_some() => files.push((name.to_owned(), path)),
            _ => other_names += 1,
        }
    }
    if files.is_empty() {
        let message = "no f0 files; expected names such as 51_mel1_per101559_fail.f0s.txt";
        return Err(Error::data(f0data, None, message));
    }
    files.sort(); // the order of a directory is anyone's guess
    Ok((files, other_names))
}

/// Loads MASTmelody from the directory that holds `annotations/` and `f0data/`.
///
/// One criterion, `overall`. Recordings without annotation, without f0 or without any grade are dropped and
/// counted in [`Recordings::notes`]; anything malformed is an error that names the file and line.
pub(super) fn load(
    directory: impl AsRef<Path>,
    options: &LoadOptions,
    reader: &ContourReader<'_>,
) -> Result<Recordings> {
    let directory = directory.as_ref();
    let scale = RatingScale::new(1.0, 4.0)?;
    options.expect_scale("MASTmelody's grades", scale)?;
    let path = directory.join("annotations").join("annotations.csv");
    if !path.exists() {
        return Err(Error::data(path, None, "no such file; MASTmelody keeps its grades there"));
    }
    let annotations = Annotations::parse(&path, &fs::read(&path, table::MAX_BYTES)?)?;
    let graders = Graders { scale, experts: annotations.experts.clone() };
    let passes = graders.passes();
    let f0data = directory.join("f0data");

    let (files, other_names) = f0_files(&f0data)?;
    let mut by_stem: BTreeMap<&str, &Path> = BTreeMap::new();
    for (name, path) in &files {
        let stem = Name::parse(name).map_or(name.as_str(), |name| name.stem);
        if let Some(other) = by_stem.insert(stem, path) {
            let message = format!("is the same recording as {}; keep one of them", other.display());
            return Err(Error::data(path, None, message));
        }
    }

    let (mut without_annotation, mut without_grade) = ([0; 2], 0);
    let mut wanted = Vec::new();
    for (file, path) in &files {
        let Some(name) = Name::parse(file) else { continue };
        match annotations.grades.get(name.stem) {
            None => without_annotation[usize::from(name.reference)] += 1,
            Some(grades) => match rating(grades, &passes) {
                // A reference is played by a teacher to be sung back; its own grade says nothing more.
                rating if name.reference => wanted.push((name, path, grades, rating.unwrap_or(1.0))),
                Some(rating) => wanted.push((name, path, grades, rating)),
                None => without_grade += 1,
            },
        }
    }
    let mut without_f0 = [0; 2];
    for stem in annotations.grades.keys().filter(|stem| !by_stem.contains_key(stem.as_str())) {
        let reference = Name::parse(stem).is_some_and(|name| name.reference);
        without_f0[usize::from(reference)] += 1;
    }

    reader.expect(wanted.len());
    let contours: Vec<Contour> =
        wanted.par_iter().map(|(_, path, ..)| reader.read(path)).collect::<Result<_>>()?;
    let criteria = vec![OVERALL.into()];
    let mut recordings = Recordings { criteria, graders: Some(graders), ..Default::default() };
    for ((name, _, grades, rating), contour) in wanted.into_iter().zip(contours) {
        let (id, melody) = (name.stem.to_owned(), name.melody.to_owned());
        if name.reference {
            recordings.references.push(Reference { id, melody, contour });
        } else {
            recordings.takes.push(Take {
                id,
                performer: name.singer.to_owned(),
                melody: Some(melody),
                contour,
                ratings: vec![Some(rating)],
                grades: grades.iter().map(|cell| cell.map(|(grade, _)| unit(grade))).collect(),
                pass: name.pass,
                split: None,
            });
        }
    }
    if recordings.takes.is_empty() {
        return Err(Error::data(
            directory,
            None,
            format!(
                "no graded performance: {} f0 files, {} annotated",
                files.len(),
                annotations.grades.len()
            ),
        ));
    }

    let mut note = |count: usize, what: &str| {
        if count > 0 {
            recordings.notes.push(format!("{count} {what}"));
        }
    };
    note(annotations.merged, "annotation rows merged into an earlier row of the same recording");
    note(without_f0[0], "annotated performances dropped: no f0 file");
    note(without_f0[1], "annotated references dropped: no f0 file");
    note(without_annotation[0], "performances dropped: no annotation");
    note(without_annotation[1], "references dropped: no annotation");
    note(without_grade, "performances dropped: no grade filled in");
    note(other_names, "files in f0data left alone: the name is not <melody>_per<singer>… or _ref<singer>");
    Ok(recordings)
}
