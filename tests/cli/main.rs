//! The command line.
#![cfg(feature = "cli")]

/// What works, what is refused, what is left behind.
mod commands;
/// What the machine brings.
mod machine;
/// Runs that were cut short and taken up again.
mod resume;
