//! Metrics, plots and the files a run leaves behind.

pub mod files;
pub mod metrics;
