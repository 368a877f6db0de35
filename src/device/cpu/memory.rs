//! A buffer's memory on the CPU.

use crate::device::buf::Buf;
use crate::kernel::{Elem, Lines, Real};
use std::marker::PhantomData;
use std::ops::Range;

/// A buffer's memory: `F`, `u32` or 16-bit floats, by its [`Elem`].
pub struct Storage<F> {
    base: *mut u8,
    /// What `base` points into, where the memory is the device's own.
    _lines: Lines,
    float: PhantomData<F>,
}

// SAFETY: the memory is plain bytes; whoever uses it
// holds the device's lock or is the one plan that runs under it.
unsafe impl<F: Send> Send for Storage<F> {}
// SAFETY: as above.
unsafe impl<F: Send> Sync for Storage<F> {}

impl<F: Real> Storage<F> {
    /// Zeroed memory, or `None` when there is not enough.
    pub fn new(elem: Elem, len: usize) -> Option<Self> {
        Some(Self::over(Lines::zeroed::<u8>(len.checked_mul(elem.bytes::<F>())?)?))
    }

    fn over(mut lines: Lines) -> Self {
        Self { base: lines.start(), _lines: lines, float: PhantomData }
    }

    /// Over a caller's memory.
    pub fn theirs(base: *mut u8) -> Self {
        Self { base, ..Self::over(Lines::default()) }
    }

    /// Where the window lies in memory.
    pub fn range(&self, window: &Buf) -> Range<usize> {
        let bytes = window.elem().bytes::<F>();
        let start = self.base as usize + bytes * window.offset();
        start..start + bytes * window.len()
    }

    /// Where the window begins: for all its elements, as [`Buf::window`] saw.
    pub fn start(&self, window: &Buf) -> *mut u8 {
        self.base.wrapping_add(window.elem().bytes::<F>() * window.offset())
    }
}
