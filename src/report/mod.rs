//! Metrics, plots and the files a run leaves behind.

pub mod files;
pub mod metrics;
#[cfg(feature = "cli")]
#[cfg_attr(docsrs, doc(cfg(feature = "cli")))]
pub mod plots;
pub mod profile;
pub mod run;
pub mod scores;
