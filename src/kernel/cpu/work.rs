//! How a twin spreads its work over threads.
//!
//! What is called for a piece comes behind a pointer: that takes nanoseconds a piece, and the loops over threads, thousands of
//! instructions each, are compiled once for each type of element instead of once for each kernel.

use crate::simd::Simd;
use rayon::prelude::*;

/// Elements that a thread takes at once in elementwise twins: 64 KiB of f32.
pub const PIECE: usize = 16 * 1024;

/// What is called for each piece of two outputs.
type OnTwo<'a, T, U> = dyn Fn(usize, &mut [T], &mut [U]) + Sync + 'a;

/// What is called for each piece of three outputs.
type OnThree<'a, T> = dyn Fn(usize, &mut [T], &mut [T], &mut [T]) + Sync + 'a;

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
        } else {
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
        } else {
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
        } else {
            let pieces = a.par_chunks_mut(a_len).zip(b.par_chunks_mut(b_len)).zip(c.par_chunks_mut(c_len));
            pieces.enumerate().for_each(|(i, ((a, b), c))| f(i, a, b, c));
        }
    }

    /// Calls `f(i)` for each `i` in `0..n`.
    pub fn each(self, n: usize, f: &(dyn Fn(usize) + Sync)) {
        if self.threads == 1 || n <= 1 {
            (0..n).for_each(f);
        } else {
            (0..n).into_par_iter().with_max_len(1).for_each(f);
        }
    }
}
