//! What f0 files were read as, told once for all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::Result;
use crate::audio::{Contour, F0File, F0Options, read_f0};

/// Counts what the f0 files of a data set are, on any number of threads.
#[derive(Debug, Default)]
pub struct F0Notes(Mutex<BTreeMap<String, usize>>);

impl F0Notes {
    /// Reads an f0 file.
    ///
    /// # Errors
    /// As [`read_f0`].
    pub fn read(&self, path: impl AsRef<Path>, options: &F0Options) -> Result<Contour> {
        let F0File { contour, format, notes, .. } = read_f0(path, options)?;
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A blank sorts before a colon, so that what the files are comes first.
        *counts.entry(format!(" read as {format}")).or_default() += 1;
        for note in notes {
            *counts.entry(format!(": {note}")).or_default() += 1;
        }
        Ok(contour)
    }

    /// A line each, in the same order always.
    pub fn lines(self) -> Vec<String> {
        let counts = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let files = |count| if count == 1 { "f0 file" } else { "f0 files" };
        counts.into_iter().map(|(what, count)| format!("{count} {}{what}", files(count))).collect()
    }
}
