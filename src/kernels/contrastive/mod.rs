//! The label-distance-weighted contrastive loss: value and gradient in one launch.
//!
//! With label distance `w = |l_i − l_j|` and embedding distance `d`, a pair costs
//!
//! ```text
//! positive (w <= tau):  ½·d²
//! negative:             ½·max(0, margin·w − d)²
//! ```
//!
//! (`tau` in the params has its tolerance: [`crate::ops::contrastive::ContrastiveOptions::tau`])
//!
//! and the loss is `weight` times the mean over the pairs: `Σ s_i·s_j·l_ij / Σ s_i·s_j` with the samples' weights `s`, all 1
//! where none are given, and 0 where `Σ s_i·s_j` is. A sample of weight 0 is masked out: whatever its row and
//! label hold, NaN included, has no effect, and its gradient is 0. `grad_scale` multiplies the gradient alone. `d` is
//! `‖z_i − z_j‖` (Euclidean) or `1 − cos(z_i, z_j)` (cosine). The gradient is 0 where `d = 0` (Euclidean), and a cosine pair
//! with a zero row has distance 1 and gradient 0. Each kernel says the shapes of its buffers.
//!
//! The f64 instance is the definition in a plain double loop. The f32 instance computes tiles of pairs
//! (`src/kernels/pairs`): squared distances, coefficients `g_ij = l'(d_ij)/d_ij`, and from these
//! `dL/dz_i = (Σ_j g_ij)·z_i − Σ_j g_ij·z_j` for both rows of each pair at once. There is no log-sum-exp in this
//! loss, so value and gradient come out of one pass over the pairs, and each unordered pair is met at most once.
//! Cosine is the same over rows of norm 1, with `d = ½‖û_i − û_j‖²`; projecting off `û_i` and dividing by the
//! norm at the end turns the gradient by `û_i` into that by `z_i`.
//!
//! **Which pairs are met.** Rows are sorted by label, and along the direction in which labels vary where labels are alike
//! (`order.rs`). Euclidean pairs of equal labels have a closed form (`classes.rs`) and count for nothing in the tiles. A tile is
//! not opened where all its labels are equal, or where the balls around its rows show every pair of it to be beyond its margin
//! (`sweep_tile.rs`). In an open tile the gradient's products run for the coefficients alone that are not 0, or for all where
//! most are, and not at all where none is. None of this changes which pairs count; the sums' order depends on the data alone.
//!
//! **Who owns what.** A task owns two blocks of rows and every pair between them; blocks meet as in a round-robin
//! tournament (`schedule.rs`), so no two tasks of a round share a row. Blocks depend on the shape alone and have tiles from
//! everywhere in the order, so that tasks are alike though most tiles of some labels are closed:
//! one thread or many add in the same order. Losses are summed in f32 over a tile's sixteen lanes (at most
//! 144 terms each), in f64 beyond; the rows' sums in registers over a tile, then tile by tile.
//!
//! **Weights.** The f32 instance leaves out the samples of weight 0, so that masked ones cost nothing,
//! and divides the weights by the largest. `Σ_{i<j} s_i·s_j` is taken as `Σ_i s_i·(s_0 + … + s_{i−1})`, which
//! does not cancel as `((Σ s)² − Σ s²)/2` would, and is exactly 0 where only one sample counts.
//!
//! **Cost.** `(d + 2·row_len(d) + 7)·n` floats of scratch, a 48th of `(row_len(d) + 6)·n` for the tiles' bounds and `3·n` words
//! for the order; the matrix of pairs is never in memory. For `All`, of the pairs of open tiles: `d` multiply-adds for the
//! distance, some 15 to 30 operations for the coefficient, and `2·d` multiply-adds for the gradient where it is not 0. With all
//! pairs open that is `3·d/16` multiply-adds of sixteen lanes a pair.
//!
//! **Accuracy.** Distances come out of products of rows about the batch's mean, `‖a‖² + ‖b‖² − 2·a·b`, where that cannot cancel
//! by more than a factor of 128; beyond, those of pairs that may count are taken out of differences. A pair counts as beyond its
//! margin only where no rounding could have put it there. The gradient's two sums would cancel
//! where rows are near: only differences matter, so they too are of rows about the mean, and pairs
//! nearer than about 3e-3 of their norms are computed each on its own in f64. So the gradient
//! keeps three digits down to distances of 1e-6 of the norm, and five where nothing is near. Classes are summed about their
//! own means, held to twice the digits of f32: positive pairs of equal labels keep six digits, however near.
//!
//! **What is no number.** A row that is not finite, a label or a weight that is NaN, infinite or negative makes the loss NaN, on
//! every device, and the gradients are then of no use: the hinge's `max` would count its pairs as 0. Samples are looked at once
//! for it, never in the loop over pairs. Only a weight of 0 keeps its sample's row and label from being looked at.
//!
//! **Range.** Euclidean: entries from 1e-12 to 1e12 (and 0) are right; squares of distances below 1e-23
//! are lost and count as 0, those beyond 1.8e19 as infinite: a positive pair's loss is then infinite, as its square does
//! not fit f32. No NaN arises while `n·|z|` stays below 1e38. Cosine: any norm from 1e-30 up; the gradient grows as
//! 1/norm and overflows to infinity below about 1e-38. Labels up to 1e18. Weights are not negative; those below 1e-18 of the
//! largest may count as 0.

mod block;
mod classes;
mod coefficients;
mod fast;
mod geometry;
mod oracle;
mod order;
mod pair;
mod params;
mod rows;
mod schedule;
mod set;
mod side;
mod sound;
mod sweep;
mod sweep_tile;

pub(crate) use fast::{loss_all, loss_cross};
pub use params::{ContrastiveParams, Metric};
pub use rows::{ALL, ALL_BF16, ALL_F16, CROSS, CROSS_BF16, CROSS_F16, HALVES, KERNELS};
pub(crate) use set::Set;
