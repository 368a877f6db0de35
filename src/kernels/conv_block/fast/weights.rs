//! The gradient of a weight over a tile of positions, each lane for itself, and the sums of lanes that end it.
//!
//! As [`crate::kernels::conv::microkernel`]'s, but sums begin at zero in registers; and terms are dealt out evenly: one left over
//! would run at the latency of its few sums.

use crate::kernels::conv::microkernel::block;
use crate::simd::{F32x16, LANES};
use std::mem::MaybeUninit;

/// Where [`weights`] reads; strides count floats.
#[derive(Clone, Copy)]
pub struct Weights {
    /// Input channels.
    pub channels: usize,
    /// Taps per input channel, side by side.
    pub taps: usize,
    /// From one input channel to the next.
    pub in_c: usize,
    /// From one position's input to the next.
    pub in_t: usize,
    /// Output channels.
    pub out_channels: usize,
    /// From one position of `dy` to the next, whose channels lie side by side.
    pub dy_t: usize,
    /// Positions.
    pub positions: usize,
    /// Whether these are the first: what `sums` holds does not count.
    pub first: bool,
    /// Whether these are the last: what the lanes add up to goes to `dw`.
    pub last: bool,
}

/// `sums[c][i,k] += Σ_t dy[c][t] · x[i][t·stride + k]`, each lane for itself. The channels of `dy` lie side by side: one
/// address and the instructions tell where all of them are, and counting addresses takes turns from the multiply-adds.
///
/// # Safety
/// `x` and `dy` are good for every address that `s` reaches.
#[inline(always)]
pub unsafe fn weights<V: F32x16>(
    s: &Weights,
    x: *const f32,
    dy: *const f32,
    sums: &mut [f32],
    dw: &mut [f32],
) {
    let terms = s.channels * s.taps;
    assert!(sums.len() >= s.out_channels * terms * LANES && dw.len() >= s.out_channels * terms);
    let mut c = 0;
    while c < s.out_channels {
        let size = if V::WIDE { block(s.out_channels - c) } else { (s.out_channels - c).min(2) };
        // SAFETY: the channels' sums lie inside what was checked, their addresses inside what was promised.
        unsafe {
            let (dy, sums) = (dy.add(c * LANES), sums.as_mut_ptr().add(c * terms * LANES));
            let dw = &mut dw[c * terms..(c + size) * terms];
            match (V::WIDE, size) {
                (true, 8) => all_terms::<V, 8, 3>(s, x, dy, sums, dw),
                (true, 4) => all_terms::<V, 4, 6>(s, x, dy, sums, dw),
                (_, 2) => all_terms::<V, 2, 3>(s, x, dy, sums, dw),
                _ => all_terms::<V, 1, 4>(s, x, dy, sums, dw),
            }
        }
        c += size;
    }
}

/// All terms of `C` channels, at most `Q` at a time.
#[inline(always)]
unsafe fn all_terms<V: F32x16, const C: usize, const Q: usize>(
    s: &Weights,
    x: *const f32,
    dy: *const f32,
    sums: *mut f32,
    dw: &mut [f32],
) {
    let terms = s.channels * s.taps;
    // The first `longer` tiles have one term more than the others.
    let count = terms.div_ceil(Q);
    let (least, longer) = (terms / count, terms % count);
    let (mut channel, mut tap, mut q) = (0, 0, 0);
    for i in 0..count {
        let size = least + usize::from(i < longer);
        // Where the terms' inputs begin: counted on, as dividing would take a tenth of the time.
        let mut at = [x; Q];
        for at in at.iter_mut().take(size) {
            *at = x.wrapping_add(channel * s.in_c + tap * LANES);
            tap += 1;
            if tap == s.taps {
                (channel, tap) = (channel + 1, 0);
            }
        }
        // SAFETY: terms 0..terms only.
        unsafe {
            let sums = sums.add(q * LANES);
            match size {
                1 => tile::<V, C, 1>(s, &at, dy, sums, &mut dw[q..]),
                2 => tile::<V, C, 2>(s, &at, dy, sums, &mut dw[q..]),
                3 => tile::<V, C, 3>(s, &at, dy, sums, &mut dw[q..]),
                4 if Q >= 4 => tile::<V, C, 4>(s, &at, dy, sums, &mut dw[q..]),
                5 if Q >= 5 => tile::<V, C, 5>(s, &at, dy, sums, &mut dw[q..]),
                _ => tile::<V, C, Q>(s, &at, dy, sums, &mut dw[q..]),
            }
        }
        q += size;
    }
}

/// `C` channels by `Q` terms of sums in registers.
#[inline(always)]
unsafe fn tile<V: F32x16, const C: usize, const Q: usize>(
    s: &Weights,
    at: &[*const f32],
    dy: *const f32,
    sums: *mut f32,
    dw: &mut [f32],
) {
    let terms = s.channels * s.taps;
    let at: [*const f32; Q] = std::array::from_fn(|i| at[i.min(at.len() - 1)]);
    // SAFETY: as promised to `weights`.
    unsafe {
        let mut acc = [[V::splat(0.0); Q]; C];
        if !s.first {
            for (c, acc) in acc.iter_mut().enumerate() {
                for (q, acc) in acc.iter_mut().enumerate() {
                    *acc = V::load(sums.add((c * terms + q) * LANES));
                }
            }
        }
        // The pointers stay as they are: an array that is written leaves its registers.
        for t in 0..s.positions {
            let mut xs = [V::splat(0.0); Q];
            for (v, p) in xs.iter_mut().zip(&at) {
                *v = V::load(p.add(t * s.in_t));
            }
            for (c, acc) in acc.iter_mut().enumerate() {
                let g = V::load(dy.add(t * s.dy_t + c * LANES));
                for (acc, &v) in acc.iter_mut().zip(&xs) {
                    *acc = v.mul_add(g, *acc);
                }
            }
        }
        // The last ones stay near: they are added up at once, from memory, as an array that is looked at piece by piece would
        // not stay in registers above.
        let mut near = MaybeUninit::<[f32; 24 * LANES]>::uninit();
        let (to, to_c) = if s.last { (near.as_mut_ptr().cast(), Q) } else { (sums, terms) };
        for (c, acc) in acc.iter().enumerate() {
            for (q, acc) in acc.iter().enumerate() {
                acc.store(to.add((c * to_c + q) * LANES));
            }
        }
        if s.last {
            let mut out = [0.0; 24];
            let near = std::slice::from_raw_parts(near.as_ptr().cast::<f32>(), C * Q * LANES);
            sum_lanes::<V>(near, &mut out[..C * Q]);
            for (c, out) in out[..C * Q].chunks_exact(Q).enumerate() {
                dw[c * terms..][..Q].copy_from_slice(out);
            }
        }
    }
}

/// `out[i]` = the sum of the sixteen lanes of vector `i`, in the order of [`F32x16::sum`].
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there.
#[inline(always)]
unsafe fn sum_lanes<V: F32x16>(sums: &[f32], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    let done = if V::WIDE {
        let done = out.len() / LANES * LANES;
        // SAFETY: wide is AVX-512 there.
        unsafe { avx512::sum_lanes(sums, &mut out[..done]) };
        done
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    for (out, lanes) in out.iter_mut().zip(sums.chunks_exact(LANES)).skip(done) {
        // SAFETY: a vector.
        *out = unsafe { V::load(lanes.as_ptr()).sum() };
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use crate::simd::LANES;
    use std::arch::x86_64::*;

    /// Sixteen vectors at a time: each step folds two of them into the halves of one, 30 shuffles for what would take 64.
    #[target_feature(enable = "avx512f")]
    pub fn sum_lanes(sums: &[f32], out: &mut [f32]) {
        for (sums, out) in sums.chunks_exact(LANES * LANES).zip(out.chunks_exact_mut(LANES)) {
            // In the order in which the steps below leave them: sum `4·l + e` is of row `[0, 8, 4, 12][l] + [0, 2, 1, 3][e]`.
            let row = |i: usize| {
                let at = 4 * [0, 2, 1, 3][i / 4] + [0, 2, 1, 3][i % 4];
                // SAFETY: one of sixteen vectors.
                unsafe { _mm512_loadu_ps(sums.as_ptr().add(at * LANES)) }
            };
            let mut a = [_mm512_setzero_ps(); 8];
            for (i, a) in a.iter_mut().enumerate() {
                let (x, y) = (row(i), row(i + 8));
                *a = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(x, y), _mm512_shuffle_f32x4::<0xee>(x, y));
            }
            for i in 0..4 {
                let (x, y) = (a[i], a[i + 4]);
                a[i] = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(x, y), _mm512_shuffle_f32x4::<0xdd>(x, y));
            }
            for i in 0..2 {
                let (x, y) = (a[i], a[i + 2]);
                a[i] = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(x, y), _mm512_shuffle_ps::<0xee>(x, y));
            }
            let (x, y) = (a[0], a[1]);
            let all = _mm512_add_ps(_mm512_shuffle_ps::<0x88>(x, y), _mm512_shuffle_ps::<0xdd>(x, y));
            // SAFETY: sixteen floats.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), all) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch;
    use crate::simd::Simd;

    #[inline(always)]
    unsafe fn sums_body<V: F32x16>(sums: &[f32], out: &mut [f32]) {
        // SAFETY: the set is there.
        unsafe { sum_lanes::<V>(sums, out) }
    }
    dispatch! { fn run(sums: &[f32], out: &mut [f32]) = sums_body }

    #[test]
    fn lanes_add_up_in_one_order_however_many_vectors_there_are() {
        for simd in Simd::supported() {
            for n in [1, 15, 16, 17, 50] {
                let sums: Vec<f32> =
                    (0..n * LANES).map(|i| ((i * i * 37 + i) % 1009) as f32 / 31.0).collect();
                let (mut got, mut want) = (vec![0.0; n], vec![0.0; n]);
                run(simd, &sums, &mut got);
                for (want, lanes) in want.iter_mut().zip(sums.as_chunks::<LANES>().0) {
                    let mut lanes = lanes.to_vec();
                    while lanes.len() > 1 {
                        let (low, high) = lanes.split_at(lanes.len() / 2);
                        lanes = low.iter().zip(high).map(|(a, b)| a + b).collect();
                    }
                    *want = lanes[0];
                }
                assert_eq!(got, want, "{simd:?}, {n}");
            }
        }
    }
}
