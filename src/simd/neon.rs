//! NEON, which every 64-bit Arm processor has: four registers.

use super::vector::F32x16;
use std::arch::aarch64::*;

/// Four 4-lane registers.
#[derive(Clone, Copy)]
pub struct Quad(
    pub(crate) float32x4_t,
    pub(crate) float32x4_t,
    pub(crate) float32x4_t,
    pub(crate) float32x4_t,
);

macro_rules! four {
    ($f:ident, $a:expr $(, $b:expr)*) => {
        unsafe { Quad($f($a.0 $(, $b.0)*), $f($a.1 $(, $b.1)*), $f($a.2 $(, $b.2)*), $f($a.3 $(, $b.3)*)) }
    };
}

/// `yes` where `a > b`, else `no`.
#[inline(always)]
unsafe fn select_gt(a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
    // SAFETY: NEON is there.
    unsafe { vbslq_f32(vcgtq_f32(a, b), yes, no) }
}

// SAFETY: part of every processor of this architecture.
#[expect(clippy::undocumented_unsafe_blocks, reason = "each is an intrinsic of the set that is always there")]
unsafe impl F32x16 for Quad {
    // Eight of these fill the registers, and there are no operands in memory.
    const SUMS: usize = 4;
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        unsafe { Self(vdupq_n_f32(v), vdupq_n_f32(v), vdupq_n_f32(v), vdupq_n_f32(v)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Self(vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe {
            vst1q_f32(p, self.0);
            vst1q_f32(p.add(4), self.1);
            vst1q_f32(p.add(8), self.2);
            vst1q_f32(p.add(12), self.3);
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        four!(vaddq_f32, self, b)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        four!(vsubq_f32, self, b)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        four!(vmulq_f32, self, b)
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        four!(vdivq_f32, self, b)
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        four!(vfmaq_f32, c, self, b)
    }
    // Not fmax and fmin, which are NaN where either is.
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        four!(select_gt, self, b, self, b)
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        four!(select_gt, b, self, self, b)
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        four!(vsqrtq_f32, self)
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        four!(vabsq_f32, self)
    }
    #[inline(always)]
    unsafe fn if_gt(self, b: Self, yes: Self, no: Self) -> Self {
        four!(select_gt, self, b, yes, no)
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let v = vaddq_f32(vaddq_f32(self.0, self.2), vaddq_f32(self.1, self.3));
            vpadds_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v)))
        }
    }
}
