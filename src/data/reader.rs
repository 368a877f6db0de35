//! Contours of many files: what they were is told once for all of them, and what took long is kept.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::audio::f0::MAX_BYTES;
use crate::audio::source::{SourceKind, SourceOptions, is_recording, read_source};
use crate::audio::{Contour, F0Options, TrackFormat, parse_f0};
use crate::hash::Fnv1a;
use crate::{Error, Result, fs};

/// Counted up when recordings give other f0 than before, so that what was kept of them is not taken for it.
const TRACKER: u32 = 1;

/// Called from any thread with the files read so far, and how many are known to be read.
pub type ReadProgress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Reads the contours of a data set, on any number of threads.
pub struct ContourReader<'a> {
    options: SourceOptions,
    keep: Option<PathBuf>,
    progress: ReadProgress<'a>,
    done: AtomicUsize,
    of: AtomicUsize,
    counts: Mutex<BTreeMap<(SourceKind, String), usize>>,
}

impl<'a> ContourReader<'a> {
    /// Reads files so, and keeps the f0 of recordings in the directory `keep`, made where it is missing, by what is in them: the
    /// same recording is listened to once, wherever it lies and whatever it is called.
    pub fn new(options: &SourceOptions, keep: Option<&Path>, progress: ReadProgress<'a>) -> Self {
        Self {
            options: options.clone(),
            keep: keep.map(Path::to_path_buf),
            progress,
            done: AtomicUsize::new(0),
            of: AtomicUsize::new(0),
            counts: Mutex::default(),
        }
    }

    /// So many more files are going to be read.
    pub fn expect(&self, files: usize) {
        self.of.fetch_add(files, Ordering::Relaxed);
    }

    /// Reads a file of any kind.
    ///
    /// # Errors
    /// As [`read_source`]; [`Error::Io`] where what is to be kept cannot be.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Contour> {
        let path = path.as_ref();
        let kept = match &self.keep {
            Some(directory) if is_recording(path)? => Some(directory.join(self.name(path)?)),
            _ => None,
        };
        let contour = match kept.as_deref().and_then(|kept| self.kept(kept)) {
            Some(contour) => {
                self.count(SourceKind::Recording, "whose f0 was kept".to_string());
                contour
            }
            None => self.listen(path, kept.as_deref())?,
        };
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        (self.progress)(done, self.of.load(Ordering::Relaxed).max(done));
        Ok(contour)
    }

    fn listen(&self, path: &Path, keep: Option<&Path>) -> Result<Contour> {
        let source = read_source(path, &self.options)?;
        if let Some(keep) = keep {
            let directory = keep.parent().unwrap_or(Path::new(""));
            std::fs::create_dir_all(directory).map_err(Error::io(directory, "create"))?;
            fs::write_atomic(keep, source.track.csv(TrackFormat::Etude).as_bytes())?;
        }
        self.count(source.kind, format!("read as {}", source.format));
        for note in source.notes {
            self.count(source.kind, format!(": {note}"));
        }
        Ok(source.contour)
    }

    /// What was kept of a recording; what cannot be read is as good as nothing.
    fn kept(&self, path: &Path) -> Option<Contour> {
        let bytes = fs::read(path, MAX_BYTES).ok()?;
        // It is in our own form, whatever other files are in, and says itself what is voiced.
        let own = F0Options { hop: self.options.f0.hop, min_confidence: 0.0, ..F0Options::default() };
        parse_f0(path, &bytes, &own).ok().map(|file| file.contour)
    }

    /// The name of the file that keeps the f0 of a recording.
    fn name(&self, path: &Path) -> Result<String> {
        let mut hash = Fnv1a::default();
        hash.add_words(&[TRACKER]);
        hash.add(&[self.options.range.0, self.options.range.1].map(f64::to_le_bytes).concat());
        let (mut file, mut buffer) = (fs::open(path)?, vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer).map_err(Error::io(path, "read"))? {
                0 => return Ok(format!("{:016x}.csv", hash.get())),
                read => hash.add(&buffer[..read]),
            }
        }
    }

    fn count(&self, kind: SourceKind, what: String) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((kind, what)).or_default() += 1;
    }

    /// What the files were read as so far, a line each, in the same order always.
    pub fn lines(&self) -> Vec<String> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: Vec<_> = counts.iter().collect();
        // What the files are comes before what was found out of them.
        counts.sort_by_key(|((kind, what), _)| (*kind, what.starts_with(':'), what.clone()));
        let line = |((kind, what), count): (&(SourceKind, String), &usize)| {
            let space = if what.starts_with(':') { "" } else { " " };
            format!("{count} {}{space}{what}", kind.noun(*count))
        };
        counts.into_iter().map(line).collect()
    }
}
