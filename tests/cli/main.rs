//! The command line.
#![cfg(feature = "cli")]

/// What works, what is refused, what is left behind.
mod commands;
/// Runs that were cut short and taken up again.
mod resume;
