//! The directory of a page that is no run's.

use crate::failure::Failure;
use etude::Error;
use etude::names::few;
use etude::report::files::{Earlier, OutDir};
use std::path::Path;

/// Names of files that a message lists at most.
const SHOWN: usize = 8;

/// Opens the directory for a page and what lies beside it, files of these names. One that holds some of them already is refused,
/// but to be overwritten, and one that holds a run always.
pub fn claim(out: &Path, overwrite: bool, names: &[&str]) -> Result<OutDir, Failure> {
    let out = OutDir::open(out)?;
    let holds = match out.earlier() {
        Earlier::Nothing => None,
        Earlier::Files(found) => {
            let listed = few(found.iter().map(String::as_str), SHOWN);
            match found.iter().all(|name| names.contains(&name.as_str())) {
                true => (!overwrite)
                    .then(|| (format!("holds a page: {listed}"), "; --overwrite replaces the page")),
                false => Some((format!("holds a run of training, or another page: {listed}"), "")),
            }
        }
        Earlier::Unfinished => Some(("holds a run of training, and its checkpoint".to_string(), "")),
    };
    match holds {
        None => Ok(out),
        Some((what, or)) => {
            let hint = format!("name another directory for --out{or}");
            Err(Failure::hint(hint)(Error::data(out.path(), None, what)))
        }
    }
}
