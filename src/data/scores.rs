//! Scores of melodies: a directory of them, beside or instead of reference takes.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::reader::ContourReader;
use super::recordings::{Recordings, Reference};
use crate::{Error, Result};

/// What scores are called: `<melody>` and one of these endings.
const ENDINGS: [&str; 5] = ["mid", "midi", "musicxml", "xml", "mxl"];

/// Where scores of melodies are, and what they stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// The directory, with a file `<melody>.mid`, `.midi`, `.musicxml`, `.xml` or `.mxl` for each melody.
    pub directory: PathBuf,
    /// Whether they stand for all other references, which are left out then.
    pub alone: bool,
}

/// Adds the scores of melodies that are sung; says how many there are and lack.
pub(super) fn add(recordings: &mut Recordings, scores: &Scores, reader: &ContourReader<'_>) -> Result<()> {
    let directory = &scores.directory;
    // Seen now, with its own error, and not as scores that are not there.
    std::fs::read_dir(directory).map_err(Error::io(directory, "read"))?;
    let mut melodies: Vec<&str> = recordings.takes.iter().filter_map(|take| take.melody.as_deref()).collect();
    melodies.sort_unstable();
    melodies.dedup();
    let found: Vec<(String, PathBuf)> =
        melodies.iter().filter_map(|melody| Some(((*melody).to_owned(), file(directory, melody)?))).collect();
    if found.is_empty() {
        let names = format!("<melody>.{}", ENDINGS.join(", ."));
        let message =
            format!("holds no score of the {} melodies that are sung: expected {names}", melodies.len());
        return Err(Error::data(directory, None, message));
    }
    reader.expect(found.len());
    let (scored, all) = (found.len(), melodies.len());
    let read = |(melody, path): (String, PathBuf)| -> Result<Reference> {
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Reference { id, melody, contour: reader.read(&path)? })
    };
    let read: Vec<Reference> = found.into_par_iter().map(read).collect::<Result<_>>()?;
    if scores.alone {
        recordings.references.clear();
    }
    recordings.references.extend(read);
    recordings.references.sort_by(|a, b| (&a.id, &a.melody).cmp(&(&b.id, &b.melody)));
    recordings.notes.push(format!("scores of {scored} of {all} melodies"));
    Ok(())
}

/// The score of a melody; a name that leads out of the directory is nobody's.
fn file(directory: &Path, melody: &str) -> Option<PathBuf> {
    let plain = !melody.contains(['/', '\\']);
    let paths = ENDINGS.iter().map(|ending| directory.join(format!("{melody}.{ending}")));
    plain.then(|| paths.into_iter().find(|path| path.is_file()))?
}
