//! Similarity matrices: every row of `a` against every row of `b`.
//!
//! ```text
//! dot                y_ij = a_i·b_j
//! cosine             y_ij = a_i·b_j / (‖a_i‖‖b_j‖); 0, with gradient 0, when a row is zero
//! squared Euclidean  y_ij = ‖a_i − b_j‖²
//! Euclidean          y_ij = ‖a_i − b_j‖; gradient 0 where that is 0
//! ```
//!
//! Shapes: `a` `[n, d]`, `b` `[m, d]`, `y` and `dy` `[n, m]`, `da` `[n, d]`, `db` `[m, d]`.
//!
//! The f32 instance (`fast/`) cuts `y` into strips of rows, one task each, and fills a strip block by block of sums in
//! registers: 14 rows of `a` by 32 of `b` where there are 32 registers of sixteen lanes, 6 by 16 of AVX2, else 4 by 16. Results
//! go straight to memory: `2·d` flops a pair, one write per entry. Both sides are read from where they lie transposed, rows of
//! `b` in panels that stay in the second cache: the blocking of Goto and van de Geijn (2008).
//!
//! Up to 24 columns a distance is of differences (`3·d` flops, hidden behind the writes). Beyond, it is
//! `‖a‖² + ‖b‖² − 2a·b` of rows about a centre of `b`, unless that is less than 1/16 of the squared norms, no number, or so small
//! or large that f32 does not hold squares well: then the pair is of differences too, alone, of the rows as given, and at the
//! ends of the range in f64. Nothing is decided by where a pair lies, so a block of rows has the bits of the whole matrix.
//!
//! A sum of products begins anew every 256 columns: with `u` = 6e-8 a dot product is off by at most
//! `(256 + d/256)·u·Σ|a_k·b_k|`, a distance by `8·(256 + d/256)·u` of itself, and by `(d/2 + 2)·u` where it is of differences;
//! roundings partly cancel.
//!
//! Backward goes by slabs of rows of `dy`: tasks own strips of `da` first, then strips of `db`, and both are products of `dy`,
//! or for Euclidean of `dy_ij / ‖a_i − b_j‖`, whose distances are computed again and kept for a slab (`2268·m` floats at most):
//! `4·d` flops a pair, Euclidean `6·d`. Up to 16 columns each `dy_ij` counts once for either side and is read where it lies, as
//! a broadcast for `da` and as a lane for `db`, the second time from the second cache; beyond, blocks of 14 rows or columns are
//! copied first, 512 terms at a time. Sums are taken in an order that depends on shapes alone.
//!
//! Top-k compares a block of similarities with each row's least, straight from registers: the matrix is never in memory, and
//! about `k·ln(m/k)` of `m` are inserted.
//!
//! A gradient is two sums whose difference counts, `(Σ_j g_ij)·a_i − Σ_j g_ij·b_j`, rounded by 6e-8 of their size
//! about a centre of `b`. Euclidean pairs nearer than about 3e-3 of their norms, where the gradient does not shrink with the
//! distance, are computed each on its own in f64.

mod best;
mod fast;
mod geometry;
mod oracle;
mod params;
mod rows;

pub(crate) use fast::{best_of, matrix};
pub use params::{Similarity, SimilarityParams, TopKParams};
pub use rows::{BWD, BWD_BF16, BWD_F16, FWD, FWD_BF16, FWD_F16, KERNELS, TOPK};
