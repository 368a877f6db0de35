//! What the tiles ask of a vector beyond arithmetic.

use crate::simd::{F32x16, LANES, Portable};

/// What the tiles need beyond [`F32x16`].
///
/// # Safety
/// As [`F32x16`].
pub unsafe trait Lanes: F32x16 {
    /// `1 / √self` to within 4e-7 for normal positive numbers.
    unsafe fn rsqrt(self) -> Self;
    /// Bit `l` set where lane `l` of `self` is greater than that of `b`.
    unsafe fn gt(self, b: Self) -> u32;
    /// The lanes whose bit is set, 0 in the others.
    unsafe fn keep(self, bits: u32) -> Self;
}

/// One step of Newton's method for `y = 1 / √x`, which doubles the good bits of `y`.
///
/// # Safety
/// As [`F32x16`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn newton<V: F32x16>(x: V, y: V) -> V {
    // SAFETY: the caller's instruction set.
    unsafe {
        let xy = x.mul(y);
        let half = y.mul(V::splat(0.5));
        V::splat(0.0).sub(xy).mul_add(y, V::splat(3.0)).mul(half)
    }
}

// SAFETY: plain Rust.
unsafe impl Lanes for Portable {
    #[inline(always)]
    unsafe fn rsqrt(self) -> Self {
        // SAFETY: plain Rust.
        unsafe { Self::splat(1.0).div(self.sqrt()) }
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> u32 {
        let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
        // SAFETY: arrays of sixteen.
        unsafe {
            self.store(x.as_mut_ptr());
            b.store(y.as_mut_ptr());
        }
        x.iter().zip(&y).enumerate().fold(0, |bits, (l, (x, y))| bits | (u32::from(x > y) << l))
    }
    #[inline(always)]
    unsafe fn keep(self, bits: u32) -> Self {
        let mut x = [0.0; LANES];
        // SAFETY: an array of sixteen.
        unsafe {
            self.store(x.as_mut_ptr());
            for (l, x) in x.iter_mut().enumerate() {
                *x = if bits >> l & 1 == 1 { *x } else { 0.0 };
            }
            Self::load(x.as_ptr())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch;
    use crate::simd::Simd;

    #[inline(always)]
    unsafe fn body<V: Lanes>(a: &[f32; LANES], b: &[f32; LANES], root: &mut [f32; LANES]) -> u32 {
        // SAFETY: arrays of sixteen.
        unsafe {
            let (a, b) = (V::load(a.as_ptr()), V::load(b.as_ptr()));
            a.rsqrt().store(root.as_mut_ptr());
            a.gt(b)
        }
    }
    dispatch! { fn run(a: &[f32; LANES], b: &[f32; LANES], root: &mut [f32; LANES]) -> u32 = body }

    #[test]
    fn the_reciprocal_root_is_near_enough_in_every_lane_and_octave() {
        for simd in Simd::supported() {
            let mut worst = 0.0f64;
            // From the smallest normal number to the largest, mantissas in no order.
            for at in (0x0080_0000u32..0x7f7f_ffff).step_by(16 * 18_899) {
                let a = std::array::from_fn(|l| f32::from_bits(at + l as u32 * 18_899));
                let mut root = [0.0; LANES];
                run(simd, &a, &a, &mut root);
                for (a, root) in a.iter().filter(|a| a.is_finite()).zip(root) {
                    worst = worst.max((f64::from(root) * f64::from(*a).sqrt() - 1.0).abs());
                }
            }
            assert!(worst < 4e-7, "{simd:?}: {worst:e}");
        }
    }

    #[test]
    fn a_bit_is_set_for_each_lane_that_is_greater() {
        for simd in Simd::supported() {
            let b: [f32; LANES] = std::array::from_fn(|l| [0.0, -3.0, 5.0, f32::INFINITY][l % 4]);
            for bits in (0..=u32::from(u16::MAX)).step_by(7).chain([0xffff]) {
                // Equal and unordered lanes are not greater.
                let less = |l: usize| [b[l], f32::NAN, f32::NEG_INFINITY][l % 3];
                let above = |l: usize| if b[l].is_finite() { b[l] + 1.0 } else { f32::NAN };
                let a = std::array::from_fn(|l| if bits >> l & 1 == 1 { above(l) } else { less(l) });
                let want = (0..LANES).filter(|l| b[*l].is_finite()).fold(0, |m, l| m | (bits & 1 << l));
                assert_eq!(run(simd, &a, &b, &mut [0.0; LANES]), want, "{simd:?}");
            }
        }
    }

    #[inline(always)]
    unsafe fn keep_body<V: Lanes>(a: &[f32; LANES], bits: u32, kept: &mut [f32; LANES]) {
        // SAFETY: arrays of sixteen.
        unsafe { V::load(a.as_ptr()).keep(bits).store(kept.as_mut_ptr()) }
    }
    dispatch! { fn keep(a: &[f32; LANES], bits: u32, kept: &mut [f32; LANES]) = keep_body }

    #[test]
    fn lanes_are_kept_whose_bit_is_set_and_others_are_zero() {
        for simd in Simd::supported() {
            let a: [f32; LANES] = std::array::from_fn(|l| if l % 5 == 0 { f32::NAN } else { l as f32 - 7.5 });
            for bits in (0..=u32::from(u16::MAX)).step_by(7).chain([0xffff]) {
                let mut kept = [1.0; LANES];
                keep(simd, &a, bits, &mut kept);
                let want = |l: usize| if bits >> l & 1 == 1 { a[l].to_bits() } else { 0 };
                assert!((0..LANES).all(|l| kept[l].to_bits() == want(l)), "{simd:?}, {bits:#x}: {kept:?}");
            }
        }
    }
}
