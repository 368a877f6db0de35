//! The sets, and what a vector of any of them does.

/// An instruction set the CPU device can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// Arrays of sixteen floats; the compiler makes of it what it can.
    Portable,
    /// Two 8-lane registers with fused multiply-add.
    Avx2,
    /// One 16-lane register.
    Avx512,
    /// Four 4-lane registers with fused multiply-add: 64-bit Arm.
    Neon,
    /// Four 4-lane registers without: WebAssembly, where the program was compiled with it.
    Simd128,
}

impl Simd {
    /// The sets of this processor, [`Portable`](Self::Portable) first and the widest last.
    pub fn supported() -> impl DoubleEndedIterator<Item = Self> {
        [Self::Portable, Self::Avx2, Self::Avx512, Self::Neon, Self::Simd128]
            .into_iter()
            .filter(|s| s.is_supported())
    }

    /// The widest set this processor has.
    pub fn best() -> Self {
        Self::supported().next_back().unwrap_or(Self::Portable)
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
            Self::Neon | Self::Simd128 => false,
        };
        #[cfg(not(target_arch = "x86_64"))]
        return match self {
            Self::Portable => true,
            Self::Avx2 | Self::Avx512 => false,
            Self::Neon => cfg!(target_arch = "aarch64"),
            Self::Simd128 => cfg!(all(target_arch = "wasm32", target_feature = "simd128")),
        };
    }
}

/// How many lanes a vector has.
pub const LANES: usize = 16;

/// Sixteen f32 lanes.
///
/// # Safety
/// Every method may only run where the instruction set of the implementing type is there;
/// pointers must be good for sixteen elements (of any alignment).
#[expect(clippy::missing_safety_doc, reason = "said once, above")]
pub unsafe trait F32x16: Copy {
    /// How many accumulators leave registers for what is added to them: 24 (of 32 full-width registers), 6, 4 or 2.
    const SUMS: usize;
    /// Whether these are many.
    const WIDE: bool = Self::SUMS >= 24;
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
    /// The larger, lane by lane; `b` where either is NaN.
    unsafe fn max(self, b: Self) -> Self;
    /// The smaller, lane by lane; `b` where either is NaN.
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
