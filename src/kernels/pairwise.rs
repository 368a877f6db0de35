//! Tiles of pairs for the contrastive loss and the similarity matrices on the CPU.
//!
//! Work goes tile by tile of [`TILE`]² pairs, each tile in three steps, so that nothing of the size of
//! the matrix of pairs is ever in memory:
//!
//! 1. [`products`]: `t_ij = Σ_k (a_ik − b_jk)²` or `Σ_k a_ik·b_jk`, sixteen `j` to a vector;
//! 2. the kernel's own elementwise step turns `t_ij` into a coefficient `g_ij`, in place;
//! 3. [`combine`]: `acc_i += Σ_j g_ij·b_j` and `acc_j += Σ_i g_ij·a_i`, sixteen columns to a vector.
//!
//! Step 1 reads *panels* (sixteen rows, transposed: element `(i, k)` at `(i / 16)·16·d + 16·k + i % 16`),
//! step 3 *rows* padded to whole vectors; both pad with zeros. Accumulators stay in registers
//! while the inner dimension streams by: the blocking of Goto and van de Geijn (2008). The three
//! steps are FlashAttention's (Dao et al., 2022) without its softmax.

use crate::simd::{F32x16, LANES};

/// Rows and columns of a tile: 9 KiB of coefficients, and whole blocks of every shape below.
pub const TILE: usize = 48;

/// `n` rounded up to whole vectors.
pub const fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// From one row to the next in [`Layout`]: whole vectors, and from four on an odd number of them, as rows a
/// power of two apart would share a few sets of the cache.
pub const fn row_len(d: usize) -> usize {
    let vectors = d.div_ceil(LANES);
    LANES * if vectors >= 4 { vectors | 1 } else { vectors }
}

/// What the tiles need beyond [`F32x16`].
///
/// # Safety
/// As [`F32x16`].
#[allow(clippy::missing_safety_doc)] // said once, above
pub unsafe trait Lanes: F32x16 {
    /// `1 / √self` to within 4e-7 for normal positive numbers.
    unsafe fn rsqrt(self) -> Self;
    /// Bit `l` set where lane `l` of `self` is greater than that of `b`.
    unsafe fn gt(self, b: Self) -> u32;
}

/// One step of Newton's method for `y = 1 / √x`, which doubles the good bits of `y`.
#[inline(always)]
unsafe fn newton<V: F32x16>(x: V, y: V) -> V {
    // SAFETY: the caller's instruction set.
    unsafe {
        let xy = x.mul(y);
        let half = y.mul(V::splat(0.5));
        V::splat(0.0).sub(xy).mul_add(y, V::splat(3.0)).mul(half)
    }
}

// SAFETY: plain Rust.
unsafe impl Lanes for crate::simd::Portable {
    #[inline(always)]
    unsafe fn rsqrt(self) -> Self {
        // SAFETY: plain Rust.
        unsafe { Self::splat(1.0).div(self.sqrt()) }
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> u32 {
        let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
        // SAFETY: arrays of sixteen.
        unsafe {
            self.store(x.as_mut_ptr());
            b.store(y.as_mut_ptr());
        }
        x.iter().zip(&y).enumerate().fold(0, |bits, (l, (x, y))| bits | (u32::from(x > y) << l))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, newton};
    use crate::simd::Pair;
    use std::arch::x86_64::*;

    // SAFETY: called only where AVX-512 is enabled.
    unsafe impl Lanes for __m512 {
        #[inline(always)]
        unsafe fn rsqrt(self) -> Self {
            // SAFETY: an intrinsic of the enabled set.
            unsafe { newton(self, _mm512_rsqrt14_ps(self)) }
        }
        #[inline(always)]
        unsafe fn gt(self, b: Self) -> u32 {
            // SAFETY: an intrinsic of the enabled set.
            unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self, b)) }
        }
    }

    // SAFETY: called only where AVX2 and FMA are enabled.
    unsafe impl Lanes for Pair {
        #[inline(always)]
        unsafe fn rsqrt(self) -> Self {
            // SAFETY: intrinsics of the enabled set.
            unsafe {
                let [a, b] = self.halves();
                newton(self, Self::of_halves([_mm256_rsqrt_ps(a), _mm256_rsqrt_ps(b)]))
            }
        }
        #[inline(always)]
        unsafe fn gt(self, b: Self) -> u32 {
            // SAFETY: intrinsics of the enabled set.
            unsafe {
                let ([a0, a1], [b0, b1]) = (self.halves(), b.halves());
                let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a0, b0));
                let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a1, b1));
                low as u32 | (high as u32) << 8
            }
        }
    }

    trait Halves {
        unsafe fn halves(self) -> [__m256; 2];
        unsafe fn of_halves(halves: [__m256; 2]) -> Self;
    }

    impl Halves for Pair {
        #[inline(always)]
        unsafe fn halves(self) -> [__m256; 2] {
            const { assert!(size_of::<Self>() == size_of::<[__m256; 2]>()) };
            // SAFETY: two registers, of the same size and without padding or invalid bits.
            unsafe { std::mem::transmute(self) }
        }
        #[inline(always)]
        unsafe fn of_halves(halves: [__m256; 2]) -> Self {
            // SAFETY: as above.
            unsafe { std::mem::transmute(halves) }
        }
    }
}

/// Step 1: the tile of `rows` (whole sixteens) by `panels` sixteens of columns, row `i` at `tile + TILE·i`.
///
/// With `triangle`, only what is on or above the diagonal need be written.
///
/// # Safety
/// `a` and `b` point at whole panels of depth `d`: `rows / 16` and `panels` of them; `tile` is good for
/// `TILE`² elements; `rows`, `16·panels` ≤ `TILE`.
#[inline(always)]
pub unsafe fn products<V: F32x16, const DIFFERENCE: bool>(
    d: usize,
    (a, rows): (*const f32, usize),
    (b, panels): (*const f32, usize),
    triangle: bool,
    tile: *mut f32,
) {
    let mut first = 0;
    while first < d {
        // SAFETY: the caller's.
        unsafe {
            depth::<V, DIFFERENCE>(d, first..d.min(first + DEPTH), (a, rows), (b, panels), triangle, tile)
        };
        first += DEPTH;
    }
}

/// Columns that [`products`] takes at once: three panels of them are 12 KiB, which stay in the nearest cache.
const DEPTH: usize = 64;

#[inline(always)]
unsafe fn depth<V: F32x16, const DIFFERENCE: bool>(
    d: usize,
    ks: std::ops::Range<usize>,
    (a, rows): (*const f32, usize),
    (b, panels): (*const f32, usize),
    triangle: bool,
    tile: *mut f32,
) {
    let mut p = 0;
    while p < panels {
        let wide = if V::WIDE && panels - p >= 3 { 3 } else { 1 };
        let rows = if triangle { rows.min(LANES * (p + wide)) } else { rows };
        let step = if V::WIDE { 8 } else { 4 };
        for r in (0..rows).step_by(step) {
            // SAFETY: inside the panels and the tile promised.
            unsafe {
                let a = a.add(r / LANES * LANES * d + r % LANES);
                let b = b.add(p * LANES * d);
                let out = tile.add(r * TILE + p * LANES);
                match (V::WIDE, wide) {
                    (true, 3) => block::<V, DIFFERENCE, 8, 3>(d, ks.clone(), a, b, out),
                    (true, _) => block::<V, DIFFERENCE, 8, 1>(d, ks.clone(), a, b, out),
                    _ => block::<V, DIFFERENCE, 4, 1>(d, ks.clone(), a, b, out),
                }
            }
        }
        p += wide;
    }
}

/// `R` rows by `C` panels of accumulators in registers.
#[inline(always)]
unsafe fn block<V: F32x16, const DIFFERENCE: bool, const R: usize, const C: usize>(
    d: usize,
    ks: std::ops::Range<usize>,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
) {
    // SAFETY: as promised to `products`.
    unsafe {
        let mut acc = [[V::splat(0.0); C]; R];
        if ks.start > 0 {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (c, acc) in acc.iter_mut().enumerate() {
                    *acc = V::load(out.add(r * TILE + c * LANES));
                }
            }
        }
        for k in ks {
            let mut bs = [V::splat(0.0); C];
            for (c, bs) in bs.iter_mut().enumerate() {
                *bs = V::load(b.add((c * d + k) * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = V::splat(*a.add(k * LANES + r));
                for (acc, &b) in acc.iter_mut().zip(&bs) {
                    *acc = if DIFFERENCE {
                        let t = b.sub(a);
                        t.mul_add(t, *acc)
                    } else {
                        a.mul_add(b, *acc)
                    };
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (c, acc) in acc.iter().enumerate() {
                acc.store(out.add(r * TILE + c * LANES));
            }
        }
    }
}

/// Step 3: `out_r += Σ_k g(r, k)·b_k` for `rows` rows and `inner` terms, rows [`row_len`] apart.
///
/// `g(r, k)` is at `tile + TILE·r + k`, or with `TRANSPOSED` at `tile + TILE·k + r`. With
/// `triangle` the coefficients below the diagonal of the tile count as zero and are not read.
///
/// # Safety
/// `tile` as in [`products`]; `b` is good for `inner` rows, `out` for `rows` (both whole sixteens ≤ `TILE`).
#[inline(always)]
pub unsafe fn combine<V: F32x16, const TRANSPOSED: bool>(
    tile: *const f32,
    d: usize,
    (out, rows): (*mut f32, usize),
    (b, inner): (*const f32, usize),
    triangle: bool,
) {
    let (columns, dp) = (padded(d), row_len(d));
    let mut c = 0;
    let left = |c: usize| (columns - c) / LANES;
    while left(c) > 0 {
        let wide = if V::WIDE { [4, 3, 2, 1].into_iter().find(|&w| left(c) >= w).unwrap_or(1) } else { 1 };
        let step = match (V::WIDE, wide) {
            (true, 4) => 4,
            (true, 3 | 2) => 8,
            (true, _) => 16,
            _ => 4,
        };
        for r in (0..rows).step_by(step) {
            let first = r / LANES * LANES;
            let (from, to) = match (triangle, TRANSPOSED) {
                (false, _) => (0, inner),
                (true, false) => (first, inner),
                (true, true) => (0, inner.min(first + LANES)),
            };
            // SAFETY: inside what was promised.
            unsafe {
                let (b, out) = (b.add(c), out.add(r * dp + c));
                let g = tile.add(if TRANSPOSED { r } else { r * TILE });
                match (V::WIDE, wide) {
                    (true, 4) => sums::<V, TRANSPOSED, 4, 4>(g, dp, out, b, from, to),
                    (true, 3) => sums::<V, TRANSPOSED, 8, 3>(g, dp, out, b, from, to),
                    (true, 2) => sums::<V, TRANSPOSED, 8, 2>(g, dp, out, b, from, to),
                    (true, _) => sums::<V, TRANSPOSED, 16, 1>(g, dp, out, b, from, to),
                    _ => sums::<V, TRANSPOSED, 4, 1>(g, dp, out, b, from, to),
                }
            }
        }
        c += wide * LANES;
    }
}

/// `R` rows by `C` vectors of accumulators in registers.
#[inline(always)]
unsafe fn sums<V: F32x16, const TRANSPOSED: bool, const R: usize, const C: usize>(
    g: *const f32,
    dp: usize,
    out: *mut f32,
    b: *const f32,
    from: usize,
    to: usize,
) {
    // SAFETY: as promised to `combine`.
    unsafe {
        let mut acc = [[V::splat(0.0); C]; R];
        for (r, acc) in acc.iter_mut().enumerate() {
            for (c, acc) in acc.iter_mut().enumerate() {
                *acc = V::load(out.add(r * dp + c * LANES));
            }
        }
        for k in from..to {
            let mut bs = [V::splat(0.0); C];
            for (c, bs) in bs.iter_mut().enumerate() {
                *bs = V::load(b.add(k * dp + c * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let g = V::splat(*g.add(if TRANSPOSED { k * TILE + r } else { r * TILE + k }));
                for (acc, &b) in acc.iter_mut().zip(&bs) {
                    *acc = g.mul_add(b, *acc);
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (c, acc) in acc.iter().enumerate() {
                acc.store(out.add(r * dp + c * LANES));
            }
        }
    }
}

/// Memory that no vector load straddles a cache line of.
#[repr(C, align(64))]
pub struct Aligned<const N: usize>(pub [f32; N]);

/// Pairs whose squared distance is below this share of their squared norms (about the centre of the
/// batch) are computed on their own in f64: the products below would lose their difference.
const NEAR: f32 = 1e-5;
/// The same between rows of norm 1, which rounding has moved by 6e-8.
const NEAR_UNIT: f32 = 1e-6;

/// A set of rows in the layouts that the tiles read, and room for what they add up.
pub struct Layout<'s> {
    /// How many rows.
    pub n: usize,
    /// The rows, or with `unit` the rows at norm 1, in panels: distances are differences of these.
    pub panels: &'s mut [f32],
    /// The same in rows `[padded(n), row_len(d)]`, after [`centre`] about the mean: gradients are made of these.
    pub rows: &'s mut [f32],
    /// `Σ_j g_ij·rows_j`, from zero.
    pub acc: &'s mut [f32],
    /// Labels, where there are any.
    pub labels: &'s mut [f32],
    /// The samples' weights where there are any, else 1; 0 beyond the rows.
    pub weights: &'s mut [f32],
    /// Pairs are near, their products useless, when the squared distance is below the sum of both rows' share.
    pub near: &'s mut [f32],
    /// With `unit` 1 / norm, and 0 for a zero row; else 1.
    pub inverse: &'s mut [f32],
    /// `Σ_j g_ij`, from zero.
    pub sums: &'s mut [f32],
}

/// Elements of scratch that a [`Layout`] of `n` rows takes.
pub fn side_len(n: usize, d: usize) -> usize {
    padded(n) * (d + 2 * row_len(d) + 5)
}

/// Lays rows `z` `[n, d]` out in `scratch`, taking what [`side_len`] says.
pub fn lay_out<'s>(
    d: usize,
    unit: bool,
    z: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
    scratch: &mut &'s mut [f32],
) -> Layout<'s> {
    let n = z.len() / d;
    let (np, dp) = (padded(n), row_len(d));
    let mut take = |len| scratch.split_off_mut(..len).expect("scratch was counted by side_len");
    let side = Layout {
        n,
        panels: take(np * d),
        rows: take(np * dp),
        acc: take(np * dp),
        labels: take(np),
        weights: take(np),
        near: take(np),
        inverse: take(np),
        sums: take(np),
    };
    side.acc.fill(0.0);
    side.sums.fill(0.0);
    side.near.fill(0.0);
    side.labels[..labels.len()].copy_from_slice(labels);
    side.labels[labels.len()..].fill(0.0);
    side.weights.fill(0.0);
    match weights {
        Some(weights) => side.weights[..n].copy_from_slice(weights),
        None => side.weights[..n].fill(1.0),
    }
    side.inverse[n..].fill(0.0);
    side.rows[n * dp..].fill(0.0);
    for ((row, z), inverse) in side.rows.chunks_exact_mut(dp).zip(z.chunks_exact(d)).zip(&mut *side.inverse) {
        let (row, pad) = row.split_at_mut(d);
        pad.fill(0.0);
        if unit {
            // In f64, where no square of an f32 overflows or vanishes.
            let norm = z.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            // A row so short that this overflows has no gradient that f32 holds; it must make no NaN.
            *inverse = (scale as f32).min(f32::MAX);
            for (row, &z) in row.iter_mut().zip(z) {
                *row = (f64::from(z) * scale) as f32;
            }
        } else {
            *inverse = 1.0;
            row.copy_from_slice(z);
        }
    }
    for (rows, panel) in side.rows.chunks_exact(LANES * dp).zip(side.panels.chunks_exact_mut(LANES * d)) {
        for (r, row) in rows.chunks_exact(dp).enumerate() {
            for (k, &v) in row[..d].iter().enumerate() {
                panel[k * LANES + r] = v;
            }
        }
    }
    side
}

/// Moves the mean of all sides to the origin, so that differences of `rows`, which alone matter, lose
/// least; and sets `near`.
pub fn centre(d: usize, unit: bool, sides: &mut [Layout<'_>]) {
    let dp = row_len(d);
    let count = sides.iter().map(|s| s.n).sum::<usize>() as f64;
    for c in (0..dp).step_by(LANES) {
        let mut mean = [0f64; LANES];
        for row in sides.iter().flat_map(|s| s.rows.chunks_exact(dp).take(s.n)) {
            for (m, &v) in mean.iter_mut().zip(&row[c..]) {
                *m += f64::from(v);
            }
        }
        let mean = mean.map(|m| (m / count) as f32);
        for row in sides.iter_mut().flat_map(|s| s.rows.chunks_exact_mut(dp).take(s.n)) {
            for (v, m) in row[c..].iter_mut().zip(mean) {
                *v -= m;
            }
        }
    }
    for side in sides {
        let rows = side.rows.chunks_exact(dp).zip(&*side.inverse).take(side.n);
        for (near, (row, &inverse)) in side.near.iter_mut().zip(rows) {
            *near = match (unit, inverse > 0.0) {
                // A zero row has no direction: near to none.
                (true, false) => -1.0,
                (true, true) => 0.5 * NEAR_UNIT,
                // At least what a square can still hold.
                _ => (NEAR * row.iter().map(|v| v * v).sum::<f32>()).max(1e-36),
            };
        }
    }
}

impl Layout<'_> {
    /// `scale·(Σ_j g_ij·rows_i − Σ_j g_ij·rows_j)`; with `unit` brought back from rows of norm 1 to `z`.
    pub fn finish(&self, d: usize, unit: bool, scale: f32, z: &[f32], dz: &mut [f32]) {
        let dp = row_len(d);
        let rows = self.rows.chunks_exact(dp).zip(self.acc.chunks_exact(dp));
        let rows = rows.zip(self.sums.iter().zip(&*self.inverse));
        for ((dz, z), ((row, acc), (&sum, &inverse))) in
            dz.chunks_exact_mut(d).zip(z.chunks_exact(d)).zip(rows)
        {
            for ((dz, row), acc) in dz.iter_mut().zip(row).zip(acc) {
                *dz = sum * row - acc;
            }
            let mut along = 0.0;
            if unit {
                along = inverse * dz.iter().zip(z).map(|(v, z)| v * (z * inverse)).sum::<f32>();
            }
            // A row of one element has no direction to turn to.
            let scale = if unit && d == 1 { 0.0 } else { scale * inverse };
            for (dz, z) in dz.iter_mut().zip(z) {
                *dz = scale * (*dz - along * z);
            }
        }
    }
}
