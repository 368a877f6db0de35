//! The convolution over a tile of positions, sixteen lanes at a time.
//!
//! As [`crate::kernels::conv::microkernel`]'s, of which the packed weights are, but its terms are one list of places: a tile
//! has few taps and channels, and where a loop over one lies in a loop over the other, its ends are a tenth of the time.

use crate::kernels::conv::microkernel::block;
use crate::simd::F32x16;

/// Where [`rows`] reads and writes; strides count floats.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Where each term's input lies, from the first position's place on.
    pub terms: &'a [usize],
    /// From one position's input to the next.
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

/// `y[c][t] = Σ_q w[c][q] · x[terms[q] + t·in_t]` over sixteen lanes.
///
/// # Safety
/// `x` and `y` are good for every address that `s` reaches; `packed` is of
/// [`pack_weights`](crate::kernels::conv::microkernel::pack_weights).
#[inline(always)]
pub unsafe fn rows<V: F32x16>(s: &Rows<'_>, packed: &[f32], x: *const f32, y: *mut f32) {
    let terms = s.terms.len();
    assert!(packed.len() >= s.out_channels * terms);
    let mut c = 0;
    while c < s.out_channels {
        let size = block(s.out_channels - c);
        // SAFETY: the block's weights and output channels lie inside what the caller promised.
        unsafe {
            let w = packed.as_ptr().add(c * terms);
            let y = y.add(c * s.out_c);
            match (V::WIDE, size) {
                (true, 8) => all_positions::<V, 8, 3>(s, w, 8, x, y),
                (true, 4) => all_positions::<V, 4, 6>(s, w, 4, x, y),
                (false, 8) => {
                    all_positions::<V, 4, 1>(s, w, 8, x, y);
                    all_positions::<V, 4, 1>(s, w.add(4), 8, x, y.add(4 * s.out_c));
                }
                (false, 4) => all_positions::<V, 4, 1>(s, w, 4, x, y),
                (_, 2) => all_positions::<V, 2, 3>(s, w, 2, x, y),
                _ => all_positions::<V, 1, 5>(s, w, 1, x, y),
            }
        }
        c += size;
    }
}

/// All positions of `C` channels, `T` at a time and then in smaller tiles: fewer than eight sums run at their latency.
#[inline(always)]
unsafe fn all_positions<V: F32x16, const C: usize, const T: usize>(
    s: &Rows<'_>,
    w: *const f32,
    w_q: usize,
    x: *const f32,
    y: *mut f32,
) {
    let mut t = 0;
    // SAFETY: positions 0..s.positions only.
    unsafe {
        while t + T <= s.positions {
            tile::<V, C, T>(s, w, w_q, x.add(t * s.in_t), y.add(t * s.out_t));
            t += T;
        }
        while T > 3 && t + 3 <= s.positions {
            tile::<V, C, 3>(s, w, w_q, x.add(t * s.in_t), y.add(t * s.out_t));
            t += 3;
        }
        while T > 2 && t + 2 <= s.positions {
            tile::<V, C, 2>(s, w, w_q, x.add(t * s.in_t), y.add(t * s.out_t));
            t += 2;
        }
        while t < s.positions {
            tile::<V, C, 1>(s, w, w_q, x.add(t * s.in_t), y.add(t * s.out_t));
            t += 1;
        }
    }
}

/// `C` channels by `T` positions of sums in registers.
#[inline(always)]
unsafe fn tile<V: F32x16, const C: usize, const T: usize>(
    s: &Rows<'_>,
    mut w: *const f32,
    w_q: usize,
    x: *const f32,
    y: *mut f32,
) {
    // SAFETY: as promised to `rows`.
    unsafe {
        let mut acc = [[V::splat(0.0); T]; C];
        for &term in s.terms {
            let mut at = [V::splat(0.0); T];
            for (t, at) in at.iter_mut().enumerate() {
                *at = V::load(x.add(t * s.in_t + term));
            }
            for (c, acc) in acc.iter_mut().enumerate() {
                let weight = V::splat(*w.add(c));
                for (acc, &at) in acc.iter_mut().zip(&at) {
                    *acc = at.mul_add(weight, *acc);
                }
            }
            w = w.add(w_q);
        }
        for (c, acc) in acc.iter().enumerate() {
            for (t, acc) in acc.iter().enumerate() {
                acc.store(y.add(c * s.out_c + t * s.out_t));
            }
        }
    }
}
