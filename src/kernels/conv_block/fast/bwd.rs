//! The gradients of the convolution.

use super::channels::{activate, back_sums, gradient};
use super::rows::{Rows, rows};
use super::tiles::Tiles;
use super::weights::{Weights, weights};
use crate::dispatch;
use crate::kernel::{Args, with_scratch};
use crate::kernels::conv::microkernel::pack_weights;
use crate::kernels::conv_block::norm::{batch_norm_bwd_in, sum_weights};
use crate::kernels::conv_block::params::ConvBlockParams;
use crate::simd::{F32x16, LANES};

/// What both backward kernels read.
struct Back<'a> {
    da: &'a [f32],
    y: &'a [f32],
    back: &'a [f32],
    x: &'a [f32],
    norm_in: &'a [f32],
    /// The weights as the gather of `da_in` takes them; none where it is not asked for.
    packed: Option<&'a [f32]>,
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

    /// The positions that a block's work goes through: of the output, or of all the input that one of them has beneath it.
    fn tiles(&self, p: &ConvBlockParams) -> Tiles {
        Tiles::of(if self.packed.is_some() { p.t.div_ceil(p.stride) as usize } else { p.tout as usize })
    }

    /// Positions of `dy` before a tile's own that the gather of `da_in` reads.
    fn margin(&self, p: &ConvBlockParams) -> usize {
        self.packed.map_or(0, |_| (p.k as usize).div_ceil(p.stride as usize) - 1)
    }

    /// Floats from one position of `dy` to the next, whose channels lie side by side: an odd number of eight lines, so that
    /// those of eight channels spread over all sets of a cache.
    fn step(&self, p: &ConvBlockParams) -> usize {
        let cout = p.cout as usize;
        LANES * if cout <= 8 { cout } else { 8 * (cout.div_ceil(8) | 1) }
    }
}

/// What a block's work leaves for the rest of its work, and for the next block of its chunk.
struct Scratch<'a> {
    /// A tile of the activated input.
    a: &'a mut [f32],
    /// A tile of `dy`, and what the gather reads before it.
    dy: &'a mut [f32],
    /// The weight gradient of a chunk, each lane for itself.
    sums: &'a mut [f32],
    /// Lane sums of `Σ dz`, `Σ dz·(y − μ)` of the layer before.
    lanes: &'a mut [f32],
    /// Places of the terms of `da_in`.
    places: &'a mut [usize],
}

impl Scratch<'_> {
    fn lens(p: &ConvBlockParams, all: &Back<'_>) -> [usize; 4] {
        let (tiles, cin) = (all.tiles(p), p.cin as usize);
        let a = if p.affine == 0 { 0 } else { cin * tiles.frames(p) };
        let dy = all.step(p) * (all.margin(p) + tiles.span());
        [a * LANES, dy, p.weights() * LANES, 2 * cin * LANES]
    }

    fn with<R>(p: &ConvBlockParams, all: &Back<'_>, f: impl FnOnce(&mut Scratch<'_>) -> R) -> R {
        let [a, dy, sums, lanes] = Self::lens(p, all);
        with_scratch(a + dy + sums + lanes, |rest: &mut [f32]| {
            let (a, rest) = rest.split_at_mut(a);
            let (dy, rest) = rest.split_at_mut(dy);
            let (sums, lanes) = rest.split_at_mut(sums);
            let places = all.packed.map_or(0, |_| p.cout as usize * (all.margin(p) + 1));
            with_scratch(places, |places: &mut [usize]| f(&mut Scratch { a, dy, sums, lanes, places }))
        })
    }
}

/// What a block writes: its chunk's partial gradient of the weight, if it is the last of it, and its own of the input and its
/// normalisation, where that is asked for.
struct Out<'a> {
    dw: &'a mut [f32],
    da_in: &'a mut [f32],
    part_in: &'a mut [f32],
}

/// The gradient of the weight.
pub fn bwd_w(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [da, y, back, x, norm_in, part, dw] = args.bufs();
    let (da, y, back, x, norm_in) = (da.input(), y.input(), back.input(), x.input(), norm_in.input());
    let all = Back { da, y, back, x, norm_in, packed: None };
    let part = part.output();
    work.pieces(&mut part[..p.chunks() * p.weights()], p.weights(), &|chunk, dw| {
        Scratch::with(&p, &all, |scratch| {
            for i in chunk * p.chunk()..((chunk + 1) * p.chunk()).min(p.blocks()) {
                let mut out = Out { dw, da_in: &mut [], part_in: &mut [] };
                bwd_block(work.simd, &p, &all.block(&p, i), i, scratch, &mut out);
            }
        });
    });
    sum_weights(&p, part, dw.output());
}

/// Both gradients of the convolution, and those of the normalisation under it.
pub fn bwd(args: Args<'_, f32>) {
    let p: ConvBlockParams = args.params();
    let work = args.work;
    let [da, y, back, x, norm_in, w, da_in, part, dw, dgamma_in, dbeta_in, back_in] = args.bufs();
    let (da, y, back, x, norm_in) = (da.input(), y.input(), back.input(), x.input(), norm_in.input());
    let (w, part) = (w.input(), part.output());
    let sx = p.sample().0;
    let parts = 2 * p.cin as usize;
    let (dw_part, part_in) = part.split_at_mut(p.chunks() * p.weights());
    with_scratch(p.weights(), |packed: &mut [f32]| {
        pack_flipped(&p, w, packed);
        let all = Back { da, y, back, x, norm_in, packed: Some(packed) };
        work.pieces3(
            (da_in.output(), p.chunk() * sx * LANES),
            (&mut part_in[..p.blocks() * parts], p.chunk() * parts),
            (dw_part, p.weights()),
            &|chunk, da_in, part_in, dw| {
                Scratch::with(&p, &all, |scratch| {
                    let outs = da_in.chunks_exact_mut(sx * LANES).zip(part_in.chunks_exact_mut(parts));
                    for (j, (da_in, part_in)) in outs.enumerate() {
                        let i = chunk * p.chunk() + j;
                        let mut out = Out { dw, da_in, part_in };
                        bwd_block(work.simd, &p, &all.block(&p, i), i, scratch, &mut out);
                    }
                });
            },
        );
    });
    sum_weights(&p, part, dw.output());
    let out = [dgamma_in.output(), dbeta_in.output(), back_in.output()];
    batch_norm_bwd_in(&p, part, norm_in, out);
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
    fn bwd_block(p: &ConvBlockParams, b: &Back<'_>, i: usize, scratch: &mut Scratch<'_>, out: &mut Out<'_>) = bwd_block_body
}

/// Block `i`, tile by tile: `dy` and the activated input, the gradient of the weight, that of the input, and the sums that
/// the normalisation of the layer before takes from it.
#[inline(always)]
unsafe fn bwd_block_body<V: F32x16>(
    p: &ConvBlockParams,
    b: &Back<'_>,
    i: usize,
    scratch: &mut Scratch<'_>,
    out: &mut Out<'_>,
) {
    let [cin, t, cout, tout, k, stride] = [p.cin, p.t, p.cout, p.tout, p.k, p.stride].map(|v| v as usize);
    let Scratch { a, dy, sums, lanes, places } = scratch;
    let (tiles, margin) = (b.tiles(p), b.margin(p));
    let (row, width, step) = (margin + tiles.span(), tiles.frames(p), b.step(p));
    assert!(b.x.len() == cin * t * LANES && b.y.len() == cout * tout * LANES && b.da.len() == b.y.len());
    assert!(dy.len() == row * step && step >= cout * LANES && (tout - 1) * stride + k <= t);
    assert!(p.affine == 0 || a.len() == cin * width * LANES);
    assert!(b.packed.is_none() || out.da_in.len() == cin * t * LANES);
    lanes.fill(0.0);
    let ends = (i + 1).is_multiple_of(p.chunk()) || i + 1 == p.blocks();
    for tile in 0..tiles.count() {
        let (from, end) = tiles.range(tile);
        // SAFETY: the instruction set is there.
        unsafe { make_dy::<V>(p, b, i, [from, end, margin, step], dy) };
        // Frames that the tile's taps see, and its own.
        let own = from * stride..(end * stride).min(t);
        let seen = own.start..if from < tout { (end.min(tout) - 1) * stride + k } else { own.start };
        let (mut input, mut in_c) = (b.x.as_ptr().wrapping_add(own.start * LANES), t * LANES);
        if p.affine != 0 {
            let frames = own.end.max(seen.end) - own.start;
            for ch in 0..cin {
                let x = &b.x[(ch * t + own.start) * LANES..][..frames * LANES];
                // SAFETY: the instruction set is there.
                unsafe {
                    activate::<V>(x, b.norm_in, [ch, cin], &mut a[ch * width * LANES..][..frames * LANES])
                };
            }
            (input, in_c) = (a.as_ptr(), width * LANES);
        }
        let s = Weights {
            channels: cin,
            taps: k,
            in_c,
            in_t: stride * LANES,
            out_channels: cout,
            dy_t: step,
            positions: end.min(tout).saturating_sub(from),
            first: i.is_multiple_of(p.chunk()) && tile == 0,
            last: ends && tile + 1 == tiles.count(),
        };
        // SAFETY: the frames seen were made, or are in the block, as are the positions of `dy`.
        unsafe { weights::<V>(&s, input, dy.as_ptr().add(margin * step), sums, out.dw) };
        if let Some(packed) = b.packed {
            // SAFETY: as promised here.
            unsafe { gather::<V>(p, packed, [dy, out.da_in], [step, margin, from, end], places) };
            if p.affine != 0 {
                for ch in 0..cin {
                    let frames = (ch * t + own.start) * LANES..(ch * t + own.end) * LANES;
                    let a = &a[ch * width * LANES..];
                    let (da, y) = (&out.da_in[frames.clone()], &b.x[frames]);
                    let (dz, dzy) = lanes.split_at_mut(cin * LANES);
                    let sums = [dz[ch * LANES..].as_mut_ptr(), dzy[ch * LANES..].as_mut_ptr()];
                    // SAFETY: the instruction set is there.
                    unsafe { back_sums::<V>([da, y, a], b.norm_in[2 * cin + ch], sums) };
                }
            }
        }
    }
    if b.packed.is_some() && p.affine != 0 {
        for (part, lanes) in out.part_in.iter_mut().zip(lanes.chunks_exact(LANES)) {
            // SAFETY: a vector; the instruction set is there.
            *part = unsafe { V::load(lanes.as_ptr()).sum() };
        }
    }
}

/// Positions `from − margin .. end` of `dy`, zeros where the output has none, so that the gather needs no edges.
#[inline(always)]
unsafe fn make_dy<V: F32x16>(
    p: &ConvBlockParams,
    b: &Back<'_>,
    i: usize,
    [from, end, margin, step]: [usize; 4],
    dy: &mut [f32],
) {
    let (cout, tout) = (p.cout as usize, p.tout as usize);
    let (first, last) = (from.saturating_sub(margin), end.min(tout));
    // The places of both, and of the tile's end.
    let [start, stop, end] = [first + margin - from, last.max(first) + margin - from, end + margin - from];
    let masked = p.lanes(i) < LANES;
    let mask = p.mask(i);
    for c in 0..cout {
        for t in (0..start).chain(stop..end) {
            dy[t * step + c * LANES..][..LANES].fill(0.0);
        }
        if first < last {
            let rows = (c * tout + first) * LANES..(c * tout + last) * LANES;
            let out = &mut dy[start * step + c * LANES..];
            // SAFETY: the instruction set is there, and the mask a vector.
            unsafe {
                gradient::<V>([&b.da[rows.clone()], &b.y[rows]], b.back, [c, cout], (out, step));
                if masked {
                    let mask = V::load(mask.as_ptr());
                    for v in out.chunks_mut(step).take(last - first) {
                        V::load(v[..LANES].as_ptr()).mul(mask).store(v.as_mut_ptr());
                    }
                }
            }
        }
    }
}

/// `da_in[i, stride·j + r] = Σ_{c,m} w[c,i,r + stride·m]·dy[c, j − m]` of positions `from..end`: for each residue r a plain
/// convolution with the taps flipped, so each element is gathered once and written once.
///
/// # Safety
/// `dy` begins `margin` positions before the tile's own, `step` floats from one to the next.
#[inline(always)]
unsafe fn gather<V: F32x16>(
    p: &ConvBlockParams,
    packed: &[f32],
    [dy, da_in]: [&mut [f32]; 2],
    [step, margin, from, end]: [usize; 4],
    places: &mut [usize],
) {
    let [cin, t, cout, stride] = [p.cin, p.t, p.cout, p.stride].map(|v| v as usize);
    let mut at = 0;
    for residue in 0..stride.min(t) {
        let taps = taps_of(p, residue);
        let terms = &mut places[..cout * taps];
        for (q, spot) in terms.iter_mut().enumerate() {
            let (c, tap) = (q / taps, q % taps);
            *spot = (margin - tap) * step + c * LANES;
        }
        let s = Rows {
            terms,
            in_t: step,
            out_channels: cin,
            out_c: t * LANES,
            out_t: stride * LANES,
            positions: end.min((t - residue).div_ceil(stride)).saturating_sub(from),
        };
        if s.positions > 0 {
            // SAFETY: position j of tap m reads position j − m of `dy`, from − margin or later; writes stay below t by
            // `positions`.
            unsafe {
                let da_in = da_in.as_mut_ptr().add((from * stride + residue) * LANES);
                rows::<V>(&s, &packed[at..], dy.as_ptr(), da_in);
            }
        }
        at += cin * cout * taps;
    }
}
