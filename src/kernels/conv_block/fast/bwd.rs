//! The gradients of the convolution.

use super::channels::{activate, part_sums};
use crate::dispatch;
use crate::kernel::{Args, with_scratch};
use crate::kernels::conv::microkernel::{Rows, WeightRows, conv_rows, pack_weights, sum_lanes, weight_rows};
use crate::kernels::conv_block::norm::{batch_norm_bwd_in, sum_weights};
use crate::kernels::conv_block::params::ConvBlockParams;
use crate::simd::{F32x16, LANES};

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
    (p.sample().0 * LANES, p.cout as usize * (before + p.tout as usize + after) * LANES)
}

/// The gradient of the weight.
pub fn bwd_w(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [da, y, back, x, norm_in, part, dw] = args.bufs();
    let all =
        Back { da: da.input(), y: y.input(), back: back.input(), x: x.input(), norm_in: norm_in.input() };
    let (a_len, dy_len) = scratch_len(&p);
    let part = part.output();
    work.pieces(&mut part[..p.chunks() * p.weights()], p.weights(), &|chunk, dw| {
        with_scratch(a_len + dy_len + p.weights() * LANES, |scratch: &mut [f32]| {
            let (a, rest) = scratch.split_at_mut(a_len);
            let (dy, acc) = rest.split_at_mut(dy_len);
            acc.fill(0.0);
            for i in chunk * p.chunk()..((chunk + 1) * p.chunk()).min(p.blocks()) {
                bwd_w_block(work.simd, &p, &all.block(&p, i), &p.mask(i), a, dy, acc);
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
    let terms = p.terms();
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
            rows: 1,
            in_row: 0,
            dy_row: 0,
        };
        weight_rows::<V>(&rows, input.as_ptr(), dy.as_ptr().add(before * LANES), acc);
    }
}

/// Both gradients of the convolution, and those of the normalisation under it.
pub fn bwd(args: Args<'_, f32>) {
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
            &|chunk, da_in, part_in, dw| {
                with_scratch(a_len + dy_len + p.weights() * LANES, |scratch: &mut [f32]| {
                    let (a, rest) = scratch.split_at_mut(a_len);
                    let (dy, acc) = rest.split_at_mut(dy_len);
                    acc.fill(0.0);
                    let outs = da_in.chunks_exact_mut(sx * LANES).zip(part_in.chunks_exact_mut(parts));
                    for (j, (da_in, part_in)) in outs.enumerate() {
                        let i = chunk * p.chunk() + j;
                        let b = all.block(&p, i);
                        bwd_w_block(work.simd, &p, &b, &p.mask(i), a, dy, acc);
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
