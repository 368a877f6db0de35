//! The rules of the house: what holds of the sources themselves.

/// What Markdown files say of the code.
mod documents;
/// Layers, circles, who knows which library.
mod layers;
/// Sizes, `mod.rs` files, names of shared parts.
mod shape;
/// The sources as the rules read them.
mod source;
/// A small set to train on.
#[path = "../common/training.rs"]
mod training;
/// Messages and documents.
mod words;

/// The CUDA sources against their rows.
mod cuda_sources;
/// The rows against their sources and the case table.
mod kernel_sources;
/// The shaders against their rows.
#[cfg(feature = "wgpu")]
mod wgpu_shaders;
