//! How a task's scratch is laid out.

use crate::simd::LANES;

/// Floats of scratch beyond which a shape is left to the plain loops: 64 MiB. Only taps or
/// padding that reach across hundreds of thousands of positions come here.
const SCRATCH: usize = 16 * 1024 * 1024;

/// Vectors from one row or plane of `n` to the next: an odd number, so that the rows a loop reads
/// together do not fall on the same few sets of the first-level cache.
pub fn apart(n: usize) -> usize {
    n | 1
}

/// Cuts `scratch` into parts of these lengths, each on a cache line of its own.
pub fn split<const N: usize>(mut scratch: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|len| {
        let (part, rest) = std::mem::take(&mut scratch).split_at_mut(len.next_multiple_of(LANES));
        scratch = rest;
        &mut part[..len]
    })
}

/// What [`split`] needs; `None` when it is beyond [`SCRATCH`].
pub fn scratch_len(lengths: &[usize]) -> Option<usize> {
    let sum = lengths.iter().fold(0usize, |sum, len| sum.saturating_add(len.saturating_add(LANES)));
    (sum <= SCRATCH).then_some(sum)
}
