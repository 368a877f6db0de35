//! What every format comes to.

/// Rows of an f0 file.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Seconds, once `times::seconds` has seen them.
    pub times: Vec<f64>,
    /// Hz, 0 where unvoiced.
    pub hz: Vec<f64>,
    /// The line of each row, from 1.
    pub lines: Vec<u64>,
}

/// What is wrong, and in which line.
#[derive(Debug)]
pub(super) struct Fault {
    pub line: Option<u64>,
    pub message: String,
}

impl Fault {
    pub(super) fn new(line: impl Into<Option<u64>>, message: impl Into<String>) -> Self {
        Self { line: line.into(), message: message.into() }
    }
}
