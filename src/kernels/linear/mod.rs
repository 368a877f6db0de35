//! Fully connected layer with the dropout of its input, its bias and its activation, `y = f(m(x)·wᵀ + b)`.
//!
//! Shapes: `x [B, I]`, `w [O, I]`, `b [O]`, `y [B, O]`; gradients as what they belong to.
//! Without a bias `b` is bound to any buffer and not read. `f` is the identity, relu or sigmoid.
//! `m` is the mask of [`super::dropout`] over the elements of `x`, with its `state [3]`, made again wherever `x` or `dx`
//! passes: nothing is stored. With a `threshold` of 0 there is none, and `state` is not read.
//!
//! Backward takes `f'` from the output, `dz = dy·f'(y)`, and is one launch for all gradients:
//! `dx = m(dz·w)`, `dw = dzᵀ·m(x)`, `db = Σ_b dz`. An output that `wanted` leaves out is one element, set to 0.
//!
//! Threads: forward, one owns one `y`. Backward, one owns one `dx`, one `dw` or one `db`, in three
//! ranges of the grid; each recomputes the `dz` it reads. Sums over the batch are two-level, blocks of
//! [`BLOCK`] rows in order.
//!
//! Cost: 2·B·I·O flops forward and as many for each of `dx` and `dw`; every buffer moves once.

mod fast;
mod oracle;
mod params;
mod rows;

pub use params::{BLOCK, IDENTITY, LinearParams, RELU, SIGMOID, WANT_B, WANT_W, WANT_X};
pub use rows::{BWD, FWD, KERNELS};
