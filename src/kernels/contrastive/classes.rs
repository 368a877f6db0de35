//! Positive pairs of equal labels without the pairs: `Σ_{i<j} s_i·s_j·‖z_i − z_j‖² = S·Σ s_i·‖z_i − μ‖²` over samples of weights
//! `s`, which add up to `S`, about their mean `μ`; and the gradient of half of it by `z_i` is `s_i·S·(z_i − μ)`.
//!
//! Across two sets of weights `s` and `t` it is `T·Σ s_i·‖a_i − μ_b‖² + S·Σ t_j·‖b_j − μ_b‖²`, with `s_i·T·(a_i − μ_b)` and
//! `t_j·S·(b_j − μ_a)`. In f64, the mean first: nothing cancels. It takes `O(n·d)`.

use super::side::{Side, Sums};
use crate::dispatch;
use crate::kernel::with_scratch;
use crate::simd::{F32x16, LANES, Simd};
use std::ops::Range;

/// Weight and mean of samples; the mean as two numbers that add up to it, so that a difference to it is as good as one in f64.
#[derive(Clone, Copy)]
struct Class<'m> {
    weight: f64,
    mean: [&'m [f32]; 2],
}

impl<'m> Class<'m> {
    /// Of the samples that `of` says, in the order of labels; `mean` as long as [`mean_len`] says.
    fn of(side: &Side<'_>, z: &[f32], of: Range<usize>, mean: &'m mut [f64]) -> Self {
        let (d, mut weight) = (side.d, 0.0);
        let (mean, parts) = mean.split_at_mut(d);
        mean.fill(0.0);
        for k in of {
            let s = f64::from(side.weights[side.order.place(k)]);
            weight += s;
            let row = &z[side.order.sample(k) * d..][..d];
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += s * f64::from(v));
        }
        let (high, low) = bytemuck::cast_slice_mut(parts).split_at_mut(d);
        for (m, (high, low)) in mean.iter().zip(high.iter_mut().zip(&mut *low)) {
            let m = m / weight;
            *high = m as f32;
            *low = (m - f64::from(*high)) as f32;
        }
        Self { weight, mean: [high, low] }
    }
}

/// Elements of scratch that a [`Class`] takes.
fn mean_len(d: usize) -> usize {
    2 * d
}

/// Adds `s_i·weight·(z_i − mean)` of `class` to the gradients of the samples that `to` says, if there are sums; returns
/// `Σ s_i·‖z_i − mean‖²` of them.
#[inline(always)]
unsafe fn pull_body<V: F32x16>(
    class: Class<'_>,
    side: &Side<'_>,
    mut sums: Option<&mut Sums<'_>>,
    z: &[f32],
    to: Range<usize>,
) -> f64 {
    let (d, mut spread) = (side.d, 0.0);
    let whole = d / LANES * LANES;
    let [high, low] = class.mean.map(|part| part[..d].as_ptr());
    let mut nowhere = [0.0; LANES];
    for k in to {
        let place = side.order.place(k);
        let s = f64::from(side.weights[place]);
        let row = z[side.order.sample(k) * d..][..d].as_ptr();
        let acc = sums.as_mut().map(|sums| sums.acc[place * side.dp..][..d].as_mut_ptr());
        // The sums are of what `finish` subtracts.
        let by = (-s * class.weight) as f32;
        // SAFETY: `d` elements of each.
        unsafe {
            let (mut square, mut rest) = (V::splat(0.0), 0.0);
            for c in (0..whole).step_by(LANES) {
                let off = V::load(row.add(c)).sub(V::load(high.add(c))).sub(V::load(low.add(c)));
                square = off.mul_add(off, square);
                let acc = acc.map_or(nowhere.as_mut_ptr(), |acc| acc.add(c));
                V::splat(by).mul_add(off, V::load(acc)).store(acc);
            }
            for c in whole..d {
                let off = *row.add(c) - *high.add(c) - *low.add(c);
                rest += off * off;
                *acc.map_or(nowhere.as_mut_ptr(), |acc| acc.add(c)) += by * off;
            }
            spread += s * f64::from(square.sum() + rest);
        }
    }
    spread
}

dispatch! {
    fn pull(class: Class<'_>, side: &Side<'_>, sums: Option<&mut Sums<'_>>, z: &[f32], to: Range<usize>) -> f64 =
        pull_body
}

/// The losses of all pairs of equal labels of a set whose rows are `z`.
pub fn within(simd: Simd, side: &Side<'_>, sums: &mut Sums<'_>, z: &[f32]) -> f64 {
    with_scratch(mean_len(side.d), |mean: &mut [f64]| {
        let many = side.order.classes().filter(|class| class.len() > 1);
        let losses = many.map(|of| {
            let class = Class::of(side, z, of.clone(), mean);
            0.5 * class.weight * pull(simd, class, side, Some(sums), z, of)
        });
        losses.sum()
    })
}

/// The losses of all pairs of equal labels of one of `a` and one of `b`, whose rows are `za` and `zb`.
pub fn across(
    simd: Simd,
    [a, b]: [&Side<'_>; 2],
    [sums_a, sums_b]: [&mut Sums<'_>; 2],
    [za, zb]: [&[f32]; 2],
) -> f64 {
    with_scratch(2 * mean_len(a.d), |means: &mut [f64]| {
        let (mean_a, mean_b) = means.split_at_mut(mean_len(a.d));
        let mut others = b.order.classes().peekable();
        let mut loss = 0.0;
        for ra in a.order.classes() {
            let label = a.order.label(ra.start);
            while others.next_if(|rb| b.order.label(rb.start) < label).is_some() {}
            let Some(rb) = others.next_if(|rb| b.order.label(rb.start) == label) else { continue };
            let ca = Class::of(a, za, ra.clone(), mean_a);
            let cb = Class::of(b, zb, rb.clone(), mean_b);
            let spread = pull(simd, cb, b, None, zb, rb.clone());
            loss += cb.weight * pull(simd, cb, a, Some(sums_a), za, ra) + ca.weight * spread;
            pull(simd, ca, b, Some(sums_b), zb, rb);
        }
        0.5 * loss
    })
}
