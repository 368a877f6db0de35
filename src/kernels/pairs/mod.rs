//! Tiles of pairs for the contrastive loss on the CPU, and what similarity matrices share of them.
//!
//! Work goes tile by tile of [`TILE`]² pairs, each tile in three steps, so that nothing of the size of
//! the matrix of pairs is ever in memory:
//!
//! 1. [`products()`]: `t_ij = Σ_k (a_ik − b_jk)²` or `Σ_k a_ik·b_jk`, sixteen `j` to a vector;
//! 2. the kernel's own elementwise step turns `t_ij` into a coefficient `g_ij`, in place;
//! 3. [`combine()`]: `acc_i += Σ_j g_ij·b_j` and `acc_j += Σ_i g_ij·a_i`, sixteen columns to a vector;
//!    or [`combine_few()`], the same for the coefficients alone that are not 0.
//!
//! Step 1 reads *panels* (sixteen rows, transposed: element `(i, k)` at `(i / 16)·16·d + 16·k + i % 16`),
//! step 3 *rows* padded to whole vectors; both pad with zeros. Accumulators stay in registers
//! while the inner dimension streams by: the blocking of Goto and van de Geijn (2008). The three
//! steps are FlashAttention's (Dao et al., 2022) without its softmax.

mod combine;
mod few;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod lanes_neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod lanes_simd128;
#[cfg(target_arch = "x86_64")]
mod lanes_x86;
mod products;
mod tile;

pub use combine::combine;
pub use few::combine_few;
pub use lanes::Lanes;
pub use products::products;
pub use tile::{Aligned, TILE, padded, row_len};
