//! The inner loop: a small matrix product, register-blocked after Goto and van de Geijn (2008).

use crate::simd::{F32x16, LANES, fetch_second, fetch_to_write};

/// Vectors of a panel at most: the columns that [`product`] takes at once.
pub const PANEL: usize = 4;
/// Terms of a product at once: a panel of as many rows of weights stays in the first-level cache.
pub const DEPTH: usize = 128;

/// `c[i][j] = Σ_k a[i][k] · b[k][j]`; strides count floats, columns are vectors side by side.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    pub rows: usize,
    pub depth: usize,
    /// From one row of `a` to the next, and from one column to the next.
    pub a_row: usize,
    pub a_k: usize,
    /// From one row of `b` to the next.
    pub b_k: usize,
    /// From one row of `c` to the next.
    pub c_row: usize,
    /// Adds to what `c` holds.
    pub add: bool,
}

/// Computes `columns` vectors of each row, at most [`PANEL`].
///
/// # Safety
/// The instruction set is there; the pointers are good for every address that `s` reaches.
#[inline(always)]
pub unsafe fn product<V: F32x16>(s: &Product, columns: usize, a: *const f32, b: *const f32, c: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        if V::WIDE {
            match columns {
                1 => all_rows::<V, 8, 1>(s, a, b, c),
                2 => all_rows::<V, 8, 2>(s, a, b, c),
                3 => all_rows::<V, 8, 3>(s, a, b, c),
                _ => all_rows::<V, 6, 4>(s, a, b, c),
            }
        } else {
            for v in 0..columns {
                all_rows::<V, 6, 1>(s, a, b.add(v * LANES), c.add(v * LANES));
            }
        }
    }
}

/// All rows, `R` at a time, then four, two and one.
#[inline(always)]
unsafe fn all_rows<V: F32x16, const R: usize, const N: usize>(
    s: &Product,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) {
    let mut row = 0;
    // SAFETY: rows 0..s.rows only.
    unsafe {
        while row + R <= s.rows {
            if s.add {
                fetch_next::<R, N>(s, c.add(row * s.c_row));
            }
            // What follows `b` is the next product's: its lines are asked for one by one while the first rows are computed.
            let ahead = if row * LANES < s.b_k * R { s.depth * (s.b_k + row / R * LANES) } else { 0 };
            let ahead = b.wrapping_add(ahead);
            tile::<V, R, N>(s, a.add(row * s.a_row), b, c.add(row * s.c_row), ahead);
            row += R;
        }
        if row + 4 <= s.rows {
            tile::<V, 4, N>(s, a.add(row * s.a_row), b, c.add(row * s.c_row), b);
            row += 4;
        }
        while row + 2 <= s.rows {
            tile::<V, 2, N>(s, a.add(row * s.a_row), b, c.add(row * s.c_row), b);
            row += 2;
        }
        if row < s.rows {
            tile::<V, 1, N>(s, a.add(row * s.a_row), b, c.add(row * s.c_row), b);
        }
    }
}

/// Asks for the sums of the `R` rows behind those at `c`: where they are many, they are not near.
#[inline(always)]
fn fetch_next<const R: usize, const N: usize>(s: &Product, c: *const f32) {
    for row in R..2 * R {
        for v in 0..N {
            fetch_to_write(c.wrapping_add(row * s.c_row + v * LANES));
        }
    }
}

/// `R` rows by `N` vectors of accumulators in registers.
#[inline(always)]
unsafe fn tile<V: F32x16, const R: usize, const N: usize>(
    s: &Product,
    mut a: *const f32,
    mut b: *const f32,
    c: *mut f32,
    mut ahead: *const f32,
) {
    // SAFETY: as promised to `product`.
    unsafe {
        let mut acc = [[V::splat(0.0); N]; R];
        if s.add {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (n, acc) in acc.iter_mut().enumerate() {
                    *acc = V::load(c.add(r * s.c_row + n * LANES));
                }
            }
        }
        for _ in 0..s.depth {
            let mut right = [V::splat(0.0); N];
            for (n, right) in right.iter_mut().enumerate() {
                *right = V::load(b.add(n * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let left = V::splat(*a.add(r * s.a_row));
                for (acc, &right) in acc.iter_mut().zip(&right) {
                    *acc = right.mul_add(left, *acc);
                }
            }
            // Narrower panels have less to bring, and no time for it.
            if V::WIDE && N == PANEL {
                fetch_second(ahead);
                ahead = ahead.wrapping_add(LANES);
            }
            a = a.add(s.a_k);
            b = b.add(s.b_k);
        }
        for (r, acc) in acc.iter().enumerate() {
            for (n, acc) in acc.iter().enumerate() {
                acc.store(c.add(r * s.c_row + n * LANES));
            }
        }
    }
}
