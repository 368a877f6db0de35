//! Graded performances: loaders, the synthetic set, splits and network inputs.
//!
//! [`load`] (or [`synth::generate`]) gives [`Recordings`]; [`Inputs::build`] turns them into what the network
//! takes; [`split`] divides them by performer.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::audio::Contour;
use crate::{Error, Result};

pub mod inputs;
pub mod manifest;
pub mod mastmelody;
pub(crate) mod random;
pub mod split;
pub mod synth;

pub use inputs::{Example, InputKind, InputOptions, Inputs, Row};
pub use split::{SplitIndices, holdout, k_folds};

/// The criterion a data set with a single unnamed rating rates by.
pub const OVERALL: &str = "overall";

/// One graded performance.
#[derive(Debug, Clone, PartialEq)]
pub struct Take {
    /// Unique among the takes.
    pub id: String,
    /// Who performs: splits never part one performer's takes.
    pub performer: String,
    /// What is performed; [`Reference`]s of the same melody are what it can be compared with.
    pub melody: Option<String>,
    /// The pitch.
    pub contour: Contour,
    /// One rating in 0..=1 per criterion of the [`Recordings`].
    pub ratings: Vec<f32>,
    /// Whether the judges passed it, where the data says.
    pub pass: Option<bool>,
    /// The part of the split the data itself puts it in, if it does.
    pub split: Option<Split>,
}

/// A take of a melody as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Unique among the references.
    pub id: String,
    /// The melody played.
    pub melody: String,
    /// The pitch.
    pub contour: Contour,
}

/// A data set in memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recordings {
    /// What the ratings are for, e.g. `overall`, `rhythm`.
    pub criteria: Vec<String>,
    /// The graded performances, by id.
    pub takes: Vec<Take>,
    /// The reference takes, by id.
    pub references: Vec<Reference>,
    /// What was dropped on loading and why, with counts; for the log.
    pub notes: Vec<String>,
}

/// The parts of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Trained on.
    Train,
    /// Watched while training, to stop and to choose.
    Val,
    /// Looked at once, at the end.
    Test,
}

impl Split {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|split| split.name() == name)
            .ok_or_else(|| Error::config(format!("split {name:?}: expected train, val or test")))
    }
}

/// Loads graded recordings from `path`:
///
/// - a directory in MASTmelody's layout, with `annotations/annotations.csv` and `f0data/` ([`mastmelody`]);
/// - a manifest, a `.csv` file ([`manifest`]), or a directory that holds one named `manifest.csv`.
pub fn load(path: impl AsRef<Path>) -> Result<Recordings> {
    let path = path.as_ref();
    let about = std::fs::metadata(path).map_err(Error::io(path, "open"))?;
    if about.is_dir() {
        let csv = path.join("manifest.csv");
        if csv.is_file() {
            return manifest::load(&csv);
        }
        if path.join("annotations").exists() || path.join("f0data").exists() {
            return mastmelody::load(path);
        }
    } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        return manifest::load(path);
    }
    Err(Error::data(
        path,
        None,
        "no data set; expected a directory with annotations/annotations.csv and f0data/ (MASTmelody), a .csv \
         manifest, or a directory with manifest.csv",
    ))
}
