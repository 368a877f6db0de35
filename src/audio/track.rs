//! f0 over time, as a tracker finds it, and the files that it is written to.

use super::contour::{Contour, midi_to_hz};
use crate::names::named;
use std::fmt::Write;

/// Whose files f0 is written like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum TrackFormat {
    /// `time,f0,probability`, f0 0 where unvoiced.
    #[default]
    Etude,
    /// Tony's: time and f0 without names, unvoiced rows left out.
    Tony,
    /// CREPE's: `time,frequency,confidence`.
    Crepe,
}

named!(TrackFormat, "format": Etude "etude", Tony "tony", Crepe "crepe");

/// f0 at rising times.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Track {
    /// In seconds.
    pub times: Vec<f64>,
    /// In Hz, 0 where unvoiced; as many as times.
    pub f0: Vec<f64>,
    /// How likely each is voiced, in 0..=1; none where nobody said.
    pub probability: Vec<f64>,
}

impl Track {
    /// The frames of a contour.
    pub fn of(contour: &Contour) -> Self {
        let hz = |&pitch: &f32| if pitch > 0.0 { midi_to_hz(f64::from(pitch)) } else { 0.0 };
        Self {
            times: (0..contour.len()).map(|frame| frame as f64 * contour.hop()).collect(),
            f0: contour.pitch().iter().map(hz).collect(),
            probability: Vec::new(),
        }
    }

    /// As the text of a file; where no probability is known it is 1 or 0. In Etude's own format numbers are written so that they
    /// are read back bit for bit.
    pub fn csv(&self, format: TrackFormat) -> String {
        let mut text = String::from(match format {
            TrackFormat::Etude => "time,f0,probability\n",
            TrackFormat::Tony => "",
            TrackFormat::Crepe => "time,frequency,confidence\n",
        });
        for (row, (time, f0)) in self.times.iter().zip(&self.f0).enumerate() {
            let voiced = if *f0 > 0.0 { 1.0 } else { 0.0 };
            let probability = self.probability.get(row).copied().unwrap_or(voiced);
            // Writing to a string does not fail.
            let _ = match format {
                TrackFormat::Etude => writeln!(text, "{time},{f0},{probability}"),
                TrackFormat::Tony if *f0 > 0.0 => writeln!(text, "{time:.9},{f0:.3}"),
                TrackFormat::Tony => Ok(()),
                TrackFormat::Crepe => writeln!(text, "{time:.6},{f0:.3},{probability:.6}"),
            };
        }
        text
    }
}
