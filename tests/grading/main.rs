//! Graded recordings in, reports out.

/// The corpora of the fuzz targets.
mod data_corpus;
/// Auditions of the Florida Bandmasters Association.
mod data_fba;
/// Manifests and the synthetic set.
mod data_manifest;
/// MASTmelody's layout.
mod data_mastmelody;
/// Where few takes are graded.
mod degraded;
/// f0 files of every format.
mod f0_files;
/// Pitch tracking.
#[cfg(feature = "audio")]
mod pitch;
/// Two trackers on one melody.
mod pitch_agreement;
/// Recordings of every format.
#[cfg(feature = "audio")]
mod recordings;
/// The directory of a run.
mod report_files;
/// Grades on a scale, of several graders, against scikit-learn and krippendorff.
mod report_grades;
/// Metrics against scikit-learn and scipy.
mod report_metrics;
/// Statistics of a study, against scikit-learn and scipy.
mod report_paired;
/// The plots.
#[cfg(feature = "cli")]
mod report_plots;
/// Scores against pretty_midi and music21, and what is refused.
#[cfg(feature = "audio")]
mod scores;
