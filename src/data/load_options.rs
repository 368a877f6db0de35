//! How data sets are read.

use super::rating_scale::RatingScale;
use crate::audio::F0Options;
use crate::{Error, Result};

/// How a data set is read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadOptions {
    /// How its f0 files are read.
    pub f0: F0Options,
    /// The scale of its ratings. `None`: what the data itself says, else 0..1. An error where the data says another.
    pub rating_scale: Option<RatingScale>,
}

impl LoadOptions {
    /// Checks that nobody asked for another scale than the one that a data set has by definition.
    pub(super) fn expect_scale(&self, what: &str, scale: RatingScale) -> Result<()> {
        match self.rating_scale {
            Some(asked) if asked != scale => {
                Err(Error::config(format!("rating scale {asked}: {what} are on {scale}; leave it out")))
            }
            _ => Ok(()),
        }
    }
}
