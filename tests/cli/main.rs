//! The command line.
#![cfg(feature = "cli")]

/// What works, what is refused, what is left behind.
mod commands;
/// Inputs that are no files, or no files of ours.
mod inputs;
/// What the machine brings.
mod machine;
/// Closed pipes and full disks.
#[cfg(unix)]
mod pipes;
/// Runs that were cut short and taken up again.
mod resume;
/// Being asked to stop.
#[cfg(unix)]
mod signals;
/// Directories that are in use, or were.
mod used;
