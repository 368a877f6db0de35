//! InfoNCE weighted by how far labels are from one another (Dufumier et al., "Contrastive Learning with Continuous Proxy
//! Meta-Data for 3D MRI Classification", MICCAI 2021).
//!
//! Of an anchor i and the other rows j, its own set's but for itself, or another set's, with `s_ij = cos(z_i, o_j)/t` and `δ_ij`
//! how far their labels are from one another:
//!
//! ```text
//! p_ij     = exp(s_ij) / Σ_k exp(s_ik),   w_ij = exp(−δ_ij²/2σ²) / Σ_k exp(−δ_ik²/2σ²)
//! loss     = 1/n·Σ_i loss_i,              loss_i = −Σ_j w_ij·log p_ij
//! ∂/∂s_ij  = (p_ij − w_ij)/n
//! ```
//!
//! * `info_nce_rows`: of anchors `first..first + rows`, `labels [n]`, `other_labels [m]` and `cosines [rows, m]` → `losses
//!   [rows]`, and in place the gradient of the loss by the cosines, where it is asked for, or of each times `upstream [rows]`.
//!   That by the rows is similarity's: who launches this goes through the anchors in blocks, so that memory is of a block's
//!   cosines alone.
//! * `info_nce_mean`: `losses [n]` → `loss [1]`.
//!
//! Both are softmaxes, with their largest term apart: of the weights that is the nearest label's, however many σ it is away. Of
//! `r = δ/σ` and the least, `r₀`, the exponent is `−½·(r − r₀)·(r + r₀)`: a difference of squares would round what tells near
//! labels apart.
//!
//! Threads: on a GPU a block owns an anchor, a thread every 256th of its columns: once for the largest, once for the sums, once
//! for the gradient. The CPU moves the anchor's own column behind the others first.
//! Cost: some 50 flops a pair; 2·d more for its cosine, and 4·d to 6·d for the gradient, are similarity's.

mod anchor;
mod fast;
mod oracle;
mod params;
mod rows;

pub use params::{InfoNceParams, OF_EACH, OF_MEAN};
pub use rows::{KERNELS, MEAN, ROWS};
