// The backward launches of conv_block.cu: blocks of dw, blocks of da_in, and what the last block does for the normalisation of
// the layer before. Included after conv_block_lines.cuh.
//
// Shapes: da, y [blocks, Cout, Tout, 16], back [6, C]; x, da_in [blocks, Cin, T, 16]; weight, dw [Cout, Cin, K]; part [tiles,
// slices, taps, pairs, 4] of dw, then [2, Cin, parts]. Shared memory: of dw a stage of dy and one of the input, of da_in a run of
// dy and its weights.
// Cost: 2 B Tout Cout Cin K flops for each of dw and da_in, which both read y and da.

namespace {

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

// What makes dy of a channel, as two float4 in shared memory: scale, shift, mean, unused; p, q, unused.
constexpr unsigned CONSTANTS = 8;

// Sets out the constants of `count` channels from c0 on; 0 beyond the last.
__device__ inline void copy_constants(float4* to, const float* __restrict__ back, unsigned c0, unsigned count, unsigned cout) {
    for (unsigned q = threadIdx.x; q < count * CONSTANTS; q += BLOCK) {
        const unsigned c = c0 + q / CONSTANTS, e = q % CONSTANTS;
        const bool there = c < cout && (e < 3 || e == 4 || e == 5);
        copy_async4(as<float>(to) + q, back + (there ? e * cout + c : 0), there);
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

// How the weight gradient is cut; as `Dw` in src/kernels/conv_block/grid.rs.
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

// Leaves the sums over all shares in `sums`, a slice's part: the shares of a warp meet in a butterfly, the warps in shared
// memory.
template <unsigned TAPS>
__device__ __forceinline__ void add_shares(float (&acc)[TAPS][4], float* sums, const Dw& d, float4* shared, bool part_aligned) {
    const unsigned pairs = d.quads * d.ins;
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
#pragma unroll 1
    for (unsigned q = threadIdx.x; q < d.weights; q += BLOCK) {
        float4 sum = shared[q];
#pragma unroll
        for (unsigned w = 1; w < WARPS; ++w) add_product(sum, 1.0f, shared[w * TAPS * pairs + q]);
        hand_on_line(sums + static_cast<size_t>(q) * 4, sum, part_aligned);
    }
}

// Adds up what the slices of a tile left in `sums`: `groups` threads share four weights, each every groups-th slice, then one
// adds theirs up in order.
__device__ __forceinline__ void add_slices(const float* sums, float* __restrict__ dw, ConvBlockParams p, const Dw& d, unsigned i0,
                                           unsigned c0, unsigned k0, float4* shared, bool part_aligned) {
    const unsigned nk = min(d.taps, p.k - k0), pairs = d.quads * d.ins;
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
#pragma unroll 1
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

// Partial dw of a tile of weights over a slice, and the sum of all by the last of the tile's blocks.
template <unsigned TAPS>
__device__ inline void dw_tile(unsigned number, const Inputs& in, float* part, float* __restrict__ dw, ConvBlockParams p,
                               const Dw& d, float4* shared, unsigned* ticket) {
    // 1. This block's slice and weights; this thread's: output channels g, g + quads, ..., so that a warp's reads of shared
    // memory fall on different banks.
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
    const bool aligned = is_aligned<16>(in.da, in.y), x_aligned = is_aligned<16>(in.x);
    float4* dys = shared;
    float4* as = shared + 4 * d.quads * dy_pitch;
    float4* constants = as + d.ins * a_pitch;
    float4* norms = constants + 4 * d.quads * (CONSTANTS / 4);
    float acc[TAPS][4] = {};
    copy_constants(constants, in.back, c0, 4 * d.quads, p.cout);
    copy_norm(norms, in.norm_in, i0, d.ins, p);
    copy_commit();
    const unsigned end = min((slice + 1) * d.each, d.stages);
    for (unsigned stage = slice * d.each; stage < end; ++stage) {
        const unsigned block = stage / per_block, t0 = (stage - block * per_block) * d.spots;
        const unsigned ni = min(d.ins, p.cin - i0), frame = k0 + t0 * p.stride, gap = p.stride - d.step;
        const Run run = {in.x, block, i0, ni, frame, gap, a_row, a_inverse, taps_inverse, x_aligned};
        // 2. dy and the input as the convolution saw it: in most shapes all of a stage is under way before the first of it is
        // stored.
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
    // 4. The sums of the shares.
    float* sums = part + static_cast<size_t>(tile) * d.slices * d.weights * 4;
    const bool part_aligned = is_aligned<16>(part);
    add_shares<TAPS>(acc, sums + static_cast<size_t>(slice) * d.weights * 4, d, shared, part_aligned);
    if (!last_block(ticket + tile, d.slices)) return;
    // 5. The sum over slices.
    add_slices(sums, dw, p, d, i0, c0, k0, shared, part_aligned);
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

// How the gradient of the input is cut; as `Dx` in src/kernels/conv_block/grid.rs.
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

// A thread's results of a block of da_in: channels `ours` to ours + 3, positions s0 and following.
struct Spot {
    unsigned ours, s0;
    size_t at, channel; // the first, in x and da_in; from one channel to the next
    int live;
};

// What the sums of the layer before need of them.
template <unsigned RES> struct Before {
    float scale[4], shift[4], mean[4];
    float4 x[RES][4];

    __device__ __forceinline__ void read(const Inputs& in, const Spot& spot, ConvBlockParams p, bool x_aligned) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            const bool there = p.affine && spot.ours + e < p.cin;
            scale[e] = there ? in.norm_in[spot.ours + e] : 0.0f;
            shift[e] = there ? in.norm_in[p.cin + spot.ours + e] : 0.0f;
            mean[e] = there ? in.norm_in[2 * p.cin + spot.ours + e] : 0.0f;
#pragma unroll
            for (unsigned r = 0; r < RES; ++r)
                x[r][e] = there && spot.s0 + r < p.t ? line(in.x + spot.at + r * LANES + e * spot.channel, x_aligned) : zero4();
        }
    }
};

// Adds the products of a run of dy in `shared` and weights `ws`, nc channels of nm taps of a residue, for the thread's row and
// group.
template <unsigned RES>
__device__ __forceinline__ void add_run(float4 (&acc)[RES][4], const float4* shared, const float4* ws, const Dx& d, unsigned row,
                                        unsigned group, unsigned nc, unsigned nm) {
    const unsigned quad = threadIdx.x % QUADS;
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

// Writes a thread's results, and adds to its sums of dz and of dz (y - mean), for each of four channels.
template <unsigned RES>
__device__ __forceinline__ void put_da(float (&both)[8], float* __restrict__ da_in, const float4 (&acc)[RES][4],
                                       const Before<RES>& before, const Spot& spot, ConvBlockParams p, bool put_aligned) {
#pragma unroll
    for (unsigned r = 0; r < RES; ++r) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            if (spot.s0 + r >= p.t || spot.ours + e >= p.cin) break;
            const float4 v = kept(acc[r][e], spot.live), a = before.x[r][e];
            put_line(da_in + spot.at + r * LANES + e * spot.channel, v, put_aligned);
            const float4 dz = make_float4(before.scale[e] * a.x + before.shift[e] > 0.0f ? v.x : 0.0f,
                                          before.scale[e] * a.y + before.shift[e] > 0.0f ? v.y : 0.0f,
                                          before.scale[e] * a.z + before.shift[e] > 0.0f ? v.z : 0.0f,
                                          before.scale[e] * a.w + before.shift[e] > 0.0f ? v.w : 0.0f);
            both[e] += (dz.x + dz.y) + (dz.z + dz.w);
            both[4 + e] +=
                dot4(dz, make_float4(a.x - before.mean[e], a.y - before.mean[e], a.z - before.mean[e], a.w - before.mean[e]));
        }
    }
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
    const bool aligned = is_aligned<16>(in.da, in.y), x_aligned = is_aligned<16>(in.x), put_aligned = is_aligned<16>(da_in);
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
    const size_t x_at = (static_cast<size_t>(block * p.cin + ours) * p.t + s0) * LANES + 4 * quad;
    const Spot spot = {ours, s0, x_at, static_cast<size_t>(p.t) * LANES, live};
    Before<RES> before;
    if (RES == 1) before.read(in, spot, p, x_aligned);
    for (unsigned c0 = 0; c0 < p.cout; c0 += d.channels) {
        const unsigned nc = min(d.channels, p.cout - c0);
        for (unsigned m0 = 0; m0 < longest; m0 += d.taps) {
            // 2. Weights [channel][m][residue][input channel] and constants set out; dy of the positions that the run's taps
            // reach, latest last.
            if (c0 + m0 > 0) __syncthreads();
            copy_constants(constants, in.back, c0, nc, p.cout);
            const unsigned i = i0 + rest(threadIdx.x, wide);
            for (unsigned q = halved(threadIdx.x, wide); q < nc * d.taps * RES; q += halved(BLOCK, wide)) {
                const unsigned c = quotient(q / RES, taps_inverse), m = q / RES - c * d.taps,
                               tap = r0 + q % RES + p.stride * (m0 + m);
                const bool there = tap < p.k && i < p.cin;
                copy_async4(as<float>(ws) + q * wide + rest(threadIdx.x, wide),
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
            add_run<RES>(acc, shared, ws, d, row, group, nc, min(d.taps, longest - m0));
        }
    }
    if (RES > 1) before.read(in, spot, p, x_aligned);
    // 4. Out; nothing flows to lanes beyond the batch.
    float both[8] = {};
    put_da<RES>(both, da_in, acc, before, spot, p, put_aligned);
    // 5. The sums of the layer before.
    if (!p.affine) return;
    warp_sums(both, sums);
    const unsigned c = rest(threadIdx.x, wide), warps = d.rows / WARP_ROWS, what = halved(threadIdx.x, wide);
    if (threadIdx.x >= 2 * wide || i0 + c >= p.cin) return;
    const float* of = sums + c / 4 * warps * 8 + what * 4 + c % 4;
    float sum = 0.0f;
#pragma unroll 1
    for (unsigned w = 0; w < warps; ++w) sum += of[w * 8];
    __stcg(part + static_cast<size_t>(what * p.cin + i0 + c) * parts + at_part, sum);
}

} // namespace
