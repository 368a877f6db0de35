//! Metrics, plots, pages and the files a run leaves behind.

pub mod beside;
pub mod calibration;
#[cfg(feature = "cli")]
#[cfg_attr(docsrs, doc(cfg(feature = "cli")))]
pub mod event_file;
pub mod files;
pub mod finished;
pub mod graded;
pub mod interval;
pub mod isotonic;
pub mod measure;
pub mod metrics;
pub mod neighbours;
pub mod ordinal;
#[cfg(feature = "cli")]
#[cfg_attr(docsrs, doc(cfg(feature = "cli")))]
pub mod page;
pub mod paired;
#[cfg(feature = "cli")]
#[cfg_attr(docsrs, doc(cfg(feature = "cli")))]
pub mod plots;
pub mod profile;
pub mod run;
pub mod scores;
