//! Files: read within bounds, written whole or not at all, locked against other processes.

use crate::{Error, Result};
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of the regular file at `path`, at most `limit` of them.
///
/// Pipes, devices and terminals are refused before they are opened, which would wait for a writer or never end.
///
/// # Errors
/// [`Error::Data`] if `path` is no regular file or is larger than `limit`, [`Error::Io`] if it cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| Error::io(path, "read")(source);
    let file = open(path)?;
    let too_large = |size: u64| {
        let message =
            format!("is {size} bytes long; a file of this kind has at most {limit}: is it the right one?");
        Error::data(path, None, message)
    };
    let length = file.metadata().map_err(io)?.len();
    if length > limit {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // It may grow meanwhile, and files of /proc say that they are empty.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// The regular file at `path`, open for reading; others are refused as [`read`] does.
pub(crate) fn open(path: &Path) -> Result<File> {
    let io = |source| Error::io(path, "read")(source);
    let about = fs::metadata(path).map_err(io)?;
    if about.is_dir() {
        return Err(io(ErrorKind::IsADirectory.into()));
    }
    if !about.is_file() {
        return Err(irregular(path));
    }
    File::open(path).map_err(io)
}

/// The text of UTF-16 without its byte order mark; `unit` reads a unit's two bytes. Nothing if it is none, or is cut short.
pub(crate) fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    let text = char::decode_utf16(units.iter().map(|&pair| unit(pair))).collect::<Result<String, _>>();
    text.ok().filter(|_| rest.is_empty())
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
        let new = File::options().write(true).create_new(true).open(&tmp);
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

/// Whether a file manager left this in a folder, and nobody cares: `.DS_Store`, `Thumbs.db`, `desktop.ini`, `._` files.
pub fn is_stray(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let known = [".DS_Store", "Thumbs.db", "desktop.ini"];
    name.starts_with("._") || known.iter().any(|known| known.eq_ignore_ascii_case(&name))
}

/// The right of one process to write somewhere: an advisory lock on a file of its own, which says which process has it.
///
/// It ends with the value, and with the process however that ends: the system lets go of it, so that what a killed process
/// left locks nobody out. On Unix the file goes with it; elsewhere an open file cannot be taken away safely, and it stays.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Locks the file at `path`, made where it is missing, on behalf of `what`, which an error names.
    ///
    /// # Errors
    /// [`Error::Data`] if another process has it, [`Error::Io`] if the file cannot be made or the file system has no locks.
    pub fn take(path: &Path, what: &Path) -> Result<Self> {
        loop {
            let mut open = File::options();
            open.read(true).write(true).create(true).truncate(false);
            let mut file = open.open(path).map_err(Error::io(path, "create"))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::data(what, None, held(&mut file))),
                Err(TryLockError::Error(e)) => return Err(Error::io(path, "lock")(e)),
            }
            // Whoever had it may have removed the file between our opening and our locking it.
            if is_at(&file, path) {
                let say = format!("{}\n", std::process::id());
                let written = file.set_len(0).and_then(|()| file.rewind());
                written.and_then(|()| file.write_all(say.as_bytes())).map_err(Error::io(path, "write"))?;
                return Ok(Self { path: path.to_path_buf(), file });
            }
        }
    }
}

/// That another process has the lock, and which; a system that locks against reading too does not say.
fn held(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(20).read_to_string(&mut text);
    let process = text.trim().parse::<u32>().map_or(String::new(), |id| format!(" (process {id})"));
    format!("another process{process} is writing there: wait until it is done, or name another directory")
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |about: fs::Metadata| (about.dev(), about.ino());
    file.metadata().ok().map(id) == fs::metadata(path).ok().map(id)
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is locked: who opens it meanwhile finds that it is no more.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}
