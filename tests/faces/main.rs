//! What others call: the loss on slices and buffers, and the C ABI.

/// `etude::contrastive`.
mod contrastive_api;
/// The C ABI and its header.
#[cfg(feature = "ffi")]
mod ffi;
/// Overlaps, bad labels, forks.
#[cfg(feature = "ffi")]
mod ffi_mistakes;
