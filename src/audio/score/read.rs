//! Scores read.

use super::notes::{Score, ScoreFormat};
use super::{midi, musicxml, mxl};
use crate::{Error, Result, fs};
use std::path::Path;

/// Largest score. A melody of an hour is some 100 kB as MIDI and 10 MB as MusicXML.
const MAX_BYTES: u64 = 1 << 24;

/// Whether bytes are a score, by what they hold: MIDI, MusicXML, or MusicXML compressed.
pub fn is_score(bytes: &[u8]) -> bool {
    midi::is_midi(bytes) || mxl::is_mxl(bytes) || musicxml::is_musicxml(bytes)
}

/// Reads a score of any format of [this table](super).
///
/// # Errors
/// [`Error::Data`] for what is no score, is damaged, has no note or more than a melody, or is no regular file; [`Error::Io`].
pub fn read_score(path: impl AsRef<Path>) -> Result<Score> {
    let path = path.as_ref();
    parse_score(path, &fs::read(path, MAX_BYTES)?)
}

/// Reads a score's bytes as [`read_score`] does; `path` is for messages.
///
/// # Errors
/// As [`read_score`].
pub fn parse_score(path: &Path, bytes: &[u8]) -> Result<Score> {
    parse(bytes).map_err(|message| Error::data(path, None, message))
}

fn parse(bytes: &[u8]) -> Result<Score, String> {
    let mut remarks = Vec::new();
    let (notes, format) = if midi::is_midi(bytes) {
        (midi::parse(bytes, &mut remarks)?, ScoreFormat::Midi)
    } else if mxl::is_mxl(bytes) {
        (musicxml::parse(&mxl::unpack(bytes)?, &mut remarks)?, ScoreFormat::MusicXml)
    } else if musicxml::is_musicxml(bytes) {
        (musicxml::parse(bytes, &mut remarks)?, ScoreFormat::MusicXml)
    } else {
        return Err("is no score: expected MIDI or MusicXML".into());
    };
    Ok(Score { notes, format, remarks })
}
