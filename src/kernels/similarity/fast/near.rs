//! Distances one by one, where a block cannot have them.

use super::sides::Sides;
use crate::dispatch;
use crate::simd::{F32x16, LANES};

/// Squares below and beyond these are left to f64, where nothing is lost to the ends of the range.
pub const SMALL: f32 = 1e-30;
pub const LARGE: f32 = 1e38;

/// In f64, where no square of an f32 overflows or vanishes.
pub fn squared_f64(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
}

/// The distance, or its square, of two rows whose squared difference `square` f32 does not hold well.
#[cold]
#[inline(never)]
fn at_the_ends(a: &[f32], b: &[f32], square: f32, root: bool) -> f32 {
    if square == 0.0 && a == b {
        return 0.0;
    }
    let square = squared_f64(a, b);
    (if root { square.sqrt() } else { square }) as f32
}

/// Sixteen zeros, then sixteen ones.
static LAST: [[f32; LANES]; 2] = [[0.0; LANES], [1.0; LANES]];

/// `‖a − b‖²` of rows of at least sixteen.
///
/// # Safety
/// The instruction set of `V` is there.
#[inline(always)]
unsafe fn squared<V: F32x16>(a: &[f32], b: &[f32]) -> f32 {
    let d = b.len();
    assert!(a.len() == d && d >= LANES);
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: whole vectors inside the rows and the mask.
    unsafe {
        let mut sums = [V::splat(0.0); 2];
        let mut k = 0;
        while k + 2 * LANES <= d {
            let t = V::load(a.add(k)).sub(V::load(b.add(k)));
            let u = V::load(a.add(k + LANES)).sub(V::load(b.add(k + LANES)));
            sums = [t.mul_add(t, sums[0]), u.mul_add(u, sums[1])];
            k += 2 * LANES;
        }
        if k + LANES <= d {
            let t = V::load(a.add(k)).sub(V::load(b.add(k)));
            sums[0] = t.mul_add(t, sums[0]);
            k += LANES;
        }
        if k < d {
            // The last sixteen, without those that were counted.
            let from = d - LANES;
            let new = V::load(LAST.as_flattened().as_ptr().add(d - k));
            let t = V::load(a.add(from)).sub(V::load(b.add(from))).mul(new);
            sums[1] = t.mul_add(t, sums[1]);
        }
        sums[0].add(sums[1]).sum()
    }
}

#[inline(always)]
unsafe fn replace_body<V: F32x16>(s: &Sides<'_>, i: usize, j: usize, bits: u32, values: &mut [f32; LANES]) {
    let mut bits = bits & (u32::MAX >> (32 - LANES.min(s.m - j)));
    let a = &s.a_given[i * s.d..][..s.d];
    while bits != 0 {
        let lane = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        let b = &s.b_given[(j + lane) * s.d..][..s.d];
        // SAFETY: the caller's instruction set.
        let square = if s.d >= LANES { unsafe { squared::<V>(a, b) } } else { 0.0 };
        values[lane] = if square > SMALL && square < LARGE {
            if s.root { square.sqrt() } else { square }
        } else {
            at_the_ends(a, b, square, s.root)
        };
    }
}

dispatch! {
    /// Replaces the lanes `bits` of `values`, which are row `i` against columns `j` and on, by distances from differences of
    /// the rows as they were given.
    #[cold]
    pub fn replace(s: &Sides<'_>, i: usize, j: usize, bits: u32, values: &mut [f32; LANES]) = replace_body
}
