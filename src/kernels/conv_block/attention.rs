//! The mean over time, weighted by attention: on trial, on the CPU alone.
//!
//! With `a[c,t]` the activation of a layer and `q[c]` a learned query, a frame weighs `w = softmax_t(Σ_c q·a)`, and the embedding
//! is `Σ_t w·a`. A query of zeros is the even mean.

use super::norm::batch_norm_bwd;
use super::oracle::{activation, at, sums};
use super::params::ConvBlockParams;
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Real, Twin};

fn weights<F: Real>(a: &[F], q: &[F], t: usize) -> Vec<F> {
    let scores: Vec<F> =
        (0..t).map(|t0| q.iter().enumerate().map(|(c, &q)| q * a[c * t + t0]).sum()).collect();
    let top = scores.iter().copied().fold(F::of(f64::NEG_INFINITY), |m, s| if s > m { s } else { m });
    let powers: Vec<F> = scores.iter().map(|&s| F::of((s - top).get().exp())).collect();
    let sum: F = powers.iter().copied().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

fn fwd<F: Real>(args: Args<'_, F>) {
    let p: ConvBlockParams = args.params();
    let (b, c, t) = (p.batch as usize, p.cout as usize, p.tout as usize);
    let [y, norm, query, out] = args.bufs();
    let (y, norm, q, out) = (y.input(), norm.input(), query.input(), out.output());
    for i in 0..b {
        let a = activation([i, c, t], y, norm);
        let w = weights(&a, q, t);
        for ch in 0..c {
            out[i * c + ch] = (0..t).map(|f| w[f] * a[ch * t + f]).sum();
        }
    }
}

fn bwd<F: Real>(args: Args<'_, F>) {
    let p: ConvBlockParams = args.params();
    let (b, c, t) = (p.batch as usize, p.cout as usize, p.tout as usize);
    let [g, y, norm, query, da, part, dgamma, dbeta, back, dq] = args.bufs();
    let (g, y, norm, q) = (g.input(), y.input(), norm.input(), query.input());
    let (da, part, dq) = (da.output(), part.output(), dq.output());
    let out = [dgamma.output(), dbeta.output(), back.output()];
    da.fill(F::zero());
    dq.fill(F::zero());
    for i in 0..b {
        let a = activation([i, c, t], y, norm);
        let w = weights(&a, q, t);
        let g = &g[i * c..][..c];
        let dw: Vec<F> = (0..t).map(|f| (0..c).map(|ch| g[ch] * a[ch * t + f]).sum()).collect();
        let mean: F = (0..t).map(|f| w[f] * dw[f]).sum();
        for f in 0..t {
            let ds = w[f] * (dw[f] - mean);
            for ch in 0..c {
                da[at(c, t, [i, ch, f])] = w[f] * g[ch] + ds * q[ch];
                dq[ch] += ds * a[ch * t + f];
            }
        }
    }
    sums(&p, [c, t], da, y, norm, part);
    batch_norm_bwd(&p, [c, t], part, norm, out);
}

/// The forward pass.
pub static ATTENTION_FWD: Kernel = Kernel {
    name: "conv_block_attention_fwd",
    bindings: &[
        Binding::input("y"),
        Binding::input("norm"),
        Binding::input("query"),
        Binding::output("embedding"),
    ],
    params: ConvBlockParams::LAYOUT,
    cpu: Twin { f32: fwd, f64: fwd },
    workgroups: &[],
    cuda: Cuda::new(32, |_| [1, 1, 1]),
    cost: |_| Cost::new(0, 0),
};

/// The backward pass.
pub static ATTENTION_BWD: Kernel = Kernel {
    name: "conv_block_attention_bwd",
    bindings: &[
        Binding::input("d_embedding"),
        Binding::input("y"),
        Binding::input("norm"),
        Binding::input("query"),
        Binding::output("da"),
        Binding::output("part"),
        Binding::output("dgamma"),
        Binding::output("dbeta"),
        Binding::output("back"),
        Binding::output("d_query"),
    ],
    params: ConvBlockParams::LAYOUT,
    cpu: Twin { f32: bwd, f64: bwd },
    workgroups: &[],
    cuda: Cuda::new(32, |_| [1, 1, 1]),
    cost: |_| Cost::new(0, 0),
};
