//! How data sets are read.

use super::rating_scale::RatingScale;
use super::scores::Scores;
use crate::audio::SourceOptions;
use crate::{Error, Result};
use std::path::PathBuf;

/// How a data set is read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadOptions {
    /// How its contours are read.
    pub contours: SourceOptions,
    /// The directory where the f0 of recordings is kept, so that each is listened to once; `None`: nothing is kept.
    pub keep: Option<PathBuf>,
    /// Scores of the melodies.
    pub scores: Option<Scores>,
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
