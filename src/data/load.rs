//! Tells which kind of data set a path is.

use super::load_options::LoadOptions;
use super::manifest;
use super::mastmelody;
use super::recordings::Recordings;
use crate::{Error, Result, fs};
use std::path::Path;

/// Loads graded recordings from `path`:
///
/// - a directory in MASTmelody's layout, with `annotations/annotations.csv` and `f0data/` ([`mastmelody`]);
/// - a manifest, a `.csv` file ([`manifest`]), or a directory that holds one named `manifest.csv`.
pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Recordings> {
    let path = path.as_ref();
    let about = std::fs::metadata(path).map_err(Error::io(path, "open"))?;
    if about.is_dir() {
        let csv = path.join("manifest.csv");
        if csv.exists() {
            return manifest::load(&csv, options);
        }
        if path.join("annotations").exists() || path.join("f0data").exists() {
            return mastmelody::load(path, options);
        }
    } else if !about.is_file() {
        return Err(fs::irregular(path));
    } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        return manifest::load(path, options);
    }
    Err(Error::data(
        path,
        None,
        "no data set; expected a directory with annotations/annotations.csv and f0data/ (MASTmelody), a .csv \
         manifest, or a directory with manifest.csv",
    ))
}
