// What the launches of conv_block.cu share: their params, how large a block is, lines of sixteen samples, sums over a block, and
// how a run of channels comes to shared memory. Included after prelude.cuh; conv_block.cu says what is computed.
//
// Shapes: a feature map [blocks, C, T, 16], a line the sixteen samples of one (block, channel, position), a quad four of them;
// norm [4, C].
// Cost: lines move 16 bytes a thread, four neighbours a line.

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
    if (aligned) return *as<const float4>(from);
    return make_float4(from[0], from[1], from[2], from[3]);
}

// As line, of what this launch wrote.
__device__ inline float4 written_line(const float* from, bool aligned) {
    if (aligned) return __ldcg(as<const float4>(from));
    return make_float4(__ldcg(from), __ldcg(from + 1), __ldcg(from + 2), __ldcg(from + 3));
}

__device__ inline void put_line(float* to, float4 v, bool aligned) {
    if (aligned) {
        *as<float4>(to) = v;
    } else {
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    }
}

// As put_line, for written_line in another block.
__device__ inline void hand_on_line(float* to, float4 v, bool aligned) {
    if (aligned) {
        __stcg(as<float4>(to), v);
    } else {
        __stcg(to, v.x), __stcg(to + 1, v.y), __stcg(to + 2, v.z), __stcg(to + 3, v.w);
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

// A comparison that lets a NaN through, unlike fmaxf.
__device__ inline float relu(float v, float scale, float shift) {
    const float z = scale * v + shift;
    return z <= 0.0f ? 0.0f : z;
}

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
#pragma unroll 1
    for (unsigned q = threadIdx.x; p.affine && q < 2 * count; q += BLOCK) {
        const unsigned i = i0 + q / 2;
        copy_async4(as<float>(to) + q / 2 * 4 + q % 2, norm + (i < p.cin ? q % 2 * p.cin + i : 0), i < p.cin);
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

} // namespace
