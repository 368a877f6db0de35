// Fully connected layer with the dropout of its input, its bias and its activation, y = f(m(x) w^T + b).
//
//   fwd  y = f(m(x) w^T + b)
//   bwd  dz = dy f'(y), from the output; dx = m(dz w), dw = dz^T m(x), db = sum_b dz
//
// Shapes: x [B, I], w [O, I], b [O], y [B, O]; gradients as what they belong to. f is the identity, relu or sigmoid; m the mask of
// dropout.cu over the elements of x with its state [3], made again where x is read, four elements at a time, and dx written; none where the threshold is 0.
// Without a bias b is bound to any buffer and not read. An output that `wanted` leaves out is one element, set to 0.
//
// Threads: a block owns a tile of 32 x 32 outputs. Of y and dx a thread owns 2 x 2, 16 apart, and both factors pass through shared
// memory 32 terms at a time. Of dw a thread owns 4 x 4, 8 apart, over a quarter of the batch, 128 rows of which are in shared memory at
// once; the quarters are added in order. Of db a block owns 32, which 8 threads each sum. In bwd these are four ranges of the grid.
// Rows in shared memory are 33 floats apart, so that neither loads nor reads conflict.
//
// Cost: 2 B I O flops forward and as many for each of dx and dw; every buffer moves once. The head of the network (64 -> 32 -> 1 at
// B = 512) is 2 MFLOP and 0.2 MB in cache: nothing against the launch, so the latency of one block's loads binds.
#include "prelude.cuh"

namespace {

struct P {
    unsigned batch;
    unsigned inputs;
    unsigned outputs;
    unsigned activation;
    unsigned bias;
    unsigned wanted;
    unsigned threshold;
    float scale;
    unsigned stream;
};

constexpr unsigned RELU = 1, SIGMOID = 2;
constexpr unsigned WANT_X = 1, WANT_W = 2, WANT_B = 4;

constexpr unsigned BLOCK = 256;
// Blocks that a multiprocessor should hold: at most 128 registers a thread.
constexpr unsigned RESIDENT = 2;
constexpr unsigned TILE = 32;
constexpr unsigned PITCH = TILE + 1;
// Rows of the batch that dw takes at once, and the threads' shares of them.
constexpr unsigned ROWS = 128;
constexpr unsigned SHARES = 4;

__device__ inline unsigned tiles(unsigned n) { return (n + TILE - 1) / TILE; }

// What element `at` of x or dx is multiplied by, of the words of at / 4.
__device__ inline float factor(const unsigned (&word)[4], unsigned at, P p) {
    const unsigned low = at % 2 ? word[1] : word[0], high = at % 2 ? word[3] : word[2];
    return (at % 4 < 2 ? low : high) >= p.threshold ? p.scale : 0.0f;
}

__device__ inline void words_of(unsigned (&word)[4], unsigned at, const unsigned* __restrict__ state, P p) {
    philox4x32(word, at / 4, state[2], p.stream, 0, state[0], state[1]);
}

// v behind a factor; a dropped element is 0 whatever it was.
__device__ inline float scaled(float v, float factor) { return factor == 0.0f ? 0.0f : factor * v; }

// The value of element `at` of dx behind the mask.
__device__ inline float masked(float v, unsigned at, const unsigned* __restrict__ state, P p) {
    if (p.threshold == 0) return v;
    unsigned word[4];
    words_of(word, at, state, p);
    return scaled(v, factor(word, at, p));
}

// Four neighbours of a row of x behind the mask, zeros beyond its end and beyond the batch.
__device__ inline void read_x(float (&v)[4], const float* __restrict__ x, unsigned row, unsigned column, const unsigned* __restrict__ state, P p) {
    const unsigned count = row < p.batch && column < p.inputs ? min(p.inputs - column, 4u) : 0, at = row * p.inputs + column;
    if (count == 4 && at % 4 == 0 && aligned16(x)) {
        const float4 q = at4(x, at);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
    } else {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) v[e] = e < count ? x[at + e] : 0.0f;
    }
    if (p.threshold == 0 || count == 0) return;
    unsigned word[4], next[4];
    words_of(word, at, state, p);
    if (at % 4 != 0) words_of(next, at + 3, state, p);
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) v[e] = scaled(v[e], at % 4 + e < 4 ? factor(word, at + e, p) : factor(next, at + e, p));
}

__device__ inline float dz(const float* __restrict__ y, const float* __restrict__ dy, unsigned row, unsigned output, P p) {
    const unsigned at = row * p.outputs + output;
    const float d = dy[at];
    if (p.activation == RELU) return y[at] > 0.0f ? d : 0.0f;
    if (p.activation == SIGMOID) return d * y[at] * (1.0f - y[at]);
    return d;
}

// Adds 32 products of the tile to a thread's sums: rows (0, 0, 16, 16) and columns (0, 16, 0, 16) from its own.
__device__ inline void multiply(float (&sums)[4], const float (&left)[TILE * PITCH], const float (&right)[TILE * PITCH]) {
    const float* l = left + threadIdx.x / 16 * PITCH;
    const float* r = right + threadIdx.x % 16 * PITCH;
#pragma unroll 8
    for (unsigned k = 0; k < TILE; ++k) {
        const float l0 = l[k], l1 = l[16 * PITCH + k], r0 = r[k], r1 = r[16 * PITCH + k];
        sums[0] += l0 * r0;
        sums[1] += l0 * r1;
        sums[2] += l1 * r0;
        sums[3] += l1 * r1;
    }
}

// dx: rows of the batch, columns of inputs, terms over outputs.
__device__ inline void tile_of_dx(unsigned row, unsigned column, const unsigned* __restrict__ state, const float* __restrict__ w, const float* __restrict__ y,
                                  const float* __restrict__ dy, float* __restrict__ dx, P p, float (&left)[TILE * PITCH], float (&right)[TILE * PITCH]) {
    float sums[4] = {};
    const unsigned j = threadIdx.x % TILE;
    for (unsigned start = 0; start < p.outputs; start += TILE) {
        __syncthreads();
#pragma unroll
        for (unsigned i = threadIdx.x / TILE; i < TILE; i += BLOCK / TILE) {
            left[i * PITCH + j] = row + i < p.batch && start + j < p.outputs ? dz(y, dy, row + i, start + j, p) : 0.0f;
            right[j * PITCH + i] = start + i < p.outputs && column + j < p.inputs ? w[(start + i) * p.inputs + column + j] : 0.0f;
        }
        __syncthreads();
        multiply(sums, left, right);
    }
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned r = row + threadIdx.x / 16 + 16 * (i / 2), c = column + threadIdx.x % 16 + 16 * (i % 2);
        if (r < p.batch && c < p.inputs) dx[r * p.inputs + c] = masked(sums[i], r * p.inputs + c, state, p);
    }
}

// dw: rows of outputs, columns of inputs, terms over the batch.
__device__ inline void tile_of_dw(unsigned row, unsigned column, const unsigned* __restrict__ state, const float* __restrict__ x, const float* __restrict__ y,
                                  const float* __restrict__ dy, float* __restrict__ dw, P p, float (&left)[ROWS * PITCH], float (&right)[ROWS * PITCH]) {
    const unsigned share = threadIdx.x / (BLOCK / SHARES), of = threadIdx.x % (BLOCK / SHARES), j = threadIdx.x % TILE;
    const unsigned mine = of / 8, ours = of % 8;
    float sums[4][4] = {};
    for (unsigned start = 0; start < p.batch; start += ROWS) {
        __syncthreads();
#pragma unroll 4
        for (unsigned i = threadIdx.x / TILE; i < ROWS; i += BLOCK / TILE) {
            left[i * PITCH + j] = start + i < p.batch && row + j < p.outputs ? dz(y, dy, start + i, row + j, p) : 0.0f;
        }
#pragma unroll 2
        for (unsigned i = threadIdx.x / (TILE / 4); i < ROWS; i += BLOCK / (TILE / 4)) {
            const unsigned q = threadIdx.x % (TILE / 4) * 4;
            float v[4];
            read_x(v, x, start + i, column + q, state, p);
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) right[i * PITCH + q + e] = v[e];
        }
        __syncthreads();
        const unsigned end = min(ROWS, p.batch - start);
#pragma unroll 2
        for (unsigned i = share; i < end; i += SHARES) {
            float l[4], r[4];
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) {
                l[e] = left[i * PITCH + mine + 8 * e];
                r[e] = right[i * PITCH + ours + 8 * e];
            }
#pragma unroll
            for (unsigned a = 0; a < 4; ++a) {
#pragma unroll
                for (unsigned b = 0; b < 4; ++b) sums[a][b] += l[a] * r[b];
            }
        }
    }
    // The shares one by one: 64 threads' sixteen sums fill a tile.
    __syncthreads();
    float* shares = left;
    for (unsigned a = 0; a < 4; ++a) {
        for (unsigned b = 0; b < 4; ++b) shares[(share * TILE + mine + 8 * a) * TILE + ours + 8 * b] = sums[a][b];
    }
    __syncthreads();
    for (unsigned q = threadIdx.x; q < TILE * TILE; q += BLOCK) {
        float sum = 0.0f;
#pragma unroll
        for (unsigned s = 0; s < SHARES; ++s) sum += shares[s * TILE * TILE + q];
        const unsigned r = row + q / TILE, c = column + q % TILE;
        if (r < p.outputs && c < p.inputs) dw[r * p.inputs + c] = sum;
    }
}

// 32 elements of db: eight threads each, every 8th row, then the eight sums in order.
__device__ inline void run_of_db(unsigned start, const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ db, P p,
                                 float (&parts)[TILE * PITCH]) {
    const unsigned output = start + threadIdx.x % TILE;
    float part = 0.0f;
    if (output < p.outputs) {
#pragma unroll 8
        for (unsigned row = threadIdx.x / TILE; row < p.batch; row += BLOCK / TILE) part += dz(y, dy, row, output, p);
    }
    parts[threadIdx.x] = part;
    __syncthreads();
    if (threadIdx.x < TILE && output < p.outputs) {
        float sum = 0.0f;
#pragma unroll
        for (unsigned i = threadIdx.x; i < BLOCK; i += TILE) sum += parts[i];
        db[output] = sum;
    }
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) linear_fwd(const unsigned* __restrict__ state, const float* __restrict__ x, const float* __restrict__ w,
                                                               const float* __restrict__ b, float* __restrict__ y, P p) {
    __shared__ float left[TILE * PITCH];
    __shared__ float right[TILE * PITCH];
    // 1. This block's tile.
    const unsigned across = tiles(p.outputs), row = blockIdx.x / across * TILE, column = blockIdx.x % across * TILE, k = threadIdx.x % TILE;
    float sums[4] = {};
    for (unsigned start = 0; start < p.inputs; start += TILE) {
        // 2. 32 inputs of 32 rows and of 32 outputs; a warp reads a row.
        __syncthreads();
        const unsigned of = threadIdx.x / (TILE / 4), q = threadIdx.x % (TILE / 4) * 4;
        float v[4];
        read_x(v, x, row + of, start + q, state, p);
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) left[of * PITCH + q + e] = v[e];
#pragma unroll
        for (unsigned i = threadIdx.x / TILE; i < TILE; i += BLOCK / TILE) {
            const bool there = start + k < p.inputs && column + i < p.outputs;
            right[i * PITCH + k] = there ? w[(column + i) * p.inputs + start + k] : 0.0f;
        }
        __syncthreads();
        // 3. Their products.
        multiply(sums, left, right);
    }
    // 4. Bias, activation, out.
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned r = row + threadIdx.x / 16 + 16 * (i / 2), c = column + threadIdx.x % 16 + 16 * (i % 2);
        if (r < p.batch && c < p.outputs) {
            const float z = p.bias ? sums[i] + b[c] : sums[i];
            // A comparison that lets a NaN through, unlike fmaxf.
            y[r * p.outputs + c] = p.activation == SIGMOID ? sigmoid(z) : p.activation == RELU && z < 0.0f ? 0.0f : z;
        }
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) linear_bwd(const unsigned* __restrict__ state, const float* __restrict__ x, const float* __restrict__ w,
                                                               const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ dx,
                                                               float* __restrict__ dw, float* __restrict__ db, P p) {
    __shared__ float left[ROWS * PITCH];
    __shared__ float right[ROWS * PITCH];
    float (&tile_left)[TILE * PITCH] = reinterpret_cast<float (&)[TILE * PITCH]>(left);
    float (&tile_right)[TILE * PITCH] = reinterpret_cast<float (&)[TILE * PITCH]>(right);
    const unsigned across = tiles(p.inputs), number = blockIdx.x;
    const unsigned x_tiles = p.wanted & WANT_X ? tiles(p.batch) * across : 0, w_tiles = p.wanted & WANT_W ? tiles(p.outputs) * across : 0;
    const unsigned b_runs = p.wanted & WANT_B ? tiles(p.outputs) : 0;
    if (number == 0 && threadIdx.x == 0) {
        if (x_tiles == 0) dx[0] = 0.0f;
        if (w_tiles == 0) dw[0] = 0.0f;
        if (b_runs == 0) db[0] = 0.0f;
    }
    if (number < w_tiles) {
        tile_of_dw(number / across * TILE, number % across * TILE, state, x, y, dy, dw, p, left, right);
    } else if (number - w_tiles < x_tiles) {
        const unsigned tile = number - w_tiles;
        tile_of_dx(tile / across * TILE, tile % across * TILE, state, w, y, dy, dx, p, tile_left, tile_right);
    } else if (number - w_tiles - x_tiles < b_runs) {
        run_of_db((number - w_tiles - x_tiles) * TILE, y, dy, db, p, tile_left);
    }
}
