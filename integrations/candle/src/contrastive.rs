//! The contrastive loss.

use crate::arguments::{alike, dims, float, refused};
use crate::cpu;
#[cfg(feature = "cuda")]
use crate::cuda;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Storage, Tensor};
use etude::contrastive::ContrastiveOptions;
use etude::device::{Buf, Device};
use etude::embed;
use std::sync::OnceLock;

/// A set of samples: embeddings `[N, D]`, labels `[N]`, and weights `[N]` where they do not count alike.
///
/// All of one dtype and on one device. Labels and weights are constants: no gradient goes to them.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    embeddings: &'a Tensor,
    labels: &'a Tensor,
    weights: Option<&'a Tensor>,
}

impl<'a> Samples<'a> {
    /// Embeddings `[N, D]` and labels `[N]`: ratings as they are, or their [`bins`](crate::bins).
    pub fn new(embeddings: &'a Tensor, labels: &'a Tensor) -> Self {
        Self { embeddings, labels, weights: None }
    }

    /// With weights `[N]`, finite and not negative: a pair counts as the product of its two samples' weights. A weight of 0
    /// masks a sample out, whatever its row and label hold.
    #[must_use]
    pub fn weighted(self, weights: &'a Tensor) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// `[N, D]`, when everything fits together.
    fn size(&self, op: &'static str, names: &Names) -> Result<[usize; 2]> {
        let [n, d] = dims(op, names.embeddings, self.embeddings, ["rows", "columns"])?;
        for (name, tensor) in [(names.labels, Some(self.labels)), (names.weights, self.weights)] {
            let Some(tensor) = tensor else { continue };
            let [count] = dims(op, name, tensor, ["rows"])?;
            alike(op, name, tensor, (names.embeddings, self.embeddings))?;
            if count != n {
                let message = format!("{count} of them for embeddings of shape [{n}, {d}]");
                return Err(refused(etude::Error::shape(op, name, message)));
            }
        }
        Ok([n, d])
    }

    /// What the loss knows of the rows: labels, then weights if there are any.
    fn facts(&self) -> impl Iterator<Item = &'a Tensor> {
        [self.labels].into_iter().chain(self.weights)
    }
}

/// What messages call the parts of a set.
struct Names {
    embeddings: &'static str,
    labels: &'static str,
    weights: &'static str,
}

const SAMPLES: Names = Names { embeddings: "embeddings", labels: "labels", weights: "weights" };
const OTHERS: Names =
    Names { embeddings: "others' embeddings", labels: "others' labels", weights: "others' weights" };

/// The mean loss over all pairs of `samples`, a scalar.
///
/// # Errors
/// When shapes, dtypes or devices do not fit together, there are fewer than two rows, an option is out of range, or the device
/// fails; on the CPU also when a label or weight is NaN, infinite or negative. On a card that makes the loss NaN, as an
/// embedding that is not finite does everywhere; a weight of 0 masks all of it.
pub fn contrastive(samples: Samples<'_>, options: ContrastiveOptions) -> Result<Tensor> {
    const OP: &str = "contrastive";
    float(OP, SAMPLES.embeddings, samples.embeddings)?;
    let size = samples.size(OP, &SAMPLES)?;
    let op = Loss {
        kernel: embed::Contrastive::all(size, options).map_err(refused)?,
        dim: size[1],
        sides: vec![Side { rows: size[0], weighted: samples.weights.is_some() }],
        gradients: OnceLock::new(),
    };
    let facts = joined(samples.facts().collect())?;
    samples.embeddings.contiguous()?.apply_op2(&facts, op)
}

/// The mean loss over all pairs of one of `samples` `[N, D]` and one of `others` `[M, D]`, a scalar; its gradient flows to both.
///
/// # Errors
/// As [`contrastive`].
pub fn contrastive_cross(
    samples: Samples<'_>,
    others: Samples<'_>,
    options: ContrastiveOptions,
) -> Result<Tensor> {
    const OP: &str = "contrastive_cross";
    float(OP, SAMPLES.embeddings, samples.embeddings)?;
    alike(OP, OTHERS.embeddings, others.embeddings, (SAMPLES.embeddings, samples.embeddings))?;
    let sizes = [samples.size(OP, &SAMPLES)?, others.size(OP, &OTHERS)?];
    let side =
        |samples: Samples<'_>, [rows, _]: [usize; 2]| Side { rows, weighted: samples.weights.is_some() };
    let op = Loss {
        kernel: embed::Contrastive::cross(sizes[0], sizes[1], options).map_err(refused)?,
        dim: sizes[0][1],
        sides: vec![side(samples, sizes[0]), side(others, sizes[1])],
        gradients: OnceLock::new(),
    };
    let facts = joined(samples.facts().chain(others.facts()).collect())?;
    samples.embeddings.contiguous()?.apply_op3(&others.embeddings.contiguous()?, &facts, op)
}

/// One tensor of several, without a gradient: candle's ops take three at most.
fn joined(facts: Vec<&Tensor>) -> Result<Tensor> {
    match facts[..] {
        [labels] => labels.detach().contiguous(),
        _ => Ok(Tensor::cat(&facts, 0)?.detach()),
    }
}

/// One set of the pairs.
struct Side {
    rows: usize,
    weighted: bool,
}

/// The op: embeddings of one or two sets and [`joined`] facts in, the loss out.
///
/// The kernel makes the gradient together with the loss, and `bwd` is told of no more than the loss. So the op keeps the gradient
/// itself. That is the right one because an op is made anew for each call, is moved into the one node of candle's graph
/// that it is applied for, and nobody else can reach it; and it stays right when a variable is changed before `backward`.
struct Loss {
    kernel: embed::Contrastive,
    dim: usize,
    sides: Vec<Side>,
    gradients: OnceLock<Vec<Tensor>>,
}

impl Loss {
    const NAME: &str = "etude-contrastive";

    /// Elements of the outputs: the gradients' and the loss.
    fn lens<const O: usize>(&self) -> [usize; O] {
        std::array::from_fn(|i| self.sides.get(i).map_or(1, |side| side.rows * self.dim))
    }

    fn launch(&self, device: &dyn Device, inputs: &[Buf], outputs: &[Buf]) -> etude::Result<()> {
        // What is known of the rows comes side after side, labels and then weights.
        let (embeddings, facts) = inputs.split_at(self.sides.len());
        let mut start = 0;
        let mut next = |rows| {
            start += rows;
            facts[0].window(start - rows, rows)
        };
        let mut known = Vec::with_capacity(2);
        for side in &self.sides {
            known.push((next(side.rows)?, side.weighted.then(|| next(side.rows)).transpose()?));
        }
        let sets = embeddings.iter().zip(&known).map(|(embeddings, (labels, weights))| embed::Buffers {
            embeddings,
            labels,
            weights: weights.as_ref(),
        });
        let (gradients, loss) = outputs.split_at(self.sides.len());
        let gradients: Vec<&Buf> = gradients.iter().collect();
        self.kernel.run(device, &sets.collect::<Vec<_>>(), &loss[0], &gradients)
    }

    /// Keeps the gradients and gives the loss away.
    fn keep<const G: usize>(&self, gradients: [Storage; G]) -> Result<()> {
        let shaped = gradients.into_iter().zip(&self.sides).map(|(storage, side)| {
            Tensor::from_storage(storage, (side.rows, self.dim), BackpropOp::none(), false)
        });
        self.gradients
            .set(shaped.collect())
            .map_err(|_| Error::msg("an etude-contrastive op is applied once only"))
    }

    /// The gradient by the embeddings `z` of a side, where anybody asks for it.
    fn gradient(&self, side: usize, z: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        if !z.track_op() {
            return Ok(None);
        }
        let gradients = self.gradients.get().ok_or_else(|| Error::msg("backward before forward"))?;
        gradients[side].broadcast_mul(upstream).map(Some)
    }
}

impl CustomOp2 for Loss {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        z: &CpuStorage,
        z_layout: &Layout,
        facts: &CpuStorage,
        facts_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let inputs = [(z, z_layout), (facts, facts_layout)];
        let [dz, loss] = cpu::run(&inputs, self.lens(), |d, i, o| self.launch(d, i, o))?;
        self.keep([dz].map(Storage::Cpu))?;
        Ok((loss, ().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        z: &CudaStorage,
        z_layout: &Layout,
        facts: &CudaStorage,
        facts_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let inputs = [(z, z_layout), (facts, facts_layout)];
        let [dz, loss] = cuda::run(&inputs, self.lens(), |d, i, o| self.launch(d, i, o))?;
        self.keep([dz].map(Storage::Cuda))?;
        Ok((loss, ().into()))
    }

    fn bwd(
        &self,
        z: &Tensor,
        _: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.gradient(0, z, upstream)?, None))
    }
}

impl CustomOp3 for Loss {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        z: &CpuStorage,
        z_layout: &Layout,
        others: &CpuStorage,
        others_layout: &Layout,
        facts: &CpuStorage,
        facts_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let inputs = [(z, z_layout), (others, others_layout), (facts, facts_layout)];
        let [dz, dothers, loss] = cpu::run(&inputs, self.lens(), |d, i, o| self.launch(d, i, o))?;
        self.keep([dz, dothers].map(Storage::Cpu))?;
        Ok((loss, ().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        z: &CudaStorage,
        z_layout: &Layout,
        others: &CudaStorage,
        others_layout: &Layout,
        facts: &CudaStorage,
        facts_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let inputs = [(z, z_layout), (others, others_layout), (facts, facts_layout)];
        let [dz, dothers, loss] = cuda::run(&inputs, self.lens(), |d, i, o| self.launch(d, i, o))?;
        self.keep([dz, dothers].map(Storage::Cuda))?;
        Ok((loss, ().into()))
    }

    fn bwd(
        &self,
        z: &Tensor,
        others: &Tensor,
        _: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((self.gradient(0, z, upstream)?, self.gradient(1, others, upstream)?, None))
    }
}
