//! [`Lanes`] of the vectors of x86.

use super::lanes::{Lanes, newton};
use crate::simd::Pair;
use std::arch::x86_64::*;

// SAFETY: called only where AVX-512 is enabled.
unsafe impl Lanes for __m512 {
    #[inline(always)]
    unsafe fn rsqrt(self) -> Self {
        // SAFETY: an intrinsic of the enabled set.
        unsafe { newton(self, _mm512_rsqrt14_ps(self)) }
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> u32 {
        // SAFETY: an intrinsic of the enabled set.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self, b)) }
    }
    #[inline(always)]
    unsafe fn keep(self, bits: u32) -> Self {
        // SAFETY: an intrinsic of the enabled set.
        unsafe { _mm512_maskz_mov_ps(bits as u16, self) }
    }
}

// SAFETY: called only where AVX2 and FMA are enabled.
unsafe impl Lanes for Pair {
    #[inline(always)]
    unsafe fn rsqrt(self) -> Self {
        // SAFETY: intrinsics of the enabled set.
        unsafe {
            let [a, b] = self.halves();
            newton(self, Self::of_halves([_mm256_rsqrt_ps(a), _mm256_rsqrt_ps(b)]))
        }
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> u32 {
        // SAFETY: intrinsics of the enabled set.
        unsafe {
            let ([a0, a1], [b0, b1]) = (self.halves(), b.halves());
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a0, b0));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a1, b1));
            low as u32 | (high as u32) << 8
        }
    }
    #[inline(always)]
    unsafe fn keep(self, bits: u32) -> Self {
        // SAFETY: intrinsics of the enabled set.
        unsafe {
            let [a, b] = self.halves();
            let of_lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let mask = |bits: u32| {
                let bits = _mm256_and_si256(_mm256_set1_epi32(bits as i32), of_lanes);
                _mm256_castsi256_ps(_mm256_cmpeq_epi32(bits, of_lanes))
            };
            Self::of_halves([_mm256_and_ps(a, mask(bits)), _mm256_and_ps(b, mask(bits >> 8))])
        }
    }
}

trait Halves {
    unsafe fn halves(self) -> [__m256; 2];
    unsafe fn of_halves(halves: [__m256; 2]) -> Self;
}

impl Halves for Pair {
    #[inline(always)]
    unsafe fn halves(self) -> [__m256; 2] {
        const { assert!(size_of::<Self>() == size_of::<[__m256; 2]>()) };
        // SAFETY: two registers, of the same size and without padding or invalid bits.
        unsafe { std::mem::transmute(self) }
    }
    #[inline(always)]
    unsafe fn of_halves(halves: [__m256; 2]) -> Self {
        // SAFETY: as above.
        unsafe { std::mem::transmute(halves) }
    }
}
