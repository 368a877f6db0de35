//! What ends a launch: partial sums become a normalisation, its gradients, or the gradient of a weight. For any float.

use super::params::ConvBlockParams;
use crate::kernel::Real;

/// Merges the blocks' statistics into `norm` and moves the running statistics.
pub fn batch_norm<F: Real>(
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
pub fn running_norm<F: Real>(
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
pub fn batch_norm_bwd<F: Real>(
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

/// The same of the layer before, from the scratch of [`BWD`](super::BWD); zeros where there is none.
pub fn batch_norm_bwd_in<F: Real>(p: &ConvBlockParams, part: &[F], norm_in: &[F], out: [&mut [F]; 3]) {
    if p.affine == 0 {
        out.into_iter().for_each(|o| o.fill(F::zero()));
    } else {
        let dims = [p.cin as usize, p.t as usize];
        batch_norm_bwd(p, dims, &part[p.chunks() * p.weights()..], norm_in, out);
    }
}

/// `dw = Σ_chunks`, in order.
pub fn sum_weights<F: Real>(p: &ConvBlockParams, part: &[F], dw: &mut [F]) {
    let n = dw.len();
    dw.copy_from_slice(&part[..n]);
    for chunk in part[n..p.chunks() * n].chunks_exact(n) {
        for (dw, &v) in dw.iter_mut().zip(chunk) {
            *dw += v;
        }
    }
}
