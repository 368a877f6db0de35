//! What a recording is once it was read.

/// Samples a second of every [`Recording`].
pub const RATE: u32 = 44_100;

/// Longest recording, in seconds: an hour.
pub const MAX_SECONDS: u64 = 3600;

/// A recording, mixed to one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Samples in −1..=1 at [`RATE`], finite, at least one.
    pub samples: Vec<f32>,
    /// Samples a second in the file.
    pub rate: u32,
    /// Channels in the file, of which `samples` are the mean.
    pub channels: usize,
    /// How it was coded, by the name of its codec.
    pub codec: String,
    /// What was left out.
    pub remarks: Vec<String>,
}

impl Recording {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(RATE)
    }
}
