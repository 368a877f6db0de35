//! How a twin spreads its work over threads.
//!
//! What is called for a piece comes behind a pointer: that takes nanoseconds a piece, and the loops over threads, thousands of
//! instructions each, are compiled once for each type of element instead of once for each kernel.

use super::team;
use crate::simd::Simd;
use rayon::prelude::*;

/// Elements that a thread takes at once in elementwise twins: 64 KiB of f32.
pub const PIECE: usize = 16 * 1024;

/// What is called for each piece of two outputs.
type OnTwo<'a, T, U> = dyn Fn(usize, &mut [T], &mut [U]) + Sync + 'a;

/// What is called for each piece of three outputs.
type OnThree<'a, T> = dyn Fn(usize, &mut [T], &mut [T], &mut [T]) + Sync + 'a;

/// An output that is handed out in pieces.
struct Pieces<T> {
    start: *mut T,
    all: usize,
    len: usize,
}

// SAFETY: each piece is taken by one thread.
unsafe impl<T: Send> Sync for Pieces<T> {}

impl<T> Pieces<T> {
    fn of(out: &mut [T], len: usize) -> Self {
        Self { start: out.as_mut_ptr(), all: out.len(), len }
    }

    fn count(&self) -> usize {
        self.all.div_ceil(self.len)
    }

    /// # Safety
    /// `i` is below the count, and nobody else has this one.
    #[expect(clippy::mut_from_ref, reason = "pieces do not overlap")]
    unsafe fn get(&self, i: usize) -> &mut [T] {
        let from = i * self.len;
        // SAFETY: inside the slice that was lent, for as long as this lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), self.len.min(self.all - from)) }
    }
}

/// Spreads work over the device's threads.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// How many there are.
    pub threads: usize,
    /// The instruction set of the f32 twins.
    pub simd: Simd,
}

impl Work {
    /// Calls `f(i, piece)` for each `len`-element piece of `out`; the last may be shorter.
    pub fn pieces<T: Send>(self, out: &mut [T], len: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
        let len = len.max(1);
        if self.threads == 1 || out.len() <= len {
            out.chunks_mut(len).enumerate().for_each(|(i, piece)| f(i, piece));
            return;
        }
        let pieces = Pieces::of(out, len);
        // SAFETY: each number comes once.
        if !team::each(pieces.count(), &|i| f(i, unsafe { pieces.get(i) })) {
            out.par_chunks_mut(len).enumerate().for_each(|(i, piece)| f(i, piece));
        }
    }

    /// As [`Work::pieces`] over two outputs cut in step.
    pub fn pieces2<T: Send, U: Send>(
        self,
        (a, a_len): (&mut [T], usize),
        (b, b_len): (&mut [U], usize),
        f: &OnTwo<'_, T, U>,
    ) {
        let (a_len, b_len) = (a_len.max(1), b_len.max(1));
        if self.threads == 1 || a.len() <= a_len {
            a.chunks_mut(a_len).zip(b.chunks_mut(b_len)).enumerate().for_each(|(i, (a, b))| f(i, a, b));
            return;
        }
        let (to_a, to_b) = (Pieces::of(a, a_len), Pieces::of(b, b_len));
        let n = to_a.count().min(to_b.count());
        // SAFETY: each number comes once.
        if !team::each(n, &|i| unsafe { f(i, to_a.get(i), to_b.get(i)) }) {
            let pieces = a.par_chunks_mut(a_len).zip(b.par_chunks_mut(b_len));
            pieces.enumerate().for_each(|(i, (a, b))| f(i, a, b));
        }
    }

    /// As [`Work::pieces`] over three outputs cut in step.
    pub fn pieces3<T: Send>(
        self,
        (a, a_len): (&mut [T], usize),
        (b, b_len): (&mut [T], usize),
        (c, c_len): (&mut [T], usize),
        f: &OnThree<'_, T>,
    ) {
        let (a_len, b_len, c_len) = (a_len.max(1), b_len.max(1), c_len.max(1));
        if self.threads == 1 || a.len() <= a_len {
            let pieces = a.chunks_mut(a_len).zip(b.chunks_mut(b_len)).zip(c.chunks_mut(c_len));
            pieces.enumerate().for_each(|(i, ((a, b), c))| f(i, a, b, c));
            return;
        }
        let (to_a, to_b, to_c) = (Pieces::of(a, a_len), Pieces::of(b, b_len), Pieces::of(c, c_len));
        let n = to_a.count().min(to_b.count()).min(to_c.count());
        // SAFETY: each number comes once.
        if !team::each(n, &|i| unsafe { f(i, to_a.get(i), to_b.get(i), to_c.get(i)) }) {
            let pieces = a.par_chunks_mut(a_len).zip(b.par_chunks_mut(b_len)).zip(c.par_chunks_mut(c_len));
            pieces.enumerate().for_each(|(i, ((a, b), c))| f(i, a, b, c));
        }
    }

    /// Calls `f(i)` for each `i` in `0..n`.
    pub fn each(self, n: usize, f: &(dyn Fn(usize) + Sync)) {
        if self.threads == 1 || n <= 1 {
            (0..n).for_each(f);
        } else if !team::each(n, f) {
            (0..n).into_par_iter().with_max_len(1).for_each(f);
        }
    }
}
