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

namespace {

struct ConvBlockParams {
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
// Blocks that a multiprocessor should hold: at most 128 registers a thread, or 168.
constexpr unsigned RESIDENT = 4;
constexpr unsigned RESIDENT_BWD = 3;
constexpr unsigned LANES = 16;
// Quads of samples in a line.
constexpr unsigned QUADS = 4;
// Taps that a thread of dw owns, and that fwd stages at once.
constexpr unsigned RUN = 8;
// Quads of shared memory for the runs of channels.
constexpr unsigned STAGE = 2048;
// Positions of a warp of fwd and of da_in.
constexpr unsigned WARP_ROWS = 32 / QUADS;
// Loads of a thread that are under way together.
constexpr unsigned FLIGHT = 8;
// The same of the means over time.
constexpr unsigned AT_ONCE = 4;
// Blocks of dw that a launch should have, and most slices of its tiles.
constexpr unsigned SHARES = 256;
constexpr unsigned SLICES = 192;
// Blocks of da_in from which on each takes all residues.
constexpr unsigned ENOUGH = 264;

__device__ inline unsigned over(unsigned n, unsigned by) { return (n + by - 1) / by; }

// The least of 1, 2, 4, ... that is n or more, at most `most`, one of them; n is at least 1.
__device__ inline unsigned power(unsigned n, unsigned most) {
    return n >= most ? most : n == 1 ? 1 : 2u << (31 - __clz(static_cast<int>(n - 1)));
}

// A division of integers is twenty instructions one after the other. For a power of two `by`: n / by, rounded up, and n % by.
__device__ inline unsigned halved(unsigned n, unsigned by) { return n >> (31 - __clz(static_cast<int>(by))); }
__device__ inline unsigned over_power(unsigned n, unsigned by) { return halved(n + by - 1, by); }
__device__ inline unsigned rest(unsigned n, unsigned by) { return n & (by - 1); }

// n / by for n below 2^20, from 1 / by.
__device__ inline float inverse_of(unsigned by) { return __fdividef(1.0f, static_cast<float>(by)); }
__device__ inline unsigned quotient(unsigned n, float inverse) {
    return static_cast<unsigned>((static_cast<float>(n) + 0.5f) * inverse);
}

__device__ inline float4 zero4() { return make_float4(0.0f, 0.0f, 0.0f, 0.0f); }

// Four samples of a line. A window may start at any float.
__device__ inline float4 line(const float* from, bool aligned) {
    if (aligned) return *reinterpret_cast<const float4*>(from);
    return make_float4(from[0], from[1], from[2], from[3]);
}

// As line, of what this launch wrote.
__device__ inline float4 written_line(const float* from, bool aligned) {
    if (aligned) return __ldcg(reinterpret_cast<const float4*>(from));
    return make_float4(__ldcg(from), __ldcg(from + 1), __ldcg(from + 2), __ldcg(from + 3));
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

__device__ inline void add_dot(float& sum, float4 a, float4 b) {
    sum += a.x * b.x;
    sum += a.y * b.y;
    sum += a.z * b.z;
    sum += a.w * b.w;
}

__device__ inline float relu(float v, float scale, float shift) { return fmaxf(scale * v + shift, 0.0f); }

__device__ inline float4 activated(float4 v, float scale, float shift) {
    return make_float4(relu(v.x, scale, shift), relu(v.y, scale, shift), relu(v.z, scale, shift), relu(v.w, scale, shift));
}

// Samples of a block of sixteen.
__device__ inline unsigned lanes_of(ConvBlockParams p, unsigned block) { return min(LANES, p.batch - block * LANES); }

// v where its lane holds a sample, else 0; `live` counts from the quad's first.
__device__ inline float4 kept(float4 v, int live) {
    return make_float4(live > 0 ? v.x : 0.0f, live > 1 ? v.y : 0.0f, live > 2 ? v.z : 0.0f, live > 3 ? v.w : 0.0f);
}

// Samples of quad `quad` of a block, at most 4, maybe none.
__device__ inline int live_of(ConvBlockParams p, unsigned block, unsigned quad) {
    return static_cast<int>(lanes_of(p, block)) - static_cast<int>(4 * quad);
}

// Leaves the sums v[e] over each warp in sums[warp][e]. All threads must come here, once.
template <unsigned N> __device__ inline void warp_sums(float (&v)[N], float* sums) {
#pragma unroll
    for (unsigned e = 0; e < N; ++e) v[e] = warp_sum(v[e]);
    if (threadIdx.x % 32 == 0) {
#pragma unroll
        for (unsigned e = 0; e < N; ++e) sums[threadIdx.x / 32 * N + e] = v[e];
    }
    __syncthreads();
}

// Threads side by side that share a channel when a block merges the parts of `channels`; at least 4.
__device__ inline unsigned sharers(unsigned channels) { return halved(32, power(over(channels, WARPS), 8)); }

// The sum over `width` neighbours, in each of them.
__device__ inline float shared_sum(float v, unsigned width) {
    for (unsigned offset = width / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(FULL, v, offset);
    return v;
}

// A run of channels of a feature map on its way to shared memory; element q of it is (channel, position, quad).
struct Run {
    const float* __restrict__ x;
    unsigned block; // of sixteen samples
    unsigned i0;    // first channel
    unsigned ni;    // channels that there are
    unsigned frame; // first frame
    unsigned gap;   // frames that no tap reads, after each `taps`
    unsigned row;   // quads of a channel
    float by_row;   // 1 / row
    float by_taps;  // 1 / taps
    bool aligned;
};

// Sets out scale and shift of the run's channels, a float4 each; 0 beyond the last.
__device__ inline void copy_norm(float4* to, const float* __restrict__ norm, unsigned i0, unsigned count, ConvBlockParams p) {
    for (unsigned q = threadIdx.x; p.affine && q < 2 * count; q += BLOCK) {
        const unsigned i = i0 + q / 2;
        copy_async4(reinterpret_cast<float*>(to) + q / 2 * 4 + q % 2, norm + (i < p.cin ? q % 2 * p.cin + i : 0), i < p.cin);
    }
}

// Elements q0, q0 + BLOCK, ...; 0 beyond the frames, which only positions read that are dropped.
__device__ inline void load_run(float4 (&to)[FLIGHT], const Run& run, unsigned q0, ConvBlockParams p) {
#pragma unroll
    for (unsigned j = 0; j < FLIGHT; ++j) {
        const unsigned q = q0 + j * BLOCK, i = quotient(q, run.by_row), at = (q - i * run.row) / QUADS;
        const unsigned frame = run.frame + at + quotient(at, run.by_taps) * run.gap;
        to[j] = zero4();
        if (i < run.ni && frame < p.t) {
            to[j] = line(run.x + (static_cast<size_t>(run.block * p.cin + run.i0 + i) * p.t + frame) * LANES + 4 * (q % QUADS),
                         run.aligned);
        }
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

__device__ inline Fwd fwd_of(ConvBlockParams p) {
    Fwd f;
    f.per = p.cout > 16 ? 8 : 4;
    f.groups = power(over_power(p.cout, f.per), 4);
    f.rows = halved(BLOCK / QUADS, f.groups);
    f.taps = min(p.k, RUN);
    f.step = min(p.stride, f.taps);
    f.reach = (f.rows - 1) * f.step + f.taps;
    f.channels = min(max(quotient(STAGE, inverse_of(f.reach * QUADS + 1 + f.taps * f.per * f.groups / 4)), 1u), p.cin);
    f.tiles = over_power(p.tout, f.rows);
    f.across = over_power(p.cout, f.per * f.groups);
    return f;
}

// A tile of y, and its sums. PER channels a thread, TAPS taps a run, known to be the kernel's own unless 8.
template <unsigned PER, unsigned TAPS>
__device__ inline void fwd_tile(const float* __restrict__ x, const float* __restrict__ norm_in, const float* __restrict__ weight,
                                float* __restrict__ y, float* __restrict__ part, ConvBlockParams p, const Fwd& f, float4* shared,
                                float* sums) {
    // 1. This block's samples, positions and channels; this thread's.
    const unsigned at_part = f.across == 1 ? blockIdx.x : blockIdx.x / f.across,
                   first = (blockIdx.x - at_part * f.across) * f.groups * PER;
    const unsigned block = at_part / f.tiles, tile = at_part - block * f.tiles;
    const unsigned quad = threadIdx.x % QUADS, row = rest(threadIdx.x / QUADS, f.rows),
                   group = halved(threadIdx.x / QUADS, f.rows);
    const unsigned t0 = tile * f.rows, t = t0 + row, wide = f.groups * PER;
    const bool aligned = aligned16(x), put_aligned = aligned16(y);
    float4* norms = shared + f.channels * f.reach * QUADS;
    float* ws = reinterpret_cast<float*>(norms + f.channels);
    float4 acc[PER];
#pragma unroll
    for (unsigned e = 0; e < PER; ++e) acc[e] = zero4();

    const unsigned row_quads = f.reach * QUADS;
    const float inverse = inverse_of(row_quads), taps_inverse = inverse_of(f.taps);
    for (unsigned i0 = 0; i0 < p.cin; i0 += f.channels) {
        const unsigned ni = min(f.channels, p.cin - i0);
        for (unsigned k0 = 0; k0 < p.k; k0 += f.taps) {
            const unsigned nk = TAPS == RUN ? min(f.taps, p.k - k0) : TAPS;
            if (i0 + k0 > 0) __syncthreads();
            // 2. Weights [channel][tap][output channel] set out, then the input as the convolution sees it, a run of channels.
            // In a thread the output channel stays the same; taps of a channel lie side by side where they are one run.
            const unsigned c = first + rest(threadIdx.x, wide);
            const float* from = weight + (static_cast<size_t>(min(c, p.cout - 1)) * p.cin + i0) * p.k + k0;
            for (unsigned q = halved(threadIdx.x, wide); q < ni * f.taps; q += halved(BLOCK, wide)) {
                const bool there = c < p.cout && (p.k <= RUN || q % RUN < nk);
                copy_async4(ws + q * wide + rest(threadIdx.x, wide),
                            from + (!there ? 0 : (p.k <= RUN ? q : q / RUN * p.k + q % RUN)), there);
            }
            copy_norm(norms, norm_in, i0, ni, p);
            copy_commit();
            const Run run = {x, block, i0, ni, k0 + t0 * p.stride, p.stride - f.step, row_quads, inverse, taps_inverse, aligned};
            for (unsigned base = 0; base < ni * row_quads; base += FLIGHT * BLOCK) {
                float4 v[FLIGHT];
                load_run(v, run, base + threadIdx.x, p);
                if (base == 0) {
                    copy_wait<0>();
                    __syncthreads();
                }
#pragma unroll
                for (unsigned j = 0; j < FLIGHT; ++j) {
                    const unsigned q = base + threadIdx.x + j * BLOCK;
                    if (q >= ni * row_quads) break;
                    if (p.affine) {
                        const float4 norm = norms[quotient(q, inverse)];
                        v[j] = activated(v[j], norm.x, norm.y);
                    }
                    shared[q] = v[j];
                }
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
    // 5. Mean of the values and their squares about it: of a warp, then of the tile (Chan, Golub, LeVeque 1979).
    const int live = t < p.tout ? live_of(p, block, quad) : 0;
    const unsigned warps = f.rows / WARP_ROWS, there = p.tout - t0;
    const float lanes = static_cast<float>(lanes_of(p, block));
    const auto count_of = [&](unsigned warp) {
        return lanes * static_cast<float>(min(there - min(there, warp * WARP_ROWS), WARP_ROWS));
    };
    const float count = count_of(rest(threadIdx.x / 32, warps)), inverse_count = 1.0f / fmaxf(count, 1.0f);
    float two[2 * PER];
#pragma unroll
    for (unsigned e = 0; e < PER; ++e) {
        two[e] = warp_sum(dot4(kept(acc[e], live), make_float4(1.0f, 1.0f, 1.0f, 1.0f))) * inverse_count;
    }
#pragma unroll
    for (unsigned e = 0; e < PER; ++e) {
        const float mean = two[e];
        const float4 d = kept(make_float4(acc[e].x - mean, acc[e].y - mean, acc[e].z - mean, acc[e].w - mean), live);
        two[PER + e] = warp_sum(dot4(d, d));
    }
    if (threadIdx.x % 32 == 0) {
#pragma unroll
        for (unsigned e = 0; e < 2 * PER; ++e) sums[threadIdx.x / 32 * 2 * PER + e] = two[e];
    }
    __syncthreads();
    const unsigned parts = over(p.batch, LANES) * f.tiles, c = first + threadIdx.x;
    if (threadIdx.x >= wide || c >= p.cout) return;
    const float* of = sums + threadIdx.x / PER * warps * 2 * PER + threadIdx.x % PER;
    const float n = lanes * static_cast<float>(min(f.rows, there));
    float mean = 0.0f, squares = 0.0f;
    for (unsigned w = 0; w < warps; ++w) mean += count_of(w) * of[w * 2 * PER];
    mean /= n;
    for (unsigned w = 0; w < warps; ++w) {
        const float d = of[w * 2 * PER] - mean;
        squares += of[w * 2 * PER + PER] + count_of(w) * d * d;
    }
    part[static_cast<size_t>(c) * parts + at_part] = mean;
    part[static_cast<size_t>(p.cout + c) * parts + at_part] = squares;
    if (c == 0) part[static_cast<size_t>(2 * p.cout) * parts + at_part] = n;
}

template <unsigned PER>
__device__ inline void fwd_taps(const float* __restrict__ x, const float* __restrict__ norm_in, const float* __restrict__ weight,
                                float* __restrict__ y, float* __restrict__ part, ConvBlockParams p, const Fwd& f, float4* shared,
                                float* sums) {
    switch (p.k) {
    case 3: return fwd_tile<PER, 3>(x, norm_in, weight, y, part, p, f, shared, sums);
    case 5: return fwd_tile<PER, 5>(x, norm_in, weight, y, part, p, f, shared, sums);
    case 7: return fwd_tile<PER, 7>(x, norm_in, weight, y, part, p, f, shared, sums);
    default: return fwd_tile<PER, RUN>(x, norm_in, weight, y, part, p, f, shared, sums);
    }
}

__device__ inline void put_norm(float* norm, unsigned c, ConvBlockParams p, float gamma, float beta, float mean, float variance) {
    const float inv = 1.0f / sqrtf(variance + p.eps), scale = gamma * inv;
    norm[c] = scale;
    norm[p.cout + c] = beta - mean * scale;
    norm[2 * p.cout + c] = mean;
    norm[3 * p.cout + c] = inv;
}

// Merges the statistics of all tiles: the mean of all, then the squares about it. Neighbours share a channel, each every
// `width`th tile.
__device__ inline void merge_statistics(const float* part, unsigned parts, const float* __restrict__ gamma,
                                        const float* __restrict__ beta, float* __restrict__ running_mean,
                                        float* __restrict__ running_var, float* __restrict__ norm, ConvBlockParams p) {
    const unsigned width = sharers(p.cout), lane = rest(threadIdx.x, width), abreast = halved(BLOCK, width),
                   ours = halved(threadIdx.x, width);
    const float n = static_cast<float>(p.batch) * static_cast<float>(p.tout);
    const float* counts = part + static_cast<size_t>(2 * p.cout) * parts;
    for (unsigned c0 = 0; c0 < p.cout; c0 += abreast) {
        const unsigned c = min(c0 + ours, p.cout - 1);
        const float* means = part + static_cast<size_t>(c) * parts;
        const float* squared = part + static_cast<size_t>(p.cout + c) * parts;
        const float of_gamma = gamma[c], of_beta = beta[c];
        // Whoever writes them is the only one to read them.
        const bool writes = lane == 0 && c0 + ours < p.cout;
        const float old_mean = writes ? running_mean[c] : 0.0f, old_var = writes ? running_var[c] : 0.0f;
        float mean = 0.0f, squares = 0.0f;
        for (unsigned at = lane; at < parts; at += FLIGHT * width) {
            float v[FLIGHT], w[FLIGHT];
#pragma unroll
            for (unsigned j = 0; j < FLIGHT; ++j) {
                const unsigned of = at + j * width;
                v[j] = of < parts ? __ldcg(means + of) : 0.0f;
                w[j] = of < parts ? __ldcg(counts + of) : 0.0f;
            }
#pragma unroll
            for (unsigned j = 0; j < FLIGHT; ++j) mean += w[j] * v[j];
        }
        mean = shared_sum(mean, width) / n;
        for (unsigned at = lane; at < parts; at += FLIGHT * width) {
            float v[FLIGHT], w[FLIGHT], s[FLIGHT];
#pragma unroll
            for (unsigned j = 0; j < FLIGHT; ++j) {
                const unsigned of = at + j * width;
                v[j] = of < parts ? __ldcg(means + of) : 0.0f;
                w[j] = of < parts ? __ldcg(counts + of) : 0.0f;
                s[j] = of < parts ? __ldcg(squared + of) : 0.0f;
            }
#pragma unroll
            for (unsigned j = 0; j < FLIGHT; ++j) squares += s[j] + w[j] * (v[j] - mean) * (v[j] - mean);
        }
        squares = shared_sum(squares, width);
        if (!writes) continue;
        put_norm(norm, c, p, of_gamma, of_beta, mean, squares / n);
        running_mean[c] = (1.0f - p.momentum) * old_mean + p.momentum * mean;
        running_var[c] = (1.0f - p.momentum) * old_var + p.momentum * squares / (n - 1.0f);
    }
}

// ---------------------------------------------------------------- what ends a backward launch

// From the sums of dz and dz (y - mean) over `parts` tiles, of `channels` channels with n values each; as merge_statistics.
__device__ inline void norm_bwd(const float* part, unsigned parts, const float* __restrict__ norm, float* __restrict__ dgamma,
                                float* __restrict__ dbeta, float* __restrict__ back, unsigned channels, float n) {
    const unsigned width = sharers(channels), lane = rest(threadIdx.x, width), abreast = halved(BLOCK, width),
                   ours = halved(threadIdx.x, width);
    for (unsigned c0 = 0; c0 < channels; c0 += abreast) {
        const unsigned c = min(c0 + ours, channels - 1);
        const float scale = norm[c], shift = norm[channels + c], mean = norm[2 * channels + c], inv = norm[3 * channels + c];
        float dz = 0.0f, dzy = 0.0f;
        for (unsigned at = lane; at < parts; at += FLIGHT * width) {
            float v[FLIGHT], w[FLIGHT];
#pragma unroll
            for (unsigned j = 0; j < FLIGHT; ++j) {
                const unsigned of = at + j * width;
                v[j] = of < parts ? __ldcg(part + static_cast<size_t>(c) * parts + of) : 0.0f;
                w[j] = of < parts ? __ldcg(part + static_cast<size_t>(channels + c) * parts + of) : 0.0f;
            }
#pragma unroll
            for (unsigned j = 0; j < FLIGHT; ++j) dz += v[j], dzy += w[j];
        }
        dz = shared_sum(dz, width);
        dzy = shared_sum(dzy, width);
        if (lane != 0 || c0 + ours >= channels) continue;
        dgamma[c] = dzy * inv;
        dbeta[c] = dz;
        back[c] = scale;
        back[channels + c] = shift;
        back[2 * channels + c] = mean;
        back[3 * channels + c] = inv;
        back[4 * channels + c] = -scale * inv * inv * dzy / n;
        back[5 * channels + c] = -scale * dz / n;
    }
}

// ---------------------------------------------------------------- backward

// What makes dy of a channel, as two float4 in shared memory: scale, shift, mean, unused; p, q, unused.
constexpr unsigned CONSTANTS = 8;

// Sets out the constants of `count` channels from c0 on; 0 beyond the last.
__device__ inline void copy_constants(float4* to, const float* __restrict__ back, unsigned c0, unsigned count, unsigned cout) {
    for (unsigned q = threadIdx.x; q < count * CONSTANTS; q += BLOCK) {
        const unsigned c = c0 + q / CONSTANTS, e = q % CONSTANTS;
        const bool there = c < cout && (e < 3 || e == 4 || e == 5);
        copy_async4(reinterpret_cast<float*>(to) + q, back + (there ? e * cout + c : 0), there);
    }
}

__device__ inline float made(float4 s, float4 r, float da, float y) {
    const float dz = s.x * y + s.y > 0.0f ? da : 0.0f;
    return s.x * dz + (r.x * (y - s.z) + r.y);
}

// What both kinds of blocks read.
struct Inputs {
    const float* __restrict__ da;
    const float* __restrict__ y;
    const float* __restrict__ back;
    const float* __restrict__ x;
    const float* __restrict__ norm_in;
};

// Four samples of dy of the c-th channel with constants; the first `live` are kept.
__device__ inline float4 dy_of(const float4* constants, unsigned c, float4 da, float4 y, int live) {
    const float4 s = constants[2 * c], r = constants[2 * c + 1];
    return kept(make_float4(made(s, r, da.x, y.x), made(s, r, da.y, y.y), made(s, r, da.z, y.z), made(s, r, da.w, y.w)), live);
}

// How the weight gradient is cut; as `Dw` in src/kernels/conv_block.rs.
struct Dw {
    unsigned quads; // threads side by side in output channels, of which each owns 4
    unsigned ins;   // and in input channels
    unsigned taps;  // of a run
    unsigned runs;
    unsigned step;   // positions of the staged input from one position to the next
    unsigned spots;  // positions staged at once
    unsigned reach;  // of the input
    unsigned tiles;  // of weights
    unsigned stages; // of all (16 samples, positions)
    unsigned each;   // stages of a slice
    unsigned slices;
    unsigned weights; // of a tile, as float4
};

__device__ inline Dw dw_of(ConvBlockParams p) {
    Dw d;
    d.quads = power(over(p.cout, 4), p.cout < 32 ? 2 : 4);
    d.ins = power(p.cin, p.cin < 16 ? 4 : 8);
    d.taps = min(p.k, RUN);
    d.runs = over(p.k, RUN);
    d.step = min(p.stride, d.taps);
    d.spots = d.step > 3 ? 8 : d.quads * d.ins == 1 ? 32 : 16;
    d.reach = (d.spots - 1) * d.step + d.taps;
    d.tiles = over_power(p.cout, 4 * d.quads) * over_power(p.cin, d.ins) * d.runs;
    d.stages = over(p.batch, LANES) * over_power(p.tout, d.spots);
    d.each = over(d.stages, min(max(quotient(SHARES, inverse_of(d.tiles)), 1u), SLICES));
    d.slices = over(d.stages, d.each);
    d.weights = d.taps * d.quads * d.ins;
    return d;
}

// Partial dw of a tile of weights over a slice, and the sum of all by the last of the tile's blocks.
template <unsigned TAPS>
__device__ inline void dw_tile(unsigned number, const Inputs& in, float* part, float* __restrict__ dw, ConvBlockParams p,
                               const Dw& d, float4* shared, unsigned* ticket) {
    // 1. This block's slice and weights; this thread's: output channels g, g + quads, ..., so that a warp's reads of shared
    //    memory
    // fall on different banks.
    const unsigned slice = d.tiles == 1 ? number : number / d.tiles, tile = number - slice * d.tiles;
    const unsigned of_pairs = d.runs == 1 ? tile : tile / d.runs, k0 = (tile - of_pairs * d.runs) * RUN,
                   across = over_power(p.cin, d.ins);
    const unsigned of_channels = across == 1 ? of_pairs : of_pairs / across;
    const unsigned i0 = (of_pairs - of_channels * across) * d.ins, c0 = of_channels * 4 * d.quads;
    const unsigned nk = min(d.taps, p.k - k0), pairs = d.quads * d.ins;
    const unsigned pair = rest(threadIdx.x, pairs), share = halved(threadIdx.x, pairs), shares = halved(BLOCK, pairs);
    const unsigned g = rest(pair, d.quads), i = halved(pair, d.quads);
    const unsigned dy_row = d.spots * QUADS, a_row = d.reach * QUADS, dy_pitch = dy_row + 1, a_pitch = a_row + 1,
                   per_block = over_power(p.tout, d.spots);
    const unsigned dy_count = 4 * d.quads * dy_row, a_count = d.ins * a_row;
    const float a_inverse = inverse_of(a_row), taps_inverse = inverse_of(d.taps);
    const bool aligned = aligned16(in.da, in.y), x_aligned = aligned16(in.x);
    float4* dys = shared;
    float4* as = shared + 4 * d.quads * dy_pitch;
    float4* constants = as + d.ins * a_pitch;
    float4* norms = constants + 4 * d.quads * (CONSTANTS / 4);
    float acc[TAPS][4];
#pragma unroll
    for (unsigned tap = 0; tap < TAPS; ++tap) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) acc[tap][e] = 0.0f;
    }
    copy_constants(constants, in.back, c0, 4 * d.quads, p.cout);
    copy_norm(norms, in.norm_in, i0, d.ins, p);
    copy_commit();
    const unsigned end = min((slice + 1) * d.each, d.stages);
    for (unsigned stage = slice * d.each; stage < end; ++stage) {
        const unsigned block = stage / per_block, t0 = (stage - block * per_block) * d.spots;
        const unsigned ni = min(d.ins, p.cin - i0), frame = k0 + t0 * p.stride, gap = p.stride - d.step;
        const Run run = {in.x, block, i0, ni, frame, gap, a_row, a_inverse, taps_inverse, x_aligned};
        // 2. dy and the input as the convolution saw it: in most shapes all of a stage is under way before the first of it is
        //    stored.
        for (unsigned base = 0; base < max(a_count, 2 * dy_count); base += FLIGHT * BLOCK) {
            const unsigned q0 = base + threadIdx.x, r0 = base / 2 + threadIdx.x;
            float4 a[FLIGHT];
            float4 da[FLIGHT / 2], y[FLIGHT / 2];
            load_run(a, run, q0, p);
#pragma unroll
            for (unsigned j = 0; j < FLIGHT / 2; ++j) {
                const unsigned q = r0 + j * BLOCK, c = c0 + halved(q, dy_row), t = t0 + rest(q, dy_row) / QUADS;
                da[j] = y[j] = zero4();
                if (q < dy_count && c < p.cout && t < p.tout) {
                    const size_t at = (static_cast<size_t>(block * p.cout + c) * p.tout + t) * LANES + 4 * (q % QUADS);
                    da[j] = line(in.da + at, aligned);
                    y[j] = line(in.y + at, aligned);
                }
            }
            if (base == 0) {
                copy_wait<0>();
                __syncthreads(); // the constants are there; whoever still reads the stage before
            }
#pragma unroll
            for (unsigned j = 0; j < FLIGHT; ++j) {
                const unsigned q = q0 + j * BLOCK;
                if (q >= a_count) break;
                const unsigned i_of = quotient(q, a_inverse);
                const float4 norm = norms[i_of];
                as[q + i_of] = kept(p.affine ? activated(a[j], norm.x, norm.y) : a[j], live_of(p, block, q % QUADS));
            }
#pragma unroll
            for (unsigned j = 0; j < FLIGHT / 2; ++j) {
                const unsigned q = r0 + j * BLOCK, c = halved(q, dy_row);
                if (q >= dy_count) break;
                const int live = t0 + rest(q, dy_row) / QUADS < p.tout ? live_of(p, block, q % QUADS) : 0;
                dys[q + c] = dy_of(constants, c, da[j], y[j], live);
            }
        }
        __syncthreads();
        // 3. This thread's share of the (position, quad of samples).
        for (unsigned q = share; q < d.spots * QUADS; q += shares) {
            float4 dy[4];
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) dy[e] = dys[(g + e * d.quads) * dy_pitch + q];
            const float4* a = as + i * a_pitch + q / QUADS * (d.step * QUADS) + q % QUADS;
#pragma unroll
            for (unsigned tap = 0; tap < TAPS; ++tap) {
                if (TAPS == RUN && tap >= nk) break;
                const float4 v = a[tap * QUADS];
#pragma unroll
                for (unsigned e = 0; e < 4; ++e) add_dot(acc[tap][e], dy[e], v);
            }
        }
    }
    // 4. The shares of a warp meet in a butterfly, the warps in shared memory.
    for (unsigned offset = 16; offset >= pairs; offset /= 2) {
#pragma unroll
        for (unsigned tap = 0; tap < TAPS; ++tap) {
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) acc[tap][e] += __shfl_xor_sync(FULL, acc[tap][e], offset);
        }
    }
    __syncthreads();
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (lane < pairs) {
#pragma unroll
        for (unsigned tap = 0; tap < TAPS; ++tap)
            shared[(warp * TAPS + tap) * pairs + lane] = make_float4(acc[tap][0], acc[tap][1], acc[tap][2], acc[tap][3]);
    }
    __syncthreads();
    float* sums = part + static_cast<size_t>(tile) * d.slices * d.weights * 4;
    const bool part_aligned = aligned16(part);
    for (unsigned q = threadIdx.x; q < d.weights; q += BLOCK) {
        float4 sum = shared[q];
#pragma unroll
        for (unsigned w = 1; w < WARPS; ++w) add_product(sum, 1.0f, shared[w * TAPS * pairs + q]);
        put_line(sums + (static_cast<size_t>(slice) * d.weights + q) * 4, sum, part_aligned);
    }
    if (!last_block(ticket + tile, d.slices)) return;
    // 5. The sum over slices: `groups` threads share four weights, each every groups-th slice, then one adds theirs up in order.
    const unsigned width = power(d.weights, BLOCK), groups = halved(BLOCK, width), mine = rest(threadIdx.x, width),
                   group = halved(threadIdx.x, width);
    for (unsigned q0 = 0; q0 < d.weights; q0 += width) {
        const unsigned q = q0 + mine;
        float4 sum = zero4();
        for (unsigned s0 = group; s0 < d.slices; s0 += 2 * FLIGHT * groups) {
            float4 v[2 * FLIGHT];
#pragma unroll
            for (unsigned j = 0; j < 2 * FLIGHT; ++j) {
                const unsigned s = s0 + j * groups;
                v[j] = zero4();
                if (s < d.slices && q < d.weights)
                    v[j] = written_line(sums + (static_cast<size_t>(s) * d.weights + q) * 4, part_aligned);
            }
#pragma unroll
            for (unsigned j = 0; j < 2 * FLIGHT; ++j) add_product(sum, 1.0f, v[j]);
        }
        __syncthreads();
        shared[threadIdx.x] = sum; // the smallest stage has room for a block's
        __syncthreads();
        if (group > 0 || q >= d.weights) continue;
        for (unsigned other = 1; other < groups; ++other) add_product(sum, 1.0f, shared[other * width + mine]);
        const float of[4] = {sum.x, sum.y, sum.z, sum.w};
        const unsigned tap = halved(q, pairs), j = i0 + halved(rest(q, pairs), d.quads);
        if (tap >= nk || j >= p.cin) continue;
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            const unsigned c = c0 + rest(q, d.quads) + e * d.quads;
            if (c < p.cout) dw[(static_cast<size_t>(c) * p.cin + j) * p.k + k0 + tap] = of[e];
        }
    }
}

__device__ inline void dw_block(unsigned number, const Inputs& in, float* part, float* __restrict__ dw, ConvBlockParams p,
                                const Dw& d, float4* shared, unsigned* ticket) {
    switch (p.k) {
    case 3: return dw_tile<3>(number, in, part, dw, p, d, shared, ticket);
    case 5: return dw_tile<5>(number, in, part, dw, p, d, shared, ticket);
    case 7: return dw_tile<7>(number, in, part, dw, p, d, shared, ticket);
    default: return dw_tile<RUN>(number, in, part, dw, p, d, shared, ticket);
    }
}

// How the gradient of the input is cut; as `Dx` in src/kernels/conv_block.rs.
struct Dx {
    unsigned groups;   // threads side by side in input channels, of which each owns 4
    unsigned rows;     // positions s / stride of a block
    unsigned residues; // s mod stride, of a block
    unsigned turns;    // blocks that share the residues
    unsigned taps;     // taps of a residue in a run
    unsigned reach;    // positions of dy of a run
    unsigned channels; // output channels of a run
    unsigned tiles;    // of positions
    unsigned across;   // tiles of input channels
};

__device__ inline Dx dx_of(ConvBlockParams p) {
    Dx d;
    d.groups = power(over(p.cin, 4), 4);
    d.rows = halved(BLOCK / QUADS, d.groups);
    d.tiles = over_power(over(p.t, p.stride), d.rows);
    d.across = over_power(p.cin, 4 * d.groups);
    d.residues = p.stride <= 3 && over(p.batch, LANES) * d.tiles * d.across >= ENOUGH ? p.stride : 1;
    d.turns = d.residues == 1 ? min(p.stride, p.t) : 1;
    d.taps = min(over(p.k, p.stride), RUN);
    d.reach = d.rows + d.taps - 1;
    d.channels =
        min(max(quotient(STAGE, inverse_of(d.reach * QUADS + d.taps * d.residues * d.groups + CONSTANTS / 4)), 1u), p.cout);
    return d;
}

// da_in of block `number`, RES residues of it, and the sums of the layer before.
template <unsigned RES>
__device__ inline void dx_tile(unsigned number, const Inputs& in, const float* __restrict__ weight, float* __restrict__ da_in,
                               float* __restrict__ part, ConvBlockParams p, const Dx& d, float4* shared, float* sums) {
    // 1. This block's samples, positions, residues and channels; this thread's.
    const unsigned parts = over(p.batch, LANES) * d.tiles * d.turns, at_part = d.across == 1 ? number : number / d.across;
    const unsigned i0 = (number - at_part * d.across) * 4 * d.groups, of_tile = d.turns == 1 ? at_part : at_part / d.turns,
                   r0 = at_part - of_tile * d.turns;
    const unsigned block = of_tile / d.tiles, j0 = (of_tile - block * d.tiles) * d.rows;
    const unsigned quad = threadIdx.x % QUADS, row = rest(threadIdx.x / QUADS, d.rows),
                   group = halved(threadIdx.x / QUADS, d.rows);
    const unsigned ours = i0 + 4 * group, wide = 4 * d.groups, longest = over(p.k, p.stride);
    const unsigned dy_row = d.reach * QUADS;
    const float inverse = inverse_of(dy_row), taps_inverse = inverse_of(d.taps);
    const int live = live_of(p, block, quad);
    const bool aligned = aligned16(in.da, in.y), x_aligned = aligned16(in.x), put_aligned = aligned16(da_in);
    float4* ws = shared + d.channels * dy_row;
    float4* constants = ws + d.channels * d.taps * RES * d.groups;
    float4 acc[RES][4];
#pragma unroll
    for (unsigned r = 0; r < RES; ++r) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) acc[r][e] = zero4();
    }
    // What the sums at the end need; of one residue it is on its way meanwhile, of more it would not fit the registers.
    const unsigned s0 = (j0 + row) * p.stride + r0;
    const size_t x_at = (static_cast<size_t>(block * p.cin + ours) * p.t + s0) * LANES + 4 * quad,
                 channel = static_cast<size_t>(p.t) * LANES;
    float scale[4], shift[4], mean[4];
    float4 x[RES][4];
    const auto read_x = [&] {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            const bool there = p.affine && ours + e < p.cin;
            scale[e] = there ? in.norm_in[ours + e] : 0.0f;
            shift[e] = there ? in.norm_in[p.cin + ours + e] : 0.0f;
            mean[e] = there ? in.norm_in[2 * p.cin + ours + e] : 0.0f;
#pragma unroll
            for (unsigned r = 0; r < RES; ++r)
                x[r][e] = there && s0 + r < p.t ? line(in.x + x_at + r * LANES + e * channel, x_aligned) : zero4();
        }
    };
    if (RES == 1) read_x();
    for (unsigned c0 = 0; c0 < p.cout; c0 += d.channels) {
        const unsigned nc = min(d.channels, p.cout - c0);
        for (unsigned m0 = 0; m0 < longest; m0 += d.taps) {
            // 2. Weights [channel][m][residue][input channel] and constants set out; dy of the positions that the run's taps
            //    reach, latest last.
            if (c0 + m0 > 0) __syncthreads();
            copy_constants(constants, in.back, c0, nc, p.cout);
            const unsigned i = i0 + rest(threadIdx.x, wide);
            for (unsigned q = halved(threadIdx.x, wide); q < nc * d.taps * RES; q += halved(BLOCK, wide)) {
                const unsigned c = quotient(q / RES, taps_inverse), m = q / RES - c * d.taps,
                               tap = r0 + q % RES + p.stride * (m0 + m);
                const bool there = tap < p.k && i < p.cin;
                copy_async4(reinterpret_cast<float*>(ws) + q * wide + rest(threadIdx.x, wide),
                            weight + (there ? (static_cast<size_t>(c0 + c) * p.cin + i) * p.k + tap : 0), there);
            }
            copy_commit();
            constexpr unsigned COUNT = RES == 1 ? 9 : 3; // nine are all of 16 channels
            for (unsigned base = 0; base < nc * dy_row; base += COUNT * BLOCK) {
                float4 da[COUNT], y[COUNT];
#pragma unroll
                for (unsigned j = 0; j < COUNT; ++j) {
                    // Before frame 0 this wraps, and is beyond the frames.
                    const unsigned q = base + threadIdx.x + j * BLOCK, c = quotient(q, inverse),
                                   t = j0 + (q - c * dy_row) / QUADS - (m0 + d.taps - 1);
                    da[j] = y[j] = zero4();
                    if (c < nc && t < p.tout) {
                        const size_t at = (static_cast<size_t>(block * p.cout + c0 + c) * p.tout + t) * LANES + 4 * quad;
                        da[j] = line(in.da + at, aligned);
                        y[j] = line(in.y + at, aligned);
                    }
                }
                if (base == 0) {
                    copy_wait<0>();
                    __syncthreads();
                }
#pragma unroll
                for (unsigned j = 0; j < COUNT; ++j) {
                    const unsigned q = base + threadIdx.x + j * BLOCK, c = quotient(q, inverse),
                                   t = j0 + (q - c * dy_row) / QUADS - (m0 + d.taps - 1);
                    if (c >= nc) break;
                    shared[q] = dy_of(constants, c, da[j], y[j], t < p.tout ? live : 0);
                }
            }
            __syncthreads();
            // 3. Their products.
            const unsigned nm = min(d.taps, longest - m0);
            const auto product = [&](unsigned c, unsigned m) {
                const float4 v = shared[(c * d.reach + row + d.taps - 1 - m) * QUADS + quad];
#pragma unroll
                for (unsigned r = 0; r < RES; ++r) {
                    // Of a tap beyond the last the weight is 0.
                    const float4 w = ws[((c * d.taps + m) * RES + r) * d.groups + group];
                    add_product(acc[r][0], w.x, v);
                    add_product(acc[r][1], w.y, v);
                    add_product(acc[r][2], w.z, v);
                    add_product(acc[r][3], w.w, v);
                }
            };
            // The three taps of a residue of the network's own layers side by side. (Of a loop to nm that it was to unroll by
            // three, nvcc 13.0 leaves out what is no multiple of three.)
            if (nm == 3) {
                for (unsigned c = 0; c < nc; ++c) product(c, 0), product(c, 1), product(c, 2);
            } else {
                for (unsigned c = 0; c < nc; ++c) {
#pragma unroll 1
                    for (unsigned m = 0; m < nm; ++m) product(c, m);
                }
            }
        }
    }
    if (RES > 1) read_x();
    // 4. Out; nothing flows to lanes beyond the batch.
    float both[8] = {};
#pragma unroll
    for (unsigned r = 0; r < RES; ++r) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            if (s0 + r >= p.t || ours + e >= p.cin) break;
            const float4 v = kept(acc[r][e], live), a = x[r][e];
            put_line(da_in + x_at + r * LANES + e * channel, v, put_aligned);
            const float4 dz =
                make_float4(scale[e] * a.x + shift[e] > 0.0f ? v.x : 0.0f, scale[e] * a.y + shift[e] > 0.0f ? v.y : 0.0f,
                            scale[e] * a.z + shift[e] > 0.0f ? v.z : 0.0f, scale[e] * a.w + shift[e] > 0.0f ? v.w : 0.0f);
            both[e] += (dz.x + dz.y) + (dz.z + dz.w);
            both[4 + e] += dot4(dz, make_float4(a.x - mean[e], a.y - mean[e], a.z - mean[e], a.w - mean[e]));
        }
    }
    // 5. The sums of the layer before.
    if (!p.affine) return;
    warp_sums(both, sums);
    const unsigned c = rest(threadIdx.x, wide), warps = d.rows / WARP_ROWS, what = halved(threadIdx.x, wide);
    if (threadIdx.x >= 2 * wide || i0 + c >= p.cin) return;
    const float* of = sums + c / 4 * warps * 8 + what * 4 + c % 4;
    float sum = 0.0f;
    for (unsigned w = 0; w < warps; ++w) sum += of[w * 8];
    part[static_cast<size_t>(what * p.cin + i0 + c) * parts + at_part] = sum;
}

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
        part[(static_cast<size_t>(threadIdx.x) * p.cout + c) * blocks + block] = sum;
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
