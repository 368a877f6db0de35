//! Takes that a manifest lists, before any of their files is read: for those who grade what nobody has graded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::Files;
use super::recordings::plain;
use super::table::{self, Table};
use crate::{Error, Result, fs};

/// A take that a manifest lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its `path` as written there, or as [`super::manifest`] names the file if it is there.
    pub id: String,
    /// Where that is.
    pub path: PathBuf,
    /// The references of its melody, by name.
    pub references: Vec<PathBuf>,
}

fn column(table: &Table, name: &str) -> Option<usize> {
    table.header.iter().position(|written| plain(written) == name)
}

/// Whether a file is a manifest by its name, and begins as one: with names of columns, `path` among them.
pub fn is_manifest(path: &Path) -> bool {
    let named = |e: &std::ffi::OsStr| ["csv", "tsv"].iter().any(|known| e.eq_ignore_ascii_case(known));
    if !path.extension().is_some_and(named) {
        return false;
    }
    let table = fs::read(path, table::MAX_BYTES).and_then(|bytes| Table::parse(path, &bytes));
    table.is_ok_and(|table| column(&table, "path").is_some())
}

/// The takes of a manifest, in its order. Of its columns `path`, `reference` and `melody` are read; see [`super::manifest`].
///
/// # Errors
/// When the manifest cannot be read, is no table, or lists no takes. Whether the files that it names are there is seen later.
pub fn list(manifest: &Path) -> Result<Vec<Listed>> {
    let table = Table::parse(manifest, &fs::read(manifest, table::MAX_BYTES)?)?;
    let Some(path) = column(&table, "path") else {
        return Err(Error::data(manifest, Some(table.header_line), "missing column path"));
    };
    let [reference, melody] = ["reference", "melody"].map(|name| column(&table, name));
    let base = manifest.parent().unwrap_or(Path::new(""));
    let mut files = Files::default();
    let mut find = |name: &str| match files.find(base, name) {
        Ok(file) => (file.id, file.path),
        Err(_) => (name.to_owned(), base.join(name)),
    };
    let mut lines = Vec::new();
    let mut of_melody: BTreeMap<String, Vec<(String, PathBuf)>> = BTreeMap::new();
    for row in &table.rows {
        let filled = |column: Option<usize>| {
            column.map(|column| row.cells[column].as_str()).filter(|cell| !table::is_missing(cell))
        };
        if row.cells[path].is_empty() {
            return Err(Error::data(manifest, Some(row.line), "path is empty"));
        }
        let references = filled(reference).unwrap_or_default();
        let melody = filled(melody).unwrap_or(references).to_owned();
        let names = references.split(';').map(str::trim).filter(|name| !name.is_empty());
        of_melody.entry(melody.clone()).or_default().extend(names.map(&mut find));
        lines.push((find(&row.cells[path]), melody));
    }
    if lines.is_empty() {
        return Err(Error::data(manifest, None, "no takes below the header"));
    }
    for references in of_melody.values_mut() {
        references.sort();
        references.dedup();
    }
    let listed = |((id, path), melody): ((String, PathBuf), String)| {
        let references = of_melody[&melody].iter().map(|(_, path)| path.clone()).collect();
        Listed { id, path, references }
    };
    Ok(lines.into_iter().map(listed).collect())
}
