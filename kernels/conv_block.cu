// The network's layer, fused: Conv1d (no padding, no bias), batch normalisation, ReLU; and the mean over time.
//
//   fwd       y[c,t] = sum_{i,k} w[c,i,k] a[i, t stride + k],  a = x, or max(0, scale x + shift) where the input is another
//             layer's y (affine); norm from the statistics of y, which also move the running ones, or from these (not train)
//   pool_fwd  embedding[b,c] = mean over valid t of max(0, scale y + shift)
//   pool_bwd  its gradient da; dgamma, dbeta, back = norm and p, q of
//             dy = scale dz + p (y - mean) + q,  dz = da where scale y + shift > 0
//   bwd       dw[c,i,k] = sum_{b,t} dy[c,t] a[i, t stride + k];  da_in[i,s] = sum_{c,k: t stride + k = s} w[c,i,k] dy[c,t];
//             dgamma, dbeta, back of the layer before
//   bwd_w     dw alone
//
// Shapes: x, da_in [blocks, Cin, T, 16], y, da [blocks, Cout, Tout, 16], sixteen samples side by side; weight, dw
// [Cout, Cin, K]; norm [4, C] scale, shift, mean, 1/sigma; back [6, C] norm, p, q. Samples beyond the batch enter no sum and
// receive da = 0. part is scratch: of fwd [2, C, parts] mean and squares about it of each tile, then their counts [parts]; of
// pool_bwd [2, C, parts] two sums of each block; of bwd [tiles, slices, taps, pairs, 4] partial dw as a block of dw holds it,
// then [2, Cin, parts].
//
// Threads. Four neighbours of a warp read the 64-byte line of sixteen samples, 16 bytes each, and all arithmetic is on those
// four samples: stride costs nothing, and one weight from shared memory serves four multiply-adds.
// - fwd: a block owns 16 samples, a tile of positions and of channels; a thread one position of 4 or 8 channels. The input
//   passes through shared memory, normalised once on the way, in runs of channels and taps: one run in a small network.
//   Statistics are those of a warp about its own mean, from the registers, and then of the tile.
// - bwd: two kinds of blocks side by side. A block of dw owns a tile of weights and a slice of all (16 samples, positions); a
//   thread up to 8 taps of 4 output channels and one input channel, and a share of the slice; the shares meet in shuffles, the
//   warps in shared memory, the slices in the last block of the tile. A block of da_in owns 16 samples, a tile of positions
//   s/stride and 16 input channels or fewer; a thread one residue s mod stride of one position and 4 channels, or in a large
//   launch up to 3 residues, so that dy, which each kind makes as it stages it, is read once from shared memory for 12 weights.
// - The last block, or the last of a tile, merges what the others left in part, with all its threads.
//
// Cost, with M = B Tout Cout Cin K: fwd 2 M flops, bwd 4 M (bwd_w 2 M); bytes x + y forward, 2 (x + y + da) + da_in backward. A
// step of the paper's network at B = 512, T = 1000 is 193 MFLOP and some 50 MB through the second cache, 17 MB of them different:
// by an H100's data sheet (67 TFLOP/s, 3.35 TB/s) 3 us of arithmetic and 15 us of bytes, were they all from memory. So launches
// and the chain of loads of one block bind, at B = 64 as at B = 512: hence few launches, small tiles, many blocks, and in a block
// all loads of a stage under way before the first is used, none of them behind a division or another load. Blocks of dw and of
// da_in both read y and da, the second time from the cache: the price for tiles that fit any width.
#include "prelude.cuh"
#include "conv_block_lines.cuh"
#include "conv_block_fwd.cuh"
#include "conv_block_bwd.cuh"

namespace {

// Frames of a sample that the mean over time includes.
__device__ inline unsigned frames_of(ConvBlockParams p, const float* __restrict__ lengths, unsigned sample) {
    return p.affine ? static_cast<unsigned>(fminf(fmaxf(lengths[sample], 1.0f), static_cast<float>(p.tout))) : p.tout;
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT)
    conv_block_fwd(const float* __restrict__ x, const float* __restrict__ norm_in, const float* __restrict__ weight,
                   const float* __restrict__ gamma, const float* __restrict__ beta, float* __restrict__ running_mean,
                   float* __restrict__ running_var, float* __restrict__ y, float* part, float* __restrict__ norm,
                   ConvBlockParams p, unsigned* ticket) {
    extern __shared__ float4 fwd_shared[];
    __shared__ float sums[WARPS * 2 * 8];
    const Fwd f = fwd_of(p);
    if (f.per == 8) {
        fwd_taps<8>(x, norm_in, weight, y, part, p, f, fwd_shared, sums);
    } else {
        fwd_taps<4>(x, norm_in, weight, y, part, p, f, fwd_shared, sums);
    }
    if (!p.train) {
        if (blockIdx.x > 0) return;
        for (unsigned c = threadIdx.x; c < p.cout; c += BLOCK)
            put_norm(norm, c, p, gamma[c], beta[c], running_mean[c], running_var[c]);
        return;
    }
    if (!last_block(ticket)) return;
    merge_statistics(part, over(p.batch, LANES) * f.tiles, gamma, beta, running_mean, running_var, norm, p);
}

// A block owns sixteen samples and a channel; a thread four samples of every 32nd position.
extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT)
    conv_block_pool_fwd(const float* __restrict__ y, const float* __restrict__ norm, const float* __restrict__ lengths,
                        float* __restrict__ embedding, ConvBlockParams p) {
    __shared__ float4 rows[WARPS][QUADS];
    const unsigned block = blockIdx.x / p.cout, c = blockIdx.x % p.cout, quad = threadIdx.x % QUADS, warp = threadIdx.x / 32;
    const bool aligned = is_aligned<16>(y);
    const float scale = norm[c], shift = norm[p.cout + c];
    const int live = live_of(p, block, quad);
    unsigned frames[4];
    unsigned longest = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        frames[e] = e < live ? frames_of(p, lengths, block * LANES + 4 * quad + e) : 0;
        longest = max(longest, frames[e]);
    }
    float4 sum = zero4();
    for (unsigned t0 = threadIdx.x / QUADS; t0 < longest; t0 += AT_ONCE * BLOCK / QUADS) {
        float4 v[AT_ONCE];
#pragma unroll
        for (unsigned j = 0; j < AT_ONCE; ++j) {
            const unsigned t = t0 + j * BLOCK / QUADS;
            v[j] = t < longest ? line(y + (static_cast<size_t>(blockIdx.x) * p.tout + t) * LANES + 4 * quad, aligned) : zero4();
        }
#pragma unroll
        for (unsigned j = 0; j < AT_ONCE; ++j) {
            const unsigned t = t0 + j * BLOCK / QUADS;
            const float4 a = activated(v[j], scale, shift);
            sum.x += t < frames[0] ? a.x : 0.0f;
            sum.y += t < frames[1] ? a.y : 0.0f;
            sum.z += t < frames[2] ? a.z : 0.0f;
            sum.w += t < frames[3] ? a.w : 0.0f;
        }
    }
#pragma unroll
    for (unsigned offset = 16; offset >= QUADS; offset /= 2) {
        sum.x += __shfl_xor_sync(FULL, sum.x, offset);
        sum.y += __shfl_xor_sync(FULL, sum.y, offset);
        sum.z += __shfl_xor_sync(FULL, sum.z, offset);
        sum.w += __shfl_xor_sync(FULL, sum.w, offset);
    }
    if (threadIdx.x % 32 < QUADS) rows[warp][quad] = sum;
    __syncthreads();
    if (threadIdx.x >= QUADS) return;
    float4 total = zero4();
#pragma unroll
    for (unsigned w = 0; w < WARPS; ++w) add_product(total, 1.0f, rows[w][quad]);
    const float sums[4] = {total.x, total.y, total.z, total.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        if (e < live)
            embedding[static_cast<size_t>(block * LANES + 4 * quad + e) * p.cout + c] = sums[e] / static_cast<float>(frames[e]);
    }
}

// As pool_fwd.
extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT)
    conv_block_pool_bwd(const float* __restrict__ d_embedding, const float* __restrict__ y, const float* __restrict__ norm,
                        const float* __restrict__ lengths, float* __restrict__ da, float* part, float* __restrict__ dgamma,
                        float* __restrict__ dbeta, float* __restrict__ back, ConvBlockParams p, unsigned* ticket) {
    __shared__ float sums[WARPS * 2];
    const unsigned block = blockIdx.x / p.cout, c = blockIdx.x % p.cout, quad = threadIdx.x % QUADS,
                   blocks = over(p.batch, LANES);
    const bool aligned = is_aligned<16>(y, da);
    const float scale = norm[c], shift = norm[p.cout + c], mean = norm[2 * p.cout + c];
    const int live = live_of(p, block, quad);
    unsigned frames[4];
    float share[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        const unsigned sample = block * LANES + 4 * quad + e;
        frames[e] = e < live ? frames_of(p, lengths, sample) : 0;
        share[e] = e < live ? d_embedding[static_cast<size_t>(sample) * p.cout + c] / static_cast<float>(frames[e]) : 0.0f;
    }
    float both[2] = {};
    for (unsigned t0 = threadIdx.x / QUADS; t0 < p.tout; t0 += AT_ONCE * BLOCK / QUADS) {
        const size_t at = (static_cast<size_t>(blockIdx.x) * p.tout + t0) * LANES + 4 * quad;
        float4 v[AT_ONCE];
#pragma unroll
        for (unsigned j = 0; j < AT_ONCE; ++j) {
            v[j] = t0 + j * BLOCK / QUADS < p.tout ? line(y + at + j * (BLOCK / QUADS * LANES), aligned) : zero4();
        }
#pragma unroll
        for (unsigned j = 0; j < AT_ONCE; ++j) {
            const unsigned t = t0 + j * BLOCK / QUADS;
            if (t >= p.tout) break;
            const float4 d = make_float4(t < frames[0] ? share[0] : 0.0f, t < frames[1] ? share[1] : 0.0f,
                                         t < frames[2] ? share[2] : 0.0f, t < frames[3] ? share[3] : 0.0f);
            put_line(da + at + j * (BLOCK / QUADS * LANES), d, aligned);
            const float4 dz = make_float4(scale * v[j].x + shift > 0.0f ? d.x : 0.0f, scale * v[j].y + shift > 0.0f ? d.y : 0.0f,
                                          scale * v[j].z + shift > 0.0f ? d.z : 0.0f, scale * v[j].w + shift > 0.0f ? d.w : 0.0f);
            both[0] += (dz.x + dz.y) + (dz.z + dz.w);
            both[1] += dot4(dz, make_float4(v[j].x - mean, v[j].y - mean, v[j].z - mean, v[j].w - mean));
        }
    }
    warp_sums(both, sums);
    if (threadIdx.x < 2) {
        float sum = 0.0f;
#pragma unroll
        for (unsigned w = 0; w < WARPS; ++w) sum += sums[w * 2 + threadIdx.x];
        __stcg(part + (static_cast<size_t>(threadIdx.x) * p.cout + c) * blocks + block, sum);
    }
    if (last_block(ticket))
        norm_bwd(part, blocks, norm, dgamma, dbeta, back, p.cout, static_cast<float>(p.batch) * static_cast<float>(p.tout));
}

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT_BWD)
    conv_block_bwd(const float* __restrict__ da, const float* __restrict__ y, const float* __restrict__ back,
                   const float* __restrict__ x, const float* __restrict__ norm_in, const float* __restrict__ weight,
                   float* __restrict__ da_in, float* part, float* __restrict__ dw, float* __restrict__ dgamma_in,
                   float* __restrict__ dbeta_in, float* __restrict__ back_in, ConvBlockParams p, unsigned* ticket) {
    extern __shared__ float4 bwd_shared[];
    __shared__ float warps[WARPS * 8];
    const Inputs in = {da, y, back, x, norm_in};
    const Dw d = dw_of(p);
    if (blockIdx.x < d.tiles * d.slices) {
        dw_block(blockIdx.x, in, part, dw, p, d, bwd_shared, ticket);
        return;
    }
    const Dx e = dx_of(p);
    const unsigned number = blockIdx.x - d.tiles * d.slices, parts = over(p.batch, LANES) * e.tiles * e.turns;
    float* sums = part + static_cast<size_t>(d.tiles) * d.slices * d.weights * 4;
    switch (e.residues) {
    case 2: dx_tile<2>(number, in, weight, da_in, sums, p, e, bwd_shared, warps); break;
    case 3: dx_tile<3>(number, in, weight, da_in, sums, p, e, bwd_shared, warps); break;
    default: dx_tile<1>(number, in, weight, da_in, sums, p, e, bwd_shared, warps); break;
    }
    if (!p.affine) {
        if (number == 0 && threadIdx.x == 0) dgamma_in[0] = dbeta_in[0] = back_in[0] = 0.0f;
    } else if (last_block(ticket + d.tiles, parts * e.across)) {
        norm_bwd(sums, parts, norm_in, dgamma_in, dbeta_in, back_in, p.cin,
                 static_cast<float>(p.batch) * static_cast<float>(p.t));
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT_BWD)
    conv_block_bwd_w(const float* __restrict__ da, const float* __restrict__ y, const float* __restrict__ back,
                     const float* __restrict__ x, const float* __restrict__ norm_in, float* part, float* __restrict__ dw,
                     ConvBlockParams p, unsigned* ticket) {
    extern __shared__ float4 bwd_w_shared[];
    dw_block(blockIdx.x, Inputs{da, y, back, x, norm_in}, part, dw, p, dw_of(p), bwd_w_shared, ticket);
}
