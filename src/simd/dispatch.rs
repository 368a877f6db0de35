//! One function for each instruction set out of one generic one.

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
        #[allow(clippy::too_many_arguments, reason = "some have that many")]
        $vis fn $name(simd: $crate::simd::Simd, $($arg: $t),*) $(-> $r)? {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::simd::Simd;
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
                unsafe fn avx512($($arg: $t),*) $(-> $r)? {
                    // SAFETY: the features are enabled here.
                    unsafe { $body::<std::arch::x86_64::__m512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($arg: $t),*) $(-> $r)? {
                    // SAFETY: the features are enabled here.
                    unsafe { $body::<$crate::simd::Pair>($($arg),*) }
                }
                match simd {
                    // SAFETY: `Cpu` holds no set that the processor lacks.
                    Simd::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    Simd::Avx2 => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
            {
                use $crate::simd::Simd;
                #[inline(never)]
                fn quad($($arg: $t),*) $(-> $r)? {
                    // SAFETY: the set is part of the target.
                    unsafe { $body::<$crate::simd::Quad>($($arg),*) }
                }
                if matches!(simd, Simd::Neon | Simd::Simd128) {
                    return quad($($arg),*);
                }
            }
            let _ = simd;
            // SAFETY: plain Rust.
            unsafe { $body::<$crate::simd::Portable>($($arg),*) }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::simd::{F32x16, Simd};

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

    /// Numbers of both signs and no order, and what is special beside each other thing that is.
    fn rows() -> [[[f32; 16]; 2]; 3] {
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.5, -2.5, f32::MIN_POSITIVE];
        [
            [
                // Of every size: their sum tells in which order it was taken.
                std::array::from_fn(|i| (i as f32 - 7.5) / 1.3f32.powi((i * 5 % 16) as i32)),
                std::array::from_fn(|i| ((i * 7) % 16) as f32 - 6.25),
            ],
            [std::array::from_fn(|i| special[i / 2]), std::array::from_fn(|i| special[i % 2 * 4 + i / 4])],
            [std::array::from_fn(|i| special[i % 8]), std::array::from_fn(|i| special[(i * 3 + i / 8) % 8])],
        ]
    }

    /// The same bits, or one NaN for another.
    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    #[test]
    fn every_set_gives_the_bits_of_the_portable_one() {
        for [a, b] in rows() {
            let mut want = [[0.0; 16]; 10];
            let sum = run(Simd::Portable, &a, &b, &mut want);
            assert_eq!(want[8], std::array::from_fn(|i| if a[i] > b[i] { 1.0 } else { 2.0 }));
            for simd in Simd::supported() {
                let mut got = [[0.0; 16]; 10];
                assert!(same(run(simd, &a, &b, &mut got), sum), "{simd:?}: the sum of {a:?}");
                for (at, (&g, &w)) in got.iter().flatten().zip(want.iter().flatten()).enumerate() {
                    let (op, lane) = (at / 16, at % 16);
                    // A fused multiply-add rounds once.
                    let fused = op == 4 && same(g, a[lane].mul_add(b[lane], a[lane]));
                    assert!(same(g, w) || fused, "{simd:?}, row {op}, lane {lane}: {g} against {w}");
                }
            }
        }
    }

    #[test]
    fn the_larger_and_the_smaller_are_the_second_beside_a_nan() {
        let numbers: [f32; 16] = std::array::from_fn(|i| i as f32 - 8.0);
        let nans = [f32::NAN; 16];
        for simd in Simd::supported() {
            let mut out = [[0.0; 16]; 10];
            run(simd, &nans, &numbers, &mut out);
            assert_eq!([out[5], out[6]], [numbers; 2], "{simd:?}");
            run(simd, &numbers, &nans, &mut out);
            assert!(out[5].iter().chain(&out[6]).all(|v| v.is_nan()), "{simd:?}: {out:?}");
        }
    }
}
