//! The exponential function.

use super::vector::{F32x16, LANES};

/// `exp(x)` of sixteen lanes of at most 88, to 2e-7 of itself; below −87 it is `exp(−87)`, 2e-38, and of a NaN a NaN.
///
/// As Cody and Waite (1980): `x = n·ln 2 + r`, with `ln 2` in two parts so that `r` is exact enough, a polynomial in `r`, and `n`
/// put into the exponent.
///
/// # Safety
/// That of [`F32x16`].
#[inline(always)]
pub unsafe fn exp<V: F32x16>(x: V) -> V {
    // Added to a small number, what is left of the sum's last bits is that number, rounded.
    const ROUND: f32 = 12_582_912.0;
    // Taylor's coefficients: |r| is at most 0.35, where the next term is 6e-8·r.
    const TERMS: [f32; 6] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    let (mut bits, mut parts) = ([0.0f32; LANES], [0.0f32; LANES]);
    // SAFETY: arrays of sixteen.
    unsafe {
        let x = V::splat(-87.0).max(x);
        let shifted = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUND));
        let n = shifted.sub(V::splat(ROUND));
        let r = n.mul_add(V::splat(-0.693_359_4), x);
        let r = n.mul_add(V::splat(2.121_944_4e-4), r);
        let mut sum = V::splat(1.0 / 5040.0);
        for term in TERMS {
            sum = sum.mul_add(r, V::splat(term));
        }
        sum.mul_add(r, V::splat(1.0)).store(parts.as_mut_ptr());
        shifted.store(bits.as_mut_ptr());
        for (part, n) in parts.iter_mut().zip(bits) {
            *part *= f32::from_bits((n.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
        }
        V::load(parts.as_ptr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::vector::Simd;

    #[inline(always)]
    unsafe fn of_sixteen<V: F32x16>(x: &mut [f32; LANES]) {
        // SAFETY: an array of sixteen.
        unsafe { exp(V::load(x.as_ptr())).store(x.as_mut_ptr()) }
    }

    crate::dispatch! { fn run(x: &mut [f32; LANES]) = of_sixteen }

    #[test]
    fn is_that_of_double_precision_in_every_set() {
        for simd in Simd::supported() {
            let mut worst = 0.0f64;
            for i in 0..20_000 {
                let x: [f32; LANES] =
                    std::array::from_fn(|l| 88.0 - (i * LANES + l) as f32 * (175.0 / 320_000.0));
                let mut y = x;
                run(simd, &mut y);
                for (x, y) in x.into_iter().zip(y) {
                    worst = worst.max((f64::from(y) / f64::from(x).exp() - 1.0).abs());
                }
            }
            assert!(worst < 2e-7, "{simd:?}: {worst:e}");
            let mut ends = [0.0; LANES];
            (ends[0], ends[1], ends[2], ends[3]) = (f32::NAN, f32::NEG_INFINITY, -1e30, -88.0);
            run(simd, &mut ends);
            assert!(ends[0].is_nan() && ends[4] == 1.0, "{simd:?}: {ends:?}");
            assert!(ends[1..4].iter().all(|&y| y > 0.0 && y < 2e-38), "{simd:?}: {ends:?}");
        }
    }
}
