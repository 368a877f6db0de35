// The forward launch of conv_block.cu: a tile of y with its statistics, and their merging. Included after conv_block_lines.cuh.
//
// Shapes: x [blocks, Cin, T, 16], weight [Cout, Cin, K], y [blocks, Cout, Tout, 16]; part [2, C, parts], then [parts]. Shared
// memory: a run of channels [channels, reach, QUADS], their norms, weights [channels, taps, output channels of the block].
// Cost: 2 B Tout Cout Cin K flops; x and y once, x again for each tile of channels and where tiles overlap.

namespace {

// How fwd cuts its work; as `Fwd` in src/kernels/conv_block/grid.rs.
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

// Mean of a tile's values and their squares about it: of a warp, then of the tile (Chan, Golub, LeVeque 1979).
template <unsigned PER>
__device__ __forceinline__ void put_statistics(const float4 (&acc)[PER], float* __restrict__ part, ConvBlockParams p,
                                               const Fwd& f, float* sums, unsigned block, unsigned at_part, unsigned t0,
                                               unsigned first) {
    const unsigned t = t0 + rest(threadIdx.x / QUADS, f.rows), wide = f.groups * PER;
    const int live = t < p.tout ? live_of(p, block, threadIdx.x % QUADS) : 0;
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
#pragma unroll 1
    for (unsigned w = 0; w < warps; ++w) mean += count_of(w) * of[w * 2 * PER];
    mean /= n;
#pragma unroll 1
    for (unsigned w = 0; w < warps; ++w) {
        const float d = of[w * 2 * PER] - mean;
        squares += of[w * 2 * PER + PER] + count_of(w) * d * d;
    }
    __stcg(part + static_cast<size_t>(c) * parts + at_part, mean);
    __stcg(part + static_cast<size_t>(p.cout + c) * parts + at_part, squares);
    if (c == 0) __stcg(part + static_cast<size_t>(2 * p.cout) * parts + at_part, n);
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
    const bool aligned = is_aligned<16>(x), put_aligned = is_aligned<16>(y);
    float4* norms = shared + f.channels * f.reach * QUADS;
    float* ws = as<float>(norms + f.channels);
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
            const float4* w4 = as<const float4>(ws + group * PER);
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
    // 5. Its statistics.
    if (p.train) put_statistics<PER>(acc, part, p, f, sums, block, at_part, t0, first);
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

} // namespace
