//! Files by the names that people give them in a table.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use crate::names::quoted;

/// A file that a table names.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// Its name as written, with `/` between its parts, without `./`, composed.
    pub id: String,
    pub path: PathBuf,
    /// The same for all names of one file.
    pub number: usize,
}

/// Knows one file under all of its names.
#[derive(Default)]
pub(super) struct Files {
    /// By the path without links, composed.
    by_path: HashMap<String, usize>,
    /// By device and inode, where a file has several hard links.
    by_inode: HashMap<(u64, u64), usize>,
    count: usize,
}

impl Files {
    /// The file called `name`, relative to `base`: as written, else with `/` for `\`, else composed or decomposed.
    ///
    /// An error says what is wrong with it.
    pub fn find(&mut self, base: &Path, name: &str) -> Result<Named, String> {
        let slashes = name.replace('\\', "/");
        let spellings =
            [name, &slashes].into_iter().flat_map(|s| [s.to_owned(), s.nfc().collect(), s.nfd().collect()]);
        let mut first = None;
        for spelling in spellings {
            let path = base.join(&spelling);
            // A link of /proc leads somewhere without a name.
            match fs::canonicalize(&path)
                .or_else(|error| fs::metadata(&path).map(|_| path.clone()).map_err(|_| error))
            {
                Ok(real) => {
                    let number = self.number(&real);
                    return Ok(Named { id: clean(&spelling), path, number });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => _ = first.get_or_insert(error),
                Err(error) => return Err(format!("{}: {error}", quoted(&path.display().to_string()))),
            }
        }
        let reason = match first {
            Some(error) if !is_windows_absolute(name) => error.to_string(),
            _ => "no such file here; write paths relative to the manifest".into(),
        };
        Err(format!("{}: {reason}", quoted(&base.join(name).display().to_string())))
    }

    fn number(&mut self, real: &Path) -> usize {
        let composed: String = real.to_string_lossy().nfc().collect();
        let inode = inode(real);
        let known = self.by_path.get(&composed).or_else(|| self.by_inode.get(&inode?));
        let number = known.copied().unwrap_or(self.count);
        self.count = self.count.max(number + 1);
        self.by_path.insert(composed, number);
        inode.map(|inode| self.by_inode.insert(inode, number));
        number
    }
}

/// A name without the parts that say nothing.
fn clean(name: &str) -> String {
    let root = if name.starts_with('/') { "/" } else { "" };
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    format!("{root}{}", parts.join("/")).nfc().collect()
}

/// `C:\a.txt`, `C:/a.txt` or `\\server\a.txt`.
fn is_windows_absolute(name: &str) -> bool {
    let mut chars = name.chars();
    let drive = chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':');
    drive && matches!(chars.next(), Some('\\' | '/')) || name.starts_with("\\\\")
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let about = fs::metadata(path).ok()?;
    // Some file systems number files anew at every look; those know no links.
    (about.nlink() > 1 && about.is_file()).then(|| (about.dev(), about.ino()))
}

#[cfg(not(unix))]
fn inode(_: &Path) -> Option<(u64, u64)> {
    None
}
