//! Plain arrays: every processor.

use super::vector::F32x16;

/// Sixteen floats without vector instructions of their own.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Portable([f32; 16]);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self;
        for (o, b) in out.0.iter_mut().zip(b.0) {
            *o = f(*o, b);
        }
        out
    }
}

// SAFETY: plain Rust, available everywhere.
#[expect(clippy::undocumented_unsafe_blocks, reason = "pointers are the caller's promise, as the trait says")]
unsafe impl F32x16 for Portable {
    const SUMS: usize = 6;
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self([v; 16])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(unsafe { p.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { p.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // Not f32::mul_add: without the instruction that is a call into libm for each lane.
        self.zip(b, |a, b| a * b).zip(c, |ab, c| ab + c)
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        self.zip(self, |a, _| a.sqrt())
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        self.zip(self, |a, _| a.abs())
    }
    #[inline(always)]
    unsafe fn if_gt(self, b: Self, yes: Self, no: Self) -> Self {
        let mut out = no;
        for i in 0..16 {
            out.0[i] = if self.0[i] > b.0[i] { yes.0[i] } else { no.0[i] };
        }
        out
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut v = self.0;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] += v[i + half];
            }
        }
        v[0]
    }
}
