//! Similarity matrices beyond what fits in memory, without a graph: blocks of rows, and the best of each row.
//!
//! [`crate::ops::similarity`] is the whole matrix, with its gradient, as a part of a graph.
//!
//! ```
//! use etude::similarity::{Similarity, block, top_k};
//!
//! let a = [0.0, 0.0, 1.0, 0.0]; // two rows of two
//! let b = [0.0, 1.0, 3.0, 0.0, 1.0, 0.0]; // three
//! let mut second = [0.0; 3];
//! block(&a, &b, 2, Similarity::SquaredEuclidean, 1..2, &mut second)?;
//! assert_eq!(second, [2.0, 4.0, 0.0]);
//!
//! let nearest = top_k(&a, &b, 2, Similarity::SquaredEuclidean, 1)?;
//! assert_eq!((nearest.indices, nearest.values), (vec![0, 2], vec![1.0, 0.0]));
//! # Ok::<_, etude::Error>(())
//! ```

use crate::device::cpu::Cpu;
use crate::device::{Buf, Device};
use crate::graph::{Graph, Step};
use crate::kernels::similarity as k;
use crate::ops::similarity as ops;
pub use crate::ops::similarity::Similarity;
use crate::{Error, Result};
use std::ops::Range;

/// `[n, m, d]` of two matrices of `dim` columns.
fn sizes(op: &'static str, a: usize, b: usize, dim: usize) -> Result<[u32; 3]> {
    let rows = |argument, len: usize| {
        if dim > 0 && len.is_multiple_of(dim) {
            return Ok([len / dim, dim]);
        }
        Err(Error::shape(op, argument, format!("{len} elements are no rows of {dim}")))
    };
    ops::sizes(op, rows("a", a)?, rows("b", b)?)
}

/// How many of a's `n` rows a range takes.
fn count(op: &'static str, rows: &Range<usize>, n: u32) -> Result<u32> {
    match u32::try_from(rows.len()) {
        Ok(count @ 1..) if rows.end <= n as usize => Ok(count),
        _ => Err(Error::shape(op, "rows", format!("{rows:?} is no range of a's {n} rows"))),
    }
}

/// A NaN can be ordered before or after nothing.
fn check_numbers(op: &'static str, argument: &'static str, values: &[f32], dim: usize) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (row, column) = (at / dim, at % dim);
            let message = format!("row {row}, column {column} is {}, must be finite", values[at]);
            Err(Error::shape(op, argument, message))
        }
    }
}

/// Rows `rows` of the matrix of `a` `[N, dim]` and `b` `[M, dim]` into `out` `[rows.len(), M]`, on every core.
///
/// # Errors
/// When lengths do not fit.
pub fn block(
    a: &[f32],
    b: &[f32],
    dim: usize,
    kind: Similarity,
    rows: Range<usize>,
    out: &mut [f32],
) -> Result<()> {
    CpuSimilarity::new(0)?.block(a, b, dim, kind, rows, out)
}

/// The best of each row: values `[N, k]`, the best first, and which rows of `b` they are with.
#[derive(Debug, Clone, PartialEq)]
pub struct TopK {
    /// Similarities, falling, or distances, rising.
    pub values: Vec<f32>,
    /// Rows of `b`; of equal values the lower is first.
    pub indices: Vec<u32>,
}

/// The `k` largest similarities, or least distances, of each row of `a` `[N, dim]` with the rows of `b` `[M, dim]`, on every
/// core.
///
/// # Errors
/// When lengths do not fit, `k` is 0 or more than `M`, or something is NaN or infinite.
pub fn top_k(a: &[f32], b: &[f32], dim: usize, kind: Similarity, k: usize) -> Result<TopK> {
    let [n, m] = [a, b].map(|rows| rows.len().checked_div(dim).unwrap_or(0));
    let len = n.saturating_mul(k.min(m));
    let mut top = TopK { values: vec![0.0; len], indices: vec![0; len] };
    CpuSimilarity::new(0)?.top_k(a, b, dim, kind, k, (&mut top.values, &mut top.indices))?;
    Ok(top)
}

/// Blocks and best entries of slices, again and again: threads are started once, and results go where the caller says.
pub struct CpuSimilarity {
    cpu: Cpu<f32>,
}

impl CpuSimilarity {
    /// On `threads` threads; 0 takes every core.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(threads: usize) -> Result<Self> {
        Ok(Self::on(Cpu::new(threads)?))
    }

    /// On the threads and with the instruction set of `cpu`.
    pub fn on(cpu: Cpu<f32>) -> Self {
        Self { cpu }
    }

    /// As [`block`].
    ///
    /// # Errors
    /// As [`block`].
    pub fn block(
        &self,
        a: &[f32],
        b: &[f32],
        dim: usize,
        kind: Similarity,
        rows: Range<usize>,
        out: &mut [f32],
    ) -> Result<()> {
        let op = "similarity_block";
        let [n, m, d] = sizes(op, a.len(), b.len(), dim)?;
        let n = count(op, &rows, n)?;
        if Some(out.len()) != rows.len().checked_mul(m as usize) {
            let message = format!("{} elements for rows {rows:?} of {m} columns", out.len());
            return Err(Error::shape(op, "out", message));
        }
        let p = k::SimilarityParams { n, m, d, kind: kind as u32 };
        let a = &a[rows.start * dim..rows.end * dim];
        self.cpu.install(|work| k::matrix(work, &p, a, b, out));
        Ok(())
    }

    /// As [`top_k`], into `values` and `indices`, both `[N, k]`.
    ///
    /// # Errors
    /// As [`top_k`].
    pub fn top_k(
        &self,
        a: &[f32],
        b: &[f32],
        dim: usize,
        kind: Similarity,
        k: usize,
        (values, indices): (&mut [f32], &mut [u32]),
    ) -> Result<()> {
        let op = "similarity_topk";
        let [n, m, d] = sizes(op, a.len(), b.len(), dim)?;
        let p = k::TopKParams { n, m, d, kind: kind as u32, k: ops::top_of(op, k, m)? };
        for (argument, len) in [("values", values.len()), ("indices", indices.len())] {
            if Some(len) != (n as usize).checked_mul(k) {
                return Err(Error::shape(op, argument, format!("{len} elements for [{n}, {k}]")));
            }
        }
        check_numbers(op, "a", a, dim)?;
        check_numbers(op, "b", b, dim)?;
        self.cpu.install(|work| k::best_of(work, &p, a, b, values, indices));
        Ok(())
    }
}

/// Rows of the matrix of two buffers of a device, compiled once and run as often as their contents change.
pub struct DeviceBlock {
    step: Step,
    out: Buf,
}

impl DeviceBlock {
    /// Rows `rows` of the matrix of `a` `[N, dim]` and `b` `[M, dim]`, both f32 or both in 16 bits.
    ///
    /// # Errors
    /// As [`block`], or when the device refuses.
    pub fn compile(
        device: &dyn Device,
        dim: usize,
        a: &Buf,
        b: &Buf,
        kind: Similarity,
        rows: Range<usize>,
    ) -> Result<Self> {
        let op = "similarity_block";
        let [n, m, _] = sizes(op, a.len(), b.len(), dim)?;
        count(op, &rows, n)?;
        let mut g = Graph::new();
        let a = g.bind(&a.window(rows.start * dim, rows.len() * dim)?, &[rows.len(), dim])?;
        let b = g.bind(b, &[m as usize, dim])?;
        let y = ops::similarity(&mut g, a, b, kind)?;
        let step = g.compile(device, &[y])?;
        Ok(Self { out: step.buf(y)?.clone(), step })
    }

    /// Computes the rows of what the buffers hold now.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&mut self) -> Result<()> {
        self.step.run()
    }

    /// Where the rows are, `[rows.len(), M]`.
    pub fn out(&self) -> &Buf {
        &self.out
    }
}

/// The best of each row of two buffers of a device, compiled once and run as often as their contents change.
pub struct DeviceTopK {
    step: Step,
    values: Buf,
    indices: Buf,
}

impl DeviceTopK {
    /// The `k` best of each row of `a` `[N, dim]` among the rows of `b` `[M, dim]`, both f32 and finite.
    ///
    /// # Errors
    /// As [`top_k`], but that numbers are not looked at; or when the device refuses.
    pub fn compile(
        device: &dyn Device,
        dim: usize,
        a: &Buf,
        b: &Buf,
        kind: Similarity,
        k: usize,
    ) -> Result<Self> {
        let [n, m, _] = sizes("similarity_topk", a.len(), b.len(), dim)?;
        let mut g = Graph::new();
        let (a, b) = (g.bind(a, &[n as usize, dim])?, g.bind(b, &[m as usize, dim])?);
        let [values, indices] = ops::similarity_topk(&mut g, a, b, kind, k)?;
        let step = g.compile(device, &[values, indices])?;
        Ok(Self { values: step.buf(values)?.clone(), indices: step.buf(indices)?.clone(), step })
    }

    /// Finds the best among what the buffers hold now.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&mut self) -> Result<()> {
        self.step.run()
    }

    /// Where the values are, `[N, k]`.
    pub fn values(&self) -> &Buf {
        &self.values
    }

    /// Where the indices are, `[N, k]`, `u32`.
    pub fn indices(&self) -> &Buf {
        &self.indices
    }
}
