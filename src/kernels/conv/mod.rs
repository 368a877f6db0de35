//! What the convolutions share: geometry, a GPU's grid, rows, oracle, fast twins and their inner loops.
//!
//! `conv1d` and `conv2d` are one kernel family with two params structs; `conv_block` has kernels of its own over the same
//! [`microkernel`].

pub mod fast;
pub mod geometry;
mod grid;
pub mod microkernel;
mod oracle;
pub mod rows;
mod scratch;
mod shared;
pub mod transpose;
pub mod winograd;
