//! Loader for the Florida Bandmasters Association's all-state auditions in the layout of GTCMT's annotations of them (2013; the
//! later years likewise), where a student plays five segments in one recording and judges assess each by several categories.
//!
//! ```text
//! <band>/<student>/<student>_assessments.txt      10 lines, one per segment, of 26 numbers, one per category
//! <band>/<student>/<student>_segment.txt          a line per segment: start and duration in seconds
//! <band>/<student>/<student>_pyin_pitchtrack.txt  the f0 of the whole recording, from time 0 on: time in s, f0 in Hz
//! ```
//!
//! Numbers are separated by tabs or spaces, and lines that begin with `//` are comments. The directory given may be a band's
//! (`middleschoolscores`, `concertband`), a year's, or one that holds years.
//!
//! Assessments are in 0..=1; −1 says that there is none. A take is a segment, [`SEGMENTS`], a criterion a segment and a category,
//! [`CATEGORIES`], such as `technicalEtude.noteAccuracy`: each segment is assessed by itself, so a criterion names takes of one
//! segment. Performers are students. There are no references.
//!
//! **What is left out**, and counted: percussionists, whose seven segments come in an order that their files don't say; students
//! with another number of segments than five, a false start marked as one for instance; students without segments or pitch
//! track. The layout of assessments that was there before this one, with nine lines of different lengths, is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::load_options::LoadOptions;
use super::rating_scale::RatingScale;
use super::reader::ContourReader;
use super::recordings::{Recordings, Take};
use super::table::{decode, is_missing};
use crate::audio::Contour;
use crate::names::quoted;
use crate::{Error, Result, fs};

/// The segments of an audition in the order of the lines of the assessments. Wind players have the first five, in this order too;
/// the others are of percussionists.
pub const SEGMENTS: [&str; 10] = [
    "lyricalEtude",
    "technicalEtude",
    "scalesChromatic",
    "scalesMajor",
    "sightReading",
    "malletEtude",
    "snareEtude",
    "timpaniEtude",
    "readingMallet",
    "readingSnare",
];

/// How many of the segments wind players have.
const WIND: usize = 5;

/// What is assessed, in the order of the columns.
pub const CATEGORIES: [&str; 26] = [
    "articulation",
    "artistry",
    "musicalityTempoStyle",
    "noteAccuracy",
    "rhythmicAccuracy",
    "toneQuality",
    "articulationStyle",
    "musicalityPhrasingStyle",
    "noteAccuracyConsistency",
    "tempoConsistency",
    "Ab",
    "A",
    "Bb",
    "B",
    "C",
    "Db",
    "D",
    "Eb",
    "E",
    "F",
    "Gb",
    "G",
    "chromatic",
    "musicalityStyle",
    "noteAccuracyTone",
    "rhythmicAccuracyArticulation",
];

/// Largest file of assessments or segments: both have a few lines.
const MAX_BYTES: u64 = 1 << 20;

/// How deep below the directory given students are looked for: a year, a band, `assessments` in some years, the student.
const DEPTH: usize = 4;

/// Directories looked into to tell whether there are students at all.
const LOOKS: usize = 10_000;

/// The assessments of a student, `[SEGMENTS][CATEGORIES]`, each in 0..=1 or none.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessments(Vec<Vec<Option<f32>>>);

impl Assessments {
    /// Reads the `bytes` of `<student>_assessments.txt`; errors name the file at `path`, which is not touched, and the line.
    ///
    /// # Errors
    /// [`Error::Data`] unless it is 10 lines of 26 numbers that are in 0..=1 or −1.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let mut rows = Vec::new();
        for (number, line) in lines(path, bytes)? {
            let fail = |message: String| Error::data(path, Some(number), message);
            let row =
                line.split_whitespace().map(assessment).collect::<Result<Vec<_>, _>>().map_err(|cell| {
                    fail(format!(
                        "assessment {}, expected a number from 0 to 1, or -1 where there is none",
                        quoted(cell)
                    ))
                })?;
            if row.len() != CATEGORIES.len() {
                return Err(fail(format!(
                    "{} assessments, expected {}, one per category; an older layout with lines of different lengths is not read",
                    row.len(),
                    CATEGORIES.len()
                )));
            }
            rows.push(row);
        }
        if rows.len() != SEGMENTS.len() {
            let message =
                format!("{} lines of assessments, expected {}, one per segment", rows.len(), SEGMENTS.len());
            return Err(Error::data(path, None, message));
        }
        Ok(Self(rows))
    }

    fn is_percussion(&self) -> bool {
        self.0[WIND..].iter().flatten().any(Option::is_some)
    }
}

fn assessment(cell: &str) -> Result<Option<f32>, &str> {
    if is_missing(cell) {
        return Ok(None);
    }
    match cell.parse::<f32>() {
        Ok(-1.0) => Ok(None),
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(Some(value)),
        _ => Err(cell),
    }
}

/// A part of a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// In seconds, 0 or later.
    pub start: f64,
    /// In seconds, above 0.
    pub duration: f64,
}

impl Segment {
    /// Reads the `bytes` of `<student>_segment.txt`; errors name the file at `path`, which is not touched, and the line.
    ///
    /// # Errors
    /// [`Error::Data`] unless each line is a start and a duration.
    pub fn parse_all(path: &Path, bytes: &[u8]) -> Result<Vec<Self>> {
        let mut segments = Vec::new();
        for (number, line) in lines(path, bytes)? {
            let numbers: Option<Vec<f64>> = line
                .split_whitespace()
                .map(|cell| cell.parse().ok().filter(|number: &f64| number.is_finite()))
                .collect();
            match numbers.as_deref() {
                Some(&[start, duration]) if start >= 0.0 && duration > 0.0 => {
                    segments.push(Self { start, duration })
                }
                _ => {
                    let message =
                        format!("expected a start and a duration in seconds, found {}", quoted(line.trim()));
                    return Err(Error::data(path, Some(number), message));
                }
            }
        }
        Ok(segments)
    }

    /// Its part of a track that begins at time 0; `None` where nothing is voiced.
    fn of(self, track: &Contour) -> Result<Option<Contour>> {
        let frames = track.pitch().len();
        let frame = |time: f64| ((time / track.hop()).round() as usize).min(frames);
        let pitch = &track.pitch()[frame(self.start)..frame(self.start + self.duration)];
        if pitch.iter().all(|&pitch| pitch == 0.0) {
            return Ok(None);
        }
        Contour::from_pitch(pitch.to_vec(), track.hop()).map(Some)
    }
}

/// The lines that say something, with their numbers from 1.
fn lines(path: &Path, bytes: &[u8]) -> Result<Vec<(u64, String)>> {
    let text = decode(path, bytes)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = (1..).zip(text.lines());
    Ok(lines
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number, line.to_owned()))
        .collect())
}

/// A student's directory.
struct Student {
    /// Below the directory given, with `/`.
    name: String,
    id: String,
    directory: PathBuf,
}

impl Student {
    fn file(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{}_{what}.txt", self.id))
    }
}

/// The students below `directory`, by name; at most `most`, and after looking into at most `looks` directories.
fn students(directory: &Path, most: usize, mut looks: usize) -> Result<Vec<Student>> {
    let mut found = Vec::new();
    let mut left = vec![(directory.to_path_buf(), String::new(), DEPTH)];
    while let Some((directory, above, depth)) = left.pop() {
        if looks == 0 || found.len() >= most {
            break;
        }
        looks -= 1;
        let io = |source| Error::io(&directory, "read")(source);
        for entry in std::fs::read_dir(&directory).map_err(io)? {
            let path = entry.map_err(|source| Error::io(&directory, "read")(source))?.path();
            let Some(id) =
                path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            if !path.is_dir() {
                continue;
            }
            let (id, name) = (id.to_owned(), format!("{above}{id}"));
            if path.join(format!("{id}_assessments.txt")).is_file() {
                found.push(Student { name, id, directory: path });
            } else if depth > 1 {
                left.push((path, format!("{name}/"), depth - 1));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Whether there is a student below a directory.
pub(super) fn is_fba(directory: &Path) -> bool {
    students(directory, 1, LOOKS).is_ok_and(|found| !found.is_empty())
}

/// What a student gives.
enum Heard {
    /// Takes, with the assessments of each by category, and how many segments had no assessment and no pitch.
    Takes(Vec<(usize, Take)>, [usize; 2]),
    NoSegments,
    NoTrack,
    Percussion,
    OtherNumber,
}

fn hear(student: &Student, reader: &ContourReader<'_>) -> Result<Heard> {
    let path = student.file("assessments");
    let assessments = Assessments::parse(&path, &fs::read(&path, MAX_BYTES)?)?;
    let (segments, track) = (student.file("segment"), student.file("pyin_pitchtrack"));
    if assessments.is_percussion() {
        return Ok(Heard::Percussion);
    }
    if !segments.exists() {
        return Ok(Heard::NoSegments);
    }
    let segments = Segment::parse_all(&segments, &fs::read(&segments, MAX_BYTES)?)?;
    if segments.len() != WIND {
        return Ok(Heard::OtherNumber);
    }
    if !track.exists() {
        return Ok(Heard::NoTrack);
    }
    let track = reader.read(&track)?;
    let (mut takes, mut without) = (Vec::new(), [0; 2]);
    for (index, (segment, ratings)) in segments.into_iter().zip(assessments.0).enumerate() {
        if ratings.iter().all(Option::is_none) {
            without[0] += 1;
            continue;
        }
        let Some(contour) = segment.of(&track)? else {
            without[1] += 1;
            continue;
        };
        let take = Take {
            id: format!("{}/{}", student.name, SEGMENTS[index]),
            performer: student.id.clone(),
            melody: None,
            contour,
            ratings,
            grades: Vec::new(),
            pass: None,
            split: None,
        };
        takes.push((index, take));
    }
    Ok(Heard::Takes(takes, without))
}

/// Loads the auditions below a directory.
///
/// What is left out is counted in [`Recordings::notes`].
///
/// # Errors
/// [`Error::Data`] with file and line for everything malformed, [`Error::Io`] where a file cannot be read.
pub(super) fn load(
    directory: impl AsRef<Path>,
    options: &LoadOptions,
    reader: &ContourReader<'_>,
) -> Result<Recordings> {
    let directory = directory.as_ref();
    options.expect_scale("the assessments of FBA's auditions", RatingScale::UNIT)?;
    let students = students(directory, usize::MAX, usize::MAX)?;
    reader.expect(students.len());
    let heard: Vec<Heard> =
        students.par_iter().map(|student| hear(student, reader)).collect::<Result<_>>()?;

    let (mut takes, mut without, mut dropped) = (Vec::new(), [0; 2], [0; 4]);
    for heard in heard {
        match heard {
            Heard::Takes(of_student, [unassessed, unvoiced]) => {
                takes.extend(of_student);
                without[0] += unassessed;
                without[1] += unvoiced;
            }
            Heard::NoSegments => dropped[0] += 1,
            Heard::NoTrack => dropped[1] += 1,
            Heard::Percussion => dropped[2] += 1,
            Heard::OtherNumber => dropped[3] += 1,
        }
    }
    let mut notes = Vec::new();
    for (count, what) in [
        (dropped[0], "students dropped: no segment file"),
        (dropped[1], "students dropped: no pitch track"),
        (dropped[2], "students dropped: percussion, whose segments have no order"),
        (dropped[3], "students dropped: other than five segments"),
        (without[0], "segments dropped: not assessed"),
        (without[1], "segments dropped: no pitch in them"),
    ] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    }
    if takes.is_empty() {
        let all = [reader.lines(), notes].concat();
        let message = format!("no assessed take of {} students: {}", students.len(), all.join("; "));
        return Err(Error::data(directory, None, message));
    }

    // The criteria that there are, in the order of segments and categories.
    let rated = takes.iter().flat_map(|(segment, take)| {
        let categories = take.ratings.iter().enumerate().filter(|(_, rating)| rating.is_some());
        categories.map(|(category, _)| (*segment, category))
    });
    let criteria: BTreeSet<(usize, usize)> = rated.collect();
    let mut takes: Vec<Take> = takes
        .into_iter()
        .map(|(segment, take)| {
            let of =
                |&(of, category): &(usize, usize)| if of == segment { take.ratings[category] } else { None };
            Take { ratings: criteria.iter().map(of).collect(), ..take }
        })
        .collect();
    takes.sort_by(|a, b| a.id.cmp(&b.id));
    let name =
        |(segment, category): &(usize, usize)| format!("{}.{}", SEGMENTS[*segment], CATEGORIES[*category]);
    Ok(Recordings { criteria: criteria.iter().map(name).collect(), takes, notes, ..Default::default() })
}
