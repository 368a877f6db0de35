//! `etude score`: grades of takes that nobody has graded.

pub mod command;
mod page;
mod print;
mod scored;
mod scorer;
