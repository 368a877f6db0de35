//! The convolution and its normalisation.

use super::channels::{activate, moments};
use super::rows::{Rows, rows};
use super::tiles::{Tiles, terms};
use crate::dispatch;
use crate::kernel::{Args, with_scratch};
use crate::kernels::conv::microkernel::pack_weights;
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
    let (q_len, cout) = (p.terms(), p.cout as usize);
    let a_len =
        if p.affine == 0 { 0 } else { p.cin as usize * Tiles::of(p.tout as usize).frames(&p) * LANES };
    with_scratch(p.weights(), |packed: &mut [f32]| {
        pack_weights(packed, cout, q_len, |c, q| w[c * q_len + q]);
        let packed = &*packed;
        work.pieces2((y.output(), sy * LANES), (&mut *part, 2 * cout), &|i, y, part| {
            let x = &x[i * sx * LANES..(i + 1) * sx * LANES];
            with_scratch(a_len + 2 * cout * LANES, |scratch: &mut [f32]| {
                let (a, lanes) = scratch.split_at_mut(a_len);
                with_scratch(q_len, |places: &mut [usize]| {
                    fwd_block(work.simd, &p, x, norm_in, packed, a, lanes, places, &p.mask(i), y, part);
                });
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
    fn fwd_block(p: &ConvBlockParams, x: &[f32], norm: &[f32], w: &[f32], a: &mut [f32], lanes: &mut [f32],
        places: &mut [usize], mask: &[f32; LANES], y: &mut [f32], part: &mut [f32]) = fwd_block_body
}

/// `a` is a tile of the activated input, `lanes` the mean and the squares about it of each channel.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a body takes slices, one each")]
unsafe fn fwd_block_body<V: F32x16>(
    p: &ConvBlockParams,
    x: &[f32],
    norm: &[f32],
    w: &[f32],
    a: &mut [f32],
    lanes: &mut [f32],
    places: &mut [usize],
    mask: &[f32; LANES],
    y: &mut [f32],
    part: &mut [f32],
) {
    let [cin, t, cout, tout, k, stride] = [p.cin, p.t, p.cout, p.tout, p.k, p.stride].map(|v| v as usize);
    assert!(x.len() == cin * t * LANES && y.len() == cout * tout * LANES && (tout - 1) * stride + k <= t);
    let tiles = Tiles::of(tout);
    let width = tiles.frames(p);
    assert!((p.affine == 0 || a.len() == cin * width * LANES) && lanes.len() == 2 * cout * LANES);
    let (means, squares) = lanes.split_at_mut(cout * LANES);
    for tile in 0..tiles.count() {
        let (from, end) = tiles.range(tile);
        let (frame, frames) = (from * stride, (end - from - 1) * stride + k);
        // SAFETY: the assertions bound every address of `s`; the rest are whole vectors of slices.
        unsafe {
            let (input, in_c) = if p.affine == 0 {
                (x.as_ptr().add(frame * LANES), t * LANES)
            } else {
                for ch in 0..cin {
                    let x = &x[(ch * t + frame) * LANES..][..frames * LANES];
                    activate::<V>(x, norm, [ch, cin], &mut a[ch * width * LANES..][..frames * LANES]);
                }
                (a.as_ptr(), width * LANES)
            };
            terms(places, [cin, in_c], [k, LANES]);
            let s = Rows {
                terms: places,
                in_t: stride * LANES,
                out_channels: cout,
                out_c: tout * LANES,
                out_t: LANES,
                positions: end - from,
            };
            rows::<V>(&s, w, input, y.as_mut_ptr().add(from * LANES));
            if p.train != 0 {
                for c in 0..cout {
                    let row = &y[(c * tout + from) * LANES..(c * tout + end) * LANES];
                    let (mean, squares) = (&mut means[c * LANES..], &mut squares[c * LANES..]);
                    moments::<V>(row, from, mean.as_mut_ptr(), squares.as_mut_ptr());
                }
            }
        }
    }
    if p.train == 0 {
        return;
    }
    // SAFETY: whole vectors of slices.
    unsafe {
        let (mask, frames) = (V::load(mask.as_ptr()), V::splat(tout as f32));
        let count = mask.sum() * tout as f32;
        for c in 0..cout {
            let (mean, squares) =
                (V::load(means[c * LANES..].as_ptr()), V::load(squares[c * LANES..].as_ptr()));
            let sum = mean.mul(mask).sum() * tout as f32;
            let d = mean.sub(V::splat(sum / count));
            part[c] = sum;
            part[cout + c] = d.mul(d).mul_add(frames, squares).mul(mask).sum();
        }
    }
}
