//! Tells which kind of data set a path is.

use super::fba;
use super::load_options::LoadOptions;
use super::manifest;
use super::mastmelody;
use super::reader::{ContourReader, ReadProgress};
use super::recordings::Recordings;
use super::scores;
use super::table;
use crate::{Error, Result, fs};
use std::path::{Path, PathBuf};

/// Loads graded recordings from `path`:
///
/// - a manifest, a table in a file of any name ([`manifest`]), or a directory that holds one named `manifest.csv`,
///   `manifest.tsv` or `manifest.txt`;
/// - a directory in MASTmelody's layout, with `annotations/annotations.csv` and `f0data/` ([`mastmelody`]);
/// - a directory of the Florida Bandmasters Association's auditions, with `<student>/<student>_assessments.txt` in it or below
///   ([`fba`]).
///
/// # Errors
/// [`Error::Data`] with file and line for everything malformed, and where `path` is none of these; [`Error::Io`] where a file
/// cannot be read.
pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Recordings> {
    load_with_progress(path, options, &|_, _| {})
}

/// As [`load`], and `progress` is called from any thread with the files read so far, and how many are known to be read: listening
/// to recordings takes its time.
///
/// # Errors
/// As [`load`].
pub fn load_with_progress(
    path: impl AsRef<Path>,
    options: &LoadOptions,
    progress: ReadProgress<'_>,
) -> Result<Recordings> {
    let path = path.as_ref();
    let reader = &ContourReader::new(&options.contours, options.keep.as_deref(), progress);
    let mut recordings = recordings(path, options, reader)?;
    if let Some(scores) = &options.scores {
        scores::add(&mut recordings, scores, reader)?;
    }
    recordings.notes.splice(0..0, reader.lines());
    Ok(recordings)
}

/// What is at `path`.
fn recordings(path: &Path, options: &LoadOptions, reader: &ContourReader<'_>) -> Result<Recordings> {
    let about = std::fs::metadata(path).map_err(Error::io(path, "open"))?;
    if about.is_dir() {
        if let Some(manifest) = manifest_in(path)? {
            return manifest::load(manifest, options, reader);
        }
        if path.join("annotations").exists() || path.join("f0data").exists() {
            return mastmelody::load(path, options, reader);
        }
        if fba::is_fba(path) {
            return fba::load(path, options, reader);
        }
        return Err(Error::data(
            path,
            None,
            "no data set: looked for manifest.csv, manifest.tsv or manifest.txt, for annotations/annotations.csv and f0data/ \
             (MASTmelody), and for <student>/<student>_assessments.txt here or below (FBA); expected a directory with \
             annotations, one of students, or a manifest",
        ));
    }
    if !about.is_file() {
        return Err(fs::irregular(path));
    }
    let named =
        path.extension().is_some_and(|e| ["csv", "tsv"].iter().any(|known| e.eq_ignore_ascii_case(known)));
    if named || manifest::is_manifest(path, &fs::read(path, table::MAX_BYTES)?) {
        return manifest::load(path, options, reader);
    }
    Err(Error::data(
        path,
        None,
        "no manifest: looked for a table with the columns path and performer; a data set is a manifest, or a directory with one \
         or in the layout of MASTmelody or FBA",
    ))
}

/// The manifest in a directory, if it holds one.
fn manifest_in(directory: &Path) -> Result<Option<PathBuf>> {
    let names = ["manifest.csv", "manifest.tsv", "manifest.txt"];
    let mut found: Vec<PathBuf> =
        names.iter().map(|name| directory.join(name)).filter(|path| path.exists()).collect();
    if found.len() > 1 {
        return Err(Error::data(
            directory,
            None,
            "holds more than one manifest; name the file that is meant",
        ));
    }
    Ok(found.pop())
}
