//! The transforms of vectors of sixteen channels, along one axis.

use super::points::{EIGHT, Points, SIX};
use crate::simd::{F32x16, LANES};

/// Which values a transform reads and writes, in vectors: its own are `step` apart, and `next` lies between one tile's first and
/// the next tile's.
#[derive(Clone, Copy)]
pub struct Walk {
    pub step: usize,
    pub next: usize,
}

/// Calls a transform with its constants: points, then outputs.
macro_rules! by_scheme {
    ($points:expr, $outputs:expr, $f:ident($($arg:expr),*)) => {
        match ($points, $outputs) {
            (6, 2) => $f::<V, 2, 2>(&SIX, $($arg),*),
            (6, 3) => $f::<V, 2, 3>(&SIX, $($arg),*),
            (6, 4) => $f::<V, 2, 4>(&SIX, $($arg),*),
            (6, _) => $f::<V, 2, 5>(&SIX, $($arg),*),
            (_, 2) => $f::<V, 3, 2>(&EIGHT, $($arg),*),
            (_, 3) => $f::<V, 3, 3>(&EIGHT, $($arg),*),
            (_, 4) => $f::<V, 3, 4>(&EIGHT, $($arg),*),
            (_, 5) => $f::<V, 3, 5>(&EIGHT, $($arg),*),
            (_, 6) => $f::<V, 3, 6>(&EIGHT, $($arg),*),
            (_, _) => $f::<V, 3, 7>(&EIGHT, $($arg),*),
        }
    };
}

/// `n` tiles of the input: row `p` of the transform holds the coefficients of `Π_{q≠p} (z − a_q)`.
///
/// # Safety
/// The instruction set is there; both pointers are good for what the walks reach.
#[inline(always)]
pub unsafe fn input<V: F32x16>(
    points: usize,
    n: usize,
    from: *const f32,
    read: Walk,
    to: *mut f32,
    write: Walk,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if points == 6 {
            input_tiles::<V, 2>(&SIX, n, from, read, to, write);
        } else {
            input_tiles::<V, 3>(&EIGHT, n, from, read, to, write);
        }
    }
}

#[inline(always)]
unsafe fn input_tiles<V: F32x16, const P: usize>(
    c: &Points<P>,
    n: usize,
    from: *const f32,
    read: Walk,
    to: *mut f32,
    write: Walk,
) {
    for tile in 0..n {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (from.add(tile * read.next * LANES), to.add(tile * write.next * LANES));
            let mut x = [V::splat(0.0); 8];
            for (i, x) in x.iter_mut().enumerate().take(2 * P + 2) {
                *x = V::load(from.add(i * read.step * LANES));
            }
            let (mut zero, mut infinity) = (x[2 * P], x[2 * P + 1]);
            for i in 0..P {
                let factor = V::splat(c.all[i]);
                zero = x[2 * i].mul_add(factor, zero);
                infinity = x[2 * i + 1].mul_add(factor, infinity);
            }
            zero.store(to);
            infinity.store(to.add((2 * P + 1) * write.step * LANES));
            for pair in 0..P {
                let (mut even, mut odd) = (x[2 * P], x[2 * P - 1]);
                for i in 0..P - 1 {
                    let factor = V::splat(c.others[pair][i]);
                    even = x[2 * i + 2].mul_add(factor, even);
                    odd = x[2 * i + 1].mul_add(factor, odd);
                }
                let a = c.at[pair];
                odd.mul_add(V::splat(a), even).store(to.add((2 * pair + 1) * write.step * LANES));
                odd.mul_add(V::splat(-a), even).store(to.add((2 * pair + 2) * write.step * LANES));
            }
        }
    }
}

/// `n` tiles of products become `outputs` values each: `y_i = Σ_p a_pⁱ m_p`, and the last has `m_∞` too.
///
/// # Safety
/// As [`input`].
#[inline(always)]
pub unsafe fn output<V: F32x16>(
    [points, outputs]: [usize; 2],
    n: usize,
    from: *const f32,
    read: Walk,
    to: *mut f32,
    write: Walk,
) {
    // SAFETY: the caller's promise.
    unsafe { by_scheme!(points, outputs, output_tiles(n, from, read, to, write)) }
}

#[inline(always)]
unsafe fn output_tiles<V: F32x16, const P: usize, const M: usize>(
    c: &Points<P>,
    n: usize,
    from: *const f32,
    read: Walk,
    to: *mut f32,
    write: Walk,
) {
    for tile in 0..n {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (from.add(tile * read.next * LANES), to.add(tile * write.next * LANES));
            let mut y = [V::splat(0.0); M];
            y[0] = V::load(from);
            for pair in 0..P {
                let plus = V::load(from.add((2 * pair + 1) * read.step * LANES));
                let minus = V::load(from.add((2 * pair + 2) * read.step * LANES));
                let (even, odd) = (plus.add(minus), plus.sub(minus));
                y[0] = y[0].add(even);
                for (i, y) in y.iter_mut().enumerate().skip(1) {
                    let half = if i % 2 == 0 { even } else { odd };
                    *y = half.mul_add(V::splat(c.powers[pair][i]), *y);
                }
            }
            y[M - 1] = y[M - 1].add(V::load(from.add((2 * P + 1) * read.step * LANES)));
            for (i, y) in y.iter().enumerate() {
                y.store(to.add(i * write.step * LANES));
            }
        }
    }
}

/// `n` tiles of `outputs` gradients, at every point: the transpose of [`output`], `g_p = Σ_i a_pⁱ dy_i`.
///
/// # Safety
/// As [`input`].
#[inline(always)]
pub unsafe fn gradient<V: F32x16>(
    [points, outputs]: [usize; 2],
    n: usize,
    from: *const f32,
    read: Walk,
    to: *mut f32,
    write: Walk,
) {
    // SAFETY: the caller's promise.
    unsafe { by_scheme!(points, outputs, gradient_tiles(n, from, read, to, write)) }
}

#[inline(always)]
unsafe fn gradient_tiles<V: F32x16, const P: usize, const M: usize>(
    c: &Points<P>,
    n: usize,
    from: *const f32,
    read: Walk,
    to: *mut f32,
    write: Walk,
) {
    for tile in 0..n {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (from.add(tile * read.next * LANES), to.add(tile * write.next * LANES));
            let mut dy = [V::splat(0.0); M];
            for (i, dy) in dy.iter_mut().enumerate() {
                *dy = V::load(from.add(i * read.step * LANES));
            }
            dy[0].store(to);
            dy[M - 1].store(to.add((2 * P + 1) * write.step * LANES));
            for pair in 0..P {
                let (mut even, mut odd) = (dy[0], V::splat(0.0));
                for (i, &dy) in dy.iter().enumerate().skip(1) {
                    let factor = V::splat(c.powers[pair][i]);
                    if i % 2 == 0 {
                        even = dy.mul_add(factor, even);
                    } else {
                        odd = dy.mul_add(factor, odd);
                    }
                }
                even.add(odd).store(to.add((2 * pair + 1) * write.step * LANES));
                even.sub(odd).store(to.add((2 * pair + 2) * write.step * LANES));
            }
        }
    }
}
