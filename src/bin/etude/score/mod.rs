//! `etude score`: grades of takes that nobody has graded.

pub mod command;
mod print;
mod scored;
mod scorer;
