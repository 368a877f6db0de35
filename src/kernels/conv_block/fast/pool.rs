//! The mean over time, and its gradient.

use crate::dispatch;
use crate::kernel::Args;
use crate::kernels::conv_block::norm::batch_norm_bwd;
use crate::kernels::conv_block::params::ConvBlockParams;
use crate::simd::{F32x16, LANES};

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

/// The mean over time.
pub fn pool_fwd(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [y, norm, lengths, out] = args.bufs();
    let (y, norm, lengths) = (y.input(), norm.input(), lengths.input());
    let sy = p.sample().1;
    work.pieces(out.output(), LANES * p.cout as usize, &|i, out| {
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
            let mut sums = [zero; 4];
            for (t, v) in row.chunks_exact(LANES).enumerate() {
                let a = zero.max(V::load(v.as_ptr()).mul_add(scale, shift));
                sums[t % 4] = sums[t % 4].add(length.if_gt(V::splat(t as f32), a, zero));
            }
            let sum = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
            let mut mean = [0.0; LANES];
            sum.div(length).store(mean.as_mut_ptr());
            for (b, row) in out.chunks_exact_mut(c).enumerate() {
                row[ch] = mean[b];
            }
        }
    }
}

/// The gradient of the mean over time, and of the normalisation under it.
pub fn pool_bwd(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [g, y, norm, lengths, da, part, dgamma, dbeta, back] = args.bufs();
    let (g, y, norm, lengths, part) = (g.input(), y.input(), norm.input(), lengths.input(), part.output());
    let (c, sy) = (p.cout as usize, p.sample().1);
    work.pieces2((da.output(), sy * LANES), (&mut *part, 2 * c), &|i, da, part| {
        let y = &y[i * sy * LANES..(i + 1) * sy * LANES];
        let g = &g[i * LANES * c..i * LANES * c + p.lanes(i) * c];
        pool_bwd_block(work.simd, &p, g, y, norm, &lengths_of(&p, lengths, i), da, part);
    });
    let out = [dgamma.output(), dbeta.output(), back.output()];
    batch_norm_bwd(&p, [c, p.tout as usize], part, norm, out);
}

dispatch! {
    fn pool_bwd_block(p: &ConvBlockParams, g: &[f32], y: &[f32], norm: &[f32], n: &[f32; LANES], da: &mut [f32],
        part: &mut [f32]) = pool_bwd_body
}

#[inline(always)]
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
            let (scale, shift) = (V::splat(norm[ch]), V::splat(norm[c + ch]));
            let mean = V::splat(norm[2 * c + ch]);
            let (mut dz, mut dzy) = ([zero; 2], [zero; 2]);
            let row = ch * tout * LANES..(ch + 1) * tout * LANES;
            let rows = da[row.clone()].chunks_exact_mut(LANES).zip(y[row].chunks_exact(LANES));
            for (t, (da, y)) in rows.enumerate() {
                let (y, share) = (V::load(y.as_ptr()), length.if_gt(V::splat(t as f32), share, zero));
                share.store(da.as_mut_ptr());
                let a = y.mul_add(scale, shift);
                dz[t % 2] = a.if_gt(zero, dz[t % 2].add(share), dz[t % 2]);
                dzy[t % 2] = a.if_gt(zero, share.mul_add(y.sub(mean), dzy[t % 2]), dzy[t % 2]);
            }
            part[ch] = dz[0].add(dz[1]).sum();
            part[c + ch] = dzy[0].add(dzy[1]).sum();
        }
    }
}
