//! Graded performances: loaders, the synthetic set, splits and network inputs.
//!
//! [`load()`] (or [`synth::generate`]) gives [`Recordings`]; [`Inputs::build`] turns them into what the network
//! takes; [`split`] divides them by performer or melody.

mod columns;
pub(crate) mod comparison;
mod contents;
mod degrade;
mod f0_notes;
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
mod recordings;
pub mod split;
pub mod synth;
mod table;

pub use comparison::{Comparison, Row, Shown};
pub use contents::Contents;
pub use f0_notes::F0Notes;
pub use input_options::{InputKind, InputOptions};
pub use inputs::{Example, Inputs};
pub use load::load;
pub use load_options::LoadOptions;
pub use rating_scale::RatingScale;
pub use recordings::{Graders, OVERALL, Recordings, Reference, Take};
pub use split::{Groups, Split, SplitBy, SplitIndices, holdout, k_folds};
