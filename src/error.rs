//! The one error type of the crate.

use crate::names::shown;
use std::path::{Path, PathBuf};

/// Characters of a message and of a path that are shown at most: what foreign files say may be in them.
const MESSAGE: usize = 2000;
const PATH: usize = 1000;
/// A compiler's log may be in what a device says.
const LOG: usize = 20_000;

/// What went wrong, where, and what to do about it.
///
/// Every public function that can fail returns this; nothing panics across the
/// public API. The [`std::fmt::Display`] text is written for the person who has
/// to act on it: it names the file and line, or the op, argument and shapes. Control characters of foreign names and texts are
/// escaped in it, and it is never long.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op was given an argument it does not take.
    #[error("{op}: {argument}: {}", shown(message, MESSAGE))]
    Shape {
        /// The op, e.g. `conv1d`.
        op: &'static str,
        /// The argument at fault, e.g. `weight`.
        argument: &'static str,
        /// What was expected and what was given, both shapes.
        message: String,
    },
    /// A file holds something that cannot be used.
    #[error("{}{}: {}", place(path), line.map(|l| format!(":{l}")).unwrap_or_default(), shown(message, MESSAGE))]
    Data {
        /// The file or directory.
        path: PathBuf,
        /// One-based line, where there is one.
        line: Option<u64>,
        /// What is wrong and what to do.
        message: String,
    },
    /// The operating system refused a file operation.
    #[error("{}: {action} failed: {source}", place(path))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried: `read`, `create`, ...
        action: &'static str,
        /// The system's own error.
        source: std::io::Error,
    },
    /// A setting does not fit: a value out of range, or two that contradict.
    #[error("{}", shown(.0, MESSAGE))]
    Config(String),
    /// A device could not do what was asked.
    #[error("{}: {}", shown(device, PATH), shown(message, LOG))]
    Device {
        /// Which device, e.g. `cpu`.
        device: String,
        /// What failed and what to do.
        message: String,
    },
}

fn place(path: &Path) -> String {
    shown(&path.to_string_lossy(), PATH).into_owned()
}

/// Shorthand for a result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An op was given an argument it does not take.
    pub fn shape(op: &'static str, argument: &'static str, message: impl Into<String>) -> Self {
        Self::Shape { op, argument, message: message.into() }
    }

    /// A file (and, where known, its one-based line) holds something unusable.
    pub fn data(path: impl AsRef<Path>, line: Option<u64>, message: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_path_buf(), line, message: message.into() }
    }

    /// A file operation failed; use as `.map_err(Error::io(path, "read"))`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// A setting does not fit.
    pub fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }

    /// A device could not do what was asked.
    pub fn device(device: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Device { device: device.into(), message: message.into() }
    }
}
