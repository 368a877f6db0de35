//! The command line.
#![cfg(feature = "cli")]

/// What works, what is refused, what is left behind.
mod commands;
/// What the machine brings.
mod machine;
/// Inputs that are no files, or no files of ours.
mod inputs;
/// Runs that were cut short and taken up again.
mod resume;
