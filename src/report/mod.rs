//! Metrics, plots and the files a run leaves behind.
