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

/// Each lane's bit.
#[inline(always)]
unsafe fn bits() -> [uint32x4_t; 4] {
    const BITS: [u32; 16] = {
        let mut bits = [1; 16];
        let mut l = 1;
        while l < 16 {
            bits[l] = bits[l - 1] << 1;
            l += 1;
        }
        bits
    };
    // SAFETY: NEON is there; four times four of sixteen.
    unsafe {
        let at = BITS.as_ptr();
        [vld1q_u32(at), vld1q_u32(at.add(4)), vld1q_u32(at.add(8)), vld1q_u32(at.add(12))]
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
        // SAFETY: intrinsics of the set.
        unsafe {
            let [p, q, r, s] = bits();
            let low = vorrq_u32(vandq_u32(vcgtq_f32(self.0, b.0), p), vandq_u32(vcgtq_f32(self.1, b.1), q));
            let high = vorrq_u32(vandq_u32(vcgtq_f32(self.2, b.2), r), vandq_u32(vcgtq_f32(self.3, b.3), s));
            vaddvq_u32(vorrq_u32(low, high))
        }
    }
    #[inline(always)]
    unsafe fn keep(self, lanes: u32) -> Self {
        // SAFETY: intrinsics of the set.
        unsafe {
            let [p, q, r, s] = bits();
            let lanes = vdupq_n_u32(lanes);
            let kept =
                |v, bit| vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vtstq_u32(lanes, bit)));
            Self(kept(self.0, p), kept(self.1, q), kept(self.2, r), kept(self.3, s))
        }
    }
}
