//! The two inner loops of every convolution on the CPU, over sixteen independent lanes.
//!
//! A lane is one sample (or one stretch of one sample): position `t` of channel `c` holds sixteen
//! floats side by side, one of each lane, so that stride and dilation are only addresses and every
//! multiply-add does sixteen lanes' work. The register blocking is the classical one of Goto and
//! van de Geijn (2008): a tile of accumulators stays in registers while the taps stream by.
//!
//! Both loops run at one fused multiply-add a cycle where there are 32 vector registers: per
//! 24 of them `conv_rows` reads 3 vectors and broadcasts 8 weights, `weight_rows` reads 11 vectors.

use crate::simd::{F32x16, LANES};

/// Where [`conv_rows`] reads and writes; strides count floats.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Input channels and taps: the terms of each sum.
    pub channels: usize,
    /// Taps per input channel.
    pub taps: usize,
    /// From one input channel to the next.
    pub in_c: usize,
    /// From one tap to the next; negative to flip the kernel.
    pub in_k: isize,
    /// From one output position's input to the next: the convolution's stride.
    pub in_t: usize,
    /// Output channels.
    pub out_channels: usize,
    /// From one output channel to the next.
    pub out_c: usize,
    /// From one output position to the next.
    pub out_t: usize,
    /// Output positions.
    pub positions: usize,
}

/// Output channels of the largest register tile.
pub const BLOCK: usize = 8;

/// The next block of channels when `left` remain: [`BLOCK`], 4, 2 or 1.
///
/// Callers loop by hand: a closure around the vector code would be compiled for the baseline
/// instruction set and call each intrinsic as a function.
#[inline(always)]
pub fn block(left: usize) -> usize {
    match left {
        BLOCK.. => BLOCK,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Orders weights for [`conv_rows`]: by block of output channels, then term, then channel in the block.
/// `weight(c, q)` is the weight of output channel `c` on term `q = channel · taps + tap`.
pub fn pack_weights(
    packed: &mut [f32],
    out_channels: usize,
    terms: usize,
    weight: impl Fn(usize, usize) -> f32,
) {
    let mut first = 0;
    while first < out_channels {
        let size = block(out_channels - first);
        let block = &mut packed[first * terms..(first + size) * terms];
        for q in 0..terms {
            for c in 0..size {
                block[q * size + c] = weight(first + c, q);
            }
        }
        first += size;
    }
}

/// `y[c][t] = Σ_{i,k} w[c][i,k] · x[i][t·stride + k]` over sixteen lanes.
///
/// # Safety
/// `x` and `y` are good for every address that `s` reaches; `packed` is of [`pack_weights`].
#[inline(always)]
pub unsafe fn conv_rows<V: F32x16>(s: &Rows, packed: &[f32], x: *const f32, y: *mut f32) {
    let terms = s.channels * s.taps;
    assert!(packed.len() >= s.out_channels * terms);
    let mut first = 0;
    while first < s.out_channels {
        let size = block(s.out_channels - first);
        // SAFETY: the block's weights and output channels lie inside what the caller promised.
        unsafe {
            let w = packed.as_ptr().add(first * terms);
            let y = y.add(first * s.out_c);
            match (V::WIDE, size) {
                (true, 8) => all_positions::<V, 8, 3>(s, w, 8, x, y),
                (true, 4) => all_positions::<V, 4, 6>(s, w, 4, x, y),
                (true, 2) => all_positions::<V, 2, 8>(s, w, 2, x, y),
                (false, 2 | 4 | 8) if V::SUMS < 4 => {
                    for c in (0..size).step_by(2) {
                        all_positions::<V, 2, 1>(s, w.add(c), size, x, y.add(c * s.out_c));
                    }
                }
                (false, 8) => {
                    all_positions::<V, 4, 1>(s, w, 8, x, y);
                    all_positions::<V, 4, 1>(s, w.add(4), 8, x, y.add(4 * s.out_c));
                }
                (false, 4) => all_positions::<V, 4, 1>(s, w, 4, x, y),
                (false, 2) if V::SUMS < 6 => all_positions::<V, 2, 2>(s, w, 2, x, y),
                (false, 2) => all_positions::<V, 2, 3>(s, w, 2, x, y),
                _ if V::SUMS < 6 => all_positions::<V, 1, 3>(s, w, 1, x, y),
                _ => all_positions::<V, 1, 5>(s, w, 1, x, y),
            }
        }
        first += size;
    }
}

/// All positions of `C` channels, `T` at a time and then one by one.
#[inline(always)]
unsafe fn all_positions<V: F32x16, const C: usize, const T: usize>(
    s: &Rows,
    w: *const f32,
    w_q: usize,
    x: *const f32,
    y: *mut f32,
) {
    let mut t = 0;
    // SAFETY: positions 0..s.positions only.
    unsafe {
        while t + T <= s.positions {
            rows_tile::<V, C, T>(s, w, w_q, x.add(t * s.in_t), y.add(t * s.out_t));
            t += T;
        }
        while t < s.positions {
            rows_tile::<V, C, 1>(s, w, w_q, x.add(t * s.in_t), y.add(t * s.out_t));
            t += 1;
        }
    }
}

/// `C` channels by `T` positions of accumulators in registers.
#[inline(always)]
unsafe fn rows_tile<V: F32x16, const C: usize, const T: usize>(
    s: &Rows,
    mut w: *const f32,
    w_q: usize,
    x: *const f32,
    y: *mut f32,
) {
    // SAFETY: as promised to `conv_rows`.
    unsafe {
        let mut acc = [[V::splat(0.0); T]; C];
        for i in 0..s.channels {
            let mut p = x.add(i * s.in_c);
            for _ in 0..s.taps {
                let mut at = [V::splat(0.0); T];
                for (t, at) in at.iter_mut().enumerate() {
                    *at = V::load(p.add(t * s.in_t));
                }
                for (c, acc) in acc.iter_mut().enumerate() {
                    let weight = V::splat(*w.add(c));
                    for (acc, &at) in acc.iter_mut().zip(&at) {
                        *acc = at.mul_add(weight, *acc);
                    }
                }
                w = w.add(w_q);
                p = p.offset(s.in_k);
            }
        }
        for (c, acc) in acc.iter().enumerate() {
            for (t, acc) in acc.iter().enumerate() {
                acc.store(y.add(c * s.out_c + t * s.out_t));
            }
        }
    }
}

/// Where [`weight_rows`] reads; strides count floats.
#[derive(Debug, Clone, Copy)]
pub struct WeightRows {
    /// Input channels.
    pub channels: usize,
    /// Taps per input channel.
    pub taps: usize,
    /// From one input channel to the next.
    pub in_c: usize,
    /// From one tap to the next.
    pub in_k: usize,
    /// From one output position's input to the next.
    pub in_t: usize,
    /// Output channels.
    pub out_channels: usize,
    /// From one channel of `dy` to the next.
    pub dy_c: usize,
    /// From one position of `dy` to the next.
    pub dy_t: usize,
    /// Output positions of a row.
    pub positions: usize,
    /// Rows of positions: 1 where there is one axis.
    pub rows: usize,
    /// From one row's input to the next.
    pub in_row: usize,
    /// From one row of `dy` to the next.
    pub dy_row: usize,
}

/// `acc[c][i,k] += Σ_t dy[c][t] · x[i][t·stride + k]` row by row, each lane for itself: sums stay in registers
/// from row to row.
///
/// `acc` holds `out_channels · channels · taps` vectors in the order of [`pack_weights`];
/// [`sum_lanes`] folds them into the gradient.
///
/// # Safety
/// `x` and `dy` are good for every address that `s` reaches.
#[inline(always)]
pub unsafe fn weight_rows<V: F32x16>(s: &WeightRows, x: *const f32, dy: *const f32, acc: &mut [f32]) {
    let terms = s.channels * s.taps;
    assert!(acc.len() >= s.out_channels * terms * LANES);
    let mut first = 0;
    while first < s.out_channels {
        let size = block(s.out_channels - first);
        // SAFETY: the block's accumulators and channels lie inside what was promised and checked.
        unsafe {
            let acc = acc.as_mut_ptr().add(first * terms * LANES);
            let dy = dy.add(first * s.dy_c);
            match (V::WIDE, size) {
                (true, 8) => all_terms::<V, 8, 3>(s, x, dy, acc, 8),
                (true, 4) => all_terms::<V, 4, 6>(s, x, dy, acc, 4),
                (true, 2) => all_terms::<V, 2, 8>(s, x, dy, acc, 2),
                (false, 2 | 4 | 8) => {
                    for c in (0..size).step_by(2) {
                        let (dy, acc) = (dy.add(c * s.dy_c), acc.add(c * LANES));
                        if V::SUMS < 6 {
                            all_terms::<V, 2, 2>(s, x, dy, acc, size);
                        } else {
                            all_terms::<V, 2, 3>(s, x, dy, acc, size);
                        }
                    }
                }
                _ => all_terms::<V, 1, 4>(s, x, dy, acc, 1),
            }
        }
        first += size;
    }
}

/// All terms of `C` channels, `Q` at a time and then one by one.
#[inline(always)]
unsafe fn all_terms<V: F32x16, const C: usize, const Q: usize>(
    s: &WeightRows,
    x: *const f32,
    dy: *const f32,
    acc: *mut f32,
    acc_q: usize,
) {
    let terms = s.channels * s.taps;
    let mut q = 0;
    // SAFETY: terms 0..terms only.
    unsafe {
        while q + Q <= terms {
            weights_tile::<V, C, Q>(s, x, dy, acc.add(q * acc_q * LANES), acc_q, q);
            q += Q;
        }
        while q < terms {
            weights_tile::<V, C, 1>(s, x, dy, acc.add(q * acc_q * LANES), acc_q, q);
            q += 1;
        }
    }
}

/// `C` channels by `Q` terms of accumulators in registers.
#[inline(always)]
unsafe fn weights_tile<V: F32x16, const C: usize, const Q: usize>(
    s: &WeightRows,
    x: *const f32,
    dy: *const f32,
    out: *mut f32,
    out_q: usize,
    first: usize,
) {
    // SAFETY: as promised to `weight_rows`.
    unsafe {
        let at: [*const f32; Q] = std::array::from_fn(|i| {
            let (channel, tap) = ((first + i) / s.taps, (first + i) % s.taps);
            x.add(channel * s.in_c + tap * s.in_k)
        });
        let mut acc = [[V::splat(0.0); Q]; C];
        for (c, acc) in acc.iter_mut().enumerate() {
            for (q, acc) in acc.iter_mut().enumerate() {
                *acc = V::load(out.add((q * out_q + c) * LANES));
            }
        }
        // The pointers stay as they are: an array that is written leaves its registers (measured: a third slower).
        for row in 0..s.rows {
            let (x_row, dy) = (row * s.in_row, dy.add(row * s.dy_row));
            for t in 0..s.positions {
                let mut xs = [V::splat(0.0); Q];
                for (v, p) in xs.iter_mut().zip(&at) {
                    *v = V::load(p.add(x_row + t * s.in_t));
                }
                for (c, acc) in acc.iter_mut().enumerate() {
                    let g = V::load(dy.add(c * s.dy_c + t * s.dy_t));
                    for (acc, &v) in acc.iter_mut().zip(&xs) {
                        *acc = v.mul_add(g, *acc);
                    }
                }
            }
        }
        for (c, acc) in acc.iter().enumerate() {
            for (q, acc) in acc.iter().enumerate() {
                acc.store(out.add((q * out_q + c) * LANES));
            }
        }
    }
}

/// Adds up the lanes of [`weight_rows`]' accumulators: `put(c, q, sum)`.
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there.
#[inline(always)]
pub unsafe fn sum_lanes<V: F32x16>(
    acc: &[f32],
    out_channels: usize,
    terms: usize,
    mut put: impl FnMut(usize, usize, f32),
) {
    assert!(acc.len() >= out_channels * terms * LANES);
    let mut first = 0;
    while first < out_channels {
        let size = block(out_channels - first);
        for q in 0..terms {
            for c in 0..size {
                // SAFETY: inside `acc`, by the assertion.
                let sum = unsafe { V::load(acc.as_ptr().add((first * terms + q * size + c) * LANES)).sum() };
                put(first + c, q, sum);
            }
        }
        first += size;
    }
}
