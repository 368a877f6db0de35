//! Files that are whole or absent.

use crate::{Error, Result};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

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
