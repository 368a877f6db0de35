//! What one core can do, measured: the ceilings of the roofline.

use crate::dispatch;
use crate::simd::{F32x16, LANES, Simd};
use std::hint::black_box;
use std::time::Instant;

/// The ceilings of one core.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Floating-point operations per second: multiply-adds on registers alone, each counted as two.
    pub flops: f64,
    /// Bytes per second: a copy between two buffers larger than any cache, bytes read plus bytes written.
    pub bytes: f64,
}

/// Measures both on the calling thread; takes a fraction of a second.
pub fn measure(simd: Simd) -> Peak {
    // Whole rounds of six sums and of twelve.
    const VECTORS: usize = 12 << 19;
    let best = |mut run: Box<dyn FnMut() + '_>| {
        (0..7)
            .map(|_| {
                let start = Instant::now();
                run();
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min)
    };
    let seconds = best(Box::new(|| {
        black_box(multiply_adds(simd, black_box(VECTORS)));
    }));
    let len = 16 << 20;
    let (from, mut to) = (vec![1.0f32; len], vec![0.0f32; len]);
    let copy = best(Box::new(|| {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    }));
    Peak { flops: (VECTORS * LANES * 2) as f64 / seconds, bytes: (2 * 4 * len) as f64 / copy }
}

dispatch! { fn multiply_adds(vectors: usize) -> f32 = multiply_adds_body }

#[inline(always)]
unsafe fn multiply_adds_body<V: F32x16>(vectors: usize) -> f32 {
    // Independent sums: enough to cover the latency of a multiply-add on two ports, few enough to stay in registers.
    // SAFETY: the caller's instruction set.
    unsafe { if V::WIDE { sums::<V, 12>(vectors) } else { sums::<V, 6>(vectors) } }
}

#[inline(always)]
unsafe fn sums<V: F32x16, const SUMS: usize>(vectors: usize) -> f32 {
    // SAFETY: arithmetic on registers.
    unsafe {
        let mut acc = [V::splat(black_box(1.0)); SUMS];
        let (a, b) = (V::splat(black_box(0.999_999)), V::splat(black_box(1e-6)));
        for _ in 0..vectors / SUMS {
            for acc in &mut acc {
                *acc = acc.mul_add(a, b);
            }
        }
        let mut sum = acc[0];
        for &v in &acc[1..] {
            sum = sum.add(v);
        }
        sum.sum()
    }
}
