//! The network's layer, fused: Conv1d (no padding, no bias) → BatchNorm → ReLU, and the mean over time.
//!
//! A small network is bound by launches and memory, not by arithmetic, so an activation is never
//! stored. A layer stores its convolution `y`; whoever reads it applies `a = max(0, scale·y + shift)`
//! on the way in, with the per-channel `norm` that the batch statistics gave. Backward recomputes the
//! same. One training step reads and writes each `y` and its gradient once per kernel that needs it.
//!
//! ```text
//! forward   x ──fwd──► y₁, norm₁ ──fwd──► y₂, norm₂ ──fwd──► y₃, norm₃ ──pool_fwd──► embedding [B, C]
//! backward  d_embedding ──pool_bwd──► da₃; dgamma₃, dbeta₃, back₃
//!           da₃, back₃ ──bwd──► da₂, dw₃; dgamma₂, dbeta₂, back₂
//!           da₂, back₂ ──bwd──► da₁, dw₂; dgamma₁, dbeta₁, back₁
//!           da₁, back₁ ──bwd_w──► dw₁
//! ```
//!
//! Each arrow is one launch. Sums over the batch end in the launch that makes their terms: partial sums go to
//! `part`, and when all are there, one for each channel or weight adds them up in order (CUDA: the last block; WGSL: a
//! second stage). So the backward launch of a layer ends with the normalisation of the layer below.
//!
//! Layout `Nct16n`: element (b, c, t) at `(((b/16)·C + c)·T + t)·16 + b%16`: sixteen samples lie side
//! by side, so a warp reads whole lines and a vector register holds one position of sixteen samples;
//! stride costs nothing. Lanes beyond the batch hold unspecified finite values that no sum includes.
//!
//! | buffer | shape | holds |
//! |---|---|---|
//! | `x` | Nct16n [B, Cin, T] | the network's input, or the `y` of the layer before (`affine`) |
//! | `y`, `da` | Nct16n [B, Cout, Tout] | convolution; gradient with respect to the activation |
//! | `weight`, `dw` | [Cout, Cin, K] | |
//! | `norm` | [4, C] | scale `γ/σ`, shift `β − μ·γ/σ`, mean `μ`, `1/σ` |
//! | `back` | [6, C] | `norm`, then p, q of `dy = scale·dz + p·(y − μ) + q`, `dz = da` where `a > 0` |
//! | `part` | [`ConvBlockParams::part_fwd`], ... | scratch: partial sums, as each twin lays them out |
//!
//! Rust has in `part` a row [2, C] for each sixteen samples (forward the sum, and the sum of squares about their own mean;
//! backward `Σ dz`, `Σ dz·(y − μ)`), and before it a partial `dw` for each fixed run of blocks; the shaders have the same
//! for shorter runs of positions.
//!
//! The variance is merged from block means (Chan, Golub, LeVeque 1979), so a large mean costs no
//! digits. Gradients of batch normalisation: Ioffe and Szegedy (2015), eq. in §3.
//!
//! Cost, with M = B·Tout·Cout·Cin·K: forward 2·M flops, backward 4·M (2·M for the first layer).

mod fast;
mod grid;
mod norm;
mod oracle;
mod params;
mod rows;

pub use params::ConvBlockParams;
pub use rows::{BWD, BWD_W, FWD, KERNELS, POOL_BWD, POOL_FWD};
