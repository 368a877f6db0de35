//! Rank-N-Contrast's loss (Zha et al., "Rank-N-Contrast: Learning Continuous Representations for Regression", NeurIPS 2023).
//!
//! Of an anchor i and any other row j, those rows are negatives that are at least as far from i by their label as j is. With
//! `s_ik = −‖z_i − z_k‖/t` and `δ_ik = |y_i − y_k|`:
//!
//! ```text
//! S_i(δ)   = Σ_{k≠i, δ_ik ≥ δ} exp(s_ik)
//! loss     = 1/n·Σ_i loss_i,   loss_i = 1/(n−1)·Σ_{j≠i} (log S_i(δ_ij) − s_ij)
//! ∂/∂s_ik  = (exp(s_ik)·Q_i(δ_ik) − 1)/(n·(n−1)),   Q_i(δ) = Σ_{j≠i, δ_ij ≤ δ} 1/S_i(δ_ij)
//! ```
//!
//! Taken as it stands, that is a sum over n² pairs of sums over n rows. Where the labels are sorted, the rows of `S_i(δ)` are a
//! run of the first and a run of the last, so that all of an anchor's are two running sums from the ends towards it; its `Q` are
//! two more, from it towards the ends. Differences of labels are compared as they are computed: from an anchor outwards they
//! never fall, rounded or not, and equal ones are ties.
//!
//! * `rank_n_contrast_order`: `labels [n]` → `order [n]`, `order[q]` the row with the q-th least label, equal ones by their
//!   number; `ranks [n]`, its inverse; `sorted [n]`.
//! * `rank_n_contrast_rows`: of anchors `first..first + rows`, `distances [rows, n]` → `losses [rows]`, NaN where the labels'
//!   range is not finite; and in place the gradient of the loss by the distances, where it is asked for, or of each times
//!   `upstream [rows]`. That by the rows is similarity's: who launches this goes through the anchors in blocks, so that memory is
//!   of a block's distances alone.
//! * `rank_n_contrast_sum`: `losses [n]` → `loss [1]`.
//!
//! Logarithms of sums are taken with the largest term apart, so that nothing over- or underflows, however far rows are.
//!
//! Threads: on a GPU a block owns an anchor. A thread adds up a run of neighbours on either side, sixteen threads add up those
//! sums, and each goes through its run again; which rows count it finds by bisection. The CPU goes once from both ends to the
//! anchor, always the side that is farther, and back.
//! Cost: some 60 flops a pair; 2·d more for its distance, and 4·d to 6·d for the gradient, are similarity's.

mod anchor;
mod fast;
mod oracle;
mod params;
mod rows;

pub use params::{OF_EACH, OF_MEAN, RankNContrastParams};
pub use rows::{KERNELS, ORDER, ROWS, SUM};
