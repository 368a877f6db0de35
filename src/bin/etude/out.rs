//! Standard output and standard error. Neither ends a run: a pipe that nobody reads any more, a full disk, no terminal.
//!
//! What cannot be said on standard error is left unsaid. What cannot be written to standard output shows in the exit code:
//! 141 where its reader is gone, as of a program that SIGPIPE ended, and 1 with a message otherwise.

use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

/// The exit code of a program that SIGPIPE ended.
const GONE: u8 = 128 + 13;

/// Why standard output is of no use any more.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Takes note of what became of a write to standard output.
pub fn wrote(done: io::Result<()>) {
    if let Err(e) = done.and_then(|()| io::stdout().flush()) {
        LOST.get_or_init(|| e);
    }
}

/// Writes to standard output, until that fails once.
pub fn print(text: &str) {
    if !is_lost() {
        wrote(io::stdout().write_all(text.as_bytes()));
    }
}

/// Writes to standard error.
pub fn note(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether nothing more can be printed.
pub fn is_lost() -> bool {
    LOST.get().is_some()
}

/// The exit code of a command that did its work.
pub fn code() -> u8 {
    match LOST.get() {
        None => 0,
        Some(e) if e.kind() == ErrorKind::BrokenPipe => GONE,
        Some(e) => {
            note(&format!("error: standard output: write failed: {e}\n"));
            1
        }
    }
}

/// A line on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::out::print(&(format!($($text)*) + "\n")) };
}

/// A line on standard error.
macro_rules! tell {
    ($($text:tt)*) => { $crate::out::note(&(format!($($text)*) + "\n")) };
}

pub(crate) use {say, tell};
