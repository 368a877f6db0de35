//! What a block of sixteen samples makes of its channels: the activation, the gradient of the convolution, and sums over frames.
//! All over rows of whole vectors, a channel's.

use crate::simd::{F32x16, LANES};

/// `out = max(0, scale·x + shift)`; `norm` is of `channels`, this is number `ch`.
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there.
#[inline(always)]
pub unsafe fn activate<V: F32x16>(x: &[f32], norm: &[f32], [ch, channels]: [usize; 2], out: &mut [f32]) {
    // SAFETY: whole vectors; zip keeps both in step.
    unsafe {
        let zero = V::splat(0.0);
        let (scale, shift) = (V::splat(norm[ch]), V::splat(norm[channels + ch]));
        for (x, out) in x.chunks_exact(LANES).zip(out.chunks_exact_mut(LANES)) {
            // In this order: a NaN comes through.
            zero.max(V::load(x.as_ptr()).mul_add(scale, shift)).store(out.as_mut_ptr());
        }
    }
}

/// `out = scale·dz + p·(y − μ) + q`, with `dz = da` where the activation is above 0. The mean goes into `q`: what that rounds
/// is no more than what `y` was rounded by. `out_t` floats lie from one frame of `out` to the next.
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there.
#[inline(always)]
pub unsafe fn gradient<V: F32x16>(
    [da, y]: [&[f32]; 2],
    back: &[f32],
    [ch, channels]: [usize; 2],
    (out, out_t): (&mut [f32], usize),
) {
    let [scale, shift, mean, _, p, q] = std::array::from_fn(|i| back[i * channels + ch]);
    // SAFETY: whole vectors; zip keeps them in step.
    unsafe {
        let zero = V::splat(0.0);
        let (scale, shift, p, q) = (V::splat(scale), V::splat(shift), V::splat(p), V::splat(q - p * mean));
        for ((da, y), out) in da.chunks_exact(LANES).zip(y.chunks_exact(LANES)).zip(out.chunks_mut(out_t)) {
            let out = &mut out[..LANES];
            let y = V::load(y.as_ptr());
            let rest = y.mul_add(p, q);
            let all = V::load(da.as_ptr()).mul_add(scale, rest);
            y.mul_add(scale, shift).if_gt(zero, all, rest).store(out.as_mut_ptr());
        }
    }
}

/// The mean and the sum of squares about it, each lane for itself, of `seen` frames of which a further `row` is merged into
/// `mean` and `squares` (Chan, Golub, LeVeque 1979).
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there; `mean` and `squares` are vectors.
#[inline(always)]
pub unsafe fn moments<V: F32x16>(row: &[f32], seen: usize, mean: *mut f32, squares: *mut f32) {
    let len = row.len() / LANES;
    // SAFETY: whole vectors.
    unsafe {
        let mut sums = [V::splat(0.0); 4];
        let mut fours = row.chunks_exact(4 * LANES);
        for four in &mut fours {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(V::load(four.as_ptr().add(i * LANES)));
            }
        }
        for one in fours.remainder().chunks_exact(LANES) {
            sums[0] = sums[0].add(V::load(one.as_ptr()));
        }
        let own = sums[0].add(sums[1]).add(sums[2].add(sums[3])).mul(V::splat(1.0 / len as f32));
        let mut sums = [V::splat(0.0); 4];
        let mut fours = row.chunks_exact(4 * LANES);
        for four in &mut fours {
            for (i, sum) in sums.iter_mut().enumerate() {
                let d = V::load(four.as_ptr().add(i * LANES)).sub(own);
                *sum = d.mul_add(d, *sum);
            }
        }
        for one in fours.remainder().chunks_exact(LANES) {
            let d = V::load(one.as_ptr()).sub(own);
            sums[0] = d.mul_add(d, sums[0]);
        }
        let around = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
        if seen == 0 {
            own.store(mean);
            around.store(squares);
            return;
        }
        let before = V::load(mean);
        let (delta, share) = (own.sub(before), V::splat(len as f32 / (seen + len) as f32));
        delta.mul_add(share, before).store(mean);
        let between = delta.mul(delta).mul(share);
        between.mul_add(V::splat(seen as f32), V::load(squares).add(around)).store(squares);
    }
}

/// Adds `Σ dz` and `Σ dz·(y − μ)` of a row to the vectors `sums`, each lane for itself; `a` is the activation of `y`.
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there.
#[inline(always)]
pub unsafe fn back_sums<V: F32x16>([da, y, a]: [&[f32]; 3], mean: f32, sums: [*mut f32; 2]) {
    // SAFETY: whole vectors; zip keeps them in step.
    unsafe {
        let (zero, mean) = (V::splat(0.0), V::splat(mean));
        let (mut dz, mut dzy) = ([V::load(sums[0]), zero], [V::load(sums[1]), zero]);
        let (n, da, y, a) = (da.len() / LANES, da.as_ptr(), y.as_ptr(), a.as_ptr());
        for t in (0..n).step_by(2) {
            for (i, (dz, dzy)) in dz.iter_mut().zip(&mut dzy).enumerate().take(n - t) {
                let at = (t + i) * LANES;
                let (da, a) = (V::load(da.add(at)), V::load(a.add(at)));
                let off = V::load(y.add(at)).sub(mean);
                *dz = a.if_gt(zero, dz.add(da), *dz);
                *dzy = a.if_gt(zero, da.mul_add(off, *dzy), *dzy);
            }
        }
        dz[0].add(dz[1]).store(sums[0]);
        dzy[0].add(dzy[1]).store(sums[1]);
    }
}
