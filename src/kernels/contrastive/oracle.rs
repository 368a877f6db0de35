//! The definition: plain double loops over the pairs, sums in f64.

use super::pair::pair;
use super::params::ContrastiveParams;
use super::sound;
use crate::kernel::{Args, Real, with_scratch};

/// The weight of sample `i`.
fn weight_of<F: Real>(weights: Option<&[F]>, i: usize) -> f64 {
    weights.map_or(1.0, |w| w[i].get())
}

fn scale_into<F: Real>(from: &[f64], scale: f64, to: &mut [F]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = F::of(scale * from);
    }
}

/// All pairs of one set.
pub fn all<F: Real>(args: Args<'_, F>) {
    let p: ContrastiveParams = args.params();
    let (n, d) = (p.n as usize, p.d as usize);
    let [z, labels, weights, loss, dz, _] = args.bufs();
    let (labels, weights) = (labels.input(), p.weights(0, weights.input()));
    let (mut sum, mut total, mut grad, mut sound) = (0.0, 0.0, vec![0.0; n * d], false);
    z.widened(|z| {
        sound = sound::samples(d, z, labels, weights);
        for i in 0..n {
            for j in i + 1..n {
                let s = weight_of(weights, i) * weight_of(weights, j);
                if s == 0.0 {
                    continue;
                }
                let w = (labels[i] - labels[j]).abs().get();
                total += s;
                sum += s * pair(&p, w, &z[i * d..][..d], &z[j * d..][..d], |k, gi, gj| {
                    grad[i * d + k] += s * gi;
                    grad[j * d + k] += s * gj;
                });
            }
        }
    });
    let scale = if sound { p.share(total) } else { f64::NAN };
    loss.output()[0] = F::of(scale * sum);
    scale_into(&grad, scale * f64::from(p.grad_scale), dz.output());
}

/// Every pair of a row of one set and one of another.
pub fn cross<F: Real>(args: Args<'_, F>) {
    let p: ContrastiveParams = args.params();
    let (n, m, d) = (p.n as usize, p.m as usize, p.d as usize);
    let [z, labels_z, weights_z, others, labels_o, weights_o, loss, dz, dothers, _] = args.bufs();
    let (labels_z, weights_z) = (labels_z.input(), p.weights(0, weights_z.input()));
    let (labels_o, weights_o) = (labels_o.input(), p.weights(1, weights_o.input()));
    let (mut sum, mut total, mut gz, mut go) = (0.0, 0.0, vec![0.0; n * d], vec![0.0; m * d]);
    let mut sound = false;
    z.widened(|z| {
        others.widened(|others| {
            sound =
                sound::samples(d, z, labels_z, weights_z) && sound::samples(d, others, labels_o, weights_o);
            for i in 0..n {
                for j in 0..m {
                    let s = weight_of(weights_z, i) * weight_of(weights_o, j);
                    if s == 0.0 {
                        continue;
                    }
                    total += s;
                    let w = (labels_z[i] - labels_o[j]).abs().get();
                    sum += s * pair(&p, w, &z[i * d..][..d], &others[j * d..][..d], |k, gi, gj| {
                        gz[i * d + k] += s * gi;
                        go[j * d + k] += s * gj;
                    });
                }
            }
        })
    });
    let scale = if sound { p.share(total) } else { f64::NAN };
    loss.output()[0] = F::of(scale * sum);
    let scale = scale * f64::from(p.grad_scale);
    scale_into(&gz, scale, dz.output());
    scale_into(&go, scale, dothers.output());
}

/// Pairs as they are given. There are few: the f32 instance is this one too.
pub fn halves<F: Real>(args: Args<'_, F>) {
    let p: ContrastiveParams = args.params();
    let (n, m, d) = (p.n as usize, p.m as usize, p.d as usize);
    let [z, labels, weights, pairing, loss, dz, _] = args.bufs();
    let (z, labels, weights) = (z.input(), labels.input(), p.weights(0, weights.input()));
    let pairing = pairing.index();
    let pairs = || pairing.chunks_exact(2).take(m).map(|ij| (ij[0] as usize, ij[1] as usize));
    let dz = dz.output();
    dz.fill(F::zero());
    let weight = |(i, j)| weight_of(weights, i) * weight_of(weights, j);
    let total = pairs().filter(|&(i, j)| i < n && j < n).map(weight).sum();
    let scale = p.share(total);
    let mut sum = if sound::weights(weights) { 0.0 } else { f64::NAN };
    with_scratch(n, |seen: &mut [u32]| {
        seen.fill(0);
        for (i, j) in pairs() {
            if i >= n || j >= n || i == j || seen[i] + seen[j] > 0 {
                sum = f64::NAN;
                continue;
            }
            (seen[i], seen[j]) = (1, 1);
            let s = weight((i, j));
            if s == 0.0 {
                continue;
            }
            if ![i, j].iter().all(|&i| sound::sample(&z[i * d..][..d], labels[i])) {
                sum = f64::NAN;
            }
            let w = (labels[i] - labels[j]).abs().get();
            let slope = s * scale * f64::from(p.grad_scale);
            sum += s * pair(&p, w, &z[i * d..][..d], &z[j * d..][..d], |k, gi, gj| {
                dz[i * d + k] = F::of(slope * gi);
                dz[j * d + k] = F::of(slope * gj);
            });
        }
    });
    loss.output()[0] = F::of(scale * sum);
}
