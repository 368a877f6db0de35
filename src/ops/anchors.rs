//! Losses of which each anchor is held against all rows: a block of anchors at a time, so that memory is of a block's pairs,
//! however many there are of all.

use super::samples::size;
use crate::graph::{Graph, Var};
use crate::kernel::stored_as;
use crate::kernels::elementwise::{self as ke, ElementwiseParams};
use crate::kernels::similarity::{self as k, Similarity, SimilarityParams};
use crate::{Error, Result};
use std::ops::Range;

/// Pairs that are in memory at once, but for those of a block of [`LEAST`] anchors.
const MOST: usize = 1 << 22;

/// Anchors of a block, and what they are a multiple of.
const LEAST: usize = 64;

/// Anchors of a block, of the rows of `z` against those of `others`.
pub(super) fn block_of(g: &Graph, z: Var, others: Var) -> usize {
    let rows = |var: Var| g.shape(var).first().map_or(1, |&n| n);
    block(rows(z), rows(others))
}

/// Anchors of a block, of `n` against `m` rows.
fn block(n: usize, m: usize) -> usize {
    (MOST / m.max(1) / LEAST * LEAST).clamp(LEAST, n.max(LEAST)).min(n.max(1))
}

/// The sizes of rows that are gone through so: fewer than 2³¹, of fewer than 2³² elements.
pub(super) fn rows_of(g: &Graph, op: &'static str, argument: &'static str, z: Var) -> Result<[u32; 2]> {
    let [n, d] = size(op, argument, g.dims(op, argument, z)?)?;
    if n > i32::MAX as u32 || n.checked_mul(d).is_none() {
        let message = format!("needs fewer than 2^31 rows and 2^32 elements, has shape {:?}", g.shape(z));
        return Err(Error::shape(op, argument, message));
    }
    Ok([n, d])
}

/// The first and how many of `n` anchors against `m` rows a launch goes through: some, of fewer than 2³¹ each.
pub(super) fn of_anchors(
    op: &'static str,
    (first, rows): (usize, usize),
    n: usize,
    m: usize,
) -> Result<[u32; 2]> {
    let counted = |v: usize| (1..=i32::MAX as usize).contains(&v);
    let within = first.checked_add(rows).is_some_and(|end| end <= n);
    if within && [rows, n, m].into_iter().all(counted) {
        return Ok([first as u32, rows as u32]);
    }
    let message =
        format!("{rows} anchors from {first} on of {n}, against {m} rows: needs from 1 to 2^31 − 1");
    Err(Error::shape(op, "rows", message))
}

/// Checks a number that must be positive and finite.
pub(super) fn positive(op: &'static str, argument: &'static str, number: f32) -> Result<()> {
    if number.is_finite() && number > 0.0 {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("must be positive and finite, is {number}")))
}

/// What is launched of an anchor and another row.
#[derive(Clone, Copy)]
pub(super) struct Pairs {
    pub(super) op: &'static str,
    /// Anchors `[N, D]`.
    pub(super) z: Var,
    /// The other rows `[M, D]`, `z` itself where there is one set.
    pub(super) others: Var,
    pub(super) kind: Similarity,
}

impl Pairs {
    /// Whether anyone asks for a gradient.
    pub(super) fn wanted(&self, g: &Graph) -> bool {
        g.needs_grad(self.z) || g.needs_grad(self.others)
    }

    /// Calls `turn` with some anchors and the matrix `[anchors, M]` of their similarities at a time, which gives back the
    /// gradient by these; it counts where a `gradient` is wanted. Gives back that by the anchors and that by the others: of one
    /// set, one and the same.
    pub(super) fn in_blocks(
        &self,
        g: &mut Graph,
        of_block: usize,
        gradient: bool,
        mut turn: impl FnMut(&mut Graph, Range<u32>, Var) -> Result<Var>,
    ) -> Result<[Var; 2]> {
        let &Self { op, z, others, kind } = self;
        let ([n, d], [m, _]) = (rows_of(g, op, "z", z)?, rows_of(g, op, "others", others)?);
        let forward = stored_as(op, "z", g.elem(z), [&k::FWD, &k::FWD_F16, &k::FWD_BF16])?;
        let backward = stored_as(op, "z", g.elem(z), [&k::BWD, &k::BWD_F16, &k::BWD_BF16])?;
        let all = |rows: u32| ElementwiseParams { n: rows * d, factor: 1.0 };
        let one_set = z == others;
        let dz = g.temp_like(z);
        let d_others = if one_set { dz } else { g.temp_like(others) };
        for first in (0..n).step_by(of_block) {
            let anchors = first..n.min(first.saturating_add(of_block as u32));
            let rows = anchors.end - first;
            let (from, shape) = (first as usize * d as usize, [rows as usize, d as usize]);
            let p = SimilarityParams { n: rows, m, d, kind: kind as u32 };
            let (own, pairs) = (g.window(z, from, &shape)?, g.temp(&[rows as usize, m as usize]));
            g.launch(forward, &p, &[own, others, pairs])?;
            let slopes = turn(g, anchors, pairs)?;
            if !gradient {
                continue;
            }
            // What anchors add to the others' gradients, and to their own: of one set, both to the same.
            let to_own = g.window(dz, from, &shape)?;
            let d_own = if one_set { g.temp(&shape) } else { to_own };
            let part = if first == 0 { d_others } else { g.temp_like(others) };
            g.launch(backward, &p, &[own, others, slopes, d_own, part])?;
            if first > 0 {
                g.launch(&ke::ACCUMULATE, &all(m), &[part, d_others])?;
            }
            if one_set {
                g.launch(&ke::ACCUMULATE, &all(rows), &[d_own, to_own])?;
            }
        }
        Ok([dz, d_others])
    }

    /// The rows that gradients are by: of one set, whether it is held against itself by name or not, all are by one.
    pub(super) fn sets(&self) -> Vec<Var> {
        if self.others == self.z { vec![self.z] } else { vec![self.z, self.others] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_within_memory() {
        assert_eq!([2, 63, 2048, 2049, 4096, 16_384].map(|n| block(n, n)), [2, 63, 2048, 1984, 1024, 256]);
        assert_eq!([1 << 20, 1 << 30].map(|n| block(n, n)), [64, 64]);
        assert_eq!([(8, 1 << 20), (1 << 20, 8), (0, 0)].map(|(n, m)| block(n, m)), [8, 1 << 19, 1]);
    }
}
