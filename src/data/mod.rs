//! Graded performances: loaders, the synthetic set, splits and network inputs.
//!
//! [`load()`] (or [`synth::generate`]) gives [`Recordings`]; [`Inputs::build`] turns them into what the network
//! takes; [`split`] divides them by performer or melody.

mod columns;
pub(crate) mod comparison;
mod contents;
mod costly;
mod degrade;
pub mod fba;
mod files;
pub(crate) mod input_options;
pub mod inputs;
pub mod known;
pub mod listing;
mod load;
mod load_options;
pub mod manifest;
pub mod mastmelody;
pub(crate) mod random;
mod rating_scale;
mod reader;
mod recordings;
mod repairs;
mod scores;
pub mod split;
pub mod synth;
mod table;

pub use comparison::{Comparison, Row, Shown};
pub use contents::Contents;
pub use costly::CostlySpan;
pub use input_options::{InputKind, InputOptions};
pub use inputs::{Example, Inputs};
pub use load::{load, load_with_progress};
pub use load_options::LoadOptions;
pub use rating_scale::RatingScale;
pub use reader::{ContourReader, ReadProgress};
pub use recordings::{Graders, OVERALL, Recordings, Reference, Take};
pub use repairs::{NoteCost, Repairs};
pub use scores::Scores;
pub use split::{Groups, Split, SplitBy, SplitIndices, holdout, k_folds};
