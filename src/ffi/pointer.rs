//! Pointers that may be null.

use crate::{Error, Result};
use std::ffi::c_void;

/// A pointer of C's, which says by its type whether what it leads to is written.
pub(super) trait Pointer: Copy {
    fn address(self) -> *mut c_void;
    fn written(self) -> bool;
}

impl<T> Pointer for *const T {
    fn address(self) -> *mut c_void {
        self.cast_mut().cast()
    }

    fn written(self) -> bool {
        false
    }
}

impl<T> Pointer for *mut T {
    fn address(self) -> *mut c_void {
        self.cast()
    }

    fn written(self) -> bool {
        true
    }
}

pub(super) fn null(op: &'static str, argument: &'static str) -> Error {
    Error::shape(op, argument, "is null")
}

fn aligned<T>(op: &'static str, argument: &'static str, pointer: *const T) -> Result<()> {
    if pointer.is_aligned() {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("address {pointer:p} is no multiple of {}", align_of::<T>())))
}

/// # Safety
/// `pointer` is null, or valid to read for as long as the result is used.
pub(super) unsafe fn some<'a, T>(
    op: &'static str,
    argument: &'static str,
    pointer: *const T,
) -> Result<&'a T> {
    aligned(op, argument, pointer)?;
    // SAFETY: aligned, and the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(op, argument))
}

/// # Safety
/// `out` is null, or valid to write.
pub(super) unsafe fn give<T>(op: &'static str, argument: &'static str, out: *mut T, value: T) -> Result<()> {
    if out.is_null() {
        return Err(null(op, argument));
    }
    aligned(op, argument, out)?;
    // SAFETY: neither null nor unaligned, and the caller's promise.
    unsafe { out.write(value) };
    Ok(())
}
