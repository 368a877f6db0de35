//! Sixteen f32 lanes, on whatever vector unit the machine has.
//!
//! A fast twin is written once, generic over [`F32x16`], marked `#[inline(always)]`, and turned
//! into one function per instruction set by [`dispatch!`](crate::dispatch). The set is chosen at run time from what
//! the processor reports, so that a plain `cargo build` is fast everywhere; but for WebAssembly, which has no way to ask:
//! there it takes `-C target-feature=+simd128`.

mod arrays;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dispatch;
mod exp;
mod fetch;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
mod vector;

pub use arrays::Portable;
#[cfg(target_arch = "x86_64")]
pub use avx2::Pair;
pub use exp::exp;
pub use fetch::{fetch, fetch_second, fetch_to_write};
#[cfg(target_arch = "aarch64")]
pub use neon::Quad;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use simd128::Quad;
pub use vector::{F32x16, LANES, Simd};
