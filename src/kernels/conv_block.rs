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
//! Rust and WGSL have in `part` a row [2, C] for each sixteen samples (forward the sum, and the sum of squares about their
//! own mean; backward `Σ dz`, `Σ dz·(y − μ)`), and before it a partial `dw` for each fixed run of blocks.
//!
//! The variance is merged from block means (Chan, Golub, LeVeque 1979), so a large mean costs no
//! digits. Gradients of batch normalisation: Ioffe and Szegedy (2015), eq. in §3.
//!
//! Cost, with M = B·Tout·Cout·Cin·K: forward 2·M flops, backward 4·M (2·M for the first layer).

use super::microkernel::{Rows, WeightRows, conv_rows, pack_weights, sum_lanes, weight_rows};
use crate::dispatch;
use crate::kernel::{
    Args, Binding, Cost, Cuda, Kernel, Params, Real, Twin, Workgroups, params, with_scratch,
};
use crate::simd::{F32x16, LANES};

params! {
    /// Params of every kernel here; those of one feature map use `cout` and `tout`.
    pub struct ConvBlockParams {
        /// Samples, B.
        pub batch: u32,
        /// Input channels.
        pub cin: u32,
        /// Input frames, T.
        pub t: u32,
        /// Output channels, C.
        pub cout: u32,
        /// Output frames: (T − K)/stride + 1.
        pub tout: u32,
        /// Taps.
        pub k: u32,
        /// Stride.
        pub stride: u32,
        /// 1 when the input is another layer's `y`, read through its `norm` and ReLU; pooling: 1 when
        /// `lengths` say how many frames are valid.
        pub affine: u32,
        /// 1 when `norm` comes from the batch, 0 when from the running statistics.
        pub train: u32,
        /// Added to the variance.
        pub eps: f32,
        /// Share of the batch in the running statistics.
        pub momentum: f32,
    }
}

/// Most partial weight gradients: runs of blocks that one thread adds up.
const CHUNKS: usize = 16;

impl ConvBlockParams {
    /// Blocks of sixteen samples.
    pub fn blocks(&self) -> usize {
        (self.batch as usize).div_ceil(LANES)
    }
    /// Blocks per partial weight gradient; depends on the batch alone.
    fn chunk(&self) -> usize {
        self.blocks().div_ceil(CHUNKS)
    }
    /// Partial weight gradients.
    pub fn chunks(&self) -> usize {
        self.blocks().div_ceil(self.chunk())
    }
    /// Weights.
    pub fn weights(&self) -> usize {
        (self.cout * self.cin * self.k) as usize
    }
    /// Samples in block `i`.
    fn lanes(&self, i: usize) -> usize {
        (self.batch as usize - i * LANES).min(LANES)
    }
    /// Elements of the input and of the output per sample.
    fn sample(&self) -> (usize, usize) {
        ((self.cin * self.t) as usize, (self.cout * self.tout) as usize)
    }
    /// Elements of `part` of [`FWD`].
    pub fn part_fwd(&self) -> usize {
        // CUDA's tiles, at least one for each block of samples: two sums of each channel and a count.
        self.blocks() * Fwd::of(self).tiles as usize * (2 * self.cout as usize + 1)
    }
    /// Elements of `part` of [`POOL_BWD`].
    pub fn part_pool(&self) -> usize {
        self.blocks() * 2 * self.cout as usize
    }
    /// Elements of `part` of [`BWD`] and [`BWD_W`].
    pub fn part_bwd(&self) -> usize {
        let (dw, dx) = (Dw::of(self), Dx::of(self));
        let weights = (self.chunks() * self.weights())
            .max(dw.tiles as usize * dw.slices as usize * dw.weights as usize * 4);
        weights + self.blocks() * (dx.tiles * dx.turns) as usize * 2 * self.cin as usize
    }
    fn cost(p: &Params, flops: impl Fn(usize) -> usize, x: usize, y: usize) -> Cost {
        let p: Self = p.get();
        let b = p.batch as usize;
        let (sx, sy) = p.sample();
        Cost::new(flops(b * sy * (p.cin * p.k) as usize), b * (x * sx + y * sy) + p.weights())
    }
}

const fn kernel<const N: usize>(
    name: &'static str,
    bindings: &'static [Binding; N],
    f32: fn(Args<'_, f32>),
    f64: fn(Args<'_, f64>),
    workgroups: &'static [Workgroups],
    cuda: Cuda,
    cost: fn(&Params) -> Cost,
) -> Kernel {
    Kernel { name, bindings, params: ConvBlockParams::LAYOUT, cpu: Twin { f32, f64 }, workgroups, cuda, cost }
}

/// Threads of a workgroup that owns one channel with each.
const PER_CHANNEL: u32 = 64;
/// Taps that a workgroup of the weight gradient owns.
const RUN: u32 = 8;

/// Workgroups for tiles of `channels`, each of which takes `others`: four channels a tile, or fewer where the
/// launch would have less than 128 workgroups.
fn tiles(channels: u32, others: u32) -> [u32; 3] {
    let enough = |tile: &u32| *tile == 1 || channels.div_ceil(*tile) * others >= 128;
    let tile = [4, 2, 1].into_iter().find(enough).unwrap_or(1);
    [channels.div_ceil(tile) * others, 1, 1]
}

fn by_output(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    tiles(p.cout, p.blocks() as u32)
}
fn by_input(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    tiles(p.cin, p.blocks() as u32)
}
fn by_weight(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    tiles(p.cout, p.chunks() as u32 * p.cin * p.k.div_ceil(RUN))
}
fn by_row(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    [p.blocks() as u32 * p.cout, 1, 1]
}
fn by_channel(p: &Params) -> [u32; 3] {
    [p.get::<ConvBlockParams>().cout.div_ceil(PER_CHANNEL), 1, 1]
}

// ------------------------------------------------------------------ how the CUDA twins cut their work

/// Threads of a block.
const BLOCK: u32 = 128;
/// Float4s in the line of sixteen samples.
const QUADS: u32 = 4;
/// Float4s of shared memory for the runs of channels.
const STAGE: u32 = 2048;
/// Blocks of the weight gradient that a launch should have.
const SHARES: u32 = 256;
/// Most slices of a tile of it.
const SLICES: u32 = 192;
/// Blocks of the input's gradient from which on each takes all residues.
const ENOUGH: u32 = 264;
/// Floats that make the gradient of a channel's convolution.
const CONSTANTS: u32 = 8;
/// Bytes of a float4.
const FLOAT4: u32 = 16;

/// The least power of two that is `n` or more, at most `most`.
fn power(n: u32, most: u32) -> u32 {
    n.next_power_of_two().min(most)
}

/// Tiles of [`FWD`]; `kernels/conv_block.cu` says what the members are.
struct Fwd {
    tiles: u32,
    across: u32,
    shared: u32,
}

impl Fwd {
    fn of(p: &ConvBlockParams) -> Self {
        let per = if p.cout > 16 { 8 } else { 4 };
        let groups = power(p.cout.div_ceil(per), 4);
        let rows = BLOCK / QUADS / groups;
        let taps = p.k.min(RUN);
        let step = p.stride.min(taps);
        let reach = (rows - 1) * step + taps;
        let a_channel = reach * QUADS + 1 + taps * per * groups / 4;
        let channels = (STAGE / a_channel).max(1).min(p.cin);
        Self {
            tiles: p.tout.div_ceil(rows),
            across: p.cout.div_ceil(per * groups),
            shared: channels * a_channel * FLOAT4,
        }
    }
}

/// Tiles of the weight gradient, as [`Fwd`].
struct Dw {
    tiles: u32,
    slices: u32,
    weights: u32,
    shared: u32,
}

impl Dw {
    fn of(p: &ConvBlockParams) -> Self {
        let quads = power(p.cout.div_ceil(4), if p.cout < 32 { 2 } else { 4 });
        let ins = power(p.cin, if p.cin < 16 { 4 } else { 8 });
        let taps = p.k.min(RUN);
        let step = p.stride.min(taps);
        let spots = if step > 3 {
            8
        } else if quads * ins == 1 {
            32
        } else {
            16
        };
        let reach = (spots - 1) * step + taps;
        let tiles = p.cout.div_ceil(4 * quads) * p.cin.div_ceil(ins) * p.k.div_ceil(RUN);
        let stages = p.blocks() as u32 * p.tout.div_ceil(spots);
        let each = stages.div_ceil((SHARES / tiles).clamp(1, SLICES));
        let staged = 4 * quads * (spots * QUADS + 1 + CONSTANTS / 4) + ins * (reach * QUADS + 2);
        let sums = BLOCK / 32 * RUN * quads * ins;
        Self {
            tiles,
            slices: stages.div_ceil(each),
            weights: taps * quads * ins,
            shared: staged.max(sums) * FLOAT4,
        }
    }
}

/// Tiles of the gradient of the input, as [`Fwd`].
struct Dx {
    tiles: u32,
    turns: u32,
    across: u32,
    shared: u32,
}

impl Dx {
    fn of(p: &ConvBlockParams) -> Self {
        let groups = power(p.cin.div_ceil(4), 4);
        let rows = BLOCK / QUADS / groups;
        let tiles = p.t.div_ceil(p.stride).div_ceil(rows);
        let across = p.cin.div_ceil(4 * groups);
        let enough = p.blocks() as u32 * tiles * across >= ENOUGH;
        let residues = if p.stride <= 3 && enough { p.stride } else { 1 };
        let turns = if residues == 1 { p.stride.min(p.t) } else { 1 };
        let taps = p.k.div_ceil(p.stride).min(RUN);
        let a_channel = (rows + taps - 1) * QUADS + taps * residues * groups + CONSTANTS / 4;
        let channels = (STAGE / a_channel).max(1).min(p.cout);
        Self { tiles, turns, across, shared: channels * a_channel * FLOAT4 }
    }
}

fn fwd_blocks(p: &Params) -> [u32; 3] {
    let p: ConvBlockParams = p.get();
    let f = Fwd::of(&p);
    [p.blocks() as u32 * f.tiles * f.across, 1, 1]
}
fn dw_blocks(p: &Params) -> [u32; 3] {
    let d = Dw::of(&p.get());
    [d.tiles * d.slices, 1, 1]
}
fn bwd_blocks(p: &Params) -> [u32; 3] {
    let d = Dx::of(&p.get());
    [dw_blocks(p)[0] + p.get::<ConvBlockParams>().blocks() as u32 * d.tiles * d.turns * d.across, 1, 1]
}

/// Workgroups of 256 threads for `weights`, then for `channels`, a thread each.
fn by_sum(weights: u32, channels: u32) -> [u32; 3] {
    [weights.div_ceil(256) + channels.div_ceil(256), 1, 1]
}

// Shorthand for the rows below: most bindings are inputs.
const fn i(name: &'static str) -> Binding {
    Binding::input(name)
}
const fn o(name: &'static str) -> Binding {
    Binding::output(name)
}

/// `y[c,t] = Σ_{i,k} w[c,i,k]·a[i, t·stride + k]` and its `norm`: with `train` from the batch's statistics, which
/// also move the running ones (unbiased variance, as PyTorch), else from the running statistics.
pub static FWD: Kernel = kernel(
    "conv_block_fwd",
    &[
        i("x"),
        i("norm_in"),
        i("weight"),
        i("gamma"),
        i("beta"),
        Binding::inout("running_mean"),
        Binding::inout("running_var"),
        o("y"),
        o("part"),
        o("norm"),
    ],
    fwd_f32,
    plain::fwd,
    &[by_output, by_channel],
    Cuda::new(BLOCK, fwd_blocks).shared(|p| Fwd::of(&p.get()).shared).ticket(),
    |p| ConvBlockParams::cost(p, |m| 2 * m, 1, 1),
);

/// `embedding[b,c] = mean over valid t of max(0, scale·y + shift)`; `lengths [B]` counts valid frames.
pub static POOL_FWD: Kernel = kernel(
    "conv_block_pool_fwd",
    &[i("y"), i("norm"), i("lengths"), o("embedding")],
    pool_fwd_f32,
    plain::pool_fwd,
    &[by_row],
    Cuda::new(BLOCK, by_row),
    |p| {
        ConvBlockParams::cost(
            p,
            |_| 3 * p.get::<ConvBlockParams>().sample().1 * p.get::<ConvBlockParams>().batch as usize,
            0,
            1,
        )
    },
);

/// `da[b,c,t] = d_embedding[b,c]/length` in valid frames, else 0; and what the normalisation makes of it:
/// `dgamma = Σ dz·(y−μ)/σ`, `dbeta = Σ dz`, and `back`.
pub static POOL_BWD: Kernel = kernel(
    "conv_block_pool_bwd",
    &[
        i("d_embedding"),
        i("y"),
        i("norm"),
        i("lengths"),
        o("da"),
        o("part"),
        o("dgamma"),
        o("dbeta"),
        o("back"),
    ],
    pool_bwd_f32,
    plain::pool_bwd,
    &[by_row, by_channel],
    Cuda::new(BLOCK, by_row).ticket(),
    |p| {
        ConvBlockParams::cost(
            p,
            |_| 5 * p.get::<ConvBlockParams>().sample().1 * p.get::<ConvBlockParams>().batch as usize,
            0,
            2,
        )
    },
);

/// Both gradients of the convolution, `da_in[i,s] = Σ_{c,k: t·stride+k=s} w[c,i,k]·dy[c,t]` and `dw`, and those of the
/// normalisation of the layer before. Where the input is no layer's `y` (`affine` is 0), `dgamma_in`, `dbeta_in` and
/// `back_in` are one element, set to 0.
pub static BWD: Kernel = kernel(
    "conv_block_bwd",
    &[
        i("da"),
        i("y"),
        i("back"),
        i("x"),
        i("norm_in"),
        i("weight"),
        o("da_in"),
        o("part"),
        o("dw"),
        o("dgamma_in"),
        o("dbeta_in"),
        o("back_in"),
    ],
    bwd_f32,
    plain::bwd,
    &[
        |p| [by_weight(p)[0] + by_input(p)[0], 1, 1],
        |p| {
            let p: ConvBlockParams = p.get();
            by_sum(p.weights() as u32, p.cin)
        },
    ],
    Cuda::new(BLOCK, bwd_blocks)
        .shared(|p| Dw::of(&p.get()).shared.max(Dx::of(&p.get()).shared))
        .tickets(|p| Dw::of(&p.get()).tiles + 1),
    |p| ConvBlockParams::cost(p, |m| 4 * m, 2, 2),
);

/// As [`BWD`] for an input that takes no gradient: `dw[c,i,k] = Σ_{b,t} dy[c,t]·a[i, t·stride + k]`.
pub static BWD_W: Kernel = kernel(
    "conv_block_bwd_w",
    &[i("da"), i("y"), i("back"), i("x"), i("norm_in"), o("part"), o("dw")],
    bwd_w_f32,
    plain::bwd_w,
    &[by_weight, |p| by_sum(p.get::<ConvBlockParams>().weights() as u32, 0)],
    Cuda::new(BLOCK, dw_blocks).shared(|p| Dw::of(&p.get()).shared).tickets(|p| Dw::of(&p.get()).tiles),
    |p| ConvBlockParams::cost(p, |m| 2 * m, 1, 2),
);

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &POOL_FWD, &POOL_BWD, &BWD, &BWD_W];

// ------------------------------------------------------------------ what ends a launch, any float

/// Merges the blocks' statistics into `norm` and moves the running statistics.
fn batch_norm<F: Real>(
    p: &ConvBlockParams,
    part: &[F],
    affine: [&[F]; 2],
    running: [&mut [F]; 2],
    norm: &mut [F],
) {
    let c = p.cout as usize;
    let ([gamma, beta], [running_mean, running_var]) = (affine, running);
    for ch in 0..c {
        let (mut n, mut mean, mut m2) = (0.0, 0.0, 0.0);
        for (b, block) in part[..p.blocks() * 2 * c].chunks_exact(2 * c).enumerate() {
            let nb = (p.lanes(b) * p.tout as usize) as f64;
            let delta = block[ch].get() / nb - mean;
            mean += delta * nb / (n + nb);
            m2 += block[c + ch].get() + delta * delta * n * nb / (n + nb);
            n += nb;
        }
        let inv = 1.0 / (m2 / n + f64::from(p.eps)).sqrt();
        let scale = gamma[ch].get() * inv;
        norm[ch] = F::of(scale);
        norm[c + ch] = F::of(beta[ch].get() - mean * scale);
        norm[2 * c + ch] = F::of(mean);
        norm[3 * c + ch] = F::of(inv);
        let m = f64::from(p.momentum);
        running_mean[ch] = F::of((1.0 - m) * running_mean[ch].get() + m * mean);
        running_var[ch] = F::of((1.0 - m) * running_var[ch].get() + m * m2 / (n - 1.0));
    }
}

/// `norm` from the running statistics.
fn running_norm<F: Real>(
    p: &ConvBlockParams,
    [gamma, beta]: [&[F]; 2],
    [mean, var]: [&mut [F]; 2],
    norm: &mut [F],
) {
    let c = p.cout as usize;
    for ch in 0..c {
        let inv = 1.0 / (var[ch].get() + f64::from(p.eps)).sqrt();
        let scale = gamma[ch].get() * inv;
        norm[ch] = F::of(scale);
        norm[c + ch] = F::of(beta[ch].get() - mean[ch].get() * scale);
        norm[2 * c + ch] = mean[ch];
        norm[3 * c + ch] = F::of(inv);
    }
}

/// Merges the blocks' `Σ dz`, `Σ dz·(y − μ)` over a map of `c` channels and `t` frames into `dgamma`, `dbeta`, `back`.
fn batch_norm_bwd<F: Real>(
    p: &ConvBlockParams,
    [c, t]: [usize; 2],
    part: &[F],
    norm: &[F],
    out: [&mut [F]; 3],
) {
    let [dgamma, dbeta, back] = out;
    let count = f64::from(p.batch) * t as f64;
    back[..4 * c].copy_from_slice(norm);
    for ch in 0..c {
        let (mut dz, mut dzy) = (0.0, 0.0);
        for block in part[..p.blocks() * 2 * c].chunks_exact(2 * c) {
            dz += block[ch].get();
            dzy += block[c + ch].get();
        }
        let (scale, inv) = (norm[ch].get(), norm[3 * c + ch].get());
        dgamma[ch] = F::of(dzy * inv);
        dbeta[ch] = F::of(dz);
        back[4 * c + ch] = F::of(-scale * inv * inv * dzy / count);
        back[5 * c + ch] = F::of(-scale * dz / count);
    }
}

/// The same of the layer before, from the scratch of [`BWD`]; zeros where there is none.
fn batch_norm_bwd_in<F: Real>(p: &ConvBlockParams, part: &[F], norm_in: &[F], out: [&mut [F]; 3]) {
    if p.affine == 0 {
        out.into_iter().for_each(|o| o.fill(F::zero()));
    } else {
        let dims = [p.cin as usize, p.t as usize];
        batch_norm_bwd(p, dims, &part[p.chunks() * p.weights()..], norm_in, out);
    }
}

/// `dw = Σ_chunks`, in order.
fn sum_weights<F: Real>(p: &ConvBlockParams, part: &[F], dw: &mut [F]) {
    let n = dw.len();
    dw.copy_from_slice(&part[..n]);
    for chunk in part[n..p.chunks() * n].chunks_exact(n) {
        for (dw, &v) in dw.iter_mut().zip(chunk) {
            *dw += v;
        }
    }
}

// ------------------------------------------------------------------ f64: plain loops, the oracle

mod plain {
    use super::*;

    /// Address of (sample, channel, frame) in a map of `c` channels and `t` frames.
    fn at(c: usize, t: usize, [b, ch, f]: [usize; 3]) -> usize {
        (((b / LANES) * c + ch) * t + f) * LANES + b % LANES
    }

    struct Dims {
        b: usize,
        cin: usize,
        t: usize,
        cout: usize,
        tout: usize,
        k: usize,
        stride: usize,
    }

    fn dims(p: &ConvBlockParams) -> Dims {
        let [b, cin, t, cout, tout, k, stride] =
            [p.batch, p.cin, p.t, p.cout, p.tout, p.k, p.stride].map(|v| v as usize);
        Dims { b, cin, t, cout, tout, k, stride }
    }

    /// An input element as the convolution sees it.
    fn seen<F: Real>(p: &ConvBlockParams, v: F, norm: &[F], ch: usize) -> F {
        if p.affine == 0 { v } else { (norm[ch] * v + norm[p.cin as usize + ch]).max(F::zero()) }
    }

    pub fn fwd<F: Real>(args: Args<'_, F>) {
        let p: ConvBlockParams = args.params();
        let d = dims(&p);
        let [x, norm_in, w, gamma, beta, running_mean, running_var, y, part, norm] = args.bufs();
        let (x, norm_in, w, y, part) = (x.input(), norm_in.input(), w.input(), y.output(), part.output());
        let affine = [gamma.input(), beta.input()];
        let running = [running_mean.output(), running_var.output()];
        y.fill(F::zero());
        for b in 0..d.b {
            for c in 0..d.cout {
                for t in 0..d.tout {
                    let mut sum = F::zero();
                    for i in 0..d.cin {
                        for k in 0..d.k {
                            let v = x[at(d.cin, d.t, [b, i, t * d.stride + k])];
                            sum += w[(c * d.cin + i) * d.k + k] * seen(&p, v, norm_in, i);
                        }
                    }
                    y[at(d.cout, d.tout, [b, c, t])] = sum;
                }
            }
        }
        if p.train == 0 {
            return running_norm(&p, affine, running, norm.output());
        }
        for block in 0..p.blocks() {
            for c in 0..d.cout {
                let values = || {
                    (0..p.lanes(block)).flat_map(move |l| (0..d.tout).map(move |t| [block * LANES + l, c, t]))
                };
                let sum: F = values().map(|i| y[at(d.cout, d.tout, i)]).sum();
                let mean = sum / F::of((p.lanes(block) * d.tout) as f64);
                part[block * 2 * d.cout + c] = sum;
                part[block * 2 * d.cout + d.cout + c] =
                    values().map(|i| (y[at(d.cout, d.tout, i)] - mean).powi(2)).sum();
            }
        }
        batch_norm(&p, part, affine, running, norm.output());
    }

    fn valid<F: Real>(p: &ConvBlockParams, lengths: &[F], b: usize) -> usize {
        if p.affine == 0 { p.tout as usize } else { (lengths[b].get() as usize).clamp(1, p.tout as usize) }
    }

    pub fn pool_fwd<F: Real>(args: Args<'_, F>) {
        let p: ConvBlockParams = args.params();
        let d = dims(&p);
        let [y, norm, lengths, out] = args.bufs();
        let (y, norm, lengths, out) = (y.input(), norm.input(), lengths.input(), out.output());
        for b in 0..d.b {
            let n = valid(&p, lengths, b);
            for c in 0..d.cout {
                let sum: F = (0..n)
                    .map(|t| (norm[c] * y[at(d.cout, d.tout, [b, c, t])] + norm[d.cout + c]).max(F::zero()))
                    .sum();
                out[b * d.cout + c] = sum / F::of(n as f64);
            }
        }
    }

    pub fn pool_bwd<F: Real>(args: Args<'_, F>) {
        let p: ConvBlockParams = args.params();
        let d = dims(&p);
        let [g, y, norm, lengths, da, part, dgamma, dbeta, back] = args.bufs();
        let (g, y, norm, lengths) = (g.input(), y.input(), norm.input(), lengths.input());
        let (da, part) = (da.output(), part.output());
        let out = [dgamma.output(), dbeta.output(), back.output()];
        da.fill(F::zero());
        for b in 0..d.b {
            let n = valid(&p, lengths, b);
            for c in 0..d.cout {
                for t in 0..n {
                    da[at(d.cout, d.tout, [b, c, t])] = g[b * d.cout + c] / F::of(n as f64);
                }
            }
        }
        sums(&p, [d.cout, d.tout], da, y, norm, part);
        batch_norm_bwd(&p, [d.cout, d.tout], part, norm, out);
    }

    /// `Σ dz` and `Σ dz·(y − μ)` of each block.
    fn sums<F: Real>(p: &ConvBlockParams, [c, t]: [usize; 2], da: &[F], y: &[F], norm: &[F], part: &mut [F]) {
        part[..p.blocks() * 2 * c].fill(F::zero());
        for b in 0..p.batch as usize {
            for ch in 0..c {
                for f in 0..t {
                    let i = at(c, t, [b, ch, f]);
                    if norm[ch] * y[i] + norm[c + ch] > F::zero() {
                        part[b / LANES * 2 * c + ch] += da[i];
                        part[b / LANES * 2 * c + c + ch] += da[i] * (y[i] - norm[2 * c + ch]);
                    }
                }
            }
        }
    }

    /// The gradient with respect to the convolution's output.
    fn dy<F: Real>(p: &ConvBlockParams, da: &[F], y: &[F], back: &[F]) -> Vec<F> {
        let d = dims(p);
        let mut dy = vec![F::zero(); y.len()];
        let of = |what: usize, c: usize| back[what * d.cout + c];
        for b in 0..d.b {
            for c in 0..d.cout {
                for t in 0..d.tout {
                    let i = at(d.cout, d.tout, [b, c, t]);
                    let dz = if of(0, c) * y[i] + of(1, c) > F::zero() { da[i] } else { F::zero() };
                    dy[i] = of(0, c) * dz + of(4, c) * (y[i] - of(2, c)) + of(5, c);
                }
            }
        }
        dy
    }

    fn weights<F: Real>(p: &ConvBlockParams, dy: &[F], x: &[F], norm_in: &[F], part: &mut [F]) {
        let d = dims(p);
        part[..p.chunks() * p.weights()].fill(F::zero());
        for b in 0..d.b {
            let chunk = &mut part[b / LANES / p.chunk() * p.weights()..];
            for c in 0..d.cout {
                for i in 0..d.cin {
                    for k in 0..d.k {
                        let sum: F = (0..d.tout)
                            .map(|t| {
                                let v = x[at(d.cin, d.t, [b, i, t * d.stride + k])];
                                dy[at(d.cout, d.tout, [b, c, t])] * seen(p, v, norm_in, i)
                            })
                            .sum();
                        chunk[(c * d.cin + i) * d.k + k] += sum;
                    }
                }
            }
        }
    }

    pub fn bwd_w<F: Real>(args: Args<'_, F>) {
        let p: ConvBlockParams = args.params();
        let [da, y, back, x, norm_in, part, dw] = args.bufs();
        let dy = dy(&p, da.input(), y.input(), back.input());
        let part = part.output();
        weights(&p, &dy, x.input(), norm_in.input(), part);
        sum_weights(&p, part, dw.output());
    }

    pub fn bwd<F: Real>(args: Args<'_, F>) {
        let p: ConvBlockParams = args.params();
        let d = dims(&p);
        let [da, y, back, x, norm_in, w, da_in, part, dw, dgamma_in, dbeta_in, back_in] = args.bufs();
        let (x, norm_in, w, da_in, part) =
            (x.input(), norm_in.input(), w.input(), da_in.output(), part.output());
        let dy = dy(&p, da.input(), y.input(), back.input());
        weights(&p, &dy, x, norm_in, part);
        sum_weights(&p, part, dw.output());
        da_in.fill(F::zero());
        for b in 0..d.b {
            for c in 0..d.cout {
                for i in 0..d.cin {
                    for t in 0..d.tout {
                        for k in 0..d.k {
                            da_in[at(d.cin, d.t, [b, i, t * d.stride + k])] +=
                                w[(c * d.cin + i) * d.k + k] * dy[at(d.cout, d.tout, [b, c, t])];
                        }
                    }
                }
            }
        }
        if p.affine != 0 {
            sums(&p, [d.cin, d.t], da_in, x, norm_in, &mut part[p.chunks() * p.weights()..]);
        }
        batch_norm_bwd_in(&p, part, norm_in, [dgamma_in.output(), dbeta_in.output(), back_in.output()]);
    }
}

// ------------------------------------------------------------------ f32: sixteen samples at a time

/// 1 in lanes that hold a sample of block `i`, else 0.
fn mask(p: &ConvBlockParams, i: usize) -> [f32; LANES] {
    std::array::from_fn(|l| f32::from(u8::from(l < p.lanes(i))))
}

/// `out = max(0, scale·x + shift)` over the channels of one block.
#[inline(always)]
unsafe fn activate<V: F32x16>(x: &[f32], norm: &[f32], out: &mut [f32], channels: usize) {
    let row = x.len() / channels;
    // SAFETY: rows of whole vectors; zip keeps both in step.
    unsafe {
        let zero = V::splat(0.0);
        for ch in 0..channels {
            let (scale, shift) = (V::splat(norm[ch]), V::splat(norm[channels + ch]));
            let (x, out) = (&x[ch * row..(ch + 1) * row], &mut out[ch * row..(ch + 1) * row]);
            for (x, out) in x.chunks_exact(LANES).zip(out.chunks_exact_mut(LANES)) {
                V::load(x.as_ptr()).mul_add(scale, shift).max(zero).store(out.as_mut_ptr());
            }
        }
    }
}

fn fwd_f32(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [x, norm_in, w, gamma, beta, running_mean, running_var, y, part, norm] = args.bufs();
    let (x, norm_in, w, part) = (x.input(), norm_in.input(), w.input(), part.output());
    let (affine, running) = ([gamma.input(), beta.input()], [running_mean.output(), running_var.output()]);
    let (sx, sy) = p.sample();
    let terms = (p.cin * p.k) as usize;
    with_scratch(p.weights(), |packed: &mut [f32]| {
        pack_weights(packed, p.cout as usize, terms, |c, q| w[c * terms + q]);
        let packed = &*packed;
        work.pieces2((y.output(), sy * LANES), (&mut *part, 2 * p.cout as usize), |i, y, part| {
            let x = &x[i * sx * LANES..(i + 1) * sx * LANES];
            with_scratch(if p.affine == 0 { 0 } else { sx * LANES }, |a: &mut [f32]| {
                fwd_block(work.simd, &p, x, norm_in, packed, a, &mask(&p, i), y, part);
            });
        });
    });
    if p.train == 0 {
        running_norm(&p, affine, running, norm.output());
    } else {
        batch_norm(&p, part, affine, running, norm.output());
    }
}

dispatch! {
    fn fwd_block(p: &ConvBlockParams, x: &[f32], norm: &[f32], w: &[f32], a: &mut [f32], mask: &[f32; LANES],
        y: &mut [f32], part: &mut [f32]) = fwd_block_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn fwd_block_body<V: F32x16>(
    p: &ConvBlockParams,
    x: &[f32],
    norm: &[f32],
    w: &[f32],
    a: &mut [f32],
    mask: &[f32; LANES],
    y: &mut [f32],
    part: &mut [f32],
) {
    let [cin, t, cout, tout, k, stride] = [p.cin, p.t, p.cout, p.tout, p.k, p.stride].map(|v| v as usize);
    assert!(x.len() == cin * t * LANES && y.len() == cout * tout * LANES && (tout - 1) * stride + k <= t);
    // SAFETY: the assertion bounds every address of `rows`; the rest are whole vectors of slices.
    unsafe {
        let input = if p.affine == 0 {
            x
        } else {
            activate::<V>(x, norm, a, cin);
            &*a
        };
        let rows = Rows {
            channels: cin,
            taps: k,
            in_c: t * LANES,
            in_k: LANES as isize,
            in_t: stride * LANES,
            out_channels: cout,
            out_c: tout * LANES,
            out_t: LANES,
            positions: tout,
        };
        conv_rows::<V>(&rows, w, input.as_ptr(), y.as_mut_ptr());
        if p.train == 0 {
            return;
        }
        let mask = V::load(mask.as_ptr());
        let count = mask.sum() * tout as f32;
        for (c, row) in y.chunks_exact(tout * LANES).enumerate() {
            let sum = total::<V>(row, |v| v.mul(mask));
            let mean = V::splat(sum / count);
            part[c] = sum;
            part[cout + c] = total::<V>(row, |v| {
                let d = v.sub(mean).mul(mask);
                d.mul(d)
            });
        }
    }
}

/// The sum of `f` over a row of vectors, in four running sums.
#[inline(always)]
unsafe fn total<V: F32x16>(row: &[f32], f: impl Fn(V) -> V) -> f32 {
    // SAFETY: whole vectors of the slice.
    unsafe {
        let mut acc = [V::splat(0.0); 4];
        let mut fours = row.chunks_exact(4 * LANES);
        for four in &mut fours {
            for (i, acc) in acc.iter_mut().enumerate() {
                *acc = acc.add(f(V::load(four.as_ptr().add(i * LANES))));
            }
        }
        for one in fours.remainder().chunks_exact(LANES) {
            acc[0] = acc[0].add(f(V::load(one.as_ptr())));
        }
        acc[0].add(acc[1]).add(acc[2].add(acc[3])).sum()
    }
}

/// Valid frames of each lane of block `i`.
fn lengths_of(p: &ConvBlockParams, lengths: &[f32], i: usize) -> [f32; LANES] {
    std::array::from_fn(|l| {
        let b = i * LANES + l;
        if p.affine == 0 || b >= p.batch as usize {
            p.tout as f32
        } else {
            lengths[b].clamp(1.0, p.tout as f32)
        }
    })
}

fn pool_fwd_f32(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [y, norm, lengths, out] = args.bufs();
    let (y, norm, lengths) = (y.input(), norm.input(), lengths.input());
    let sy = p.sample().1;
    work.pieces(out.output(), LANES * p.cout as usize, |i, out| {
        let y = &y[i * sy * LANES..(i + 1) * sy * LANES];
        pool_fwd_block(work.simd, &p, y, norm, &lengths_of(&p, lengths, i), out);
    });
}

dispatch! { fn pool_fwd_block(p: &ConvBlockParams, y: &[f32], norm: &[f32], n: &[f32; LANES], out: &mut [f32]) = pool_fwd_body }

#[inline(always)]
unsafe fn pool_fwd_body<V: F32x16>(
    p: &ConvBlockParams,
    y: &[f32],
    norm: &[f32],
    n: &[f32; LANES],
    out: &mut [f32],
) {
    let c = p.cout as usize;
    // SAFETY: whole vectors of slices and arrays.
    unsafe {
        let (zero, length) = (V::splat(0.0), V::load(n.as_ptr()));
        for (ch, row) in y.chunks_exact(p.tout as usize * LANES).enumerate() {
            let (scale, shift) = (V::splat(norm[ch]), V::splat(norm[c + ch]));
            let mut sum = zero;
            for (t, v) in row.chunks_exact(LANES).enumerate() {
                let a = V::load(v.as_ptr()).mul_add(scale, shift).max(zero);
                sum = sum.add(length.if_gt(V::splat(t as f32), a, zero));
            }
            let mut mean = [0.0; LANES];
            sum.div(length).store(mean.as_mut_ptr());
            for (b, row) in out.chunks_exact_mut(c).enumerate() {
                row[ch] = mean[b];
            }
        }
    }
}

fn pool_bwd_f32(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [g, y, norm, lengths, da, part, dgamma, dbeta, back] = args.bufs();
    let (g, y, norm, lengths, part) = (g.input(), y.input(), norm.input(), lengths.input(), part.output());
    let (c, sy) = (p.cout as usize, p.sample().1);
    work.pieces2((da.output(), sy * LANES), (&mut *part, 2 * c), |i, da, part| {
        let y = &y[i * sy * LANES..(i + 1) * sy * LANES];
        let g = &g[i * LANES * c..i * LANES * c + p.lanes(i) * c];
        pool_bwd_block(work.simd, &p, g, y, norm, &lengths_of(&p, lengths, i), da, part);
    });
    let out = [dgamma.output(), dbeta.output(), back.output()];
    batch_norm_bwd(&p, [c, p.tout as usize], part, norm, out);
}

dispatch! {
    fn pool_bwd_block(p: &ConvBlockParams, g: &[f32], y: &[f32], norm: &[f32], n: &[f32; LANES], da: &mut [f32], part: &mut [f32]) = pool_bwd_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn pool_bwd_body<V: F32x16>(
    p: &ConvBlockParams,
    g: &[f32],
    y: &[f32],
    norm: &[f32],
    n: &[f32; LANES],
    da: &mut [f32],
    part: &mut [f32],
) {
    let (c, tout) = (p.cout as usize, p.tout as usize);
    // SAFETY: whole vectors of slices and arrays.
    unsafe {
        let (zero, length) = (V::splat(0.0), V::load(n.as_ptr()));
        for ch in 0..c {
            // Lanes beyond the batch get no gradient.
            let share: [f32; LANES] = std::array::from_fn(|l| g.get(l * c + ch).map_or(0.0, |g| g / n[l]));
            let share = V::load(share.as_ptr());
            let row = &mut da[ch * tout * LANES..(ch + 1) * tout * LANES];
            for (t, v) in row.chunks_exact_mut(LANES).enumerate() {
                length.if_gt(V::splat(t as f32), share, zero).store(v.as_mut_ptr());
            }
        }
        part_sums::<V>([c, tout], da, y, norm, part);
    }
}

/// `Σ dz` and `Σ dz·(y − μ)` of one block; lanes beyond the batch hold `da = 0`.
#[inline(always)]
unsafe fn part_sums<V: F32x16>([c, t]: [usize; 2], da: &[f32], y: &[f32], norm: &[f32], part: &mut [f32]) {
    // SAFETY: whole vectors of slices.
    unsafe {
        let zero = V::splat(0.0);
        for ch in 0..c {
            let (scale, shift) = (V::splat(norm[ch]), V::splat(norm[c + ch]));
            let mean = V::splat(norm[2 * c + ch]);
            let (mut dz_sum, mut dzy_sum) = ([zero; 2], [zero; 2]);
            let (da, y) =
                (&da[ch * t * LANES..(ch + 1) * t * LANES], &y[ch * t * LANES..(ch + 1) * t * LANES]);
            for (i, (da, y)) in da.chunks_exact(LANES).zip(y.chunks_exact(LANES)).enumerate() {
                let y = V::load(y.as_ptr());
                let dz = y.mul_add(scale, shift).if_gt(zero, V::load(da.as_ptr()), zero);
                dz_sum[i % 2] = dz_sum[i % 2].add(dz);
                dzy_sum[i % 2] = dz.mul_add(y.sub(mean), dzy_sum[i % 2]);
            }
            part[ch] = dz_sum[0].add(dz_sum[1]).sum();
            part[c + ch] = dzy_sum[0].add(dzy_sum[1]).sum();
        }
    }
}

/// Frames of zeros before and after each row of `dy`, so that the gather of `da_in` needs no edges.
fn margins(p: &ConvBlockParams) -> (usize, usize) {
    let longest = (p.k as usize).div_ceil(p.stride as usize);
    let positions = (p.t as usize).div_ceil(p.stride as usize);
    (longest - 1, positions.saturating_sub(p.tout as usize))
}

/// What both backward kernels read.
struct Back<'a> {
    da: &'a [f32],
    y: &'a [f32],
    back: &'a [f32],
    x: &'a [f32],
    norm_in: &'a [f32],
}

impl<'a> Back<'a> {
    /// The same of block `i` alone.
    fn block(&self, p: &ConvBlockParams, i: usize) -> Back<'a> {
        let (sx, sy) = p.sample();
        let y = i * sy * LANES..(i + 1) * sy * LANES;
        Back {
            da: &self.da[y.clone()],
            y: &self.y[y],
            x: &self.x[i * sx * LANES..(i + 1) * sx * LANES],
            ..*self
        }
    }
}

/// Floats of scratch for one block: the activated input and the padded `dy`.
fn scratch_len(p: &ConvBlockParams) -> (usize, usize) {
    let (before, after) = margins(p);
    ((p.cin * p.t) as usize * LANES, p.cout as usize * (before + p.tout as usize + after) * LANES)
}

fn bwd_w_f32(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [da, y, back, x, norm_in, part, dw] = args.bufs();
    let all =
        Back { da: da.input(), y: y.input(), back: back.input(), x: x.input(), norm_in: norm_in.input() };
    let (a_len, dy_len) = scratch_len(&p);
    let part = part.output();
    work.pieces(&mut part[..p.chunks() * p.weights()], p.weights(), |chunk, dw| {
        with_scratch(a_len + dy_len + p.weights() * LANES, |scratch: &mut [f32]| {
            let (a, rest) = scratch.split_at_mut(a_len);
            let (dy, acc) = rest.split_at_mut(dy_len);
            acc.fill(0.0);
            for i in chunk * p.chunk()..((chunk + 1) * p.chunk()).min(p.blocks()) {
                bwd_w_block(work.simd, &p, &all.block(&p, i), &mask(&p, i), a, dy, acc);
            }
            fold(work.simd, &p, acc, dw);
        });
    });
    sum_weights(&p, part, dw.output());
}

dispatch! {
    fn bwd_w_block(p: &ConvBlockParams, b: &Back<'_>, mask: &[f32; LANES], a: &mut [f32], dy: &mut [f32], acc: &mut [f32])
        = bwd_w_body
}
dispatch! { fn fold(p: &ConvBlockParams, acc: &[f32], dw: &mut [f32]) = fold_body }

/// Lane sums of the weight gradient, in the weights' own order.
#[inline(always)]
unsafe fn fold_body<V: F32x16>(p: &ConvBlockParams, acc: &[f32], dw: &mut [f32]) {
    let terms = (p.cin * p.k) as usize;
    // SAFETY: the set is there.
    unsafe { sum_lanes::<V>(acc, p.cout as usize, terms, |c, q, sum| dw[c * terms + q] = sum) }
}

/// Makes `a` and the padded `dy` of one block and adds its weight gradient to `acc`.
#[inline(always)]
unsafe fn bwd_w_body<V: F32x16>(
    p: &ConvBlockParams,
    b: &Back<'_>,
    mask: &[f32; LANES],
    a: &mut [f32],
    dy: &mut [f32],
    acc: &mut [f32],
) {
    let [cin, t, cout, tout, k, stride] = [p.cin, p.t, p.cout, p.tout, p.k, p.stride].map(|v| v as usize);
    let (before, after) = margins(p);
    let row = (before + tout + after) * LANES;
    assert!(b.x.len() == cin * t * LANES && b.y.len() == cout * tout * LANES && b.da.len() == b.y.len());
    assert!(dy.len() == cout * row && (tout - 1) * stride + k <= t);
    // SAFETY: the assertions bound every address of `weight_rows`; the rest are whole vectors.
    unsafe {
        let (zero, mask) = (V::splat(0.0), V::load(mask.as_ptr()));
        for c in 0..cout {
            let (scale, shift, mean) =
                (V::splat(b.back[c]), V::splat(b.back[cout + c]), V::splat(b.back[2 * cout + c]));
            let (p, q) = (V::splat(b.back[4 * cout + c]), V::splat(b.back[5 * cout + c]));
            let out = &mut dy[c * row..(c + 1) * row];
            out[..before * LANES].fill(0.0);
            out[(before + tout) * LANES..].fill(0.0);
            let from = c * tout * LANES..(c + 1) * tout * LANES;
            let (da, y) = (b.da[from.clone()].chunks_exact(LANES), b.y[from].chunks_exact(LANES));
            for ((da, y), out) in da.zip(y).zip(out[before * LANES..].chunks_exact_mut(LANES)) {
                let y = V::load(y.as_ptr());
                let dz = y.mul_add(scale, shift).if_gt(zero, V::load(da.as_ptr()), zero);
                let g = dz.mul_add(scale, y.sub(mean).mul_add(p, q));
                g.mul(mask).store(out.as_mut_ptr());
            }
        }
        let input = if p.affine == 0 {
            b.x
        } else {
            activate::<V>(b.x, b.norm_in, a, cin);
            &*a
        };
        let rows = WeightRows {
            channels: cin,
            taps: k,
            in_c: t * LANES,
            in_k: LANES,
            in_t: stride * LANES,
            out_channels: cout,
            dy_c: row,
            dy_t: LANES,
            positions: tout,
        };
        weight_rows::<V>(&rows, input.as_ptr(), dy.as_ptr().add(before * LANES), acc);
    }
}

fn bwd_f32(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [da, y, back, x, norm_in, w, da_in, part, dw, dgamma_in, dbeta_in, back_in] = args.bufs();
    let all =
        Back { da: da.input(), y: y.input(), back: back.input(), x: x.input(), norm_in: norm_in.input() };
    let (w, part) = (w.input(), part.output());
    let sx = p.sample().0;
    let parts = 2 * p.cin as usize;
    let (dw_part, part_in) = part.split_at_mut(p.chunks() * p.weights());
    let (a_len, dy_len) = scratch_len(&p);
    with_scratch(p.weights(), |packed: &mut [f32]| {
        pack_flipped(&p, w, packed);
        let packed = &*packed;
        work.pieces3(
            (da_in.output(), p.chunk() * sx * LANES),
            (&mut part_in[..p.blocks() * parts], p.chunk() * parts),
            (dw_part, p.weights()),
            |chunk, da_in, part_in, dw| {
                with_scratch(a_len + dy_len + p.weights() * LANES, |scratch: &mut [f32]| {
                    let (a, rest) = scratch.split_at_mut(a_len);
                    let (dy, acc) = rest.split_at_mut(dy_len);
                    acc.fill(0.0);
                    let outs = da_in.chunks_exact_mut(sx * LANES).zip(part_in.chunks_exact_mut(parts));
                    for (j, (da_in, part_in)) in outs.enumerate() {
                        let i = chunk * p.chunk() + j;
                        let b = all.block(&p, i);
                        bwd_w_block(work.simd, &p, &b, &mask(&p, i), a, dy, acc);
                        bwd_x_block(work.simd, &p, &b, packed, dy, da_in, part_in);
                    }
                    fold(work.simd, &p, acc, dw);
                });
            },
        );
    });
    sum_weights(&p, part, dw.output());
    let out = [dgamma_in.output(), dbeta_in.output(), back_in.output()];
    batch_norm_bwd_in(&p, part, all.norm_in, out);
}

/// Taps of the kernel that reach positions `s ≡ residue` modulo the stride.
fn taps_of(p: &ConvBlockParams, residue: usize) -> usize {
    (p.k as usize).saturating_sub(residue).div_ceil(p.stride as usize)
}

/// Weights for the gather of `da_in`, residue by residue: output channels are the inputs, terms
/// are (output channel, tap of the residue).
fn pack_flipped(p: &ConvBlockParams, w: &[f32], packed: &mut [f32]) {
    let [cin, cout, k, stride] = [p.cin, p.cout, p.k, p.stride].map(|v| v as usize);
    let mut from = 0;
    for residue in 0..stride.min(k) {
        let taps = taps_of(p, residue);
        let terms = cout * taps;
        pack_weights(&mut packed[from..from + cin * terms], cin, terms, |i, q| {
            w[((q / taps) * cin + i) * k + residue + (q % taps) * stride]
        });
        from += cin * terms;
    }
}

dispatch! {
    fn bwd_x_block(p: &ConvBlockParams, b: &Back<'_>, packed: &[f32], dy: &[f32], da_in: &mut [f32],
        part_in: &mut [f32]) = bwd_x_body
}

/// `da_in[i, stride·j + r] = Σ_{c,m} w[c,i,r + stride·m]·dy[c, j − m]`: for each residue r a plain
/// convolution with the taps flipped, so each element is gathered once and written once.
#[inline(always)]
unsafe fn bwd_x_body<V: F32x16>(
    p: &ConvBlockParams,
    b: &Back<'_>,
    packed: &[f32],
    dy: &[f32],
    da_in: &mut [f32],
    part_in: &mut [f32],
) {
    let [cin, t, cout, tout, stride] = [p.cin, p.t, p.cout, p.tout, p.stride].map(|v| v as usize);
    let (before, after) = margins(p);
    let row = (before + tout + after) * LANES;
    assert!(dy.len() == cout * row && da_in.len() == cin * t * LANES);
    let mut from = 0;
    for residue in 0..stride.min(t) {
        let taps = taps_of(p, residue);
        let rows = Rows {
            channels: cout,
            taps,
            in_c: row,
            in_k: -(LANES as isize),
            in_t: LANES,
            out_channels: cin,
            out_c: t * LANES,
            out_t: stride * LANES,
            positions: (t - residue).div_ceil(stride),
        };
        // SAFETY: position j of tap m reads frame before + j − m, from 0 (j = 0, m = before) to
        // before + positions − 1 < before + tout + after; writes stay below t by `positions`.
        unsafe {
            let dy = dy.as_ptr().add(before * LANES);
            conv_rows::<V>(&rows, &packed[from..], dy, da_in.as_mut_ptr().add(residue * LANES));
        }
        from += cin * cout * taps;
    }
    if p.affine != 0 {
        // SAFETY: whole vectors of slices.
        unsafe { part_sums::<V>([cin, t], da_in, b.x, b.norm_in, part_in) }
    }
}
