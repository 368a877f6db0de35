//! Wide convolutions with fewer products than terms: Toom–Cook tiles, known for networks as Winograd's (Winograd 1980; Lavin and
//! Gray, "Fast algorithms for convolutional neural networks", 2016).
//!
//! A tile of `m` outputs and a kernel of `k` taps are polynomials whose product is known from its values at `m + k − 1` points
//! (one is ∞). So `y = Aᵀ[(G w) ⊙ (Bᵀ x)]` takes `m + k − 1` products where the sum takes `m · k`; over channels, a matrix
//! product at every point. Two axes nest. The gradient of the input is the same with the kernel turned around, that of the
//! weight is `Gᵀ Σ (A dy) ⊙ (Bᵀ x)` over tiles.
//!
//! | kernel | points | outputs of a tile | products of its terms |
//! |--------|--------|-------------------|-----------------------|
//! | 3      | 8      | 6                 | 8 of 18               |
//! | 5      | 8      | 4                 | 8 of 20               |
//! | 7      | 8      | 2                 | 8 of 14               |
//! | 3 × 3  | 6 × 6  | 4 × 4             | 36 of 144             |
//! | 5 × 5  | 6 × 6  | 2 × 2             | 36 of 100             |
//!
//! and so for 2, 4 and 6 taps, along either axis or both. It is the shapes of [`Plan`] alone that decide: stride 1, no dilation
//! and no groups, channels and tiles enough that the transforms are worth it, and no
//! [`Precision::Exact`](crate::kernel::Precision).
//!
//! **Error.** Against f64, at most `1e-6 · max|x| · Σ|w|` over all taps and channels of an output, those on padding too: a tile
//! errs by all that it is made of, so that an output that sees zeros alone is only nearly 0. That is of sixteen terms and more:
//! of fewer no shape takes tiles. In the norm, 3 to 10e-7 where the plain f32 sum has 1 to 5e-7. Of the weight's gradient the
//! same with `dy` for `w`. Tests hold both on random values, on some with a large mean, of alternating signs, and with one
//! channel far above the others. Weights are transformed in f64 and rounded once; so are the sums of the weight's gradient. What
//! is no number shows in all outputs of the tiles that see it, never in fewer than it should.
//!
//! **Layout.** Channels are lanes: blocks of tiles become `[point][tile][channel]`, sixteen channels a vector, by transposition
//! and plain vector arithmetic; a register-blocked product for each point follows ([`product`]), a panel of channels at a time,
//! so that its results are still near when they are brought back. While products run, the lines that follow are fetched: the next
//! panel of weights, the sums to add to, and those that the results go to. Blocks depend on shapes alone.

mod correlation;
mod plan;
mod planes;
mod points;
mod product;
#[cfg(test)]
mod tests;
mod transform;
mod weights;

pub use correlation::{bwd_x, fwd};
pub use plan::Plan;
pub use weights::bwd_w;
