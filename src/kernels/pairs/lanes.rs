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
}
