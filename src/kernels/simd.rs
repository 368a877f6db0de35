//! Sixteen f32 lanes, on whatever vector unit the machine has.
//!
//! A fast twin is written once, generic over [`F32x16`], marked `#[inline(always)]`, and turned
//! into one function per instruction set by [`dispatch!`](crate::dispatch). The set is chosen at run time from what
//! the processor reports, so that a plain `cargo build` is fast everywhere.

/// An instruction set the CPU device can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// Arrays of sixteen floats; the compiler makes of it what it can.
    Portable,
    /// Two 8-lane registers with fused multiply-add.
    Avx2,
    /// One 16-lane register.
    Avx512,
}

impl Simd {
    /// The widest set this processor has.
    pub fn best() -> Self {
        [Self::Avx512, Self::Avx2].into_iter().find(|s| s.is_supported()).unwrap_or(Self::Portable)
    }

    /// Whether this processor has the set.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Portable => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("fma")
            }
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable;
    }
}

/// How many lanes a vector has.
pub const LANES: usize = 16;

/// Sixteen f32 lanes.
///
/// # Safety
/// Every method may only run where the instruction set of the implementing type is there;
/// pointers must be good for sixteen elements (of any alignment).
#[allow(clippy::missing_safety_doc)] // said once, above
pub unsafe trait F32x16: Copy {
    /// Whether there are registers for 24 accumulators (32 full-width registers) or for 6 to 8.
    const WIDE: bool;
    /// All lanes `v`.
    unsafe fn splat(v: f32) -> Self;
    /// Reads sixteen elements.
    unsafe fn load(p: *const f32) -> Self;
    /// Writes sixteen elements.
    unsafe fn store(self, p: *mut f32);
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self − b`.
    unsafe fn sub(self, b: Self) -> Self;
    /// `self · b`.
    unsafe fn mul(self, b: Self) -> Self;
    /// `self / b`.
    unsafe fn div(self, b: Self) -> Self;
    /// `self · b + c`, fused where the hardware fuses.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger, lane by lane.
    unsafe fn max(self, b: Self) -> Self;
    /// The smaller, lane by lane.
    unsafe fn min(self, b: Self) -> Self;
    /// Square root.
    unsafe fn sqrt(self) -> Self;
    /// Absolute value.
    unsafe fn abs(self) -> Self;
    /// `yes` where `self > b`, else `no`.
    unsafe fn if_gt(self, b: Self, yes: Self, no: Self) -> Self;
    /// The sum of the lanes, always as ((0+8)+(4+12))+…: halves folded onto each other.
    unsafe fn sum(self) -> f32;
}

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
#[allow(clippy::undocumented_unsafe_blocks)] // pointers are the caller's promise, as the trait says
unsafe impl F32x16 for Portable {
    const WIDE: bool = false;
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::F32x16;
    use std::arch::x86_64::*;

    // SAFETY: called only inside functions that enable AVX-512 (see `dispatch!`).
    #[allow(clippy::undocumented_unsafe_blocks)] // each is an intrinsic of the enabled set
    unsafe impl F32x16 for __m512 {
        const WIDE: bool = true;
        #[inline(always)]
        unsafe fn splat(v: f32) -> Self {
            unsafe { _mm512_set1_ps(v) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe { _mm512_storeu_ps(p, self) }
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            unsafe { _mm512_add_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            unsafe { _mm512_sub_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            unsafe { _mm512_mul_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            unsafe { _mm512_div_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            unsafe { _mm512_fmadd_ps(self, b, c) }
        }
        #[inline(always)]
        unsafe fn max(self, b: Self) -> Self {
            unsafe { _mm512_max_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn min(self, b: Self) -> Self {
            unsafe { _mm512_min_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            unsafe { _mm512_sqrt_ps(self) }
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            unsafe { _mm512_abs_ps(self) }
        }
        #[inline(always)]
        unsafe fn if_gt(self, b: Self, yes: Self, no: Self) -> Self {
            unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self, b), no, yes) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { sum8(_mm256_add_ps(_mm512_castps512_ps256(self), _mm512_extractf32x8_ps::<1>(self))) }
        }
    }

    #[inline(always)]
    unsafe fn sum8(v: __m256) -> f32 {
        // SAFETY: AVX is part of every set that calls this.
        unsafe {
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }

    /// Two 8-lane registers.
    #[derive(Clone, Copy)]
    pub struct Pair(__m256, __m256);

    macro_rules! both {
        ($f:ident, $a:expr $(, $b:expr)*) => { unsafe { Pair($f($a.0 $(, $b.0)*), $f($a.1 $(, $b.1)*)) } };
    }

    // SAFETY: called only inside functions that enable AVX2 and FMA (see `dispatch!`).
    #[allow(clippy::undocumented_unsafe_blocks)] // each is an intrinsic of the enabled set
    unsafe impl F32x16 for Pair {
        const WIDE: bool = false;
        #[inline(always)]
        unsafe fn splat(v: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(v), _mm256_set1_ps(v)) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe {
                _mm256_storeu_ps(p, self.0);
                _mm256_storeu_ps(p.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            both!(_mm256_add_ps, self, b)
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            both!(_mm256_sub_ps, self, b)
        }
        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            both!(_mm256_mul_ps, self, b)
        }
        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            both!(_mm256_div_ps, self, b)
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            both!(_mm256_fmadd_ps, self, b, c)
        }
        #[inline(always)]
        unsafe fn max(self, b: Self) -> Self {
            both!(_mm256_max_ps, self, b)
        }
        #[inline(always)]
        unsafe fn min(self, b: Self) -> Self {
            both!(_mm256_min_ps, self, b)
        }
        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            both!(_mm256_sqrt_ps, self)
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            unsafe {
                let sign = _mm256_set1_ps(-0.0);
                Self(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
            }
        }
        #[inline(always)]
        unsafe fn if_gt(self, b: Self, yes: Self, no: Self) -> Self {
            unsafe {
                Self(
                    _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, b.0)),
                    _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_GT_OQ>(self.1, b.1)),
                )
            }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { sum8(_mm256_add_ps(self.0, self.1)) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::Pair;

/// Defines a function that runs `body::<V>` with the vector type of the set given first.
///
/// `dispatch! { fn name(args...) -> R = body }` makes `fn name(simd: Simd, args...) -> R` out of
/// `#[inline(always)] unsafe fn body<V: F32x16>(args...) -> R`. The body's own safety contract is
/// the caller's to keep: slices in, no pointers, is best.
#[doc(hidden)]
#[macro_export]
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $t:ty),* $(,)?) $(-> $r:ty)? = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(simd: $crate::kernels::simd::Simd, $($arg: $t),*) $(-> $r)? {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::kernels::simd::Simd;
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
                unsafe fn avx512($($arg: $t),*) $(-> $r)? {
                    // SAFETY: the features are enabled here.
                    unsafe { $body::<std::arch::x86_64::__m512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($arg: $t),*) $(-> $r)? {
                    // SAFETY: the features are enabled here.
                    unsafe { $body::<$crate::kernels::simd::Pair>($($arg),*) }
                }
                match simd {
                    // SAFETY: `Cpu` holds no set that the processor lacks.
                    Simd::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    Simd::Avx2 => return unsafe { avx2($($arg),*) },
                    Simd::Portable => {}
                }
            }
            let _ = simd;
            // SAFETY: plain Rust.
            unsafe { $body::<$crate::kernels::simd::Portable>($($arg),*) }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(always)]
    unsafe fn all_of<V: F32x16>(a: &[f32; 16], b: &[f32; 16], out: &mut [[f32; 16]; 10]) -> f32 {
        // SAFETY: arrays of sixteen.
        unsafe {
            let (x, y) = (V::load(a.as_ptr()), V::load(b.as_ptr()));
            let rows = [
                x.add(y),
                x.sub(y),
                x.mul(y),
                x.div(y),
                x.mul_add(y, x),
                x.max(y),
                x.min(y),
                x.abs().sqrt(),
                x.if_gt(y, V::splat(1.0), V::splat(2.0)),
                x.abs(),
            ];
            for (o, r) in out.iter_mut().zip(rows) {
                r.store(o.as_mut_ptr());
            }
            x.sum()
        }
    }
    dispatch! { fn run(a: &[f32; 16], b: &[f32; 16], out: &mut [[f32; 16]; 10]) -> f32 = all_of }

    #[test]
    fn every_set_agrees_with_the_portable_one() {
        let a: [f32; 16] = std::array::from_fn(|i| (i as f32 - 7.5) * 1.3);
        let b: [f32; 16] = std::array::from_fn(|i| ((i * 7) % 16) as f32 - 6.25);
        let mut want = [[0.0; 16]; 10];
        let sum = run(Simd::Portable, &a, &b, &mut want);
        assert_eq!(want[8], std::array::from_fn(|i| if a[i] > b[i] { 1.0 } else { 2.0 }));
        for simd in [Simd::Avx2, Simd::Avx512].into_iter().filter(|s| s.is_supported()) {
            let mut got = [[0.0; 16]; 10];
            assert_eq!(run(simd, &a, &b, &mut got), sum, "{simd:?}");
            for (g, w) in got.iter().flatten().zip(want.iter().flatten()) {
                assert!((g - w).abs() <= 1e-5 * w.abs().max(1.0), "{simd:?}: {g} against {w}");
            }
        }
    }
}
