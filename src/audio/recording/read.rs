//! Recordings read from files.

use super::decode;
use super::recorded::Recording;
use crate::{Error, Result, fs};
use std::path::Path;

/// Reads a recording of any kind of [this table](super), packet by packet: memory is that of its samples at 44.1 kHz.
///
/// # Errors
/// [`Error::Data`] for what is no such recording, is damaged or cut short, has samples that are no numbers, none at all, or more
/// than an hour of them; [`Error::Io`].
pub fn read_recording(path: impl AsRef<Path>) -> Result<Recording> {
    let path = path.as_ref();
    let file = fs::open(path)?;
    decode::decode(file).map_err(|message| Error::data(path, None, message))
}

/// Reads a recording's bytes as [`read_recording`] does; `path` is for messages.
///
/// # Errors
/// As [`read_recording`].
pub fn parse_recording(path: &Path, bytes: &[u8]) -> Result<Recording> {
    decode::decode(decode::memory(bytes)).map_err(|message| Error::data(path, None, message))
}
