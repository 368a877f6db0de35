//! Batch normalisation (Ioffe and Szegedy 2015) over `x [B, C, S]`, S the product of all further dimensions.
//!
//! Shapes: `x`, `y`, `dy`, `dx` `[B, C, S]`; everything else `[C]`.
//!
//! Training, over the N = B·S values of a channel, with the pivot k = x[0, c, 0]:
//!
//! ```text
//! centre = mean (x − k)                  var = mean (x − k − centre)²          rstd = 1/√(var + eps)
//! x̂ = (x − k − centre)·rstd              y = γ·x̂ + β
//! running_mean ← (1 − m)·running_mean + m·(k + centre)
//! running_var  ← (1 − m)·running_var + m·var·N/(N − 1)
//! dγ = Σ dy·x̂        dβ = Σ dy           dx = γ·rstd·(dy − dβ/N − x̂·dγ/N)
//! ```
//!
//! Differences from the pivot are exact for values of one magnitude, so a mean of 1e3 with a deviation
//! of 1 loses nothing; what is saved for backward is `centre`, not the mean, which f32 would round.
//!
//! Evaluation takes mean and variance from the running ones and changes nothing:
//! `x̂ = (x − running_mean)/√(running_var + eps)`, `dx = γ·dy/√(running_var + eps)`.
//!
//! A grid of blocks cannot wait for all its sums, so training takes two launches each way: `stats` and `sums` cut
//! the N values of a channel into splits of L and leave two numbers for each in `part [C, ⌈N/L⌉, 2]`; `train_fwd` and
//! `train_bwd` add these up again in every block, which is cheaper than a launch that does it once:
//!
//! ```text
//! stats   mean (x − k) over the split, Σ (x − k − that mean)²
//!         centre = Σ n·mean / N          var = Σ (squares + n·(mean − centre)²) / N        n values in a split
//! sums    Σ dy·x̂, Σ dy
//! ```
//!
//! The mean of a split is its own, so the squares never cancel (Chan, Golub and LeVeque 1979). `saved [2, C]` holds
//! `centre`, then `rstd`.
//!
//! Threads: one block owns a split of a channel, or of as many channels as a warp needs to read whole lines where S is
//! short; all sums are two-level in a fixed order.
//!
//! Cost: forward 2 reads of `x` and 1 write, backward 2 reads of `x` and `dy` and 1 write. In evaluation 1 of each.

mod fast;
mod oracle;
mod params;
mod rows;

pub use params::{BatchNormParams, LINE};
pub use rows::{EVAL_BWD, EVAL_FWD, KERNELS, STATS, SUMS, TRAIN_BWD, TRAIN_FWD};
