// The gradients of the weight and of the bias. Included after conv.cuh, which says what is computed.
//
// Shapes: x [batch, groups · cin, inputs], dy [batch, groups · cout, outputs], dw [groups · cout, cin, taps], db [groups · cout];
// part as each kernel here says.
// Cost: bwd_w 2 flops a term, x and dy once for every tile that meets them, and `part` written and read; bwd_b reads dy once.

namespace {

constexpr unsigned WEIGHT_THREADS = 256; // of bwd_w
constexpr unsigned BIAS_THREADS = 512;   // of bwd_b

// A block's sums of bwd_w, CHANNELS_ rows by TERMS_ columns over DEPTH_ places at a time, in f32. Its GROUPS groups of threads
// each take SHARE of the places; a thread has ROWS rows and COLUMNS columns, its neighbours' between them.
template <unsigned CHANNELS_, unsigned TERMS_, unsigned ROWS, unsigned COLUMNS, unsigned DEPTH_> struct ExactWeights {
    static constexpr unsigned CHANNELS = CHANNELS_, TERMS = TERMS_, PLACES = DEPTH_, PITCH = DEPTH_ + 4;
    static constexpr unsigned DOWN = CHANNELS / ROWS, ACROSS = TERMS / COLUMNS;
    static constexpr unsigned MEMBERS = DOWN * ACROSS, GROUPS = WEIGHT_THREADS / MEMBERS, SHARE = PLACES / GROUPS;
    static_assert(SHARE % 4 == 0, "16-byte reads");

    float sums[ROWS][COLUMNS] = {};
    unsigned row, column;

    __device__ ExactWeights() {
        row = threadIdx.x % MEMBERS / ACROSS;
        column = threadIdx.x % MEMBERS % ACROSS;
    }

    __device__ void multiply(const float* dy, const float* x) {
        const unsigned mine = threadIdx.x / MEMBERS * SHARE;
#pragma unroll
        for (unsigned k = mine; k < mine + SHARE; k += 4) {
            float a[ROWS][4];
#pragma unroll
            for (unsigned i = 0; i < ROWS; ++i) load4(a[i], &dy[(row + i * DOWN) * PITCH + k]);
#pragma unroll
            for (unsigned j = 0; j < COLUMNS; ++j) {
                float b[4];
                load4(b, &x[(column + j * ACROSS) * PITCH + k]);
#pragma unroll
                for (unsigned i = 0; i < ROWS; ++i) {
#pragma unroll
                    for (unsigned e = 0; e < 4; ++e) sums[i][j] += a[i][e] * b[e];
                }
            }
        }
    }

    // Calls f(row, column, sum) for every sum.
    template <class F> __device__ void each(F f) {
#pragma unroll
        for (unsigned i = 0; i < ROWS; ++i) {
#pragma unroll
            for (unsigned j = 0; j < COLUMNS; ++j) f(row + i * DOWN, column + j * ACROSS, sums[i][j]);
        }
    }
};

// The same on the tensor cores, 64 × 64: a group is two warps of 32 rows.
struct Tf32Weights {
    static constexpr unsigned CHANNELS = 64, TERMS = 64, PLACES = 32, PITCH = PLACES + 4;
    static constexpr unsigned MEMBERS = 64, GROUPS = WEIGHT_THREADS / MEMBERS, SHARE = PLACES / GROUPS;
    static_assert(SHARE == 8, "one step of the tensor cores");

    float sums[2][TERMS / 8][4] = {};
    unsigned row;

    __device__ Tf32Weights() { row = threadIdx.x % MEMBERS / 32 * 32; }

    __device__ void multiply(const float* dy, const float* x) {
        const unsigned mine = threadIdx.x / MEMBERS * SHARE;
        multiply_tf32(sums, &dy[row * PITCH + mine], PITCH, &x[mine], 1, PITCH);
    }

    template <class F> __device__ void each(F f) {
        each_tf32(sums, [&](unsigned r, unsigned c, float& v0, float& v1) {
            f(row + r, c, v0);
            f(row + r, c + 1, v1);
        });
    }
};

// Adds up the sums of all groups, in the threads of the first: the upper half hands its sums to the lower, until one is left.
template <class T> __device__ __forceinline__ void add_groups(T& sums, float* room) {
    const unsigned member = threadIdx.x % T::MEMBERS, share = threadIdx.x / T::MEMBERS;
    for (unsigned half = T::GROUPS / 2; half > 0; half /= 2) {
        __syncthreads();
        unsigned i = 0;
        if (share >= half && share < 2 * half) {
            float* const to = room + (share - half) * T::CHANNELS * T::TERMS + member;
            sums.each([&](unsigned, unsigned, float& v) { to[i++ * T::MEMBERS] = v; });
        }
        __syncthreads();
        if (share < half) {
            const float* const from = room + share * T::CHANNELS * T::TERMS + member;
            sums.each([&](unsigned, unsigned, float& v) { v += from[i++ * T::MEMBERS]; });
        }
    }
}

// Adds up what the runs have of a tile, whose first weight, of `channel` and `term`, is number `base` of `weights`.
template <class T, int AXES>
__device__ __forceinline__ void add_splits(const Conv<AXES>& c, const float* part, float* dw, unsigned base, unsigned weights,
                                           unsigned terms, unsigned channel, unsigned term) {
    constexpr unsigned EACH = T::CHANNELS * T::TERMS / WEIGHT_THREADS, STEP = WEIGHT_THREADS / T::TERMS;
    const unsigned row = threadIdx.x / T::TERMS, column = threadIdx.x % T::TERMS;
    if (term + column >= terms) return;
    float sum[EACH] = {};
    // Unrolled, because one block alone waits for all of this: 32 reads at a time.
#pragma unroll(32 / EACH)
    for (unsigned s = 0; s < c.splits; ++s) {
        const float* const from = part + s * weights + base + column;
#pragma unroll
        for (unsigned i = 0; i < EACH; ++i) {
            if (channel + row + i * STEP < c.cout) sum[i] += __ldcg(&from[(row + i * STEP) * terms]);
        }
    }
#pragma unroll
    for (unsigned i = 0; i < EACH; ++i) {
        if (channel + row + i * STEP < c.cout) dw[base + (row + i * STEP) * terms + column] = sum[i];
    }
}

// A tile of the gradient of the weight on one run of places. `part` is [splits, weights], and one element where there is one run;
// `ticket` has one for each tile.
template <class T, int AXES>
__device__ inline void weight_tile(const Conv<AXES>& c, float* room, const float* __restrict__ x, const float* __restrict__ dy,
                                   float* part, float* dw, unsigned* ticket) {
    constexpr unsigned STAGE = (T::CHANNELS + T::TERMS) * T::PITCH;
    __shared__ Term<AXES> table[T::TERMS];
    const Product<AXES> p = Product<AXES>::forward(c);
    const unsigned places = p.places(), sources = p.sources(), terms = c.cin * p.taps();
    const unsigned across = div_up(terms, T::TERMS), down = div_up(c.cout, T::CHANNELS), tiles = c.groups * down * across;
    const unsigned number = block_number(), own = number % tiles, split = number / tiles;
    if (split >= c.splits) return;
    const unsigned term = own % across * T::TERMS, channel = own / across % down * T::CHANNELS, group = own / across / down;

    // Runs of whole slices.
    const size_t all = static_cast<size_t>(c.batch) * places;
    const size_t run = ((all + T::PLACES - 1) / T::PLACES + c.splits - 1) / c.splits * T::PLACES;
    const size_t first = split * run;
    const unsigned count = first < all ? static_cast<unsigned>(min(run, all - first)) : 0;

    const unsigned thread = threadIdx.x;
    if (thread < T::TERMS) {
        Term<AXES> t = {};
        unsigned weight;
        t.step[0] = OUTSIDE;
        if (term + thread < terms) t = p.term(term + thread, weight);
        table[thread] = t;
    }
    __syncthreads();

    const auto stage = [&](unsigned s) {
        float* const rows = room + s % STAGES * STAGE;
        float* const columns = rows + T::CHANNELS * T::PITCH;
        constexpr unsigned step = WEIGHT_THREADS / T::PLACES, STEPS = T::TERMS / step;
        // All reads before the first copy: shared memory keeps their order, so that each would wait for the one before.
        Term<AXES> t[STEPS];
#pragma unroll
        for (unsigned i = 0; i < STEPS; ++i) t[i] = table[thread / T::PLACES + i * step];
        const unsigned at = thread % T::PLACES;
        const bool mine = s * T::PLACES + at < count;
        const unsigned place = static_cast<unsigned>(first + s * T::PLACES + at), sample = place / places * c.groups + group;
        unsigned to, from, start[AXES];
        p.place(place % places, to, start, from);
        to += (sample * c.cout + channel) * places;
        from += sample * c.cin * sources;
#pragma unroll
        for (unsigned i = 0; i < T::CHANNELS; i += step) {
            const unsigned row = thread / T::PLACES + i, up = to + row * places;
            const bool keep = mine && channel + row < c.cout;
            copy_async4(&rows[row * T::PITCH + at], dy + (keep ? up : 0), keep);
        }
#pragma unroll
        for (unsigned i = 0; i < STEPS; ++i) {
            const unsigned column = thread / T::PLACES + i * step, down = from + t[i].offset;
            const bool keep = mine && p.inside(start, t[i]);
            copy_async4(&columns[column * T::PITCH + at], x + (keep ? down : 0), keep);
        }
    };
    const unsigned slices = div_up(count, T::PLACES);
    for (unsigned s = 0; s < STAGES - 1; ++s) {
        if (s < slices) stage(s);
        copy_commit();
    }
    T sums;
    for (unsigned s = 0; s < slices; ++s) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < slices) stage(s + STAGES - 1);
        copy_commit();
        const float* rows = room + s % STAGES * STAGE;
        sums.multiply(rows, rows + T::CHANNELS * T::PITCH);
    }

    add_groups(sums, room);
    const unsigned weights = c.groups * c.cout * terms, base = (group * c.cout + channel) * terms + term;
    if (thread / T::MEMBERS == 0) {
        float* const to = c.splits > 1 ? part + split * weights : dw;
        sums.each([&](unsigned row, unsigned column, float& v) {
            if (channel + row < c.cout && term + column < terms) __stcg(to + base + row * terms + column, v);
        });
    }
    if (c.splits == 1) {
        if (own == 0 && thread == 0) part[0] = 0.0f;
        return;
    }

    if (!last_block(ticket + own, c.splits)) return;
    add_splits<T>(c, part, dw, base, weights, terms, channel, term);
}

// A tile of bwd_w where channels are few: rows and terms of a warp, in the registers of each lane.
constexpr unsigned FEW = 8;
constexpr unsigned FEW_SUMS = FEW * FEW;
// Such tiles of a block at most; warps beyond them share out its places.
constexpr unsigned FEW_TILES = 4;

// Adds 2·HALF sums of each lane over the warp: lane l is left with those at 2·l and 2·l + 1.
template <unsigned HALF> __device__ inline void halve(float (&sums)[FEW_SUMS]) {
    const bool upper = (threadIdx.x & HALF / 2) != 0;
#pragma unroll
    for (unsigned i = 0; i < HALF; ++i) {
        const float keep = upper ? sums[i + HALF] : sums[i], give = upper ? sums[i] : sums[i + HALF];
        sums[i] = keep + __shfl_xor_sync(FULL, give, static_cast<int>(HALF / 2));
    }
    if constexpr (HALF > 2) halve<HALF / 2>(sums);
}

// Adds to a lane's sums the products of a warp's tile, over its share of the places of a run.
template <int AXES>
__device__ __forceinline__ void few_products(float (&sums)[FEW_SUMS], const Conv<AXES>& c, const float* __restrict__ x,
                                             const float* __restrict__ dy, unsigned tile, unsigned split, unsigned share,
                                             unsigned shares) {
    const Product<AXES> p = Product<AXES>::forward(c);
    const unsigned places = p.places(), sources = p.sources(), terms = c.cin * p.taps();
    const unsigned across = div_up(terms, FEW), down = div_up(c.cout, FEW), lane = threadIdx.x % 32;
    const unsigned term = tile % across * FEW, channel = tile / across % down * FEW, group = tile / across / down;
    const unsigned rows = min(c.cout - channel, FEW);
    Term<AXES> mine = {}, t[FEW];
    unsigned unused;
    mine.step[0] = OUTSIDE;
    if (lane < FEW && term + lane < terms) mine = p.term(term + lane, unused);
#pragma unroll
    for (unsigned j = 0; j < FEW; ++j) {
        t[j].offset = __shfl_sync(FULL, mine.offset, j);
#pragma unroll
        for (int a = 0; a < AXES; ++a) t[j].step[a] = __shfl_sync(FULL, mine.step[a], j);
    }

    constexpr unsigned AT_ONCE = 2;
    const unsigned step = 32 * shares;
    const size_t all = static_cast<size_t>(c.batch) * places;
    const size_t run = ((all + step - 1) / step + c.splits - 1) / c.splits * step, first = split * run;
    const unsigned count = first < all ? static_cast<unsigned>(min(run, all - first)) : 0;
    for (unsigned i = share * 32; i < count; i += AT_ONCE * step) {
        float up[AT_ONCE][FEW], under[AT_ONCE][FEW];
#pragma unroll
        for (unsigned u = 0; u < AT_ONCE; ++u) {
            const unsigned at = i + u * step + lane, place = static_cast<unsigned>(first + at);
            const unsigned sample = place / places * c.groups + group;
            unsigned to, from, start[AXES];
            p.place(place % places, to, start, from);
            to += (sample * c.cout + channel) * places;
            from += sample * c.cin * sources;
#pragma unroll
            for (unsigned j = 0; j < FEW; ++j) {
                up[u][j] = at < count && j < rows ? dy[static_cast<unsigned>(to + j * places)] : 0.0f;
                under[u][j] = at < count && p.inside(start, t[j]) ? x[static_cast<unsigned>(from + t[j].offset)] : 0.0f;
            }
        }
#pragma unroll
        for (unsigned u = 0; u < AT_ONCE; ++u) {
#pragma unroll
            for (unsigned j = 0; j < FEW_SUMS; ++j) sums[j] += up[u][j / FEW] * under[u][j % FEW];
        }
    }
}

// The gradient of the weight where channels are few, and bytes, their latency and the adding up are all there is to do. A lane
// reads the 8 values of dy and the 8 of x of a place straight from memory (neighbours read neighbours; what taps share is in the
// nearest cache), two places at a time so that 32 reads are under way, and multiplies them into 64 sums. Lanes are added by
// halving: each hands on the half of its sums that the other keeps. `part` is [splits, blocks of tiles, tiles, 64] from its first
// multiple of 16 bytes on.
template <int AXES>
__device__ inline void few_weights(const Conv<AXES>& c, float4* room, const float* __restrict__ x, const float* __restrict__ dy,
                                   float* part, float* dw, unsigned* ticket) {
    const unsigned terms = c.cin * c.taps();
    const unsigned across = div_up(terms, FEW), down = div_up(c.cout, FEW), tiles = c.groups * down * across;
    const unsigned members = tiles > 2 ? FEW_TILES : tiles, owners = div_up(tiles, members),
                   shares = WEIGHT_THREADS / 32 / members;
    const unsigned number = block_number(), own = number % owners, split = number / owners;
    if (split >= c.splits) return;
    const unsigned thread = threadIdx.x, lane = thread % 32, warp = thread / 32;

    float sums[FEW_SUMS] = {};
    const unsigned tile = own * members + warp % members, share = warp / members;
    if (tile < tiles) few_products(sums, c, x, dy, tile, split, share, shares);
    halve<FEW_SUMS / 2>(sums);
    float* const floats = as<float>(room);
    *as<float2>(floats + warp * FEW_SUMS + 2 * lane) = make_float2(sums[0], sums[1]);
    __syncthreads();

    // Element e of the block's sums: of all shares, and where it is in dw.
    const unsigned elements = members * FEW_SUMS;
    const auto write = [&](unsigned e, float v) {
        const unsigned of = own * members + e / FEW_SUMS, group = of / across / down;
        const unsigned row = of / across % down * FEW + e / FEW % FEW, column = of % across * FEW + e % FEW;
        if (group < c.groups && row < c.cout && column < terms) dw[(group * c.cout + row) * terms + column] = v;
    };
    float* const parts = align16(part) + own * elements;
    if (thread < elements) {
        float sum = floats[thread];
        for (unsigned s = 1; s < shares; ++s) sum += floats[s * elements + thread];
        if (c.splits > 1) {
            __stcg(parts + static_cast<size_t>(split) * owners * elements + thread, sum);
        } else {
            write(thread, sum);
        }
    }
    if (c.splits == 1) {
        if (number == 0 && thread == 0) part[0] = 0.0f;
        return;
    }

    // Teams of the last block's threads add every so manieth run, four sums a thread and sixteen reads under way.
    if (!last_block(ticket + own, c.splits)) return;
    constexpr unsigned READS = 16;
    const unsigned quads = elements / 4, teams = WEIGHT_THREADS / quads, quad = thread % quads;
    float sum[4] = {};
    for (unsigned s = thread / quads; s < c.splits; s += READS * teams) {
        float4 v[READS];
#pragma unroll
        for (unsigned i = 0; i < READS; ++i) {
            const unsigned from = s + i * teams;
            v[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (from < c.splits) v[i] = __ldcg(as<const float4>(parts + static_cast<size_t>(from) * owners * elements) + quad);
        }
#pragma unroll
        for (unsigned i = 0; i < READS; ++i) sum[0] += v[i].x, sum[1] += v[i].y, sum[2] += v[i].z, sum[3] += v[i].w;
    }
    room[thread] = make_float4(sum[0], sum[1], sum[2], sum[3]);
    __syncthreads();
    if (thread < elements) {
        float total = 0.0f;
        for (unsigned t = 0; t < teams; ++t) total += floats[t * elements + thread];
        write(thread, total);
    }
}

// The tile of a block of bwd_w, by the channels of a group of the output.
template <int AXES>
__device__ inline void weight_gradient(const Conv<AXES>& c, float4* room, const float* x, const float* dy, float* part, float* dw,
                                       unsigned* ticket) {
    float* const floats = as<float>(room);
    if (c.cout <= 16) {
        few_weights(c, room, x, dy, part, dw, ticket);
    } else if (c.tf32) {
        weight_tile<Tf32Weights>(c, floats, x, dy, part, dw, ticket);
    } else {
        weight_tile<ExactWeights<64, 64, 8, 8, 32>>(c, floats, x, dy, part, dw, ticket);
    }
}

// db = Σ dy over samples and positions: a block owns a channel.
template <int AXES> __device__ inline void bias_gradient(const Conv<AXES>& c, const float* __restrict__ dy, float* db) {
    const unsigned channels = c.groups * c.cout, channel = block_number(), outputs = c.outputs();
    if (channel >= channels) return;
    // 16 bytes at a time where planes allow.
    const bool wide = outputs % 4 == 0 && is_aligned<16>(dy);
    const unsigned plane = wide ? outputs / 4 : outputs;
    const unsigned samples = BIAS_THREADS / plane, rest = BIAS_THREADS % plane;
    float sum = 0.0f;
    unsigned sample = threadIdx.x / plane, at = threadIdx.x % plane;
#pragma unroll 4
    while (sample < c.batch) {
        const size_t from = static_cast<size_t>(sample * channels + channel) * plane + at;
        if (wide) {
            const float4 v = as<const float4>(dy)[from];
            sum += (v.x + v.y) + (v.z + v.w);
        } else {
            sum += dy[from];
        }
        sample += samples;
        at += rest;
        if (at >= plane) {
            at -= plane;
            ++sample;
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) db[channel] = sum;
}

} // namespace
