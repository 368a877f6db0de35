//! What the loaders say of a file that is no proper CSV.

use crate::Error;
use std::path::Path;

/// Largest table of takes or grades: a million rows.
pub(super) const MAX_BYTES: u64 = 1 << 27;

/// A `csv` error as ours, with its line where it has one.
pub(super) fn csv_error(path: &Path, error: csv::Error) -> Error {
    let line = error.position().map(csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::io(path, "read")(source),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Error::data(path, line, format!("{len} fields, but the header has {expected_len}"))
        }
        csv::ErrorKind::Utf8 { .. } => Error::data(path, line, "not UTF-8 text"),
        other => Error::data(path, line, format!("not CSV: {other:?}")),
    }
}
