//! How f0 files are read.

use crate::audio::contour::{HOP, check_hop};
use crate::names::named;
use crate::{Error, Result};

/// What f0 is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum F0Unit {
    /// Hertz.
    #[default]
    Hz,
    /// MIDI note numbers, with fractions: 69 is 440 Hz.
    Midi,
}

named!(F0Unit, "f0 unit": Hz "hz", Midi "midi");

/// How f0 files are read.
#[derive(Debug, Clone, PartialEq)]
pub struct F0Options {
    /// Hop of the contour that is made, in seconds.
    pub hop: f64,
    /// Seconds from row to row, for files without times or with frame numbers for times.
    pub row_hop: Option<f64>,
    /// Rows of less confidence are unvoiced, where a file has a confidence; in 0..=1.
    pub min_confidence: f64,
    /// What f0 is counted in, where a file does not say.
    pub unit: F0Unit,
}

impl Default for F0Options {
    /// The hop [`HOP`], times from the files, confidence from 0.5 on, Hz.
    fn default() -> Self {
        Self { hop: HOP, row_hop: None, min_confidence: 0.5, unit: F0Unit::Hz }
    }
}

impl F0Options {
    /// What errors say of a file that takes [`F0Options::row_hop`], so that whoever asks people for it can tell.
    pub const ROW_HOP_ASKED: &str = "say how many seconds apart its rows are";

    /// Whether the values are possible.
    ///
    /// # Errors
    /// [`Error::Config`] for what is out of range.
    pub fn check(&self) -> Result<()> {
        check_hop(self.hop)?;
        if let Some(hop) = self.row_hop {
            check_hop(hop)?;
        }
        if !(0.0..=1.0).contains(&self.min_confidence) {
            let message = format!("least confidence {}: expected 0 to 1", self.min_confidence);
            return Err(Error::config(message));
        }
        Ok(())
    }
}
