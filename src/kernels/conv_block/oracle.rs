//! The plain twins: the formulas, sample by sample.

use super::norm::{batch_norm, batch_norm_bwd, batch_norm_bwd_in, running_norm, sum_weights};
use super::params::ConvBlockParams;
use crate::kernel::{Args, Real};
use crate::simd::LANES;

/// Address of (sample, channel, frame) in a map of `c` channels and `t` frames.
fn at(c: usize, t: usize, [b, ch, f]: [usize; 3]) -> usize {
    (((b / LANES) * c + ch) * t + f) * LANES + b % LANES
}

/// The params as numbers to index with.
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

/// `max(0, v)`, and NaN where `v` is.
fn relu<F: Real>(v: F) -> F {
    if v <= F::zero() { F::zero() } else { v }
}

/// An input element as the convolution sees it.
fn seen<F: Real>(p: &ConvBlockParams, v: F, norm: &[F], ch: usize) -> F {
    if p.affine == 0 { v } else { relu(norm[ch] * v + norm[p.cin as usize + ch]) }
}

/// The convolution and its normalisation.
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
            let values =
                || (0..p.lanes(block)).flat_map(move |l| (0..d.tout).map(move |t| [block * LANES + l, c, t]));
            let sum: F = values().map(|i| y[at(d.cout, d.tout, i)]).sum();
            let mean = sum / F::of((p.lanes(block) * d.tout) as f64);
            part[block * 2 * d.cout + c] = sum;
            part[block * 2 * d.cout + d.cout + c] =
                values().map(|i| (y[at(d.cout, d.tout, i)] - mean).powi(2)).sum();
        }
    }
    batch_norm(&p, part, affine, running, norm.output());
}

/// Valid frames of sample `b`.
fn valid<F: Real>(p: &ConvBlockParams, lengths: &[F], b: usize) -> usize {
    if p.affine == 0 { p.tout as usize } else { (lengths[b].get() as usize).clamp(1, p.tout as usize) }
}

/// The mean over time.
pub fn pool_fwd<F: Real>(args: Args<'_, F>) {
    let p: ConvBlockParams = args.params();
    let d = dims(&p);
    let [y, norm, lengths, out] = args.bufs();
    let (y, norm, lengths, out) = (y.input(), norm.input(), lengths.input(), out.output());
    for b in 0..d.b {
        let n = valid(&p, lengths, b);
        for c in 0..d.cout {
            let sum: F =
                (0..n).map(|t| relu(norm[c] * y[at(d.cout, d.tout, [b, c, t])] + norm[d.cout + c])).sum();
            out[b * d.cout + c] = sum / F::of(n as f64);
        }
    }
}

/// The gradient of the mean over time, and of the normalisation under it.
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

/// The gradient of the weight, in chunks.
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

/// The gradient of the weight.
pub fn bwd_w<F: Real>(args: Args<'_, F>) {
    let p: ConvBlockParams = args.params();
    let [da, y, back, x, norm_in, part, dw] = args.bufs();
    let dy = dy(&p, da.input(), y.input(), back.input());
    let part = part.output();
    weights(&p, &dy, x.input(), norm_in.input(), part);
    sum_weights(&p, part, dw.output());
}

/// Both gradients of the convolution, and those of the normalisation under it.
pub fn bwd<F: Real>(args: Args<'_, F>) {
    let p: ConvBlockParams = args.params();
    let d = dims(&p);
    let [da, y, back, x, norm_in, w, da_in, part, dw, dgamma_in, dbeta_in, back_in] = args.bufs();
    let (x, norm_in, w, da_in, part) = (x.input(), norm_in.input(), w.input(), da_in.output(), part.output());
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
