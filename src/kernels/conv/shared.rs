//! An output that several tasks write at once.

/// An output that tasks write disjoint parts of.
pub struct Shared(pub *mut f32);

// SAFETY: tasks write the positions of their own tiles only; no two tiles share one.
unsafe impl Sync for Shared {}
