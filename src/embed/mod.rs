//! Single calls on memory that is the caller's: what other frameworks' bindings are made of. No graph of the caller's, no
//! copy, and nothing kept between calls.
//!
//! Memory comes in through a device's `import` ([`Cpu::import`](crate::device::Cpu::import), `Cuda::import`, `Wgpu::import`) as
//! a [`Buf`](crate::device::Buf), inputs and outputs alike. A call checks shapes and lengths, then runs: the CPU is done when it
//! returns; on CUDA the launches are enqueued on the device's stream, and on wgpu on its queue.
//!
//! ```
//! use etude::device::Cpu;
//! use etude::embed::Conv1d;
//! use etude::kernel::Elem;
//! use etude::ops::conv1d::ConvOptions1d;
//!
//! let cpu = Cpu::<f32>::new(1)?;
//! let (mut x, mut w) = (vec![1.0f32, 2.0, 3.0, 4.0], vec![1.0f32, -1.0]);
//! let conv = Conv1d::new([1, 1, 4], [1, 1, 2], ConvOptions1d::default())?;
//! let mut y = vec![0.0f32; conv.output().iter().product()];
//! // SAFETY: the vectors outlive the call, and nobody else touches them.
//! let [x, w, out] = unsafe {
//!     [&mut x, &mut w, &mut y].map(|v| cpu.import(v.as_mut_ptr().cast(), Elem::Real, v.len()).unwrap())
//! };
//! conv.forward(&cpu, &x, &w, None, &out)?;
//! assert_eq!(y, [-1.0, -1.0, -1.0]);
//! # Ok::<_, etude::Error>(())
//! ```

mod contrastive;
mod conv;
mod info_nce;
mod pair_loss;
mod rank_n_contrast;
mod recorded;
mod shared;
mod similarity;

pub use crate::contrastive::Buffers;
pub use contrastive::{Contrastive, contrastive_hvp};
pub use conv::{Conv1d, Conv2d, ConvGradients};
pub use info_nce::{info_nce, info_nce_of_cosines, info_nce_rows};
pub use pair_loss::{PairLoss, Pairs, contrastive_rows};
pub use rank_n_contrast::{rank_n_contrast, rank_n_contrast_of_distances, rank_n_contrast_rows};
pub use recorded::OfRows;
pub use similarity::PairwiseSimilarity;
