// The narrow way of fwd and bwd_x, for convolutions of few rows or few tiles: what a thread's places meet comes straight from
// memory, the weights from shared memory. Included after conv.cuh, which says what is computed.
//
// Shapes: source [batch, groups · inner, sources], weight [cout, cin, taps] of a group, result [batch, groups · rows, results];
// shared memory: weights [slots, ROWS], then a Reach for each term, then where shares are added up.
// Cost: 2 flops a term; a value read from memory serves the ROWS of a thread, a weight from shared memory its PLACES. Latency
// binds, hence a batch of reads ahead.

namespace {

constexpr unsigned FILLED = 264;        // blocks that fill a large card, two for each multiprocessor
constexpr unsigned SLOTS = 1024;        // of weights that a block of the narrow way keeps for a row, at most
constexpr unsigned LARGEST_STRIDE = 16; // and whose phases it has a table of
// Terms of a sum that are worth its beginning where tiles are few.
constexpr unsigned LONG_FORWARD = 48, LONG_BACKWARD = 256;

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

// Sets out the weights of the rows from `channel` on, [slot, ROWS]: those of every tap that a phase might see, and zeros beyond
// the kernel and the rows.
template <bool BACKWARD, unsigned ROWS, int AXES>
__device__ __forceinline__ void stage_slots(const Conv<AXES>& c, const Taps<BACKWARD, AXES>& taps, float* weights,
                                            const float* __restrict__ weight, unsigned slots, unsigned group, unsigned channel) {
    const unsigned rows = BACKWARD ? c.cin : c.cout, inner = BACKWARD ? c.cout : c.cin, kernel = c.taps();
    const unsigned row_step = BACKWARD ? kernel : inner * kernel, inner_step = BACKWARD ? rows * kernel : kernel;
    const unsigned base = group * rows * inner * kernel + channel * row_step;
    for (unsigned i = threadIdx.x; i < slots * ROWS; i += THREADS) {
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
}

// Sets out where the terms are found, `padded` of them; those beyond the last are outside, and their weights zeros.
template <bool BACKWARD, int AXES>
__device__ __forceinline__ void tell_reaches(const Conv<AXES>& c, const Taps<BACKWARD, AXES>& taps, Reach<AXES>* reaches,
                                             unsigned terms, unsigned padded) {
    const unsigned inner = BACKWARD ? c.cout : c.cin, sources = BACKWARD ? c.outputs() : c.inputs();
    for (unsigned e = threadIdx.x; e < padded; e += THREADS) {
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
}

// Sets out the phases of each axis.
template <int AXES> __device__ __forceinline__ void tell_phases(const Conv<AXES>& c, Phase (&phases)[AXES][LARGEST_STRIDE]) {
    const unsigned thread = threadIdx.x;
    if (thread < AXES * LARGEST_STRIDE) {
        const unsigned a = thread / LARGEST_STRIDE, phase = thread % LARGEST_STRIDE;
        const Axis axis = AXES == 1 || a == 0 ? c.axis[0] : c.axis[AXES - 1];
        if (phase < min(axis.stride, axis.input)) {
            const Line line = Line::backward(axis, phase);
            phases[a][phase] = {line.from_first, line.taps > 0 ? line.tap_first : 0, line.taps};
        }
    }
}

// A thread's places, `width` apart from number `first` on: whether and where they are in the result, where they start in the
// source, their weights, and the taps that they see.
template <bool BACKWARD, unsigned PLACES, int AXES> struct Places {
    static constexpr unsigned BATCH = batch(PLACES);
    bool mine[PLACES];
    unsigned to[PLACES], from[PLACES], slot[PLACES], start[PLACES][AXES], turns[PLACES][AXES];

    __device__ __forceinline__ Places(const Conv<AXES>& c, const Taps<BACKWARD, AXES>& taps,
                                      const Phase (&phases)[AXES][LARGEST_STRIDE], size_t first, unsigned width, unsigned group,
                                      unsigned channel) {
        const unsigned rows = BACKWARD ? c.cin : c.cout, inner = BACKWARD ? c.cout : c.cin;
        const unsigned results = BACKWARD ? c.inputs() : c.outputs(), sources = BACKWARD ? c.outputs() : c.inputs();
        const size_t all = static_cast<size_t>(c.batch) * results;
#pragma unroll
        for (unsigned m = 0; m < PLACES; ++m) {
            mine[m] = first + m * width < all;
            const unsigned place = mine[m] ? static_cast<unsigned>(first + m * width) : 0;
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
    }

    // Reads what a batch of terms meets at each place.
    __device__ __forceinline__ void gather(float (&v)[BATCH][PLACES], const Conv<AXES>& c, const Reach<AXES>* reaches,
                                           const float* __restrict__ source) const {
#pragma unroll
        for (unsigned i = 0; i < BATCH; ++i) {
            const Reach<AXES> t = reaches[i];
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
    const unsigned rows = BACKWARD ? c.cin : c.cout, inner = BACKWARD ? c.cout : c.cin;
    const unsigned results = BACKWARD ? c.inputs() : c.outputs();
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
    float* const weights = as<float>(room);
    Reach<AXES>* const reaches = as<Reach<AXES>>(weights + slots * ROWS);
    stage_slots<BACKWARD, ROWS>(c, taps, weights, weight, slots, group, channel);
    copy_commit();
    tell_reaches<BACKWARD>(c, taps, reaches, terms, padded);
    if (BACKWARD) tell_phases(c, phases);
    copy_wait<0>();
    __syncthreads();

    const Places<BACKWARD, PLACES, AXES> at(c, taps, phases, first + lane, width, group, channel);
    float sums[PLACES][ROWS] = {}, now[BATCH][PLACES];
    const unsigned end = (share + 1) * run;
    at.gather(now, c, reaches + share * run, source);
    for (unsigned e = share * run; e < end; e += BATCH) {
        float next[BATCH][PLACES];
        if (e + BATCH < end) at.gather(next, c, reaches + e + BATCH, source);
#pragma unroll
        for (unsigned i = 0; i < BATCH; ++i) {
            const unsigned slot_of_term = BACKWARD ? reaches[e + i].slot : e + i;
#pragma unroll
            for (unsigned m = 0; m < PLACES; ++m) {
                const float* const w = weights + (slot_of_term + at.slot[m]) * ROWS;
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
        if (at.mine[m] && channel + r < rows) {
            result[static_cast<unsigned>(at.to[m] + r * results)] = v + (bias ? bias[group * rows + channel + r] : 0.0f);
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
    float* const merge = as<float>(reaches + padded);
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

} // namespace
