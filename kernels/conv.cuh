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
constexpr unsigned STAGES = 3;    // slices in flight

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
    const float4 v = *as<const float4>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
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

} // namespace
