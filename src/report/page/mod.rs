//! Pages as HTML text, each one file that opens offline: nothing is fetched, and no script runs but one of this crate's where
//! there is sound.
//!
//! What is foreign, such as names of files, melodies and criteria, is escaped by the templates.

mod base;
mod compared;
mod figures;
mod measures;
mod run;
mod scored;
mod section;
mod take;
mod training;

pub use compared::compared_page;
pub use run::{Embeddings, Setting, Tested, TrainingRun};
pub use scored::{SOUND_RATE, ScoredPage};
pub use take::{CriterionGrade, GradedTake, Grader, Sound};
pub use training::training_page;
