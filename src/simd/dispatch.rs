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
                    Simd::Portable => {}
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
