//! How data sets are read.

use crate::audio::F0Options;

/// How a data set is read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadOptions {
    /// How its f0 files are read.
    pub f0: F0Options,
}
