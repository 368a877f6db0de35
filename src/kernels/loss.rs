//! Losses between predictions and targets: the mean times a weight, and its gradient, in one launch.
//!
//! Shapes: `p [n]`, `t [n]`, `loss [1]`, `dp [n]` for upstream 1, `part [⌈n/SPAN⌉]` the sums of each [`SPAN`] terms, `w [n]` a
//! weight for each term, of the kernel that takes any.
//!
//! Threads: one block owns [`SPAN`] terms, a thread four of them, and leaves their sum in `part`, which the last block (in
//! WGSL a second stage) adds up; up to [`SPAN`] terms, as long as a batch, are one block's. The sum has a fixed order: f32
//! (f64 on the oracle) within [`BLOCK`] terms, and f64 over the blocks on the CPU; a device without f64 adds in trees.
//!
//! Cost: a handful of flops an element, three passes over `n` elements.

use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Params, Real, SPAN, Twin, Workgroups, params, spans};
use std::ops::Range;

params! {
    /// Params of every kernel here.
    pub struct LossParams {
        /// Elements.
        pub n: u32,
        /// Factor of value and gradient.
        pub weight: f32,
    }
}

/// Terms added in the device's own precision.
pub const BLOCK: usize = 64;

const BINDINGS: &[Binding] = &[
    Binding::input("p"),
    Binding::input("t"),
    Binding::output("loss"),
    Binding::output("dp"),
    Binding::output("part"),
];

const WEIGHTED: &[Binding] = &[
    Binding::input("p"),
    Binding::input("t"),
    Binding::output("loss"),
    Binding::output("dp"),
    Binding::output("part"),
    Binding::input("w"),
];

/// Stage two adds up what several workgroups left.
const GROUPS: &[Workgroups] =
    &[|p| spans(p.get::<LossParams>().n), |p| [u32::from(p.get::<LossParams>().n > SPAN), 1, 1]];

/// Four terms a thread.
const CUDA: Cuda = Cuda::new(SPAN / 4, |p| spans(p.get::<LossParams>().n)).ticket();

fn cost(p: &Params, flops: usize) -> Cost {
    let n = p.get::<LossParams>().n as usize;
    Cost::new(flops * n, 3 * n + 1)
}

/// `f(p, t)` gives an element's loss and its derivative by `p`.
fn each<F: Real>(args: Args<'_, F>, f: impl Fn(F, F) -> (F, F)) {
    let params: LossParams = args.params();
    let [p, t, loss, dp, part] = args.bufs();
    let (p, t) = (p.input(), t.input());
    add_up(params, [loss.output(), dp.output(), part.output()], |block, slope, dp| {
        let mut sum = F::zero();
        for ((&p, &t), dp) in p[block.clone()].iter().zip(&t[block]).zip(dp) {
            let (value, d) = f(p, t);
            sum += value;
            *dp = slope * d;
        }
        sum
    });
}

/// `terms(block, slope, dp)` gives the sum of a block of terms, and writes their derivatives times `slope`.
fn add_up<F: Real>(
    params: LossParams,
    [loss, dp, part]: [&mut [F]; 3],
    terms: impl Fn(Range<usize>, F, &mut [F]) -> F,
) {
    let scale = f64::from(params.weight) / dp.len() as f64;
    let slope = F::of(scale);
    let mut total = 0.0;
    part.fill(F::zero());
    for (i, dp) in dp.chunks_mut(BLOCK).enumerate() {
        let first = i * BLOCK;
        let sum = terms(first..first + dp.len(), slope, dp);
        total += sum.get();
        part[first / SPAN as usize] += sum;
    }
    loss[0] = F::of(scale * total);
}

/// `loss = weight·mean (p − t)²`, `dp = weight·2(p − t)/n`.
pub static MSE: Kernel = Kernel {
    name: "loss_mse",
    bindings: BINDINGS,
    params: LossParams::LAYOUT,
    cpu: Twin { f32: mse, f64: mse },
    workgroups: GROUPS,
    cuda: CUDA,
    cost: |p| cost(p, 5),
};

fn mse<F: Real>(args: Args<'_, F>) {
    each(args, squared);
}

fn squared<F: Real>(p: F, t: F) -> (F, F) {
    let d = p - t;
    (d * d, d + d)
}

/// `loss = weight·Σ w(p − t)² / n`, `dp = weight·2w(p − t)/n`. What has the weight 0 adds nothing, whatever it is.
pub static MSE_WEIGHTED: Kernel = Kernel {
    name: "loss_mse_weighted",
    bindings: WEIGHTED,
    params: LossParams::LAYOUT,
    cpu: Twin { f32: mse_weighted, f64: mse_weighted },
    workgroups: GROUPS,
    cuda: CUDA,
    cost: |p| {
        let n = p.get::<LossParams>().n as usize;
        Cost::new(7 * n, 4 * n + 1)
    },
};

fn mse_weighted<F: Real>(args: Args<'_, F>) {
    let params: LossParams = args.params();
    let [p, t, loss, dp, part, w] = args.bufs();
    let (p, t, w) = (p.input(), t.input(), w.input());
    add_up(params, [loss.output(), dp.output(), part.output()], |block, slope, dp| {
        let mut sum = F::zero();
        for (i, dp) in block.zip(dp) {
            let (value, d) = match w[i] == F::zero() {
                true => (F::zero(), F::zero()),
                false => squared(p[i], t[i]),
            };
            sum += w[i] * value;
            *dp = slope * (w[i] * d);
        }
        sum
    });
}

/// `loss = −weight·mean (t·ln p + (1 − t)·ln(1 − p))` over probabilities, each logarithm at least −100;
/// `dp = weight·(p − t)/max(p(1 − p), 1e-12)/n`, both as PyTorch. `p` beyond [0, 1] counts as the nearer end.
pub static BCE: Kernel = Kernel {
    name: "loss_bce",
    bindings: BINDINGS,
    params: LossParams::LAYOUT,
    cpu: Twin { f32: bce, f64: bce },
    workgroups: GROUPS,
    cuda: CUDA,
    cost: |p| cost(p, 12),
};

fn bce<F: Real>(args: Args<'_, F>) {
    let (zero, one) = (F::zero(), F::one());
    let (floor, least) = (F::of(-100.0), F::of(f64::from(1e-12f32)));
    // PyTorch's constants, the second in f32 there too. Comparisons that let a NaN through, unlike `max`.
    let at_least = |v: F, low: F| if v < low { low } else { v };
    each(args, |p, t| {
        let p = if p > one { one } else { at_least(p, zero) };
        let (yes, no) = (at_least(p.ln(), floor), at_least((-p).ln_1p(), floor));
        (-(t * yes + (one - t) * no), (p - t) / at_least(p * (one - p), least))
    });
}

/// `loss = weight·mean (max(x, 0) − x·t + ln(1 + exp(−|x|)))`: binary cross-entropy of `sigmoid(x)`
/// for any finite logit `x`; `dp = weight·(sigmoid(x) − t)/n`.
pub static BCE_LOGITS: Kernel = Kernel {
    name: "loss_bce_logits",
    bindings: BINDINGS,
    params: LossParams::LAYOUT,
    cpu: Twin { f32: bce_logits, f64: bce_logits },
    workgroups: GROUPS,
    cuda: CUDA,
    cost: |p| cost(p, 14),
};

fn bce_logits<F: Real>(args: Args<'_, F>) {
    let zero = F::zero();
    each(args, |x, t| {
        let hinge = if x < zero { zero } else { x };
        (hinge - x * t + (-x.abs()).exp().ln_1p(), super::activation::sigmoid(x) - t)
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&MSE, &MSE_WEIGHTED, &BCE, &BCE_LOGITS];
