//! The command line.
#![cfg(feature = "cli")]

/// What works, what is refused, what is left behind.
mod commands;
/// Finished runs side by side.
mod compare;
/// Several criteria at once.
mod criteria;
/// Models and checkpoints that are damaged, or say what cannot be.
mod damage;
/// A driver that plays a card.
#[cfg(all(feature = "cuda", target_os = "linux"))]
#[path = "../common/driver.rs"]
mod driver;
/// Which takes a model is tested on.
mod eval;
/// Data that several graded.
mod graders;
/// Inputs that are no files, or no files of ours.
mod inputs;
/// What the machine brings.
mod machine;
/// The page of a run.
mod page;
/// Closed pipes and full disks.
#[cfg(unix)]
mod pipes;
/// Recordings and scores.
mod recordings;
/// Runs that were cut short and taken up again.
mod resume;
/// Grades of takes that nobody has graded.
mod score;
/// The page of graded takes.
mod scored;
/// Changed files with a checksum that is right.
#[path = "../common/seal.rs"]
mod seal;
/// Being asked to stop.
#[cfg(unix)]
mod signals;
/// Ways to train, side by side.
mod study;
/// Event files of TensorBoard.
#[cfg(unix)]
mod tensorboard;
/// Something small to train.
#[path = "../common/tiny.rs"]
mod tiny;
/// Directories that are in use, or were.
mod used;
