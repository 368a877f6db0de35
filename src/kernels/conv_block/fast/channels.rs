//! What a block of sixteen samples makes of its channels: the activation, and sums over its frames.

use crate::simd::{F32x16, LANES};

/// `out = max(0, scale·x + shift)` over the channels of one block.
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there.
#[inline(always)]
pub unsafe fn activate<V: F32x16>(x: &[f32], norm: &[f32], out: &mut [f32], channels: usize) {
    let row = x.len() / channels;
    // SAFETY: rows of whole vectors; zip keeps both in step.
    unsafe {
        let zero = V::splat(0.0);
        for ch in 0..channels {
            let (scale, shift) = (V::splat(norm[ch]), V::splat(norm[channels + ch]));
            let (x, out) = (&x[ch * row..(ch + 1) * row], &mut out[ch * row..(ch + 1) * row]);
            for (x, out) in x.chunks_exact(LANES).zip(out.chunks_exact_mut(LANES)) {
                // In this order: a NaN comes through.
                zero.max(V::load(x.as_ptr()).mul_add(scale, shift)).store(out.as_mut_ptr());
            }
        }
    }
}

/// The sum of `f` over a row of vectors, in four running sums.
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there.
#[inline(always)]
pub unsafe fn total<V: F32x16>(row: &[f32], f: impl Fn(V) -> V) -> f32 {
    // SAFETY: whole vectors of the slice.
    unsafe {
        let mut acc = [V::splat(0.0); 4];
        let mut fours = row.chunks_exact(4 * LANES);
        for four in &mut fours {
            for (i, acc) in acc.iter_mut().enumerate() {
                *acc = acc.add(f(V::load(four.as_ptr().add(i * LANES))));
            }
        }
        for one in fours.remainder().chunks_exact(LANES) {
            acc[0] = acc[0].add(f(V::load(one.as_ptr())));
        }
        acc[0].add(acc[1]).add(acc[2].add(acc[3])).sum()
    }
}

/// `Σ dz` and `Σ dz·(y − μ)` of one block; lanes beyond the batch hold `da = 0`.
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there.
#[inline(always)]
pub unsafe fn part_sums<V: F32x16>(
    [c, t]: [usize; 2],
    da: &[f32],
    y: &[f32],
    norm: &[f32],
    part: &mut [f32],
) {
    // SAFETY: whole vectors of slices.
    unsafe {
        let zero = V::splat(0.0);
        for ch in 0..c {
            let (scale, shift) = (V::splat(norm[ch]), V::splat(norm[c + ch]));
            let mean = V::splat(norm[2 * c + ch]);
            let (mut dz_sum, mut dzy_sum) = ([zero; 2], [zero; 2]);
            let (da, y) =
                (&da[ch * t * LANES..(ch + 1) * t * LANES], &y[ch * t * LANES..(ch + 1) * t * LANES]);
            for (i, (da, y)) in da.chunks_exact(LANES).zip(y.chunks_exact(LANES)).enumerate() {
                let y = V::load(y.as_ptr());
                let dz = y.mul_add(scale, shift).if_gt(zero, V::load(da.as_ptr()), zero);
                dz_sum[i % 2] = dz_sum[i % 2].add(dz);
                dzy_sum[i % 2] = dz.mul_add(y.sub(mean), dzy_sum[i % 2]);
            }
            part[ch] = dz_sum[0].add(dz_sum[1]).sum();
            part[c + ch] = dzy_sum[0].add(dzy_sum[1]).sum();
        }
    }
}
