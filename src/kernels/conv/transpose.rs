//! Turning sixteen rows of sixteen into sixteen columns: how samples become lanes and back.

use crate::simd::Simd;

/// Writes element `j` of row `i` as element `i` of row `j`.
///
/// The vector instruction sets do it in four rounds of pairwise interleaving, each of which doubles
/// the size of the squares that are already in place (the recursive transposition of Eklundh, 1972).
///
/// # Safety
/// `simd` is supported; every pointer is good for sixteen elements, and no output overlaps an input.
#[inline(always)]
pub(crate) unsafe fn transpose16(simd: Simd, from: &[*const f32; 16], to: &[*mut f32; 16]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise.
    unsafe {
        match simd {
            Simd::Avx512 => return x86::transpose_avx512(from, to),
            Simd::Avx2 => return x86::transpose_avx2(from, to),
            _ => {}
        }
    }
    #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
    if matches!(simd, Simd::Neon | Simd::Simd128) {
        // SAFETY: the caller's promise.
        return unsafe { quads::transpose(from, to) };
    }
    let _ = simd;
    for (i, row) in from.iter().enumerate() {
        for (j, column) in to.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *column.add(i) = *row.add(j) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// As [`super::transpose16`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn transpose_avx512(from: &[*const f32; 16], to: &[*mut f32; 16]) {
        // Loops, not `map`: what a closure passes through compiles for the baseline set, in memory.
        let mut r = [_mm512_setzero_ps(); 16];
        for (r, &p) in r.iter_mut().zip(from) {
            // SAFETY: pointers are the caller's promise.
            *r = unsafe { _mm512_loadu_ps(p) };
        }
        let mut a = r;
        // Pairs within each quarter of a register, then fours.
        for i in 0..8 {
            a[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            a[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        let mut b = a;
        for i in 0..4 {
            let d = [0, 1, 2, 3].map(|j| 4 * i + j);
            let (p, q) = (_mm512_castps_pd(a[d[0]]), _mm512_castps_pd(a[d[2]]));
            b[d[0]] = _mm512_castpd_ps(_mm512_unpacklo_pd(p, q));
            b[d[1]] = _mm512_castpd_ps(_mm512_unpackhi_pd(p, q));
            let (p, q) = (_mm512_castps_pd(a[d[1]]), _mm512_castps_pd(a[d[3]]));
            b[d[2]] = _mm512_castpd_ps(_mm512_unpacklo_pd(p, q));
            b[d[3]] = _mm512_castpd_ps(_mm512_unpackhi_pd(p, q));
        }
        // b[4i + j] holds, in quarter q, rows 4i..4i+4 of column 4q + j: exchange the quarters.
        for j in 0..4 {
            let low = _mm512_shuffle_f32x4::<0x88>(b[j], b[4 + j]);
            let odd = _mm512_shuffle_f32x4::<0xdd>(b[j], b[4 + j]);
            let low2 = _mm512_shuffle_f32x4::<0x88>(b[8 + j], b[12 + j]);
            let odd2 = _mm512_shuffle_f32x4::<0xdd>(b[8 + j], b[12 + j]);
            // SAFETY: as above.
            unsafe {
                _mm512_storeu_ps(to[j], _mm512_shuffle_f32x4::<0x88>(low, low2));
                _mm512_storeu_ps(to[4 + j], _mm512_shuffle_f32x4::<0x88>(odd, odd2));
                _mm512_storeu_ps(to[8 + j], _mm512_shuffle_f32x4::<0xdd>(low, low2));
                _mm512_storeu_ps(to[12 + j], _mm512_shuffle_f32x4::<0xdd>(odd, odd2));
            }
        }
    }

    /// # Safety
    /// As [`super::transpose16`].
    #[target_feature(enable = "avx2")]
    pub unsafe fn transpose_avx2(from: &[*const f32; 16], to: &[*mut f32; 16]) {
        for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            let mut r = [_mm256_setzero_ps(); 8];
            for (r, &p) in r.iter_mut().zip(&from[i..]) {
                // SAFETY: pointers are the caller's promise; eight elements from 0 or 8 are in sixteen.
                *r = unsafe { _mm256_loadu_ps(p.add(j)) };
            }
            let mut a = r;
            for k in 0..4 {
                a[2 * k] = _mm256_unpacklo_ps(r[2 * k], r[2 * k + 1]);
                a[2 * k + 1] = _mm256_unpackhi_ps(r[2 * k], r[2 * k + 1]);
            }
            let mut b = a;
            for k in 0..2 {
                b[4 * k] = _mm256_shuffle_ps::<0x44>(a[4 * k], a[4 * k + 2]);
                b[4 * k + 1] = _mm256_shuffle_ps::<0xee>(a[4 * k], a[4 * k + 2]);
                b[4 * k + 2] = _mm256_shuffle_ps::<0x44>(a[4 * k + 1], a[4 * k + 3]);
                b[4 * k + 3] = _mm256_shuffle_ps::<0xee>(a[4 * k + 1], a[4 * k + 3]);
            }
            for k in 0..4 {
                // SAFETY: as above.
                unsafe {
                    _mm256_storeu_ps(to[j + k].add(i), _mm256_permute2f128_ps::<0x20>(b[k], b[4 + k]));
                    _mm256_storeu_ps(to[j + 4 + k].add(i), _mm256_permute2f128_ps::<0x31>(b[k], b[4 + k]));
                }
            }
        }
    }
}

#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
mod quads {
    /// Squares of four, one by one: each goes from its place to its mirror image.
    ///
    /// # Safety
    /// As [`super::transpose16`].
    #[inline(never)]
    pub unsafe fn transpose(from: &[*const f32; 16], to: &[*mut f32; 16]) {
        for i in (0..16).step_by(4) {
            for j in (0..16).step_by(4) {
                // SAFETY: pointers are the caller's promise; four elements from a multiple of four are in sixteen.
                unsafe {
                    let rows = [from[i].add(j), from[i + 1].add(j), from[i + 2].add(j), from[i + 3].add(j)];
                    turn(rows, [to[j].add(i), to[j + 1].add(i), to[j + 2].add(i), to[j + 3].add(i)]);
                }
            }
        }
    }

    /// Four rows of four.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    unsafe fn turn(from: [*const f32; 4], to: [*mut f32; 4]) {
        use std::arch::aarch64::*;
        // SAFETY: NEON is there; pointers are the caller's promise.
        unsafe {
            let (a, b) = (vld1q_f32(from[0]), vld1q_f32(from[1]));
            let (c, d) = (vld1q_f32(from[2]), vld1q_f32(from[3]));
            // Pairs of two rows, then of four.
            let even = [vreinterpretq_f64_f32(vtrn1q_f32(a, b)), vreinterpretq_f64_f32(vtrn1q_f32(c, d))];
            let odd = [vreinterpretq_f64_f32(vtrn2q_f32(a, b)), vreinterpretq_f64_f32(vtrn2q_f32(c, d))];
            vst1q_f32(to[0], vreinterpretq_f32_f64(vtrn1q_f64(even[0], even[1])));
            vst1q_f32(to[1], vreinterpretq_f32_f64(vtrn1q_f64(odd[0], odd[1])));
            vst1q_f32(to[2], vreinterpretq_f32_f64(vtrn2q_f64(even[0], even[1])));
            vst1q_f32(to[3], vreinterpretq_f32_f64(vtrn2q_f64(odd[0], odd[1])));
        }
    }

    /// Four rows of four.
    #[cfg(target_arch = "wasm32")]
    #[inline(always)]
    unsafe fn turn(from: [*const f32; 4], to: [*mut f32; 4]) {
        use std::arch::wasm32::*;
        // SAFETY: pointers are the caller's promise.
        unsafe {
            let (a, b) = (v128_load(from[0].cast()), v128_load(from[1].cast()));
            let (c, d) = (v128_load(from[2].cast()), v128_load(from[3].cast()));
            // Columns 0 and 1 of two rows, then 2 and 3.
            let low = [i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d)];
            let high = [i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d)];
            v128_store(to[0].cast(), i64x2_shuffle::<0, 2>(low[0], low[1]));
            v128_store(to[1].cast(), i64x2_shuffle::<1, 3>(low[0], low[1]));
            v128_store(to[2].cast(), i64x2_shuffle::<0, 2>(high[0], high[1]));
            v128_store(to[3].cast(), i64x2_shuffle::<1, 3>(high[0], high[1]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_transposes() {
        for simd in Simd::supported() {
            let from: Vec<f32> = (0..256).map(|v| v as f32).collect();
            let mut to = vec![f32::NAN; 256];
            let base = to.as_mut_ptr();
            // SAFETY: sixteen rows of sixteen each.
            unsafe {
                transpose16(
                    simd,
                    &std::array::from_fn(|i| from.as_ptr().add(16 * i)),
                    &std::array::from_fn(|i| base.add(16 * i)),
                );
            }
            for (at, v) in to.iter().enumerate() {
                assert_eq!(*v, from[at % 16 * 16 + at / 16], "{simd:?} at {at}");
            }
        }
    }
}
