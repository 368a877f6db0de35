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
// receive da = 0. part is scratch: of fwd and pool_bwd [2, C, parts], two sums of each tile or block; of bwd [slices, Cout,
// Cin, K] partial dw and then [2, Cin, parts].
//
// Threads. Four neighbours of a warp read the 64-byte line of sixteen samples, 16 bytes each, and all arithmetic is on those
// four samples: stride costs nothing, and one weight from shared memory serves four multiply-adds.
// - fwd: a block owns 16 samples, a tile of positions and of channels; a thread one position of 4 or 8 channels. The input
//   passes through shared memory, normalised once on the way, in runs of channels and taps: one run in a small network.
//   Statistics are those of the tile, then of the squares about the tile's own mean, from the registers.
// - bwd: two kinds of blocks side by side. A block of dw owns a tile of weights and a slice of all (16 samples, positions); a
//   thread up to 8 taps of 4 output channels and one input channel, and a share of the slice; the shares meet in shuffles, the
//   warps in shared memory. A block of da_in owns 16 samples, a tile of positions s/stride and 16 input channels or fewer; a
//   thread all residues s mod stride (up to 3, else one after the other) of one position and 4 channels, so that dy, which each
//   kind makes as it stages it, is read once from shared memory for 12 weights.
// - The last block merges what the others left in part: a warp a channel, a thread four weights; slices are few enough that this
//   is a microsecond.
//
// Cost, with M = B Tout Cout Cin K: fwd 2 M flops, bwd 4 M (bwd_w 2 M); bytes x + y forward, 2 (x + y + da) + da_in backward. A step
// of the paper's network at B = 512, T = 1000 is 193 MFLOP and some 50 MB through the second cache, 17 MB of them different: by an
// H100's data sheet (67 TFLOP/s, 3.35 TB/s) 3 us of arithmetic and 15 us of bytes, were they all from memory. (Not measured yet.) So
// launches and the chain of loads of one block bind, at B = 64 as at B = 512: hence few launches, small tiles, many blocks. Blocks
// of dw and of da_in both read y and da, the second time from the cache: the price for tiles that fit any width.
#include "prelude.cuh"

namespace {

struct P {
    unsigned batch;
    unsigned cin;
    unsigned t;
    unsigned cout;
    unsigned tout;
    unsigned k;
    unsigned stride;
    unsigned affine;
    unsigned train;
    float eps;
    float momentum;
};

constexpr unsigned BLOCK = 128;
constexpr unsigned WARPS = BLOCK / 32;
// Blocks that a multiprocessor should hold: at most 128 registers a thread.
constexpr unsigned RESIDENT = 4;
constexpr unsigned LANES = 16;
// Quads of samples in a line.
constexpr unsigned QUADS = 4;
// Taps that a thread of dw owns, and that fwd stages at once.
constexpr unsigned RUN = 8;
// Quads of shared memory for the runs of channels.
constexpr unsigned STAGE = 2048;
// Channels that a warp of the last block takes at once.
constexpr unsigned AT_ONCE = 4;
// Blocks of dw that a launch should have, and most of its slices.
constexpr unsigned SHARES = 128;
constexpr unsigned SLICES = 32;

__device__ inline unsigned over(unsigned n, unsigned by) { return (n + by - 1) / by; }

// The least of 1, 2, 4, ... that is n or more, at most `most`.
__device__ inline unsigned power(unsigned n, unsigned most) {
    unsigned p = 1;
    while (p < n && p < most) p *= 2;
    return p;
}

__device__ inline float4 zero4() { return make_float4(0.0f, 0.0f, 0.0f, 0.0f); }

// Four samples of a line. A window may start at any float.
__device__ inline float4 line(const float* from, bool aligned) {
    if (aligned) return *reinterpret_cast<const float4*>(from);
    return make_float4(from[0], from[1], from[2], from[3]);
}

__device__ inline void put_line(float* to, float4 v, bool aligned) {
    if (aligned) {
        *reinterpret_cast<float4*>(to) = v;
    } else {
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    }
}

__device__ inline void add_product(float4& sum, float w, float4 v) {
    sum.x += w * v.x, sum.y += w * v.y, sum.z += w * v.z, sum.w += w * v.w;
}

__device__ inline float dot4(float4 a, float4 b) { return (a.x * b.x + a.y * b.y) + (a.z * b.z + a.w * b.w); }

__device__ inline float relu(float v, float scale, float shift) { return fmaxf(scale * v + shift, 0.0f); }

__device__ inline float4 activated(float4 v, float scale, float shift) {
    return make_float4(relu(v.x, scale, shift), relu(v.y, scale, shift), relu(v.z, scale, shift), relu(v.w, scale, shift));
}

// Samples of a block of sixteen.
__device__ inline unsigned lanes_of(P p, unsigned block) { return min(LANES, p.batch - block * LANES); }

// v where its lane holds a sample, else 0; `live` counts from the quad's first.
__device__ inline float4 kept(float4 v, int live) {
    return make_float4(live > 0 ? v.x : 0.0f, live > 1 ? v.y : 0.0f, live > 2 ? v.z : 0.0f, live > 3 ? v.w : 0.0f);
}

// Samples of quad `quad` of a block, at most 4, maybe none.
__device__ inline int live_of(P p, unsigned block, unsigned quad) {
    return static_cast<int>(lanes_of(p, block)) - static_cast<int>(4 * quad);
}

// The sums v[e] over the `team` neighbouring threads (whole warps) that this one belongs to, in all of them. All threads must come here.
template <unsigned N> __device__ inline void team_sum(float (&v)[N], unsigned team) {
    __shared__ float parts[WARPS][N];
    const unsigned warp = threadIdx.x / 32, warps = team / 32, first = warp / warps * warps;
#pragma unroll
    for (unsigned e = 0; e < N; ++e) v[e] = warp_sum(v[e]);
    if (warps == 1) return;
    __syncthreads(); // whoever still reads the sums before
    if (threadIdx.x % 32 == 0) {
#pragma unroll
        for (unsigned e = 0; e < N; ++e) parts[warp][e] = v[e];
    }
    __syncthreads();
#pragma unroll
    for (unsigned e = 0; e < N; ++e) {
        v[e] = 0.0f;
        for (unsigned w = first; w < first + warps; ++w) v[e] += parts[w][e];
    }
}

// ---------------------------------------------------------------- forward

// How fwd cuts its work; as `Fwd` in src/kernels/conv_block.rs.
struct Fwd {
    unsigned per;      // channels of a thread
    unsigned groups;   // threads side by side in channels
    unsigned rows;     // positions of a block
    unsigned taps;     // of a run
    unsigned step;     // positions of the staged input from one row to the next
    unsigned reach;    // positions of the staged input
    unsigned channels; // of a run
    unsigned tiles;    // of positions
    unsigned across;   // tiles of channels
};

__device__ inline Fwd fwd_of(P p) {
    Fwd f;
    f.per = p.cout > 16 ? 8 : 4;
    f.groups = power(over(p.cout, f.per), 4);
    f.rows = BLOCK / QUADS / f.groups;
    f.taps = min(p.k, RUN);
    f.step = min(p.stride, f.taps);
    f.reach = (f.rows - 1) * f.step + f.taps;
    f.channels = min(max(STAGE / (f.reach * QUADS + f.taps * f.per * f.groups / 4), 1u), p.cin);
    f.tiles = over(p.tout, f.rows);
    f.across = over(p.cout, f.per * f.groups);
    return f;
}

// A tile of y, and its sums. PER channels a thread, TAPS taps a run, known to be the kernel's own unless 8.
template <unsigned PER, unsigned TAPS>
__device__ inline void fwd_tile(const float* __restrict__ x, const float* __restrict__ norm_in, const float* __restrict__ weight,
                                float* __restrict__ y, float* __restrict__ part, P p, const Fwd& f, float4* shared) {
    // 1. This block's samples, positions and channels; this thread's.
    const unsigned number = blockIdx.x, block = number / f.across / f.tiles;
    const unsigned tile = number / f.across % f.tiles, first = number % f.across * f.groups * PER;
    const unsigned quad = threadIdx.x % QUADS, row = threadIdx.x / QUADS % f.rows, group = threadIdx.x / (QUADS * f.rows);
    const unsigned t0 = tile * f.rows, t = t0 + row, wide = f.groups * PER;
    const bool aligned = aligned16(x), put_aligned = aligned16(y);
    float* ws = reinterpret_cast<float*>(shared + f.channels * f.reach * QUADS);
    float4 acc[PER];
#pragma unroll
    for (unsigned e = 0; e < PER; ++e) acc[e] = zero4();

    for (unsigned i0 = 0; i0 < p.cin; i0 += f.channels) {
        const unsigned ni = min(f.channels, p.cin - i0);
        for (unsigned k0 = 0; k0 < p.k; k0 += f.taps) {
            const unsigned nk = TAPS == RUN ? min(f.taps, p.k - k0) : TAPS;
            if (i0 + k0 > 0) __syncthreads();
            // 2. The input as the convolution sees it, a run of channels; weights [channel][tap][output channel].
            for (unsigned q = threadIdx.x; q < f.reach * QUADS; q += BLOCK) {
                const unsigned at = q / QUADS;
                const unsigned frame = k0 + (f.step == p.stride ? t0 * p.stride + at : (t0 + at / f.taps) * p.stride + at % f.taps);
                const float* from = x + (static_cast<size_t>(block * p.cin + i0) * p.t + frame) * LANES + 4 * (q % QUADS);
#pragma unroll 4
                for (unsigned i = 0; i < ni; ++i) {
                    float4 v = zero4();
                    if (frame < p.t) {
                        v = line(from + static_cast<size_t>(i) * p.t * LANES, aligned);
                        if (p.affine) v = activated(v, norm_in[i0 + i], norm_in[p.cin + i0 + i]);
                    }
                    shared[i * f.reach * QUADS + q] = v;
                }
            }
            // In a thread the output channel stays the same; taps of a channel lie side by side where they are one run.
            const unsigned c = first + threadIdx.x % wide;
            const float* from = weight + (static_cast<size_t>(c) * p.cin + i0) * p.k + k0;
#pragma unroll 4
            for (unsigned q = threadIdx.x / wide; q < ni * f.taps; q += BLOCK / wide) {
                const bool there = c < p.cout && (p.k <= RUN || q % RUN < nk);
                ws[q * wide + threadIdx.x % wide] = there ? from[p.k <= RUN ? q : q / RUN * p.k + q % RUN] : 0.0f;
            }
            __syncthreads();
            // 3. Their products.
            const float4* in = shared + row * f.step * QUADS + quad;
            const float4* w4 = reinterpret_cast<const float4*>(ws + group * PER);
            for (unsigned i = 0; i < ni; ++i) {
#pragma unroll
                for (unsigned tap = 0; tap < TAPS; ++tap) {
                    if (TAPS == RUN && tap >= nk) break;
                    const float4 v = in[(i * f.reach + tap) * QUADS];
#pragma unroll
                    for (unsigned e = 0; e < PER; e += 4) {
                        const float4 w = w4[((i * f.taps + tap) * wide + e) / 4];
                        add_product(acc[e], w.x, v);
                        add_product(acc[e + 1], w.y, v);
                        add_product(acc[e + 2], w.z, v);
                        add_product(acc[e + 3], w.w, v);
                    }
                }
            }
        }
    }
    // 4. Out.
    const unsigned c0 = first + group * PER;
    if (t < p.tout) {
#pragma unroll
        for (unsigned e = 0; e < PER; ++e) {
            float* to = y + (static_cast<size_t>(block * p.cout + c0 + e) * p.tout + t) * LANES + 4 * quad;
            if (c0 + e < p.cout) put_line(to, acc[e], put_aligned);
        }
    }
    if (!p.train) return;
    // 5. The tile's sums, and its squares about its own mean.
    const int live = t < p.tout ? live_of(p, block, quad) : 0;
    const float count = static_cast<float>(lanes_of(p, block) * min(f.rows, p.tout - t0));
    float sum[PER], squares[PER];
#pragma unroll
    for (unsigned e = 0; e < PER; ++e) sum[e] = dot4(kept(acc[e], live), make_float4(1.0f, 1.0f, 1.0f, 1.0f));
    team_sum(sum, QUADS * f.rows);
#pragma unroll
    for (unsigned e = 0; e < PER; ++e) {
        const float mean = sum[e] / count;
        const float4 d = kept(make_float4(acc[e].x - mean, acc[e].y - mean, acc[e].z - mean, acc[e].w - mean), live);
        squares[e] = dot4(d, d);
    }
    team_sum(squares, QUADS * f.rows);
    if (row == 0 && quad == 0) {
        const unsigned parts = over(p.batch, LANES) * f.tiles, at = block * f.tiles + tile;
#pragma unroll
        for (unsigned e = 0; e < PER; ++e) {
            if (c0 + e < p.cout) {
                part[static_cast<size_t>(c0 + e) * parts + at] = sum[e];
                part[static_cast<size_t>(p.cout + c0 + e) * parts + at] = squares[e];
            }
        }
    }
}

template <unsigned PER>
__device__ inline void fwd_taps(const float* __restrict__ x, const float* __restrict__ norm_in, const float* __restrict__ weight,
                                float* __restrict__ y, float* __restrict__ part, P p, const Fwd& f, float4* shared) {
    switch (p.k) {
    case 3: return fwd_tile<PER, 3>(x, norm_in, weight, y, part, p, f, shared);
    case 5: return fwd_tile<PER, 5>(x, norm_in, weight, y, part, p, f, shared);
    case 7: return fwd_tile<PER, 7>(x, norm_in, weight, y, part, p, f, shared);
    default: return fwd_tile<PER, RUN>(x, norm_in, weight, y, part, p, f, shared);
    }
}

__device__ inline void put_norm(float* norm, unsigned c, P p, float gamma, float beta, float mean, float variance) {
    const float inv = 1.0f / sqrtf(variance + p.eps), scale = gamma * inv;
    norm[c] = scale;
    norm[p.cout + c] = beta - mean * scale;
    norm[2 * p.cout + c] = mean;
    norm[3 * p.cout + c] = inv;
}

// Merges the statistics of all tiles (Chan, Golub, LeVeque 1979): a warp takes AT_ONCE channels, so that their loads are under way
// together; each lane merges every 32nd tile, then the lanes a butterfly.
__device__ inline void merge_statistics(const float* part, unsigned parts, const float* __restrict__ gamma, const float* __restrict__ beta,
                                        float* __restrict__ running_mean, float* __restrict__ running_var, float* __restrict__ norm, P p, const Fwd& f) {
    const unsigned lane = threadIdx.x % 32;
    for (unsigned c0 = threadIdx.x / 32 * AT_ONCE; c0 < p.cout; c0 += WARPS * AT_ONCE) {
        float n = 0.0f;
        float mean[AT_ONCE] = {}, squares[AT_ONCE] = {};
        for (unsigned at = lane; at < parts; at += 32) {
            const float count = static_cast<float>(lanes_of(p, at / f.tiles) * min(f.rows, p.tout - at % f.tiles * f.rows));
            const float share = count / (n + count);
#pragma unroll
            for (unsigned e = 0; e < AT_ONCE; ++e) {
                const unsigned c = min(c0 + e, p.cout - 1);
                const float delta = __ldcg(part + static_cast<size_t>(c) * parts + at) / count - mean[e];
                mean[e] += delta * share;
                squares[e] += __ldcg(part + static_cast<size_t>(p.cout + c) * parts + at) + delta * delta * n * share;
            }
            n += count;
        }
#pragma unroll
        for (unsigned offset = 16; offset > 0; offset /= 2) {
            const float count = __shfl_xor_sync(FULL, n, offset), share = n + count > 0.0f ? count / (n + count) : 0.0f;
#pragma unroll
            for (unsigned e = 0; e < AT_ONCE; ++e) {
                const float delta = __shfl_xor_sync(FULL, mean[e], offset) - mean[e];
                squares[e] += __shfl_xor_sync(FULL, squares[e], offset) + delta * delta * n * share;
                mean[e] += delta * share;
            }
            n += count;
        }
#pragma unroll
        for (unsigned e = 0; e < AT_ONCE; ++e) {
            const unsigned c = c0 + e;
            if (lane != 0 || c >= p.cout) continue;
            put_norm(norm, c, p, gamma[c], beta[c], mean[e], squares[e] / n);
            running_mean[c] = (1.0f - p.momentum) * running_mean[c] + p.momentum * mean[e];
            running_var[c] = (1.0f - p.momentum) * running_var[c] + p.momentum * squares[e] / (n - 1.0f);
        }
    }
}

// ---------------------------------------------------------------- what ends a backward launch

// From the sums of dz and dz (y - mean) over `parts` tiles, of `channels` channels with n values each.
__device__ inline void norm_bwd(const float* part, unsigned parts, const float* __restrict__ norm, float* __restrict__ dgamma,
                                float* __restrict__ dbeta, float* __restrict__ back, unsigned channels, float n) {
    const unsigned lane = threadIdx.x % 32;
    for (unsigned c0 = threadIdx.x / 32 * AT_ONCE; c0 < channels; c0 += WARPS * AT_ONCE) {
        float dz[AT_ONCE] = {}, dzy[AT_ONCE] = {};
        for (unsigned at = lane; at < parts; at += 32) {
#pragma unroll
            for (unsigned e = 0; e < AT_ONCE; ++e) {
                const unsigned c = min(c0 + e, channels - 1);
                dz[e] += __ldcg(part + static_cast<size_t>(c) * parts + at);
                dzy[e] += __ldcg(part + static_cast<size_t>(channels + c) * parts + at);
            }
        }
#pragma unroll
        for (unsigned e = 0; e < AT_ONCE; ++e) {
            const unsigned c = c0 + e;
            dz[e] = warp_sum(dz[e]);
            dzy[e] = warp_sum(dzy[e]);
            if (c >= channels) continue;
            const float scale = norm[c], inv = norm[3 * channels + c];
            if (lane < 4) back[lane * channels + c] = norm[lane * channels + c];
            if (lane == 0) {
                dgamma[c] = dzy[e] * inv;
                dbeta[c] = dz[e];
                back[4 * channels + c] = -scale * inv * inv * dzy[e] / n;
                back[5 * channels + c] = -scale * dz[e] / n;
            }
        }
    }
}

// ---------------------------------------------------------------- backward

// What makes dy of a channel.
struct Channel {
    float scale, shift, mean, p, q;
};

__device__ inline Channel channel(const float* __restrict__ back, unsigned c, unsigned cout) {
    return {back[c], back[cout + c], back[2 * cout + c], back[4 * cout + c], back[5 * cout + c]};
}

__device__ inline float made(Channel ch, float da, float y) {
    const float dz = ch.scale * y + ch.shift > 0.0f ? da : 0.0f;
    return ch.scale * dz + (ch.p * (y - ch.mean) + ch.q);
}

// What both kinds of blocks read.
struct Inputs {
    const float* __restrict__ da;
    const float* __restrict__ y;
    const float* __restrict__ back;
    const float* __restrict__ x;
    const float* __restrict__ norm_in;
};

// Four samples of dy, 0 beyond the batch, the channels and the frames.
__device__ inline float4 dy_line(const Inputs& in, P p, unsigned block, unsigned c, unsigned t, unsigned quad, bool aligned) {
    if (c >= p.cout || t >= p.tout) return zero4();
    const size_t at = (static_cast<size_t>(block * p.cout + c) * p.tout + t) * LANES + 4 * quad;
    const float4 da = line(in.da + at, aligned), y = line(in.y + at, aligned);
    const Channel ch = channel(in.back, c, p.cout);
    const float4 dy = make_float4(made(ch, da.x, y.x), made(ch, da.y, y.y), made(ch, da.z, y.z), made(ch, da.w, y.w));
    return kept(dy, live_of(p, block, quad));
}

// How the weight gradient is cut; as `Dw` in src/kernels/conv_block.rs.
struct Dw {
    unsigned quads;  // threads side by side in output channels, of which each owns 4
    unsigned ins;    // and in input channels
    unsigned taps;   // of a run
    unsigned runs;
    unsigned step;   // positions of the staged input from one position to the next
    unsigned spots;  // positions staged at once
    unsigned reach;  // of the input
    unsigned tiles;  // of weights
    unsigned stages; // of all (16 samples, positions)
    unsigned each;   // stages of a slice
    unsigned slices;
};

__device__ inline Dw dw_of(P p) {
    Dw d;
    d.quads = power(over(p.cout, 4), p.cout < 32 ? 2 : 4);
    d.ins = power(p.cin, p.cin < 16 ? 4 : 8);
    d.taps = min(p.k, RUN);
    d.runs = over(p.k, RUN);
    d.step = min(p.stride, d.taps);
    d.spots = d.step > 3 ? 8 : d.quads * d.ins == 1 ? 32 : 16;
    d.reach = (d.spots - 1) * d.step + d.taps;
    d.tiles = over(p.cout, 4 * d.quads) * over(p.cin, d.ins) * d.runs;
    d.stages = over(p.batch, LANES) * over(p.tout, d.spots);
    d.each = over(d.stages, min(max(SHARES / d.tiles, 1u), SLICES));
    d.slices = over(d.stages, d.each);
    return d;
}

// Partial dw of block `number`: a tile of weights over a slice.
template <unsigned TAPS> __device__ inline void dw_tile(unsigned number, const Inputs& in, float* __restrict__ part, P p, const Dw& d, float4* shared) {
    // 1. This block's slice and weights; this thread's: output channels g, g + quads, ..., so that a warp's reads of shared memory
    // fall on different banks.
    const unsigned slice = number / d.tiles, tile = number % d.tiles;
    const unsigned k0 = tile % d.runs * RUN, across = over(p.cin, d.ins);
    const unsigned i0 = tile / d.runs % across * d.ins, c0 = tile / d.runs / across * 4 * d.quads;
    const unsigned nk = min(d.taps, p.k - k0), pairs = d.quads * d.ins;
    const unsigned pair = threadIdx.x % pairs, share = threadIdx.x / pairs, shares = BLOCK / pairs;
    const unsigned g = pair % d.quads, i = pair / d.quads;
    const unsigned dy_pitch = d.spots * QUADS + 1, a_pitch = d.reach * QUADS + 1, per_block = over(p.tout, d.spots);
    const bool aligned = aligned16(in.da, in.y), x_aligned = aligned16(in.x);
    float4* dys = shared;
    float4* as = shared + 4 * d.quads * dy_pitch;
    float acc[TAPS][4];
#pragma unroll
    for (unsigned tap = 0; tap < TAPS; ++tap) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) acc[tap][e] = 0.0f;
    }
    const unsigned end = min((slice + 1) * d.each, d.stages);
    for (unsigned stage = slice * d.each; stage < end; ++stage) {
        const unsigned block = stage / per_block, t0 = stage % per_block * d.spots;
        // 2. dy and the input as the convolution saw it.
        __syncthreads();
        for (unsigned q = threadIdx.x; q < d.spots * QUADS; q += BLOCK) {
#pragma unroll 4
            for (unsigned c = 0; c < 4 * d.quads; ++c) {
                dys[c * dy_pitch + q] = dy_line(in, p, block, c0 + c, t0 + q / QUADS, q % QUADS, aligned);
            }
        }
        for (unsigned q = threadIdx.x; q < d.reach * QUADS; q += BLOCK) {
            const unsigned at = q / QUADS;
            const unsigned frame = k0 + (d.step == p.stride ? t0 * p.stride + at : (t0 + at / d.taps) * p.stride + at % d.taps);
#pragma unroll 4
            for (unsigned j = 0; j < d.ins; ++j) {
                float4 v = zero4();
                if (frame < p.t && i0 + j < p.cin) {
                    v = line(in.x + (static_cast<size_t>(block * p.cin + i0 + j) * p.t + frame) * LANES + 4 * (q % QUADS), x_aligned);
                    if (p.affine) v = activated(v, in.norm_in[i0 + j], in.norm_in[p.cin + i0 + j]);
                }
                as[j * a_pitch + q] = kept(v, live_of(p, block, q % QUADS));
            }
        }
        __syncthreads();
        // 3. This thread's share of the (position, quad of samples).
        for (unsigned q = share; q < d.spots * QUADS; q += shares) {
            float4 dy[4];
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) dy[e] = dys[(g + e * d.quads) * dy_pitch + q];
            const float4* a = as + i * a_pitch + q / QUADS * d.step * QUADS + q % QUADS;
#pragma unroll
            for (unsigned tap = 0; tap < TAPS; ++tap) {
                if (TAPS == RUN && tap >= nk) break;
                const float4 v = a[tap * QUADS];
#pragma unroll
                for (unsigned e = 0; e < 4; ++e) acc[tap][e] += dot4(dy[e], v);
            }
        }
    }
    // 4. The shares of a warp meet in a butterfly, the warps in shared memory.
#pragma unroll
    for (unsigned tap = 0; tap < TAPS; ++tap) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            for (unsigned offset = 16; offset >= pairs; offset /= 2) acc[tap][e] += __shfl_xor_sync(FULL, acc[tap][e], offset);
        }
    }
    __syncthreads();
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (lane < pairs) {
#pragma unroll
        for (unsigned tap = 0; tap < TAPS; ++tap) shared[(warp * TAPS + tap) * pairs + lane] = make_float4(acc[tap][0], acc[tap][1], acc[tap][2], acc[tap][3]);
    }
    __syncthreads();
    const float* sums = reinterpret_cast<const float*>(shared);
    for (unsigned q = threadIdx.x; q < TAPS * pairs * 4; q += BLOCK) {
        const unsigned e = q % 4, of = q / 4 % pairs, tap = q / 4 / pairs;
        float sum = 0.0f;
#pragma unroll
        for (unsigned w = 0; w < WARPS; ++w) sum += sums[w * TAPS * pairs * 4 + q];
        const unsigned c = c0 + of % d.quads + e * d.quads, j = i0 + of / d.quads;
        if (tap < nk && c < p.cout && j < p.cin) {
            part[((static_cast<size_t>(slice) * p.cout + c) * p.cin + j) * p.k + k0 + tap] = sum;
        }
    }
}

__device__ inline void dw_block(unsigned number, const Inputs& in, float* __restrict__ part, P p, const Dw& d, float4* shared) {
    switch (p.k) {
    case 3: return dw_tile<3>(number, in, part, p, d, shared);
    case 5: return dw_tile<5>(number, in, part, p, d, shared);
    case 7: return dw_tile<7>(number, in, part, p, d, shared);
    default: return dw_tile<RUN>(number, in, part, p, d, shared);
    }
}

// dw = sum over slices, in order, by all threads of the last block.
__device__ inline void sum_slices(const float* part, float* __restrict__ dw, P p, const Dw& d) {
    const unsigned weights = p.cout * p.cin * p.k;
    if (weights % 4 == 0 && aligned16(part, dw)) {
        for (unsigned at = threadIdx.x; at < weights / 4; at += BLOCK) {
            float4 sum = zero4();
#pragma unroll 16
            for (unsigned s = 0; s < d.slices; ++s) {
                add_product(sum, 1.0f, __ldcg(reinterpret_cast<const float4*>(part + static_cast<size_t>(s) * weights) + at));
            }
            reinterpret_cast<float4*>(dw)[at] = sum;
        }
        return;
    }
    for (unsigned at = threadIdx.x; at < weights; at += BLOCK) {
        float sum = 0.0f;
#pragma unroll 8
        for (unsigned s = 0; s < d.slices; ++s) sum += __ldcg(part + static_cast<size_t>(s) * weights + at);
        dw[at] = sum;
    }
}

// How the gradient of the input is cut; as `Dx` in src/kernels/conv_block.rs.
struct Dx {
    unsigned groups;    // threads side by side in input channels, of which each owns 4
    unsigned rows;      // positions s / stride of a block
    unsigned residues;  // of a pass
    unsigned taps;      // taps of a residue in a run
    unsigned reach;     // positions of dy of a run
    unsigned channels;  // output channels of a run
    unsigned tiles;     // of positions
    unsigned across;    // tiles of input channels
};

__device__ inline Dx dx_of(P p) {
    Dx d;
    d.groups = power(over(p.cin, 4), 4);
    d.rows = BLOCK / QUADS / d.groups;
    d.residues = p.stride <= 3 ? p.stride : 1;
    d.taps = min(over(p.k, p.stride), RUN);
    d.reach = d.rows + d.taps - 1;
    d.channels = min(max(STAGE / (d.reach * QUADS + d.taps * d.residues * d.groups), 1u), p.cout);
    d.tiles = over(over(p.t, p.stride), d.rows);
    d.across = over(p.cin, 4 * d.groups);
    return d;
}

// da_in of block `number`, and the sums of the layer before. RES residues at once.
template <unsigned RES>
__device__ inline void dx_tile(unsigned number, const Inputs& in, const float* __restrict__ weight, float* __restrict__ da_in, float* __restrict__ part,
                               P p, const Dx& d, float4* shared) {
    // 1. This block's samples, positions and channels; this thread's.
    const unsigned block = number / d.across / d.tiles, tile = number / d.across % d.tiles, i0 = number % d.across * 4 * d.groups;
    const unsigned quad = threadIdx.x % QUADS, row = threadIdx.x / QUADS % d.rows, group = threadIdx.x / (QUADS * d.rows);
    const unsigned j0 = tile * d.rows, ours = i0 + 4 * group, wide = 4 * d.groups, longest = over(p.k, p.stride);
    const int live = live_of(p, block, quad);
    const bool aligned = aligned16(in.da, in.y), x_aligned = aligned16(in.x), put_aligned = aligned16(da_in);
    float4* ws = shared + d.channels * d.reach * QUADS;
    float sums[8] = {};
    for (unsigned r0 = 0; r0 < min(p.stride, p.t); r0 += RES) {
        float4 acc[RES][4];
#pragma unroll
        for (unsigned r = 0; r < RES; ++r) {
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) acc[r][e] = zero4();
        }
        for (unsigned c0 = 0; c0 < p.cout; c0 += d.channels) {
            const unsigned nc = min(d.channels, p.cout - c0);
            for (unsigned m0 = 0; m0 < longest; m0 += d.taps) {
                // 2. dy of the positions that the run's taps reach, latest last; weights [channel][m][residue][input channel].
                __syncthreads();
                for (unsigned q = threadIdx.x; q < d.reach * QUADS; q += BLOCK) {
                    // Before frame 0 this wraps, and is beyond the frames.
                    const unsigned t = j0 + q / QUADS - (m0 + d.taps - 1);
#pragma unroll 4
                    for (unsigned c = 0; c < nc; ++c) {
                        shared[c * d.reach * QUADS + q] = dy_line(in, p, block, c0 + c, t, q % QUADS, aligned);
                    }
                }
                float* to = reinterpret_cast<float*>(ws);
                const unsigned i = i0 + threadIdx.x % wide;
#pragma unroll 4
                for (unsigned q = threadIdx.x / wide; q < nc * d.taps * RES; q += BLOCK / wide) {
                    const unsigned c = c0 + q / RES / d.taps, m = q / RES % d.taps, tap = r0 + q % RES + p.stride * (m0 + m);
                    const bool there = tap < p.k && i < p.cin;
                    to[q * wide + threadIdx.x % wide] = there ? weight[(static_cast<size_t>(c) * p.cin + i) * p.k + tap] : 0.0f;
                }
                __syncthreads();
                // 3. Their products.
                const unsigned nm = min(d.taps, longest - m0);
                for (unsigned c = 0; c < nc; ++c) {
                    for (unsigned m = 0; m < nm; ++m) {
                        const float4 v = shared[(c * d.reach + row + d.taps - 1 - m) * QUADS + quad];
#pragma unroll
                        for (unsigned r = 0; r < RES; ++r) {
                            if (r0 + r + p.stride * (m0 + m) >= p.k) break;
                            const float4 w = ws[((c * d.taps + m) * RES + r) * d.groups + group];
                            add_product(acc[r][0], w.x, v);
                            add_product(acc[r][1], w.y, v);
                            add_product(acc[r][2], w.z, v);
                            add_product(acc[r][3], w.w, v);
                        }
                    }
                }
            }
        }
        // 4. Out; nothing flows to lanes beyond the batch.
#pragma unroll
        for (unsigned r = 0; r < RES; ++r) {
            const unsigned s = (j0 + row) * p.stride + r0 + r;
            if (s >= p.t) continue;
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) {
                if (ours + e >= p.cin) continue;
                const size_t at = (static_cast<size_t>(block * p.cin + ours + e) * p.t + s) * LANES + 4 * quad;
                const float4 v = kept(acc[r][e], live);
                put_line(da_in + at, v, put_aligned);
                if (!p.affine) continue;
                const float4 x = line(in.x + at, x_aligned);
                const float scale = in.norm_in[ours + e], shift = in.norm_in[p.cin + ours + e], mean = in.norm_in[2 * p.cin + ours + e];
                const float4 dz = make_float4(scale * x.x + shift > 0.0f ? v.x : 0.0f, scale * x.y + shift > 0.0f ? v.y : 0.0f,
                                              scale * x.z + shift > 0.0f ? v.z : 0.0f, scale * x.w + shift > 0.0f ? v.w : 0.0f);
                sums[e] += (dz.x + dz.y) + (dz.z + dz.w);
                sums[4 + e] += dot4(dz, make_float4(x.x - mean, x.y - mean, x.z - mean, x.w - mean));
            }
        }
    }
    // 5. The sums of the layer before.
    if (!p.affine) return;
    team_sum(sums, QUADS * d.rows);
    if (row == 0 && quad == 0) {
        const unsigned parts = over(p.batch, LANES) * d.tiles, at = block * d.tiles + tile;
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            if (ours + e < p.cin) {
                part[static_cast<size_t>(ours + e) * parts + at] = sums[e];
                part[static_cast<size_t>(p.cin + ours + e) * parts + at] = sums[4 + e];
            }
        }
    }
}

// Frames of a sample that the mean over time includes.
__device__ inline unsigned frames_of(P p, const float* __restrict__ lengths, unsigned sample) {
    return p.affine ? static_cast<unsigned>(fminf(fmaxf(lengths[sample], 1.0f), static_cast<float>(p.tout))) : p.tout;
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT)
    conv_block_fwd(const float* __restrict__ x, const float* __restrict__ norm_in, const float* __restrict__ weight, const float* __restrict__ gamma,
                   const float* __restrict__ beta, float* __restrict__ running_mean, float* __restrict__ running_var, float* __restrict__ y,
                   float* part, float* __restrict__ norm, P p, unsigned* ticket) {
    extern __shared__ float4 fwd_shared[];
    const Fwd f = fwd_of(p);
    if (f.per == 8) {
        fwd_taps<8>(x, norm_in, weight, y, part, p, f, fwd_shared);
    } else {
        fwd_taps<4>(x, norm_in, weight, y, part, p, f, fwd_shared);
    }
    if (!p.train) {
        if (blockIdx.x > 0) return;
        for (unsigned c = threadIdx.x; c < p.cout; c += BLOCK) put_norm(norm, c, p, gamma[c], beta[c], running_mean[c], running_var[c]);
        return;
    }
    if (!last_block(ticket)) return;
    merge_statistics(part, over(p.batch, LANES) * f.tiles, gamma, beta, running_mean, running_var, norm, p, f);
}

// A block owns sixteen samples and a channel; a thread four samples of every 32nd position.
extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) conv_block_pool_fwd(const float* __restrict__ y, const float* __restrict__ norm, const float* __restrict__ lengths,
                                                                        float* __restrict__ embedding, P p) {
    __shared__ float4 rows[WARPS][QUADS];
    const unsigned block = blockIdx.x / p.cout, c = blockIdx.x % p.cout, quad = threadIdx.x % QUADS, warp = threadIdx.x / 32;
    const bool aligned = aligned16(y);
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
#pragma unroll 4
    for (unsigned t = threadIdx.x / QUADS; t < longest; t += BLOCK / QUADS) {
        const float4 a = activated(line(y + (static_cast<size_t>(blockIdx.x) * p.tout + t) * LANES + 4 * quad, aligned), scale, shift);
        sum.x += t < frames[0] ? a.x : 0.0f;
        sum.y += t < frames[1] ? a.y : 0.0f;
        sum.z += t < frames[2] ? a.z : 0.0f;
        sum.w += t < frames[3] ? a.w : 0.0f;
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
        if (e < live) embedding[static_cast<size_t>(block * LANES + 4 * quad + e) * p.cout + c] = sums[e] / static_cast<float>(frames[e]);
    }
}

// As pool_fwd.
extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT)
    conv_block_pool_bwd(const float* __restrict__ d_embedding, const float* __restrict__ y, const float* __restrict__ norm, const float* __restrict__ lengths,
                        float* __restrict__ da, float* part, float* __restrict__ dgamma, float* __restrict__ dbeta, float* __restrict__ back, P p,
                        unsigned* ticket) {
    const unsigned block = blockIdx.x / p.cout, c = blockIdx.x % p.cout, quad = threadIdx.x % QUADS, blocks = over(p.batch, LANES);
    const bool aligned = aligned16(y, da);
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
    float sums[2] = {};
#pragma unroll 4
    for (unsigned t = threadIdx.x / QUADS; t < p.tout; t += BLOCK / QUADS) {
        const size_t at = (static_cast<size_t>(blockIdx.x) * p.tout + t) * LANES + 4 * quad;
        const float4 v = line(y + at, aligned);
        const float4 d = make_float4(t < frames[0] ? share[0] : 0.0f, t < frames[1] ? share[1] : 0.0f, t < frames[2] ? share[2] : 0.0f,
                                     t < frames[3] ? share[3] : 0.0f);
        put_line(da + at, d, aligned);
        const float4 dz = make_float4(scale * v.x + shift > 0.0f ? d.x : 0.0f, scale * v.y + shift > 0.0f ? d.y : 0.0f,
                                      scale * v.z + shift > 0.0f ? d.z : 0.0f, scale * v.w + shift > 0.0f ? d.w : 0.0f);
        sums[0] += (dz.x + dz.y) + (dz.z + dz.w);
        sums[1] += dot4(dz, make_float4(v.x - mean, v.y - mean, v.z - mean, v.w - mean));
    }
    team_sum(sums, BLOCK);
    if (threadIdx.x < 2) part[(static_cast<size_t>(threadIdx.x) * p.cout + c) * blocks + block] = sums[threadIdx.x];
    if (last_block(ticket)) norm_bwd(part, blocks, norm, dgamma, dbeta, back, p.cout, static_cast<float>(p.batch) * static_cast<float>(p.tout));
}

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT)
    conv_block_bwd(const float* __restrict__ da, const float* __restrict__ y, const float* __restrict__ back, const float* __restrict__ x,
                   const float* __restrict__ norm_in, const float* __restrict__ weight, float* __restrict__ da_in, float* part, float* __restrict__ dw,
                   float* __restrict__ dgamma_in, float* __restrict__ dbeta_in, float* __restrict__ back_in, P p, unsigned* ticket) {
    extern __shared__ float4 bwd_shared[];
    const Inputs in = {da, y, back, x, norm_in};
    const Dw d = dw_of(p);
    const Dx e = dx_of(p);
    float* sums = part + static_cast<size_t>(d.slices) * p.cout * p.cin * p.k;
    if (blockIdx.x < d.tiles * d.slices) {
        dw_block(blockIdx.x, in, part, p, d, bwd_shared);
    } else {
        const unsigned number = blockIdx.x - d.tiles * d.slices;
        switch (e.residues) {
        case 2: dx_tile<2>(number, in, weight, da_in, sums, p, e, bwd_shared); break;
        case 3: dx_tile<3>(number, in, weight, da_in, sums, p, e, bwd_shared); break;
        default: dx_tile<1>(number, in, weight, da_in, sums, p, e, bwd_shared); break;
        }
    }
    if (!last_block(ticket)) return;
    sum_slices(part, dw, p, d);
    if (p.affine) {
        const float n = static_cast<float>(p.batch) * static_cast<float>(p.t);
        norm_bwd(sums, over(p.batch, LANES) * e.tiles, norm_in, dgamma_in, dbeta_in, back_in, p.cin, n);
    } else if (threadIdx.x == 0) {
        dgamma_in[0] = 0.0f;
        dbeta_in[0] = 0.0f;
        back_in[0] = 0.0f;
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) conv_block_bwd_w(const float* __restrict__ da, const float* __restrict__ y, const float* __restrict__ back,
                                                                     const float* __restrict__ x, const float* __restrict__ norm_in, float* part,
                                                                     float* __restrict__ dw, P p, unsigned* ticket) {
    extern __shared__ float4 bwd_w_shared[];
    const Dw d = dw_of(p);
    dw_block(blockIdx.x, Inputs{da, y, back, x, norm_in}, part, p, d, bwd_w_shared);
    if (last_block(ticket)) sum_slices(part, dw, p, d);
}
