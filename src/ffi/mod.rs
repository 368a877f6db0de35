//! The C ABI: what `include/etude.h` declares, over [`embed`](crate::embed).
//!
//! The header is made of this folder by cbindgen (`cbindgen.toml`), so comments on items speak to C programmers;
//! a test fails when the two differ. Nothing unwinds into C: every entry catches panics.

mod context;
mod contrastive;
mod conv;
mod pointer;
mod similarity;
mod status;
mod types;

pub use context::*;
pub use contrastive::*;
pub use conv::*;
pub use similarity::*;
pub use status::*;
pub use types::*;
