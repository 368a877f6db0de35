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
            Simd::Portable => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_transposes() {
        for simd in [Simd::Portable, Simd::Avx2, Simd::Avx512].into_iter().filter(|s| s.is_supported()) {
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
