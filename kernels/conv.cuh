// What conv1d.cu and conv2d.cu share: a convolution along AXES axes and its gradients, tile by tile. Included after prelude.cuh.
//
// The convolution and the gradient of its input are one product of matrices,
//     result[row, place] = Σ_inner Σ_taps weight[row, inner, tap] · source[inner, place moved by tap],
// rows and inner being the channels of the result and of the source in one group, and a place a position of a sample: an
// implicit GEMM (Chetlur et al. 2014), whose right side is gathered as it is staged. For the gradient of the input, places of one
// phase of the stride see the same taps and see `dy` with stride 1 (the sub-pixel view of a transposed convolution, Shi et al.
// 2016).
//
// Two ways lead there. Where rows or tiles are few, latency is what binds, and narrow_tile and few_weights read straight from
// memory, much at once. Otherwise a block owns 8, 32 or 64 rows (whichever the group fills) by SPAN places, and stages DEPTH
// (inner, tap) terms at a time, STAGES − 1 slices ahead, by asynchronous copies. Thread i gathers place i: neighbours read
// neighbours, and what a place is gets divided out once. A thread multiplies 2 × 4, 8 × 4 or 8 × 8 sums in registers from 16-byte
// reads of shared memory: weights lie with their terms side by side, DEPTH + 4 apart, values with their places side by side. With
// tf32 a warp owns 32 rows by 32 or 64 places in mma fragments; both layouts are free of bank conflicts there too (pitches of 20
// and 136). Tiles of 8 rows would leave half of a fragment empty and stay f32.
//
// The gradient of the weight is a third product, over places: dw[row, (inner, tap)] = Σ_places dy[row, place] · x[inner, place
// moved by tap]. There a block owns 64 × 64 weights (where channels are few, up to four times 8 × 8) on one of `splits` runs of
// places. Both operands lie with their places side by side, so that staging copies straight and fragments are 16 bytes along the
// sum. Groups of threads share out each slice and are added as a tree; the runs are added in order by the last block of the tile
// to finish.
//
// Floor: 2 flops a term against each buffer once. 64 rows meet a value 64 times and a weight 128 times, so a wide
// layer is bound by f32 multiply-adds (or the tensor cores), a narrow one by bytes and by the gathering's instructions.

namespace {

constexpr unsigned THREADS = 128; // of fwd and bwd_x
constexpr unsigned SPAN = 128;    // places of a tile: one a thread
constexpr unsigned DEPTH = 16;    // terms of a slice
constexpr unsigned STAGES = 3;    // slices in flight
constexpr unsigned WEIGHT_PITCH = DEPTH + 4;
constexpr unsigned VALUE_PITCH = SPAN + 8;

constexpr unsigned FILLED = 264;        // blocks that fill a large card, two for each multiprocessor
constexpr unsigned SLOTS = 1024;        // of weights that a block of the narrow way keeps for a row, at most
constexpr unsigned LARGEST_STRIDE = 16; // and whose phases it has a table of
// Terms of a sum that are worth its beginning where tiles are few.
constexpr unsigned LONG_FORWARD = 48, LONG_BACKWARD = 256;

constexpr unsigned WEIGHT_THREADS = 256; // of bwd_w
constexpr unsigned BIAS_THREADS = 512;   // of bwd_b

// Where a place without a result is stored; no buffer has that many elements.
constexpr unsigned NOWHERE = 0xffffffffu;
// A coordinate that moves any other out of its axis: positions stay below 2³¹ on either side of 0.
constexpr unsigned OUTSIDE = 0x80000000u;

// One axis of a convolution.
struct Axis {
    unsigned input, output, taps, stride, padding, dilation;
};

__device__ inline unsigned div_up(unsigned a, unsigned b) { return a / b + (a % b != 0); }

__device__ inline unsigned greatest_common(unsigned a, unsigned b) {
    while (b != 0) {
        const unsigned rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// One axis of a product. Place q is position q·to_step + to_first of the result; tap r of it is tap tap_first + r·tap_step of the
// kernel and meets position q·from_step + from_first + r·jump of the source, zero beyond its ends. Modulo 2³².
struct Line {
    unsigned places, to_step, to_first, result;
    unsigned from_step, from_first, jump, source;
    unsigned taps, tap_first, tap_step, kernel;

    __device__ static Line forward(const Axis& a) {
        return {a.output, 1, 0, a.output, a.stride, 0u - a.padding, a.dilation, a.input, a.taps, 0, 1, a.taps};
    }

    // The places of one phase of the stride.
    __device__ static Line backward(const Axis& a, unsigned phase) {
        // Taps a stride apart, less where it shares a factor with the dilation, land alike.
        const unsigned common = greatest_common(a.stride, a.dilation);
        const unsigned period = a.stride / common, last = min(period, a.taps);
        const unsigned wanted = (phase + a.padding) % a.stride;
        unsigned tap = 0;
        while (tap < last && tap * a.dilation % a.stride != wanted) ++tap;
        const unsigned taps = tap < last ? (a.taps - 1 - tap) / period + 1 : 0;
        const int from = static_cast<int>(phase + a.padding - tap * a.dilation) / static_cast<int>(a.stride);
        const unsigned places = div_up(a.input - phase, a.stride), jump = 0u - a.dilation / common;
        return {places, a.stride, phase, a.input, 1, static_cast<unsigned>(from), jump, a.output, taps, tap, period, a.taps};
    }
};

// A convolution; channels are those of a group.
template <int AXES> struct Conv {
    unsigned batch, groups, cin, cout;
    Axis axis[AXES];
    unsigned splits; // runs of places that the gradient of the weight is summed in
    bool tf32;

    __device__ unsigned inputs() const {
        unsigned n = 1;
        for (const Axis& a : axis) n *= a.input;
        return n;
    }
    __device__ unsigned outputs() const {
        unsigned n = 1;
        for (const Axis& a : axis) n *= a.output;
        return n;
    }
    __device__ unsigned taps() const {
        unsigned n = 1;
        for (const Axis& a : axis) n *= a.taps;
        return n;
    }
};

// Where a term is found: from a place's own offset and coordinates in the source on.
template <int AXES> struct alignas(AXES == 1 ? 8 : 16) Term {
    unsigned offset, step[AXES];
};

// The product behind the convolution, or behind one phase of the gradient of its input.
template <int AXES> struct Product {
    unsigned rows, inner;          // channels of the result and of the source, in a group
    unsigned row_step, inner_step; // weights from one to the next
    Line line[AXES];

    __device__ static Product forward(const Conv<AXES>& c) {
        Product p = {c.cout, c.cin, c.cin * c.taps(), c.taps(), {}};
        for (int a = 0; a < AXES; ++a) p.line[a] = Line::forward(c.axis[a]);
        return p;
    }

    __device__ static Product backward(const Conv<AXES>& c, unsigned phase) {
        Product p = {c.cin, c.cout, c.taps(), c.cin * c.taps(), {}};
        for (int a = AXES - 1; a >= 0; --a) {
            const unsigned phases = min(c.axis[a].stride, c.axis[a].input);
            p.line[a] = Line::backward(c.axis[a], phase % phases);
            phase /= phases;
        }
        return p;
    }

    __device__ unsigned places() const {
        unsigned n = 1;
        for (const Line& l : line) n *= l.places;
        return n;
    }
    __device__ unsigned results() const {
        unsigned n = 1;
        for (const Line& l : line) n *= l.result;
        return n;
    }
    __device__ unsigned sources() const {
        unsigned n = 1;
        for (const Line& l : line) n *= l.source;
        return n;
    }
    __device__ unsigned taps() const {
        unsigned n = 1;
        for (const Line& l : line) n *= l.taps;
        return n;
    }

    // Term e of a row: what it meets, and its weight's place from the row's first.
    __device__ Term<AXES> term(unsigned e, unsigned& weight) const {
        const unsigned each = taps();
        Term<AXES> t = {e / each * sources(), {}};
        weight = e / each * inner_step;
        unsigned tap = e % each, plane = 1, kernel = 1;
        for (int a = AXES - 1; a >= 0; --a) {
            const Line& l = line[a];
            const unsigned r = a == 0 ? tap : tap % l.taps;
            if (a > 0) tap /= l.taps;
            t.step[a] = r * l.jump;
            t.offset += t.step[a] * plane;
            weight += (l.tap_first + r * l.tap_step) * kernel;
            plane *= l.source;
            kernel *= l.kernel;
        }
        return t;
    }

    // Where a place of a sample is in the result, its first coordinates in the source, and where those are.
    __device__ void place(unsigned q, unsigned& to, unsigned (&start)[AXES], unsigned& from) const {
        unsigned plane = 1, source = 1;
        to = from = 0;
        for (int a = AXES - 1; a >= 0; --a) {
            const Line& l = line[a];
            const unsigned at = a == 0 ? q : q % l.places;
            if (a > 0) q /= l.places;
            to += (at * l.to_step + l.to_first) * plane;
            start[a] = at * l.from_step + l.from_first;
            from += start[a] * source;
            plane *= l.result;
            source *= l.source;
        }
    }

    // Whether a term is inside the source for a place that starts there.
    __device__ bool inside(const unsigned (&start)[AXES], const Term<AXES>& t) const {
        bool in = true;
        for (int a = 0; a < AXES; ++a) in = in && start[a] + t.step[a] < line[a].source;
        return in;
    }
};

__device__ inline void load4(float (&to)[4], const float* from) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

// Writes N neighbours of a tile to where they belong, `offset` further: at once where they are neighbours in memory too.
template <int N> __device__ inline void store(float* to, const unsigned* where, unsigned offset, const float (&v)[N]) {
    static_assert(N == 2 || N == 4, "a vector");
    float* const at = to + static_cast<unsigned>(where[0] + offset);
    const bool together = where[N - 1] != NOWHERE && where[N - 1] - where[0] == N - 1;
    if (together && reinterpret_cast<size_t>(at) % (4 * N) == 0) {
        if constexpr (N == 4) {
            *reinterpret_cast<float4*>(at) = make_float4(v[0], v[1], v[2], v[3]);
        } else {
            *reinterpret_cast<float2*>(at) = make_float2(v[0], v[1]);
        }
        return;
    }
    for (int i = 0; i < N; ++i) {
        if (where[i] != NOWHERE) to[static_cast<unsigned>(where[i] + offset)] = v[i];
    }
}

// sums += a·b over 8 terms in tf32: a warp's 32 rows, `pitch` apart with their terms side by side, by 8·N columns; b's
// terms are `down` apart, its columns `across`.
template <int N>
__device__ inline void multiply_tf32(float (&sums)[2][N][4], const float* a, unsigned pitch, const float* b, unsigned down,
                                     unsigned across) {
    const unsigned lane = threadIdx.x % 32, group = lane / 4, in = lane % 4;
    unsigned left[2][4];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
        const float* from = a + (16 * m + group) * pitch + in;
        left[m][0] = to_tf32(from[0]);
        left[m][1] = to_tf32(from[8 * pitch]);
        left[m][2] = to_tf32(from[4]);
        left[m][3] = to_tf32(from[8 * pitch + 4]);
    }
#pragma unroll
    for (int n = 0; n < N; ++n) {
        const float* from = b + in * down + (8 * n + group) * across;
        const unsigned right[2] = {to_tf32(from[0]), to_tf32(from[4 * down])};
#pragma unroll
        for (int m = 0; m < 2; ++m) mma_tf32(sums[m][n], left[m], right);
    }
}

// Calls f(row, column, values) for a lane's pairs of neighbours in the sums of multiply_tf32.
template <int N, class F> __device__ inline void each_tf32(float (&sums)[2][N][4], F f) {
    const unsigned lane = threadIdx.x % 32, group = lane / 4, in = lane % 4;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int n = 0; n < N; ++n) {
            f(16 * m + group, 8 * n + 2 * in, sums[m][n][0], sums[m][n][1]);
            f(16 * m + group + 8, 8 * n + 2 * in, sums[m][n][2], sums[m][n][3]);
        }
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
            copy_async4(&weights[row * WEIGHT_PITCH + column], weight + at, inside && channel + row < p.rows);
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
                copy_async4(&values[(half + e) * VALUE_PITCH + thread], source + at, mine && p.inside(start, t[e]));
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

// A term of the narrow way: where it is found, as Term has it, its weights' slot, and its turn among the taps that a place sees
// on each axis.
template <int AXES> struct alignas(AXES == 1 ? 16 : 8) Reach {
    unsigned offset, slot, step[AXES], turn[AXES];
};

// What the positions of one phase of the stride share on an axis: their first coordinate in the source beyond position / stride,
// their first tap and how many they see.
struct Phase {
    unsigned from, tap, turns;
};

// Terms that a thread reads at once.
__device__ constexpr unsigned batch(unsigned places) { return places > 2 ? 4 : 8; }

// The shape of the narrow product: slots of a source channel's weights, taps that a place sees at most, and how far apart those
// are, by axis.
template <bool BACKWARD, int AXES> struct Taps {
    unsigned each = 1, seen = 1, turns[AXES], period[AXES];

    __device__ explicit Taps(const Conv<AXES>& c) {
        for (int a = 0; a < AXES; ++a) {
            const Axis& axis = c.axis[a];
            period[a] = BACKWARD ? axis.stride / greatest_common(axis.stride, axis.dilation) : 1;
            turns[a] = div_up(axis.taps, period[a]);
            seen *= turns[a];
            each *= turns[a] * period[a];
        }
    }
};

// The convolution or the gradient of its input where channels or places are few: a thread has ROWS rows of PLACES places, and
// reads what they meet straight from memory, a batch ahead; neighbours are neighbours, whatever their phase, so that all phases
// of a stride are in one block and `dx` is written in order. Weights lie in shared memory, [slot, ROWS], with a slot for every
// tap that a phase might see and zeros in those beyond the kernel. Where blocks are few, `shares` of a block's threads each have
// some of the terms.
template <bool BACKWARD, unsigned ROWS, unsigned PLACES, int AXES>
__device__ inline void narrow_tile(const Conv<AXES>& c, unsigned shares, float4* room, const float* __restrict__ source,
                                   const float* __restrict__ weight, const float* bias, float* __restrict__ result) {
    constexpr unsigned BATCH = batch(PLACES);
    __shared__ Phase phases[AXES][LARGEST_STRIDE];
    const unsigned rows = BACKWARD ? c.cin : c.cout, inner = BACKWARD ? c.cout : c.cin, kernel = c.taps();
    const unsigned results = BACKWARD ? c.inputs() : c.outputs(), sources = BACKWARD ? c.outputs() : c.inputs();
    unsigned number = block_number();
    const unsigned tiles = div_up(rows, ROWS), channel = number % tiles * ROWS;
    number /= tiles;
    const unsigned group = number % c.groups, width = THREADS / shares;
    number /= c.groups;
    const size_t first = static_cast<size_t>(number) * (width * PLACES), all = static_cast<size_t>(c.batch) * results;
    if (first >= all) return;
    const unsigned thread = threadIdx.x, share = thread / width, lane = thread % width;

    const Taps<BACKWARD, AXES> taps(c);
    const unsigned terms = inner * taps.seen, run = div_up(terms, shares * BATCH) * BATCH, padded = shares * run;
    const unsigned slots = div_up(BACKWARD ? (inner + 1) * taps.each : padded, 4) * 4;
    float* const weights = reinterpret_cast<float*>(room);
    Reach<AXES>* const reaches = reinterpret_cast<Reach<AXES>*>(weights + slots * ROWS);
    const unsigned row_step = BACKWARD ? kernel : inner * kernel, inner_step = BACKWARD ? rows * kernel : kernel;
    const unsigned base = group * rows * inner * kernel + channel * row_step;
    for (unsigned i = thread; i < slots * ROWS; i += THREADS) {
        const unsigned row = i % ROWS, slot = i / ROWS, from = slot / taps.each;
        unsigned rest = slot % taps.each, at = from * inner_step + row * row_step, plane = 1;
        bool keep = from < inner && channel + row < rows;
        for (int a = AXES - 1; a >= 0; --a) {
            const unsigned span = taps.turns[a] * taps.period[a], tap = a == 0 ? rest : rest % span;
            if (a > 0) rest /= span;
            keep = keep && tap < c.axis[a].taps;
            at += tap * plane;
            plane *= c.axis[a].taps;
        }
        copy_async4(&weights[i], weight + (keep ? base + at : 0), keep);
    }
    copy_commit();
    for (unsigned e = thread; e < padded; e += THREADS) {
        Reach<AXES> t = {};
        if (e < terms) {
            unsigned rest = e % taps.seen, plane = 1, pitch = 1;
            t.offset = e / taps.seen * sources;
            t.slot = e / taps.seen * taps.each;
            for (int a = AXES - 1; a >= 0; --a) {
                const Axis& axis = c.axis[a];
                t.turn[a] = a == 0 ? rest : rest % taps.turns[a];
                if (a > 0) rest /= taps.turns[a];
                // Later taps of the gradient meet earlier places.
                t.step[a] =
                    BACKWARD ? 0u - t.turn[a] * (axis.dilation / (axis.stride / taps.period[a])) : t.turn[a] * axis.dilation;
                t.offset += t.step[a] * plane;
                t.slot += t.turn[a] * taps.period[a] * pitch;
                plane *= BACKWARD ? axis.output : axis.input;
                pitch *= taps.turns[a] * taps.period[a];
            }
        } else {
            t.step[0] = OUTSIDE;
            t.slot = inner * taps.each;
        }
        reaches[e] = t;
    }
    if (BACKWARD && thread < AXES * LARGEST_STRIDE) {
        const unsigned a = thread / LARGEST_STRIDE, phase = thread % LARGEST_STRIDE;
        const Axis axis = AXES == 1 || a == 0 ? c.axis[0] : c.axis[AXES - 1];
        if (phase < min(axis.stride, axis.input)) {
            const Line line = Line::backward(axis, phase);
            phases[a][phase] = {line.from_first, line.taps > 0 ? line.tap_first : 0, line.taps};
        }
    }
    copy_wait<0>();
    __syncthreads();

    // The thread's places: whether and where they are in the result, where they start in the source, and their weights.
    bool mine[PLACES];
    unsigned to[PLACES], from[PLACES], slot[PLACES], start[PLACES][AXES], turns[PLACES][AXES];
#pragma unroll
    for (unsigned m = 0; m < PLACES; ++m) {
        mine[m] = first + m * width + lane < all;
        const unsigned place = mine[m] ? static_cast<unsigned>(first + m * width + lane) : 0;
        const unsigned sample = place / results * c.groups + group;
        unsigned rest = place % results, plane = 1, pitch = 1;
        to[m] = (sample * rows + channel) * results + rest;
        from[m] = sample * inner * sources;
        slot[m] = 0;
#pragma unroll
        for (int a = AXES - 1; a >= 0; --a) {
            const Axis& axis = c.axis[a];
            const unsigned length = BACKWARD ? axis.input : axis.output, at = a == 0 ? rest : rest % length;
            if (a > 0) rest /= length;
            if (BACKWARD) {
                const Phase phase = phases[a][at % axis.stride];
                start[m][a] = at / axis.stride + phase.from;
                turns[m][a] = mine[m] ? phase.turns : 0;
                slot[m] += phase.tap * pitch;
                pitch *= taps.turns[a] * taps.period[a];
            } else {
                start[m][a] = at * axis.stride - axis.padding;
            }
            from[m] += start[m][a] * plane;
            plane *= BACKWARD ? axis.output : axis.input;
        }
    }
    const auto gather = [&](unsigned e, float (&v)[BATCH][PLACES]) {
#pragma unroll
        for (unsigned i = 0; i < BATCH; ++i) {
            const Reach<AXES> t = reaches[e + i];
#pragma unroll
            for (unsigned m = 0; m < PLACES; ++m) {
                bool inside = mine[m];
                for (int a = 0; a < AXES; ++a) {
                    inside = inside && start[m][a] + t.step[a] < (BACKWARD ? c.axis[a].output : c.axis[a].input);
                    if (BACKWARD) inside = inside && t.turn[a] < turns[m][a];
                }
                v[i][m] = inside ? source[static_cast<unsigned>(from[m] + t.offset)] : 0.0f;
            }
        }
    };

    float sums[PLACES][ROWS] = {}, now[BATCH][PLACES];
    const unsigned end = (share + 1) * run;
    gather(share * run, now);
    for (unsigned e = share * run; e < end; e += BATCH) {
        float next[BATCH][PLACES];
        if (e + BATCH < end) gather(e + BATCH, next);
#pragma unroll
        for (unsigned i = 0; i < BATCH; ++i) {
            const unsigned slot_of_term = BACKWARD ? reaches[e + i].slot : e + i;
#pragma unroll
            for (unsigned m = 0; m < PLACES; ++m) {
                const float* const w = weights + (slot_of_term + slot[m]) * ROWS;
                if constexpr (ROWS % 4 == 0) {
#pragma unroll
                    for (unsigned r = 0; r < ROWS; r += 4) {
                        float v[4];
                        load4(v, w + r);
#pragma unroll
                        for (unsigned j = 0; j < 4; ++j) sums[m][r + j] += v[j] * now[i][m];
                    }
                } else {
                    sums[m][0] += w[0] * now[i][m];
                }
            }
        }
#pragma unroll
        for (unsigned i = 0; i < BATCH; ++i) {
#pragma unroll
            for (unsigned m = 0; m < PLACES; ++m) now[i][m] = next[i][m];
        }
    }

    const auto write = [&](unsigned m, unsigned r, float v) {
        if (mine[m] && channel + r < rows) {
            result[static_cast<unsigned>(to[m] + r * results)] = v + (bias ? bias[group * rows + channel + r] : 0.0f);
        }
    };
    if (shares == 1) {
#pragma unroll
        for (unsigned m = 0; m < PLACES; ++m) {
#pragma unroll
            for (unsigned r = 0; r < ROWS; ++r) write(m, r, sums[m][r]);
        }
        return;
    }
    // A thread adds up some rows of its place.
    float* const merge = reinterpret_cast<float*>(reaches + padded);
#pragma unroll
    for (unsigned r = 0; r < ROWS; ++r) merge[(share * ROWS + r) * width + lane] = sums[0][r];
    __syncthreads();
    for (unsigned r = share; r < ROWS; r += shares) {
        float sum = 0.0f;
        for (unsigned s = 0; s < shares; ++s) sum += merge[(s * ROWS + r) * width + lane];
        write(0, r, sum);
    }
}

// The narrow way for these rows, ROWS at a time and MOST places a thread where they fill a card.
template <bool BACKWARD, unsigned ROWS, unsigned MOST, int AXES>
__device__ inline void narrow_rows(const Conv<AXES>& c, float4* room, const float* source, const float* weight, const float* bias,
                                   float* result) {
    const unsigned tiles = c.groups * div_up(BACKWARD ? c.cin : c.cout, ROWS);
    const size_t places = static_cast<size_t>(c.batch) * (BACKWARD ? c.inputs() : c.outputs());
    const unsigned terms = (BACKWARD ? c.cout : c.cin) * Taps<BACKWARD, AXES>(c).seen;
    const auto blocks = [&](unsigned span) { return (places + span - 1) / span * tiles; };
    if (blocks(THREADS * MOST) >= FILLED) {
        narrow_tile<BACKWARD, ROWS, MOST>(c, 1, room, source, weight, bias, result);
        return;
    }
    unsigned shares = 1;
    while (shares < THREADS / 32 && terms > shares * batch(1) && blocks(THREADS / shares) < FILLED) shares *= 2;
    narrow_tile<BACKWARD, ROWS, 1>(c, shares, room, source, weight, bias, result);
}

// Whether a product goes the narrow way. Its blocks take long to begin, those of the gradient longer, for their phases. So either
// there must be enough of them, where rows are few, or too few tiles, each summing for long. What is cheap to tell comes first:
// tiles begin with this too.
template <bool BACKWARD, int AXES> __device__ inline bool narrow(const Conv<AXES>& c) {
    const unsigned rows = BACKWARD ? c.cin : c.cout, inner = BACKWARD ? c.cout : c.cin;
    const unsigned at_once = rows == 1 ? 1 : rows > 4 && rows <= 16 ? 8 : 4;
    const size_t all = static_cast<size_t>(c.batch) * (BACKWARD ? c.inputs() : c.outputs());
    const unsigned span = THREADS * (!BACKWARD ? 1 : at_once == 8 ? 2 : 4);
    const size_t blocks = (all + span - 1) / span * c.groups * div_up(rows, at_once);
    if (rows > 16 || blocks < (BACKWARD ? FILLED : FILLED / 2)) {
        size_t phases = 1, places = c.batch, terms = static_cast<size_t>(inner) * c.taps(),
               least = BACKWARD ? LONG_BACKWARD : LONG_FORWARD;
        for (const Axis& a : c.axis) least *= BACKWARD ? a.stride : 1;
        if (terms < least) return false;
        for (const Axis& a : c.axis) {
            phases *= BACKWARD ? min(a.stride, a.input) : 1;
            places *= BACKWARD ? div_up(a.input, a.stride) : a.output;
        }
        const unsigned channels = rows <= 8 ? 8 : rows <= 32 ? 32 : 64;
        if ((places + SPAN - 1) / SPAN * phases * c.groups * div_up(rows, channels) >= FILLED / 8) return false;
    }
    for (const Axis& a : c.axis) {
        if (BACKWARD && a.stride > LARGEST_STRIDE) return false;
    }
    return static_cast<size_t>(inner + 1) * Taps<BACKWARD, AXES>(c).each <= SLOTS;
}

// The tile of a block of fwd or bwd_x, by the channels of a group of the result.
template <bool BACKWARD, int AXES>
__device__ inline void convolve(const Conv<AXES>& c, float4* room, const float* source, const float* weight, const float* bias,
                                float* result) {
    __shared__ Tables<AXES> tables;
    float* const floats = reinterpret_cast<float*>(room);
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
            copy_async4(&rows[row * T::PITCH + at], dy + up, mine && channel + row < c.cout);
        }
#pragma unroll
        for (unsigned i = 0; i < STEPS; ++i) {
            const unsigned column = thread / T::PLACES + i * step, down = from + t[i].offset;
            copy_async4(&columns[column * T::PITCH + at], x + down, mine && p.inside(start, t[i]));
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

    // The upper half of the groups hands its sums to the lower, until one is left.
    const unsigned member = thread % T::MEMBERS, share = thread / T::MEMBERS;
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
    const unsigned weights = c.groups * c.cout * terms, base = (group * c.cout + channel) * terms + term;
    if (share == 0) {
        float* const to = c.splits > 1 ? part + split * weights : dw;
        sums.each([&](unsigned row, unsigned column, float& v) {
            if (channel + row < c.cout && term + column < terms) to[base + row * terms + column] = v;
        });
    }
    if (c.splits == 1) {
        if (own == 0 && thread == 0) part[0] = 0.0f;
        return;
    }

    if (!last_block(ticket + own, c.splits)) return;
    constexpr unsigned EACH = T::CHANNELS * T::TERMS / WEIGHT_THREADS, STEP = WEIGHT_THREADS / T::TERMS;
    const unsigned row = thread / T::TERMS, column = thread % T::TERMS;
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

// The gradient of the weight where channels are few, and bytes, their latency and the adding up are all there is to do. A lane
// reads the 8 values of dy and the 8 of x of a place straight from memory (neighbours read neighbours; what taps share is in the
// nearest cache), two places at a time so that 32 reads are under way, and multiplies them into 64 sums. Lanes are added by
// halving: each hands on the half of its sums that the other keeps. `part` is [splits, blocks of tiles, tiles, 64] from its first
// multiple of 16 bytes on.
template <int AXES>
__device__ inline void few_weights(const Conv<AXES>& c, float4* room, const float* __restrict__ x, const float* __restrict__ dy,
                                   float* part, float* dw, unsigned* ticket) {
    const Product<AXES> p = Product<AXES>::forward(c);
    const unsigned places = p.places(), sources = p.sources(), terms = c.cin * p.taps();
    const unsigned across = div_up(terms, FEW), down = div_up(c.cout, FEW), tiles = c.groups * down * across;
    const unsigned members = tiles > 2 ? FEW_TILES : tiles, owners = div_up(tiles, members),
                   shares = WEIGHT_THREADS / 32 / members;
    const unsigned number = block_number(), own = number % owners, split = number / owners;
    if (split >= c.splits) return;
    const unsigned thread = threadIdx.x, lane = thread % 32, warp = thread / 32;

    float sums[FEW_SUMS] = {};
    const unsigned tile = own * members + warp % members, share = warp / members;
    if (tile < tiles) {
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
    halve<FEW_SUMS / 2>(sums);
    float* const floats = reinterpret_cast<float*>(room);
    *reinterpret_cast<float2*>(floats + warp * FEW_SUMS + 2 * lane) = make_float2(sums[0], sums[1]);
    __syncthreads();

    // Element e of the block's sums: of all shares, and where it is in dw.
    const unsigned elements = members * FEW_SUMS;
    const auto write = [&](unsigned e, float v) {
        const unsigned of = own * members + e / FEW_SUMS, group = of / across / down;
        const unsigned row = of / across % down * FEW + e / FEW % FEW, column = of % across * FEW + e % FEW;
        if (group < c.groups && row < c.cout && column < terms) dw[(group * c.cout + row) * terms + column] = v;
    };
    float* const parts = reinterpret_cast<float*>((reinterpret_cast<size_t>(part) + 15) / 16 * 16) + own * elements;
    if (thread < elements) {
        float sum = floats[thread];
        for (unsigned s = 1; s < shares; ++s) sum += floats[s * elements + thread];
        if (c.splits > 1) {
            parts[static_cast<size_t>(split) * owners * elements + thread] = sum;
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
            if (from < c.splits)
                v[i] = __ldcg(reinterpret_cast<const float4*>(parts + static_cast<size_t>(from) * owners * elements) + quad);
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
    float* const floats = reinterpret_cast<float*>(room);
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
    const bool wide = outputs % 4 == 0 && reinterpret_cast<size_t>(dy) % 16 == 0;
    const unsigned plane = wide ? outputs / 4 : outputs;
    const unsigned samples = BIAS_THREADS / plane, rest = BIAS_THREADS % plane;
    float sum = 0.0f;
    unsigned sample = threadIdx.x / plane, at = threadIdx.x % plane;
#pragma unroll 4
    while (sample < c.batch) {
        const size_t from = static_cast<size_t>(sample * channels + channel) * plane + at;
        if (wide) {
            const float4 v = reinterpret_cast<const float4*>(dy)[from];
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
