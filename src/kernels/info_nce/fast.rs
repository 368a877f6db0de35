//! The f32 instance: sixteen pairs at a time.

use super::anchor::{Anchor, anchors};
use crate::dispatch;
use crate::kernel::{Args, with_scratch};
use crate::simd::{F32x16, LANES, exp};

pub(super) fn rows(args: Args<'_, f32>) {
    let simd = args.work.simd;
    anchors(args, |anchor, cosines| {
        let len = cosines.len().next_multiple_of(LANES);
        with_scratch(2 * len, |pairs: &mut [f32]| {
            let (s, far) = pairs.split_at_mut(len);
            of_anchor(simd, anchor, cosines, s, far)
        })
    });
}

dispatch! {
    fn of_anchor(
        anchor: &Anchor<'_, f32>,
        cosines: &mut [f32],
        s: &mut [f32],
        far: &mut [f32],
    ) -> f32 = of_anchor_body
}

/// The loss of an anchor, and where it is asked for the gradient in place of the cosines. `s` and `far` have room for a whole
/// number of vectors.
#[inline(always)]
unsafe fn of_anchor_body<V: F32x16>(
    anchor: &Anchor<'_, f32>,
    cosines: &mut [f32],
    s: &mut [f32],
    far: &mut [f32],
) -> f32 {
    let m = cosines.len();
    let others = m - usize::from(anchor.own.is_some());
    let (by_temperature, by_sigma) = (1.0 / anchor.temperature, 1.0 / anchor.sigma);
    for ((s, far), (cosine, label)) in s.iter_mut().zip(&mut *far).zip(cosines.iter().zip(anchor.labels)) {
        *s = cosine * by_temperature;
        *far = (anchor.label - label).abs() * by_sigma;
    }
    // The last column takes the place of the anchor's own, any other's what is behind them.
    if let Some(own) = anchor.own {
        (s[own], far[own]) = (s[others], far[others]);
    }
    let any = (s[0], far[0]);
    s[others..].fill(any.0);
    far[others..].fill(any.1);
    let (s, _) = s.as_chunks_mut::<LANES>();
    let (far, _) = far.as_chunks_mut::<LANES>();
    // SAFETY: arrays of sixteen.
    let ends = unsafe { ends::<V>(s, far) };
    let Some([largest, nearest]) = ends else {
        cosines.fill(f32::NAN);
        return f32::NAN;
    };
    // SAFETY: as many of the one as of the other.
    let [sum, weights, weighted] = unsafe { terms::<V>(s, far, [largest, nearest], others) };
    if let Some(scale) = anchor.scale {
        let (by_sum, by_weights) = (scale / sum, scale / weights);
        for (cosine, (&term, &weight)) in
            cosines.iter_mut().zip(s.as_flattened().iter().zip(far.as_flattened()))
        {
            *cosine = term * by_sum - weight * by_weights;
        }
        if let Some(own) = anchor.own {
            cosines[others] = cosines[own];
            cosines[own] = 0.0;
        }
    }
    sum.ln() - weighted / weights
}

/// The largest `s` and the least of `far`, where all of both are finite.
///
/// # Safety
/// That of [`F32x16`].
#[inline(always)]
unsafe fn ends<V: F32x16>(s: &[[f32; LANES]], far: &[[f32; LANES]]) -> Option<[f32; 2]> {
    let (mut of_s, mut of_far) = ([0.0; LANES], [0.0; LANES]);
    // SAFETY: arrays of sixteen.
    let bad = unsafe {
        let (mut largest, mut nearest) = (V::splat(f32::NEG_INFINITY), V::splat(f32::INFINITY));
        // What is infinite or no number is none times 0.
        let (zero, mut bad) = (V::splat(0.0), V::splat(0.0));
        for (s, far) in s.iter().zip(far) {
            let (s, far) = (V::load(s.as_ptr()), V::load(far.as_ptr()));
            largest = s.max(largest);
            nearest = far.min(nearest);
            bad = far.mul_add(zero, s.mul_add(zero, bad));
        }
        largest.store(of_s.as_mut_ptr());
        nearest.store(of_far.as_mut_ptr());
        bad.sum()
    };
    let largest = of_s.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let nearest = of_far.into_iter().fold(f32::INFINITY, f32::min);
    (bad == 0.0).then_some([largest, nearest])
}

/// Turns each `s` into `exp(s − largest)` and each of `far` into its weight, the nearest one's 1. Gives back the sums of both,
/// and of the weights times `s − largest`; of the first `others` alone.
///
/// # Safety
/// That of [`F32x16`].
#[inline(always)]
unsafe fn terms<V: F32x16>(
    s: &mut [[f32; LANES]],
    far: &mut [[f32; LANES]],
    [largest, nearest]: [f32; 2],
    others: usize,
) -> [f32; 3] {
    let mut last = [0.0; LANES];
    last[..(others - 1) % LANES + 1].fill(1.0);
    let vectors = others.div_ceil(LANES);
    // SAFETY: arrays of sixteen.
    unsafe {
        let (largest, nearest) = (V::splat(largest), V::splat(nearest));
        let minus_half = V::splat(-0.5);
        let (mut sum, mut weights, mut weighted) = (V::splat(0.0), V::splat(0.0), V::splat(0.0));
        for (i, (s, far)) in s.iter_mut().zip(far).take(vectors).enumerate() {
            let here = if i + 1 < vectors { V::splat(1.0) } else { V::load(last.as_ptr()) };
            let below = V::load(s.as_ptr()).sub(largest);
            let r = V::load(far.as_ptr());
            let exponent = r.sub(nearest).mul(r.mul_add(minus_half, nearest.mul(minus_half)));
            let term = exp(below).mul(here);
            let weight = exp(exponent).mul(here);
            term.store(s.as_mut_ptr());
            weight.store(far.as_mut_ptr());
            sum = sum.add(term);
            weights = weights.add(weight);
            weighted = weight.mul_add(below, weighted);
        }
        [sum.sum(), weights.sum(), weighted.sum()]
    }
}
