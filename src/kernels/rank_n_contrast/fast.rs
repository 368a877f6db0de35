//! The f32 instance: an anchor's rows from far to near, all at once.
//!
//! What depends on the row before is kept to a compare, a maximum and an addition a row; exponentials and divisions are of
//! vectors, a logarithm of sixteen sums.

use super::anchor::{Anchor, anchors};
use crate::dispatch;
use crate::kernel::{Args, with_scratch};
use crate::simd::{F32x16, LANES, exp};

pub(super) fn rows(args: Args<'_, f32>) {
    let simd = args.work.simd;
    anchors(args, |anchor, distances| {
        let n = anchor.sorted.len();
        let others = n - 1;
        with_scratch(n + 2 + 4 * others, |floats: &mut [f32]| {
            with_scratch(others, |rows: &mut [u32]| {
                with_scratch(2 * others, |sums: &mut [f64]| {
                    let (apart, floats) = floats.split_at_mut(n + 2);
                    let mut parts = floats.chunks_exact_mut(others);
                    let mut part = || parts.next().unwrap_or_default();
                    let (sums, q) = sums.split_at_mut(others);
                    let walk = Walk { rows, far: part(), s: part(), largest: part(), terms: part(), sums, q };
                    of_anchor(simd, anchor, distances, apart, walk)
                })
            })
        })
    });
}

/// An anchor's other rows from far to near by their labels; ties go from the first sorted to the last.
struct Walk<'a> {
    /// Which they are.
    rows: &'a mut [u32],
    /// How far the label is.
    far: &'a mut [f32],
    s: &'a mut [f32],
    /// The largest `s` up to the end of the row's ties.
    largest: &'a mut [f32],
    /// `exp(s − largest)`.
    terms: &'a mut [f32],
    /// Those of all rows up to the end of the ties.
    sums: &'a mut [f64],
    /// The row's `Q·exp(largest)`.
    q: &'a mut [f64],
}

dispatch! {
    fn of_anchor(
        anchor: &Anchor<'_, f32>,
        distances: &mut [f32],
        apart: &mut [f32],
        walk: Walk<'_>,
    ) -> f32 = of_anchor_body
}

/// The loss of an anchor, and where it is asked for the gradient in place of the distances.
#[inline(always)]
unsafe fn of_anchor_body<V: F32x16>(
    anchor: &Anchor<'_, f32>,
    distances: &mut [f32],
    apart: &mut [f32],
    mut walk: Walk<'_>,
) -> f32 {
    let ends = [anchor.sorted.first(), anchor.sorted.last()].map(|y| y.copied().unwrap_or(f32::NAN));
    if !(ends[1] - ends[0]).is_finite() {
        distances.fill(f32::NAN);
        return f32::NAN;
    }
    // SAFETY: an anchor of these rows, and room for all of them.
    unsafe { from_far_to_near(anchor, apart, &mut walk) }
    let Walk { rows, far, s, largest, terms, sums, .. } = &mut walk;
    let others = rows.len();
    let by = -1.0 / anchor.temperature;
    let mut so_far = f32::NEG_INFINITY;
    for ((row, s), largest) in rows.iter_mut().zip(&mut **s).zip(&mut **largest) {
        *row = anchor.order[*row as usize - 1];
        *s = distances[*row as usize] * by;
        so_far = if *s > so_far { *s } else { so_far };
        *largest = so_far;
    }
    let tied = far.iter().zip(&far[1..]).fold(false, |tied, (a, b)| tied | (a == b));
    if tied {
        to_the_end_of_ties(far, largest);
    }
    // SAFETY: three slices of one length.
    unsafe { exponentials::<V>(s, largest, terms) }
    let (mut sum, mut before) = (0.0, largest[0]);
    for ((&largest, &term), to) in largest.iter().zip(&**terms).zip(&mut **sums) {
        if largest != before {
            sum *= f64::from(before - largest).exp();
            before = largest;
        }
        sum += f64::from(term);
        *to = sum;
    }
    if tied {
        to_the_end_of_ties(far, sums);
    }
    if anchor.gradient {
        outwards(anchor, distances, &mut walk, tied);
    }
    let loss = loss_of(&walk) / others as f64;
    // A row that is infinitely far is no row.
    if loss.is_finite() { loss as f32 } else { f32::NAN }
}

/// Gives all of a tie the value of its last.
#[inline(always)]
fn to_the_end_of_ties<T: Copy>(far: &[f32], values: &mut [T]) {
    let mut last = values[values.len() - 1];
    for (pair, value) in far.windows(2).zip(values).rev() {
        last = if pair[0] == pair[1] { last } else { *value };
        *value = last;
    }
}

/// Finds the order: half of it from the ends to the anchor and half from the anchor, in turns, as neither waits for the other.
/// `apart` has room for a number before the first and one behind the last.
///
/// # Safety
/// `anchor.at` is below its count of rows, n; `apart` has n + 2 elements, `far` and `rows` of the walk n − 1.
#[inline(always)]
unsafe fn from_far_to_near(anchor: &Anchor<'_, f32>, apart: &mut [f32], walk: &mut Walk<'_>) {
    let (n, c) = (anchor.sorted.len(), anchor.at);
    let y = anchor.sorted[c];
    // Beyond the ends all is farther, at the anchor nothing is.
    (apart[0], apart[n + 1], apart[c + 1]) = (f32::INFINITY, f32::INFINITY, -1.0);
    for (apart, &other) in apart[1..].iter_mut().zip(&anchor.sorted[..c]) {
        *apart = y - other;
    }
    for (apart, &other) in apart[c + 2..].iter_mut().zip(&anchor.sorted[c + 1..]) {
        *apart = other - y;
    }
    let others = n - 1;
    let ([mut left, mut right], [mut near_left, mut near_right]) = ([1, n], [c, c + 2]);
    let apart = apart.as_ptr();
    let (far, rows) = (walk.far.as_mut_ptr(), walk.rows.as_mut_ptr());
    // Sides are told apart by numbers: a jump that nobody can foretell takes longer than both.
    for m in 0..others.div_ceil(2) {
        // SAFETY: whatever the labels are, from the ends each side goes on by half of all at most, and the anchor lies outside of
        // neither. From the anchor nothing is below the mark before the first, and the mark behind the last is as far as it goes.
        unsafe {
            let (of_left, of_right) = (*apart.add(left), *apart.add(right));
            let is_left = usize::from(of_left >= of_right);
            *far.add(m) = if is_left == 1 { of_left } else { of_right };
            *rows.add(m) = right.wrapping_add(left.wrapping_sub(right).wrapping_mul(is_left)) as u32;
            left += is_left;
            right -= 1 - is_left;
            let (of_left, of_right) = (*apart.add(near_left), *apart.add(near_right));
            let is_left = usize::from(of_left < of_right);
            let last = others - 1 - m;
            *far.add(last) = if is_left == 1 { of_left } else { of_right };
            *rows.add(last) =
                near_right.wrapping_add(near_left.wrapping_sub(near_right).wrapping_mul(is_left)) as u32;
            near_right = (near_right + 1 - is_left).min(n + 1);
            near_left -= is_left;
        }
    }
}

/// `exp(s − largest)`, row by row.
///
/// # Safety
/// That of [`F32x16`].
#[inline(always)]
unsafe fn exponentials<V: F32x16>(s: &[f32], largest: &[f32], terms: &mut [f32]) {
    let (s, of_rest) = s.as_chunks::<LANES>();
    let (largest, largest_of_rest) = largest.as_chunks::<LANES>();
    let (terms, rest) = terms.as_chunks_mut::<LANES>();
    for ((s, largest), to) in s.iter().zip(largest).zip(terms) {
        // SAFETY: arrays of sixteen.
        unsafe { exp(V::load(s.as_ptr()).sub(V::load(largest.as_ptr()))).store(to.as_mut_ptr()) }
    }
    let (mut apart, len) = ([0.0; LANES], rest.len());
    for ((apart, s), largest) in apart.iter_mut().zip(of_rest).zip(largest_of_rest) {
        *apart = s - largest;
    }
    // SAFETY: as above.
    unsafe { exp(V::load(apart.as_ptr())).store(apart.as_mut_ptr()) }
    rest.copy_from_slice(&apart[..len]);
}

/// The anchor's loss, not yet divided by the count of its rows.
#[inline(always)]
fn loss_of(walk: &Walk<'_>) -> f64 {
    let (mut apart, mut loss) = ([0.0; LANES], 0.0);
    let differences = walk.largest.chunks(LANES).zip(walk.s.chunks(LANES));
    for (largest, s) in differences {
        for ((sum, &largest), &s) in apart.iter_mut().zip(largest).zip(s) {
            *sum += f64::from(largest) - f64::from(s);
        }
    }
    // Sums are from 1 to 2^31: the product of so many is a number.
    for sums in walk.sums.chunks(LANES * LANES) {
        let mut products = [1.0; LANES];
        for sums in sums.chunks(LANES) {
            for (product, &sum) in products.iter_mut().zip(sums) {
                *product *= sum;
            }
        }
        loss += products.iter().map(|product: &f64| product.ln()).sum::<f64>();
    }
    loss + apart.iter().sum::<f64>()
}

/// The gradient by the distances, in their place.
#[inline(always)]
fn outwards(anchor: &Anchor<'_, f32>, distances: &mut [f32], walk: &mut Walk<'_>, tied: bool) {
    let Walk { rows, far, largest, terms, sums, q, .. } = walk;
    for (q, &sum) in q.iter_mut().zip(&**sums) {
        *q = 1.0 / sum;
    }
    let (mut sum, mut before) = (0.0, largest[largest.len() - 1]);
    for (&largest, q) in largest.iter().zip(&mut **q).rev() {
        if largest != before {
            sum *= f64::from(largest - before).exp();
            before = largest;
        }
        sum += *q;
        *q = sum;
    }
    if tied {
        // All of a tie are within the distance of each.
        for m in 1..far.len() {
            q[m] = if far[m] == far[m - 1] { q[m - 1] } else { q[m] };
        }
    }
    distances[anchor.order[anchor.at] as usize] = 0.0;
    for ((&row, &q), &term) in rows.iter().zip(&**q).zip(&**terms) {
        distances[row as usize] = anchor.scale * (1.0 - q * f64::from(term)) as f32;
    }
}
