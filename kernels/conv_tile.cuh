// The staged tiles of fwd and bwd_x, and which way a block goes. Included after conv.cuh, which says what is computed, and
// conv_narrow.cuh.
//
// Shapes: source [batch, groups · inner, sources], weight [cout, cin, taps] of a group, result [batch, groups · rows, results];
// shared memory: STAGES slices of weights [CHANNELS, DEPTH] and values [DEPTH, SPAN].
// Cost: 2 flops a term; a block reads each of its values and weights from memory once, which the width of its tile pays for.

namespace {

constexpr unsigned DEPTH = 16; // terms of a slice
constexpr unsigned WEIGHT_PITCH = DEPTH + 4;
constexpr unsigned VALUE_PITCH = SPAN + 8;

// Where a place without a result is stored; no buffer has that many elements.
constexpr unsigned NOWHERE = 0xffffffffu;
// Writes N neighbours of a tile to where they belong, `offset` further: at once where they are neighbours in memory too.
template <int N> __device__ inline void store(float* to, const unsigned* where, unsigned offset, const float (&v)[N]) {
    static_assert(N == 2 || N == 4, "a vector");
    float* const at = to + static_cast<unsigned>(where[0] + offset);
    const bool together = where[N - 1] != NOWHERE && where[N - 1] - where[0] == N - 1;
    if (together && is_aligned<4 * N>(at)) {
        if constexpr (N == 4) {
            *as<float4>(at) = make_float4(v[0], v[1], v[2], v[3]);
        } else {
            *as<float2>(at) = make_float2(v[0], v[1]);
        }
        return;
    }
    for (int i = 0; i < N; ++i) {
        if (where[i] != NOWHERE) to[static_cast<unsigned>(where[i] + offset)] = v[i];
    }
}

// A block's sums of fwd or bwd_x, CHANNELS rows by SPAN places, in f32: a thread has ROWS rows, its neighbours' between them, by
// COLUMNS places in runs of four.
template <unsigned CHANNELS_, unsigned ROWS, unsigned COLUMNS> struct Exact {
    static constexpr unsigned CHANNELS = CHANNELS_;
    static constexpr unsigned DOWN = CHANNELS / ROWS, ACROSS = SPAN / COLUMNS;
    static constexpr int RUN = 4; // places that a thread has side by side
    static_assert(DOWN * ACROSS == THREADS && DOWN % 4 == 0, "warps of 4 × 8 threads");

    float sums[ROWS][COLUMNS] = {};
    unsigned row, column;

    __device__ Exact() {
        const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        row = warp % (DOWN / 4) * 4 + lane / 8;
        column = (warp / (DOWN / 4) * 8 + lane % 8) * 4;
    }

    __device__ void multiply(const float* weights, const float* values) {
#pragma unroll
        for (unsigned k = 0; k < DEPTH; k += 4) {
            float a[ROWS][4];
#pragma unroll
            for (unsigned i = 0; i < ROWS; ++i) load4(a[i], &weights[(row + i * DOWN) * WEIGHT_PITCH + k]);
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) {
                float b[COLUMNS / 4][4];
#pragma unroll
                for (unsigned j = 0; j < COLUMNS / 4; ++j) load4(b[j], &values[(k + e) * VALUE_PITCH + column + j * 4 * ACROSS]);
#pragma unroll
                for (unsigned i = 0; i < ROWS; ++i) {
#pragma unroll
                    for (unsigned j = 0; j < COLUMNS; ++j) sums[i][j] += a[i][e] * b[j / 4][j % 4];
                }
            }
        }
    }

    // Calls f(row, place, values) for every run of neighbours.
    template <class F> __device__ void each(F f) {
#pragma unroll
        for (unsigned i = 0; i < ROWS; ++i) {
#pragma unroll
            for (unsigned j = 0; j < COLUMNS; j += 4) {
                float v[RUN] = {sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]};
                f(row + i * DOWN, column + j * ACROSS, v);
            }
        }
    }
};

// The same on the tensor cores: a warp has 32 rows by 8·N places.
template <unsigned CHANNELS_> struct Tf32 {
    static constexpr unsigned CHANNELS = CHANNELS_;
    static constexpr unsigned N = SPAN * (CHANNELS / 32) / (THREADS / 32) / 8;
    static constexpr int RUN = 2;

    float sums[2][N][4] = {};
    unsigned row, column;

    __device__ Tf32() {
        const unsigned warp = threadIdx.x / 32;
        row = warp % (CHANNELS / 32) * 32;
        column = warp / (CHANNELS / 32) * 8 * N;
    }

    __device__ void multiply(const float* weights, const float* values) {
#pragma unroll
        for (unsigned k = 0; k < DEPTH; k += 8) {
            multiply_tf32(sums, &weights[row * WEIGHT_PITCH + k], WEIGHT_PITCH, &values[k * VALUE_PITCH + column], VALUE_PITCH,
                          1);
        }
    }

    template <class F> __device__ void each(F f) {
        each_tf32(sums, [&](unsigned r, unsigned c, float v0, float v1) {
            float v[RUN] = {v0, v1};
            f(row + r, column + c, v);
        });
    }
};

// What a block keeps beside the slices.
template <int AXES> struct Tables {
    Term<AXES> terms[STAGES][DEPTH];
    unsigned where[SPAN]; // the thread's place in the result
};

// A tile of the convolution (`bias` may be null) or of the gradient of its input.
template <bool BACKWARD, class T, int AXES>
__device__ inline void tile(const Conv<AXES>& c, Tables<AXES>& tables, float* room, const float* __restrict__ source,
                            const float* __restrict__ weight, const float* bias, float* __restrict__ result) {
    constexpr unsigned STAGE = T::CHANNELS * WEIGHT_PITCH + DEPTH * VALUE_PITCH;
    unsigned number = block_number(), phase = 0;
    const unsigned tiles = div_up(BACKWARD ? c.cin : c.cout, T::CHANNELS);
    const unsigned channel = number % tiles * T::CHANNELS;
    number /= tiles;
    const unsigned group = number % c.groups;
    number /= c.groups;
    if (BACKWARD) {
        unsigned phases = 1;
        for (const Axis& a : c.axis) phases *= min(a.stride, a.input);
        phase = number % phases;
        number /= phases;
    }
    const Product<AXES> p = BACKWARD ? Product<AXES>::backward(c, phase) : Product<AXES>::forward(c);
    const unsigned places = p.places(), results = p.results(), terms = p.inner * p.taps();
    const size_t first = static_cast<size_t>(number) * SPAN, all = static_cast<size_t>(c.batch) * places;
    if (first >= all) return;

    // The thread's place, and the column of weights that it stages.
    const unsigned thread = threadIdx.x, column = thread % DEPTH;
    const bool mine = first + thread < all;
    const unsigned place = static_cast<unsigned>(first + thread), sample = place / places * c.groups + group;
    unsigned to, from, start[AXES];
    p.place(place % places, to, start, from);
    from += sample * p.inner * p.sources();
    tables.where[thread] = mine ? sample * p.rows * results + to : NOWHERE;

    // Slice s goes through prepare, a barrier, stage, a wait and another barrier.
    unsigned weight_at = 0;
    const unsigned row_first = BACKWARD ? group * p.inner * p.inner_step : group * p.rows * p.row_step;
    const auto prepare = [&](unsigned s) {
        const unsigned e = s * DEPTH + column;
        Term<AXES> t = {};
        t.step[0] = OUTSIDE;
        if (e < terms) t = p.term(e, weight_at);
        if (thread < DEPTH) tables.terms[s % STAGES][column] = t;
    };
    const auto stage = [&](unsigned s) {
        float* const weights = room + s % STAGES * STAGE;
        float* const values = weights + T::CHANNELS * WEIGHT_PITCH;
        const bool inside = s * DEPTH + column < terms;
#pragma unroll
        for (unsigned i = 0; i < T::CHANNELS; i += THREADS / DEPTH) {
            const unsigned row = thread / DEPTH + i;
            const unsigned at = row_first + (channel + row) * p.row_step + weight_at;
            const bool keep = inside && channel + row < p.rows;
            copy_async4(&weights[row * WEIGHT_PITCH + column], weight + (keep ? at : 0), keep);
        }
        // Eight reads before eight copies: shared memory keeps their order, so that each would wait for the one before.
#pragma unroll
        for (unsigned half = 0; half < DEPTH; half += 8) {
            Term<AXES> t[8];
#pragma unroll
            for (unsigned e = 0; e < 8; ++e) t[e] = tables.terms[s % STAGES][half + e];
#pragma unroll
            for (unsigned e = 0; e < 8; ++e) {
                const unsigned at = from + t[e].offset;
                const bool keep = mine && p.inside(start, t[e]);
                copy_async4(&values[(half + e) * VALUE_PITCH + thread], source + (keep ? at : 0), keep);
            }
        }
    };
    const unsigned slices = div_up(terms, DEPTH);
    for (unsigned s = 0; s < STAGES - 1; ++s) {
        prepare(s);
        __syncthreads();
        if (s < slices) stage(s);
        copy_commit();
    }
    prepare(STAGES - 1);

    T sums;
    for (unsigned s = 0; s < slices; ++s) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < slices) stage(s + STAGES - 1);
        copy_commit();
        prepare(s + STAGES);
        const float* weights = room + s % STAGES * STAGE;
        sums.multiply(weights, weights + T::CHANNELS * WEIGHT_PITCH);
    }

    sums.each([&](unsigned row, unsigned at, float (&v)[T::RUN]) {
        if (channel + row >= p.rows) return;
        const float add = bias ? bias[group * p.rows + channel + row] : 0.0f;
        for (float& out : v) out += add;
        store(result, &tables.where[at], (channel + row) * results, v);
    });
}

// The tile of a block of fwd or bwd_x, by the channels of a group of the result.
template <bool BACKWARD, int AXES>
__device__ inline void convolve(const Conv<AXES>& c, float4* room, const float* source, const float* weight, const float* bias,
                                float* result) {
    __shared__ Tables<AXES> tables;
    float* const floats = as<float>(room);
    const unsigned rows = BACKWARD ? c.cin : c.cout;
    if (narrow<BACKWARD>(c)) {
        if (rows == 1) {
            narrow_rows<BACKWARD, 1, 4>(c, room, source, weight, bias, result);
        } else if (rows > 4 && rows <= 16) {
            narrow_rows<BACKWARD, 8, 2>(c, room, source, weight, bias, result);
        } else {
            narrow_rows<BACKWARD, 4, 4>(c, room, source, weight, bias, result);
        }
    } else if (rows <= 8) {
        tile<BACKWARD, Exact<8, 2, 4>>(c, tables, floats, source, weight, bias, result);
    } else if (rows <= 32) {
        if (c.tf32) {
            tile<BACKWARD, Tf32<32>>(c, tables, floats, source, weight, bias, result);
        } else {
            tile<BACKWARD, Exact<32, 8, 4>>(c, tables, floats, source, weight, bias, result);
        }
    } else if (c.tf32) {
        tile<BACKWARD, Tf32<64>>(c, tables, floats, source, weight, bias, result);
    } else {
        tile<BACKWARD, Exact<64, 8, 8>>(c, tables, floats, source, weight, bias, result);
    }
}

} // namespace
