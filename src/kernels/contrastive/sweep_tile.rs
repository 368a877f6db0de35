//! Two blocks of rows that meet: their pairs, tile by tile.

use super::pair::pair;
use super::params::ContrastiveParams;
use super::schedule::{Met, block, block_rows};
use crate::dispatch;
use crate::kernels::pairs::{Aligned, Lanes, Layout, Sums, TILE, combine, padded, products, row_len};
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// What all tiles of a launch have in common.
pub struct Tiles {
    p: ContrastiveParams,
    d: usize,
    dp: usize,
    weighted: bool,
}

/// A block of rows as they are laid out, and its part of the sums: who holds the block is alone in adding to it.
pub struct Block<'a> {
    layout: &'a Layout<'a>,
    /// All rows as given `[n, d]`.
    z: &'a [f32],
    /// Which of them are the block's.
    rows: Range<usize>,
    acc: &'a mut [f32],
    g: &'a mut [f32],
}

impl Tiles {
    /// With `weighted` samples count as their weights say.
    pub fn new(p: &ContrastiveParams, weighted: bool) -> Self {
        let d = p.d as usize;
        Self { p: *p, d, dp: row_len(d), weighted }
    }

    /// The rows `z`, laid out, and their sums in blocks.
    pub fn blocks<'a>(
        &self,
        layout: &'a Layout<'a>,
        sums: &'a mut Sums<'_>,
        z: &'a [f32],
    ) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let (n, len) = (layout.n, block_rows(layout.n));
        let sums = sums.acc.chunks_mut(len * self.dp).zip(sums.g.chunks_mut(len));
        (0..).zip(sums).map(move |(b, (acc, g))| Block { layout, z, rows: block(n, b), acc, g })
    }

    /// All pairs of two rows of `x`.
    pub fn within(&self, simd: Simd, x: &mut Block<'_>) -> Met {
        let (n, x) = (x.rows.len() as u64, x.side(self));
        Met { loss: strip(simd, self, &x, &x, true), pairs: n * n.saturating_sub(1) / 2 }
    }

    /// All pairs of a row of `x` and one of `y`.
    pub fn between(&self, simd: Simd, x: &mut Block<'_>, y: &mut Block<'_>) -> Met {
        let pairs = x.rows.len() as u64 * y.rows.len() as u64;
        Met { loss: strip(simd, self, &x.side(self), &y.side(self), false), pairs }
    }
}

impl Block<'_> {
    fn side(&mut self, Tiles { d, dp, .. }: &Tiles) -> Side {
        let (n, layout) = (self.rows.len(), self.layout);
        let (from, to) = (self.rows.start, self.rows.start + padded(n));
        assert!(self.acc.len() == padded(n) * dp && self.g.len() == padded(n));
        Side {
            n,
            z: self.z[from * d..(from + n) * d].as_ptr(),
            panels: layout.panels[from * d..to * d].as_ptr(),
            rows: layout.rows[from * dp..to * dp].as_ptr(),
            labels: layout.labels[from..to].as_ptr(),
            weights: layout.weights[from..to].as_ptr(),
            near: layout.near[from..to].as_ptr(),
            inverse: layout.inverse[from..to].as_ptr(),
            acc: self.acc.as_mut_ptr(),
            g: self.g.as_mut_ptr(),
        }
    }
}

/// A block's memory, each range looked at by [`Block::side`]: `n` rows of `z`, else `padded(n)`. Pointers, because on the
/// diagonal both sides of a pair are the same block.
struct Side {
    n: usize,
    z: *const f32,
    panels: *const f32,
    rows: *const f32,
    labels: *const f32,
    weights: *const f32,
    near: *const f32,
    inverse: *const f32,
    acc: *mut f32,
    g: *mut f32,
}

/// Pair `(i, j)`, which is too near for the tiles.
#[cold]
#[inline(never)]
unsafe fn near_pair(Tiles { p, d, dp, weighted }: &Tiles, x: &Side, y: &Side, i: usize, j: usize) -> f64 {
    // SAFETY: rows i and j are rows of the two blocks, whose sums are the caller's.
    unsafe {
        let row = |s: &Side, i: usize| std::slice::from_raw_parts(s.z.add(i * d), *d);
        let w = f64::from((*x.labels.add(i) - *y.labels.add(j)).abs());
        // The sums are of gradients by rows of norm 1; `finish` divides by the norm and changes the sign.
        let weight = |s: &Side, i: usize| if *weighted { f64::from(*s.weights.add(i)) } else { 1.0 };
        let s = weight(x, i) * weight(y, j);
        let (nx, ny) = (s / f64::from(*x.inverse.add(i)), s / f64::from(*y.inverse.add(j)));
        s * pair(p, w, row(x, i), row(y, j), |k, gx, gy| {
            *x.acc.add(i * dp + k) -= (gx * nx) as f32;
            *y.acc.add(j * dp + k) -= (gy * ny) as f32;
        })
    }
}

static IOTA: Aligned<LANES> = Aligned([0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.]);

/// Where a tile lies: its first row and column, how many are rows, and whether it is on the diagonal.
#[derive(Clone, Copy)]
struct Place {
    i: usize,
    j: usize,
    rows: usize,
    columns: usize,
    diagonal: bool,
}

/// Step 2: turns squared distances into coefficients `g_ij` in place; returns the sum of losses.
///
/// With `EDGE` some pairs of the tile are none: those count for nothing. With `WEIGHTED` each counts as much as its two
/// samples.
#[inline(always)]
unsafe fn coefficients<V: Lanes, const COSINE: bool, const EDGE: bool, const WEIGHTED: bool>(
    t: &Tiles,
    (x, y): (&Side, &Side),
    at: Place,
    tile: *mut f32,
    row_sums: *mut f32,
) -> f64 {
    // SAFETY: rows and columns of the tile lie inside the sides' padded vectors; the task owns their sums.
    unsafe {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let (tau, margin) = (V::splat(t.p.tau), V::splat(t.p.margin));
        let (mut loss, mut near_loss) = (zero, 0.0);
        for panel in 0..padded(at.columns) / LANES {
            let (first, j) = (panel * LANES, at.j + panel * LANES);
            let (label, near) = (V::load(y.labels.add(j)), V::load(y.near.add(j)));
            let weights = if WEIGHTED { V::load(y.weights.add(j)) } else { one };
            let there = if COSINE { V::load(y.inverse.add(j)).if_gt(zero, one, zero) } else { one };
            let lane = V::load(IOTA.0.as_ptr()).add(V::splat(first as f32));
            let mut column_sum = zero;
            let rows = padded(at.rows);
            for r in 0..if at.diagonal { rows.min(first + LANES) } else { rows } {
                let i = at.i + r;
                let square = V::load(tile.add(r * TILE + first));
                let w = V::splat(*x.labels.add(i)).sub(label).abs();
                let mw = margin.mul(w);
                let (mut l, mut g);
                if COSINE {
                    let v = if *x.inverse.add(i) > 0.0 { there } else { zero };
                    let dist = v.mul(V::splat(0.5)).mul_add(square, one.sub(v));
                    let h = mw.sub(dist).max(zero);
                    l = w.if_gt(tau, h.mul(h), dist.mul(dist));
                    g = v.mul(w.if_gt(tau, zero.sub(h), dist));
                } else {
                    // Bounded so that the root of no square, 0 and infinity included, is a NaN.
                    let root = square.max(V::splat(1e-37)).min(V::splat(1e38)).rsqrt();
                    let h = mw.sub(square.mul(root)).max(zero);
                    l = w.if_gt(tau, h.mul(h), square);
                    g = w.if_gt(tau, zero.sub(h).mul(root), one);
                }
                let mut limit = V::splat(*x.near.add(i)).add(near);
                if EDGE {
                    let from = if r >= at.rows {
                        f32::MAX
                    } else if at.diagonal {
                        r as f32
                    } else {
                        -1.0
                    };
                    let (from, to) = (V::splat(from), V::splat(at.columns as f32));
                    let inside = |v: V, no: V| lane.if_gt(from, to.if_gt(lane, v, no), no);
                    (l, g, limit) = (inside(l, zero), inside(g, zero), inside(limit, V::splat(-1.0)));
                }
                let mut bits = limit.gt(square);
                if bits != 0 {
                    g = limit.if_gt(square, zero, g);
                    if COSINE {
                        l = limit.if_gt(square, zero, l);
                    } else {
                        // At distance 0 the loss stands and there is no gradient.
                        l = limit.if_gt(square, square.if_gt(zero, zero, l), l);
                        bits &= square.gt(zero);
                    }
                    while bits != 0 {
                        near_loss += near_pair(t, x, y, i, j + bits.trailing_zeros() as usize);
                        bits &= bits - 1;
                    }
                }
                if WEIGHTED {
                    let s = V::splat(*x.weights.add(i)).mul(weights);
                    // An infinite loss times a weight that underflows is none.
                    (l, g) = (s.if_gt(zero, s.mul(l), zero), s.mul(g));
                }
                g.store(tile.add(r * TILE + first));
                let row_sum = row_sums.add(r * LANES);
                V::load(row_sum).add(g).store(row_sum);
                column_sum = column_sum.add(g);
                loss = loss.add(l);
            }
            let sums = y.g.add(j);
            V::load(sums).add(column_sum).store(sums);
        }
        0.5 * f64::from(loss.sum()) + near_loss
    }
}

/// All pairs of a row of `x` with one of `y`; on the diagonal, where both are one block, each pair once. The sum of losses.
#[inline(always)]
unsafe fn strip_body<V: Lanes>(t: &Tiles, x: &Side, y: &Side, diagonal: bool) -> f64 {
    let Tiles { p, d, dp, weighted } = t;
    let mut tile = Aligned([0.0; TILE * TILE]);
    let mut row_sums = Aligned([0.0; TILE * LANES]);
    let (tile, row_sums) = (tile.0.as_mut_ptr(), &mut row_sums.0);
    let mut loss = 0.0;
    for i0 in (0..x.n).step_by(TILE) {
        row_sums.fill(0.0);
        let rows = TILE.min(x.n - i0);
        let from = if diagonal { i0 } else { 0 };
        for j0 in (from..y.n).step_by(TILE) {
            let columns = TILE.min(y.n - j0);
            let at = Place { i: i0, j: j0, rows, columns, diagonal: diagonal && i0 == j0 };
            let (rp, cp) = (padded(rows), padded(columns));
            let edge = at.diagonal || rows < rp || columns < cp;
            let (sides, sums) = ((x, y), row_sums.as_mut_ptr());
            // SAFETY: rows and columns are inside the sides, whose layouts are padded to whole sixteens.
            unsafe {
                let panels = (y.panels.add(j0 * d), cp / LANES);
                products::<V, true>(*d, (x.panels.add(i0 * d), rp), panels, at.diagonal, tile);
                loss += match (p.cosine(), edge, *weighted) {
                    (false, false, false) => coefficients::<V, false, false, false>(t, sides, at, tile, sums),
                    (false, true, false) => coefficients::<V, false, true, false>(t, sides, at, tile, sums),
                    (false, _, true) => coefficients::<V, false, true, true>(t, sides, at, tile, sums),
                    (true, false, false) => coefficients::<V, true, false, false>(t, sides, at, tile, sums),
                    (true, true, false) => coefficients::<V, true, true, false>(t, sides, at, tile, sums),
                    (true, _, true) => coefficients::<V, true, true, true>(t, sides, at, tile, sums),
                };
                let (xi, yj) = (x.acc.add(i0 * dp), y.acc.add(j0 * dp));
                combine::<V, false>(tile, *d, (xi, rp), (y.rows.add(j0 * dp), cp), at.diagonal);
                combine::<V, true>(tile, *d, (yj, cp), (x.rows.add(i0 * dp), rp), at.diagonal);
            }
        }
        for r in 0..rows {
            // SAFETY: the task owns the sums of its rows.
            unsafe { *x.g.add(i0 + r) += V::load(row_sums.as_ptr().add(r * LANES)).sum() };
        }
    }
    loss
}

dispatch! {
    fn strip(t: &Tiles, x: &Side, y: &Side, diagonal: bool) -> f64 = strip_body
}
