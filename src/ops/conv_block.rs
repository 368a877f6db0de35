//! The network's layer, fused: Conv1d → BatchNorm → ReLU, and the mean over time.
//!
//! Kernels and layout: [`crate::kernels::conv_block`].

use super::check::{count, expect_shape};
use crate::graph::{Graph, Var};
use crate::kernels::conv_block as k;
use crate::simd::LANES;
use crate::{Error, Result};

/// A feature map on its way from one layer to the next.
///
/// It is read by exactly one consumer, which takes it by value: the consumer's backward ends with the
/// gradients of the producer's normalisation.
#[derive(Debug)]
pub struct Features {
    /// Nct16n: `[blocks, channels, frames, 16]`; the network's input or a layer's convolution.
    map: Var,
    batch: usize,
    channels: usize,
    frames: usize,
    norm: Option<Norm>,
}

/// How to read a layer's convolution as an activation.
#[derive(Debug, Clone, Copy)]
struct Norm {
    /// `[4, C]`: scale, shift, mean, 1/σ.
    values: Var,
    train: Option<Train>,
}

/// What the consumer's backward gives the producer.
#[derive(Debug, Clone, Copy)]
struct Train {
    gamma: Var,
    beta: Var,
    /// `[6, C]`: what makes `dy` of `da`.
    back: Var,
}

impl Norm {
    /// Of a layer whose gradient is asked for.
    fn train(&self) -> Result<Train> {
        self.train.ok_or_else(|| {
            Error::shape("conv_block", "mode", "evaluation has no backward: record in Mode::Train")
        })
    }
}

impl Train {
    /// Where `dgamma` and `dbeta` go.
    fn targets(&self, g: &mut Graph) -> [Var; 2] {
        [self.gamma, self.beta].map(|v| g.grad_target(v).unwrap_or_else(|| g.temp_like(v)))
    }

    fn give(&self, g: &mut Graph, [dgamma, dbeta]: [Var; 2]) -> Result<()> {
        g.give_grad(self.gamma, dgamma)?;
        g.give_grad(self.beta, dbeta)
    }
}

impl Features {
    /// The network's input: `x` is `[ceil(batch/16), channels, frames, 16]`, as
    /// [`crate::ops::gather`] lays it out.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn input(g: &Graph, x: Var, batch: usize) -> Result<Self> {
        let [blocks, channels, frames, lanes] = g.dims("conv_block", "x", x)?;
        if lanes != LANES || batch == 0 || blocks != batch.div_ceil(LANES) {
            let shape = g.shape(x);
            return Err(Error::shape(
                "conv_block",
                "x",
                format!(
                    "a batch of {batch} needs shape [{}, channels, frames, 16], not {shape:?}",
                    batch.div_ceil(LANES)
                ),
            ));
        }
        count("conv_block", "x", &[blocks, channels, frames, LANES])?;
        Ok(Self { map: x, batch, channels, frames, norm: None })
    }

    /// Frames of this map.
    pub fn frames(&self) -> usize {
        self.frames
    }
}

/// Whether a layer uses the batch's statistics or the running ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Batch statistics; the running ones move by `momentum`.
    Train,
    /// Running statistics.
    Eval,
}

/// A layer's parameters and running statistics.
#[derive(Debug, Clone, Copy)]
pub struct ConvBlock {
    /// `[Cout, Cin, K]`.
    pub weight: Var,
    /// `[Cout]`.
    pub gamma: Var,
    /// `[Cout]`.
    pub beta: Var,
    /// `[Cout]`, updated in place in [`Mode::Train`].
    pub running_mean: Var,
    /// `[Cout]`, updated in place in [`Mode::Train`].
    pub running_var: Var,
    /// Stride of the convolution.
    pub stride: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Share of the batch in the running statistics.
    pub momentum: f32,
}

/// Frames that a convolution without padding makes of `frames`.
pub fn frames_after(frames: usize, taps: usize, stride: usize) -> usize {
    if frames < taps || stride == 0 { 0 } else { (frames - taps) / stride + 1 }
}

/// `relu(batch_norm(conv1d(x)))`, without padding and bias (normalisation removes a bias).
///
/// # Errors
/// When a shape does not fit, the input is shorter than the kernel, or training statistics are
/// asked of a single value per channel.
pub fn conv_block(g: &mut Graph, x: Features, layer: &ConvBlock, mode: Mode) -> Result<Features> {
    const OP: &str = "conv_block";
    let ConvBlock { weight, gamma, beta, running_mean, running_var, stride, eps, momentum } = *layer;
    let [cout, cin, taps] = g.dims(OP, "weight", weight)?;
    count(OP, "weight", &[cout, cin, taps])?;
    if cin != x.channels {
        let message = format!("{:?} does not take the input's {} channels", g.shape(weight), x.channels);
        return Err(Error::shape(OP, "weight", message));
    }
    for (name, var) in
        [("gamma", gamma), ("beta", beta), ("running_mean", running_mean), ("running_var", running_var)]
    {
        expect_shape(g, OP, name, var, &[cout], ("a weight", weight))?;
    }
    // Devices step with signed 32-bit numbers.
    if !(1..=i32::MAX as usize).contains(&stride) {
        return Err(Error::shape(OP, "stride", format!("must be 1 to 2^31 - 1, is {stride}")));
    }
    let tout = frames_after(x.frames, taps, stride);
    if tout == 0 {
        let message = format!("{} frames are fewer than the kernel's {taps} taps", x.frames);
        return Err(Error::shape(OP, "x", message));
    }
    if mode == Mode::Train && x.batch * tout < 2 {
        return Err(Error::shape(OP, "x", "training statistics need more than one value per channel"));
    }
    let y_shape = [x.batch.div_ceil(LANES), cout, tout, LANES];
    count(OP, "output", &y_shape)?;
    // Every value is below 2³² by the checks above and those of the layer before.
    let p = k::ConvBlockParams {
        batch: x.batch as u32,
        cin: cin as u32,
        t: x.frames as u32,
        cout: cout as u32,
        tout: tout as u32,
        k: taps as u32,
        stride: stride as u32,
        affine: u32::from(x.norm.is_some()),
        train: u32::from(mode == Mode::Train),
        eps,
        momentum,
    };
    if mode == Mode::Train {
        count(OP, "partial gradients of the weight", &[p.part_bwd()])?;
    }
    let y = g.temp(&y_shape);
    let (part, values) = (g.temp(&[p.part_fwd()]), g.temp(&[4, cout]));
    // Without an affine read the kernel ignores `norm_in`: any buffer will do.
    let values_in = x.norm.map_or(gamma, |n| n.values);
    let io = [x.map, values_in, weight, gamma, beta, running_mean, running_var, y, part, values];
    g.launch(&k::FWD, &p, &io)?;
    let train = (mode == Mode::Train).then(|| Train { gamma, beta, back: g.temp(&[6, cout]) });
    let norm = Norm { values, train };
    let (map, norm_in) = (x.map, x.norm);
    g.on_backward(y, &[map, weight, gamma, beta], move |g, da| {
        let back = norm.train()?.back;
        let dw = g.grad_target(weight);
        let part = g.temp(&[p.part_bwd()]);
        if let Some(da_in) = g.grad_target(map) {
            let dw_or = dw.unwrap_or_else(|| g.temp_like(weight));
            let train_in = norm_in.map(|n| n.train()).transpose()?;
            let [dgamma_in, dbeta_in, back_in] = match train_in {
                Some(t) => {
                    let [dgamma, dbeta] = t.targets(g);
                    [dgamma, dbeta, t.back]
                }
                None => [(); 3].map(|()| g.temp(&[1])),
            };
            let io = [da, y, back, map, values_in, weight, da_in, part, dw_or, dgamma_in, dbeta_in, back_in];
            g.launch(&k::BWD, &p, &io)?;
            g.give_grad(map, da_in)?;
            if let Some(t) = train_in {
                t.give(g, [dgamma_in, dbeta_in])?;
            }
        } else if let Some(dw) = dw {
            g.launch(&k::BWD_W, &p, &[da, y, back, map, values_in, part, dw])?;
        }
        dw.map_or(Ok(()), |dw| g.give_grad(weight, dw))
    });
    Ok(Features { map: y, batch: x.batch, channels: cout, frames: tout, norm: Some(norm) })
}

/// The mean over time of a layer's activation, `[batch, channels]`: the embedding.
///
/// `lengths`, `[batch]` of whole numbers, says how many frames of each sample are valid; values
/// are clamped to 1 and the frames there are. Without it all are.
///
/// # Errors
/// When `x` is the network's input itself, or `lengths` is of another shape.
pub fn mean_over_time(g: &mut Graph, x: Features, lengths: Option<Var>) -> Result<Var> {
    const OP: &str = "conv_block::mean_over_time";
    let norm =
        x.norm.ok_or_else(|| Error::shape(OP, "x", "is the network's input: pool a layer's output"))?;
    if let Some(lengths) = lengths
        && g.shape(lengths) != [x.batch]
    {
        let message = format!("{:?} for a batch of {}", g.shape(lengths), x.batch);
        return Err(Error::shape(OP, "lengths", message));
    }
    // Every value is below 2³²: the layer has seen to its output.
    let p = k::ConvBlockParams {
        batch: x.batch as u32,
        cin: 0,
        t: 0,
        cout: x.channels as u32,
        tout: x.frames as u32,
        k: 0,
        stride: 1,
        affine: u32::from(lengths.is_some()),
        train: 0,
        eps: 0.0,
        momentum: 0.0,
    };
    let embedding = g.temp(&[x.batch, x.channels]);
    let lengths = lengths.unwrap_or(norm.values);
    g.launch(&k::POOL_FWD, &p, &[x.map, norm.values, lengths, embedding])?;
    g.on_backward(embedding, &[x.map], move |g, d_embedding| {
        if let Some(da) = g.grad_target(x.map) {
            let train = norm.train()?;
            let (part, [dgamma, dbeta]) = (g.temp(&[p.part_pool()]), train.targets(g));
            let io = [d_embedding, x.map, norm.values, lengths, da, part, dgamma, dbeta, train.back];
            g.launch(&k::POOL_BWD, &p, &io)?;
            g.give_grad(x.map, da)?;
            train.give(g, [dgamma, dbeta])?;
        }
        Ok(())
    });
    Ok(embedding)
}
