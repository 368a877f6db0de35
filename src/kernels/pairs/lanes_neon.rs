//! [`Lanes`] of NEON's vectors.

use super::lanes::Lanes;
use crate::simd::Quad;
use std::arch::aarch64::*;

/// Two steps of Newton's method from the estimate, which is good to 2⁻⁸: then 2⁻¹⁵, then rounding. The architecture
/// defines the estimate to the bit, so every processor gives the same.
#[inline(always)]
unsafe fn rsqrt(x: float32x4_t) -> float32x4_t {
    // SAFETY: NEON is there.
    unsafe {
        let y = vrsqrteq_f32(x);
        let y = vmulq_f32(y, vrsqrtsq_f32(vmulq_f32(x, y), y));
        vmulq_f32(y, vrsqrtsq_f32(vmulq_f32(x, y), y))
    }
}

// SAFETY: part of every processor of this architecture.
unsafe impl Lanes for Quad {
    #[inline(always)]
    unsafe fn rsqrt(self) -> Self {
        // SAFETY: as above.
        unsafe { Self(rsqrt(self.0), rsqrt(self.1), rsqrt(self.2), rsqrt(self.3)) }
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> u32 {
        const BITS: [[u32; 4]; 4] = {
            let mut bits = [[0; 4]; 4];
            let mut l = 0;
            while l < 16 {
                bits[l / 4][l % 4] = 1 << l;
                l += 1;
            }
            bits
        };
        // SAFETY: intrinsics of the set, and four arrays of four.
        unsafe {
            let low = vandq_u32(vcgtq_f32(self.0, b.0), vld1q_u32(BITS[0].as_ptr()));
            let low = vorrq_u32(low, vandq_u32(vcgtq_f32(self.1, b.1), vld1q_u32(BITS[1].as_ptr())));
            let high = vandq_u32(vcgtq_f32(self.2, b.2), vld1q_u32(BITS[2].as_ptr()));
            let high = vorrq_u32(high, vandq_u32(vcgtq_f32(self.3, b.3), vld1q_u32(BITS[3].as_ptr())));
            vaddvq_u32(vorrq_u32(low, high))
        }
    }
}
