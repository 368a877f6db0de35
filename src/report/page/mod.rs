//! Pages as HTML text, each one file that opens offline: no script, and nothing is fetched.
//!
//! What is foreign, such as names of files, melodies and criteria, is escaped by the templates.

mod base;
mod figures;
mod measures;
mod run;
mod training;

pub use run::{Embeddings, Setting, Tested, TrainingRun};
pub use training::training_page;
