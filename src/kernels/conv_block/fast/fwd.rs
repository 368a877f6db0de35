//! The convolution and its normalisation.

use super::channels::{activate, total};
use crate::dispatch;
use crate::kernel::{Args, with_scratch};
use crate::kernels::conv::microkernel::{Rows, conv_rows, pack_weights};
use crate::kernels::conv_block::norm::{batch_norm, running_norm};
use crate::kernels::conv_block::params::ConvBlockParams;
use crate::simd::{F32x16, LANES};

/// The convolution and its normalisation.
pub fn fwd(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [x, norm_in, w, gamma, beta, running_mean, running_var, y, part, norm] = args.bufs();
    let (x, norm_in, w, part) = (x.input(), norm_in.input(), w.input(), part.output());
    let (affine, running) = ([gamma.input(), beta.input()], [running_mean.output(), running_var.output()]);
    let (sx, sy) = p.sample();
    let terms = p.terms();
    with_scratch(p.weights(), |packed: &mut [f32]| {
        pack_weights(packed, p.cout as usize, terms, |c, q| w[c * terms + q]);
        let packed = &*packed;
        work.pieces2((y.output(), sy * LANES), (&mut *part, 2 * p.cout as usize), &|i, y, part| {
            let x = &x[i * sx * LANES..(i + 1) * sx * LANES];
            with_scratch(if p.affine == 0 { 0 } else { sx * LANES }, |a: &mut [f32]| {
                fwd_block(work.simd, &p, x, norm_in, packed, a, &p.mask(i), y, part);
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
#[expect(clippy::too_many_arguments, reason = "a body takes slices, one each")]
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
