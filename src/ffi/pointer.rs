//! Pointers that may be null.

use crate::{Error, Result};

pub(super) fn null(op: &'static str, argument: &'static str) -> Error {
    Error::shape(op, argument, "is null")
}

/// # Safety
/// `pointer` is null or valid to read for as long as the result is used.
pub(super) unsafe fn some<'a, T>(
    op: &'static str,
    argument: &'static str,
    pointer: *const T,
) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(op, argument))
}

/// # Safety
/// `out` is null or valid to write.
pub(super) unsafe fn give<T>(op: &'static str, argument: &'static str, out: *mut T, value: T) -> Result<()> {
    if out.is_null() {
        return Err(null(op, argument));
    }
    // SAFETY: not null, and the caller's promise.
    unsafe { out.write(value) };
    Ok(())
}
