//! What a device has been asked for.

/// What a device has been asked for so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Kernels started; a launch may take several.
    pub dispatches: u64,
    /// Lists of commands handed to the driver.
    pub submissions: u64,
    /// Copies from host memory.
    pub writes: u64,
    /// Copies to host memory, each of which waits.
    pub reads: u64,
}

impl Traffic {
    /// What came after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            dispatches: self.dispatches - before.dispatches,
            submissions: self.submissions - before.submissions,
            writes: self.writes - before.writes,
            reads: self.reads - before.reads,
        }
    }
}
