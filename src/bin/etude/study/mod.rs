//! `etude study`: many ways to train, side by side.

mod arm;
pub mod command;
mod file;
mod prepared;
pub mod records;
mod results;
mod run;
mod table;
mod work;
