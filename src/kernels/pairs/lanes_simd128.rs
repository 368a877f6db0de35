//! [`Lanes`] of WebAssembly's vectors.

use super::lanes::Lanes;
use crate::simd::{F32x16, Quad};
use std::arch::wasm32::*;

// SAFETY: compiled only where the whole program may use the set.
unsafe impl Lanes for Quad {
    // There is no estimate to start from.
    #[inline(always)]
    unsafe fn rsqrt(self) -> Self {
        // SAFETY: as above.
        unsafe { Self::splat(1.0).div(self.sqrt()) }
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> u32 {
        let bits = [
            i32x4_bitmask(f32x4_gt(self.0, b.0)),
            i32x4_bitmask(f32x4_gt(self.1, b.1)),
            i32x4_bitmask(f32x4_gt(self.2, b.2)),
            i32x4_bitmask(f32x4_gt(self.3, b.3)),
        ];
        u32::from(bits[0]) | u32::from(bits[1]) << 4 | u32::from(bits[2]) << 8 | u32::from(bits[3]) << 12
    }
    #[inline(always)]
    unsafe fn keep(self, lanes: u32) -> Self {
        let first = i32x4(1, 2, 4, 8);
        let kept = |v, shift| {
            let bits = v128_and(i32x4_splat((lanes >> shift) as i32), first);
            v128_and(v, i32x4_eq(bits, first))
        };
        Self(kept(self.0, 0), kept(self.1, 4), kept(self.2, 8), kept(self.3, 12))
    }
}
