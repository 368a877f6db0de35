//! Memory that starts at a cache line, and scratch of it that a thread keeps.

use bytemuck::Pod;

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
    /// Memory for `len` elements, all bits 0; `None` where there is not enough.
    pub fn zeroed<T>(len: usize) -> Option<Self> {
        let lines = len.checked_mul(size_of::<T>())?.div_ceil(LINE) + 1;
        let words = lines.checked_mul(LINE)? / size_of::<u64>();
        let words: Vec<u64> = bytemuck::allocation::try_zeroed_vec(words).ok()?;
        let skipped = words.as_ptr().align_offset(LINE);
        Some(Self { words, skipped })
    }

    /// The first line.
    pub fn start(&mut self) -> *mut u8 {
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

thread_local!(static FREE: std::cell::RefCell<Vec<Lines>> = const { std::cell::RefCell::new(Vec::new()) });

/// Lends `f` a scratch slice of `len` unspecified elements, 64-byte aligned, kept by the
/// thread from call to call so that a replayed step allocates nothing. Calls may nest.
pub fn with_scratch<T: Pod, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    // Taken out while in use, so that a nested call, or another piece of work that this thread
    // picks up meanwhile, gets memory of its own.
    let mut lines = take();
    let result = f(lines.slice_of(len));
    give(lines);
    result
}

fn take() -> Lines {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

fn give(lines: Lines) {
    FREE.with_borrow_mut(|free| free.push(lines));
}
