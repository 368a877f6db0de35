//! Cache-line aligned memory.

use crate::device::Buf;
use crate::device::cpu::Real;
use crate::kernels::Elem;
use bytemuck::Pod;
use std::marker::PhantomData;
use std::ops::Range;

/// A run of cache lines: a vector load that starts at one never straddles two. Words, not lines, are asked for, because only what
/// needs no alignment comes as the system's own zeros, which cost nothing before they are touched.
#[derive(Default)]
pub struct Lines {
    words: Vec<u64>,
    /// Words before the first line.
    skipped: usize,
}

const LINE: usize = 64;

impl Lines {
    fn zeroed<T>(len: usize) -> Option<Self> {
        let lines = len.checked_mul(size_of::<T>())?.div_ceil(LINE) + 1;
        let words = lines.checked_mul(LINE)? / size_of::<u64>();
        let words: Vec<u64> = bytemuck::allocation::try_zeroed_vec(words).ok()?;
        let skipped = words.as_ptr().align_offset(LINE);
        Some(Self { words, skipped })
    }

    /// The first line.
    fn start(&mut self) -> *mut u8 {
        self.words[self.skipped..].as_mut_ptr().cast()
    }

    /// The first `len` elements, in new memory if need be; contents unspecified.
    pub fn slice_of<T: Pod>(&mut self, len: usize) -> &mut [T] {
        let bytes = (self.words.len() - self.skipped) * size_of::<u64>();
        if self.words.is_empty() || bytes < len.saturating_mul(size_of::<T>()) {
            *self = Self::zeroed::<T>(len).expect("scratch fits in memory");
        }
        // SAFETY: words are plain bytes, lines aligned beyond any `T`, and long enough; `Pod` takes any bits.
        unsafe { std::slice::from_raw_parts_mut(self.start().cast(), len) }
    }
}

/// A buffer's memory: `F`, `u32` or 16-bit floats, by its [`Elem`].
pub struct Storage<F> {
    base: *mut u8,
    /// What `base` points into, where the memory is the device's own.
    _lines: Lines,
    float: PhantomData<F>,
}

// SAFETY: the memory is plain bytes; all access goes through `slice`/`slice_mut`, whose callers
// hold the device's lock or are the one plan that runs under it.
unsafe impl<F: Send> Send for Storage<F> {}
// SAFETY: as above.
unsafe impl<F: Send> Sync for Storage<F> {}

impl<F: Real> Storage<F> {
    /// Zeroed memory, or `None` when there is not enough.
    pub fn new(elem: Elem, len: usize) -> Option<Self> {
        let lines = match elem {
            Elem::Real => Lines::zeroed::<F>(len),
            Elem::Index => Lines::zeroed::<u32>(len),
            Elem::F16 | Elem::Bf16 => Lines::zeroed::<u16>(len),
        }?;
        Some(Self::over(lines))
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
        let bytes = match window.elem() {
            Elem::Real => size_of::<F>(),
            Elem::Index => size_of::<u32>(),
            Elem::F16 | Elem::Bf16 => size_of::<u16>(),
        };
        let start = self.base as usize + bytes * window.offset();
        start..start + bytes * window.len()
    }

    /// The window's elements.
    ///
    /// # Safety
    /// Nobody may write the window while the slice lives, and `T` is the buffer's element type.
    pub unsafe fn slice<T: Pod>(&self, window: &Buf) -> &[T] {
        // SAFETY: windows lie within the storage (`Buf::window`); the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.base.cast::<T>().add(window.offset()), window.len()) }
    }

    /// The window's elements, to write.
    ///
    /// # Safety
    /// Nobody else may touch the window while the slice lives, and `T` is the buffer's element type.
    #[allow(clippy::mut_from_ref)] // interior mutability: the exclusive access is the caller's promise
    pub unsafe fn slice_mut<T: Pod>(&self, window: &Buf) -> &mut [T] {
        // SAFETY: as in `slice`.
        unsafe { std::slice::from_raw_parts_mut(self.base.cast::<T>().add(window.offset()), window.len()) }
    }
}
