//! WebAssembly's SIMD128: four registers, no fused multiply-add (relaxed SIMD's may or may not fuse, as the host likes).

use super::vector::F32x16;
use std::arch::wasm32::*;

/// Four 4-lane registers.
#[derive(Clone, Copy)]
pub struct Quad(pub(crate) v128, pub(crate) v128, pub(crate) v128, pub(crate) v128);

macro_rules! four {
    ($f:ident, $a:expr $(, $b:expr)*) => {
        Quad($f($a.0 $(, $b.0)*), $f($a.1 $(, $b.1)*), $f($a.2 $(, $b.2)*), $f($a.3 $(, $b.3)*))
    };
}

/// `yes` where `a > b`, else `no`.
#[inline(always)]
fn select_gt(a: v128, b: v128, yes: v128, no: v128) -> v128 {
    v128_bitselect(yes, no, f32x4_gt(a, b))
}

// SAFETY: compiled only where the whole program may use the set.
#[expect(clippy::undocumented_unsafe_blocks, reason = "pointers are the caller's promise, as the trait says")]
unsafe impl F32x16 for Quad {
    // Sixteen registers on an x86 host, of which the product before a sum takes one (measured in Node: 1.3 times as fast as 4).
    const SUMS: usize = 2;
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self(f32x4_splat(v), f32x4_splat(v), f32x4_splat(v), f32x4_splat(v))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        let p = p.cast::<v128>();
        unsafe { Self(v128_load(p), v128_load(p.add(1)), v128_load(p.add(2)), v128_load(p.add(3))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        let p = p.cast::<v128>();
        unsafe {
            v128_store(p, self.0);
            v128_store(p.add(1), self.1);
            v128_store(p.add(2), self.2);
            v128_store(p.add(3), self.3);
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        four!(f32x4_add, self, b)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        four!(f32x4_sub, self, b)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        four!(f32x4_mul, self, b)
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        four!(f32x4_div, self, b)
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        unsafe { self.mul(b).add(c) }
    }
    // `pmax(a, b)` is `a < b ? b : a`, and `pmin(a, b)` is `b < a ? b : a`.
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        four!(f32x4_pmax, b, self)
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        four!(f32x4_pmin, b, self)
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        four!(f32x4_sqrt, self)
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        four!(f32x4_abs, self)
    }
    #[inline(always)]
    unsafe fn if_gt(self, b: Self, yes: Self, no: Self) -> Self {
        four!(select_gt, self, b, yes, no)
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let v = f32x4_add(f32x4_add(self.0, self.2), f32x4_add(self.1, self.3));
        let v = f32x4_add(v, i32x4_shuffle::<2, 3, 0, 1>(v, v));
        f32x4_extract_lane::<0>(v) + f32x4_extract_lane::<1>(v)
    }
}
