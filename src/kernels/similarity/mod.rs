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
//! The f32 instance cuts `y` into strips of `TILE` rows, one task each, and walks a strip tile by tile
//! (`src/kernels/pairs` has the steps): `2·d` flops a pair forward (`3·d` for distances, by differences, which
//! do not cancel), one write per entry. Backward, a task owns a strip of rows of `da` or of `db` and reads
//! `dy` once for each: `2·d` flops a pair and side, and another `3·d` for Euclidean, whose distances
//! are computed again rather than kept. Sums are taken tile after tile, whatever the threads.
//!
//! Top-k walks the strips in the same way and keeps each row's best in order: the matrix is never in memory. A vector
//! of similarities is compared with the row's least at once, and about `k·ln(m/k)` of `m` are inserted.
//!
//! A gradient is two sums whose difference counts, `(Σ_j g_ij)·a_i − Σ_j g_ij·b_j`, rounded by 6e-8 of their size
//! about the rows' mean. Euclidean pairs nearer than about 3e-3 of their norms, where the gradient does not shrink with the
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
