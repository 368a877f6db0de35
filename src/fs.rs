//! Files: read within bounds, written whole or not at all.

use crate::{Error, Result};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of the regular file at `path`, at most `limit` of them.
///
/// Pipes, devices and terminals are refused before they are opened, which would wait for a writer or never end.
///
/// # Errors
/// [`Error::Data`] if `path` is no regular file or is larger than `limit`, [`Error::Io`] if it cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| Error::io(path, "read")(source);
    let about = fs::metadata(path).map_err(io)?;
    if about.is_dir() {
        return Err(io(ErrorKind::IsADirectory.into()));
    }
    if !about.is_file() {
        return Err(irregular(path));
    }
    let too_large = |size: u64| {
        let message =
            format!("is {size} bytes long; a file of this kind has at most {limit}: is it the right one?");
        Error::data(path, None, message)
    };
    if about.len() > limit {
        return Err(too_large(about.len()));
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    // It may grow meanwhile, and files of /proc say that they are empty.
    fs::File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// The error for what is neither a file nor a directory.
pub(crate) fn irregular(path: &Path) -> Error {
    let message = "is no regular file but a pipe, a socket or a device: write what it gives to a file first";
    Error::data(path, None, message)
}

/// Writes `bytes` to `path` whole or not at all: a temporary file beside it, then a rename.
///
/// # Errors
/// [`Error::Data`] if `path` names no file, [`Error::Io`] if it cannot be written; what was there stays.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    // Unique per call, so two writers (threads or processes) never share a temporary file.
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(Error::data(path, None, "not a file name; name a file to write"));
    };
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let tmp = path.with_file_name(format!(".{}.{}-{call}.tmp", name.to_string_lossy(), std::process::id()));
    let written = {
        let new = fs::File::options().write(true).create_new(true).open(&tmp);
        let mut file = new.map_err(Error::io(path, "create"))?;
        file.write_all(bytes).and_then(|()| file.sync_all())
    };
    let done = written.and_then(|()| fs::rename(&tmp, path));
    if done.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&tmp);
    }
    done.map_err(Error::io(path, "write"))
}
