// Fully connected layer with the dropout of its input, its bias and its activation, y = f(m(x) w^T + b).
//
//   fwd  y = f(m(x) w^T + b)
//   bwd  dz = dy f'(y), from the output; dx = m(dz w), dw = dz^T m(x), db = sum_b dz
//
// Shapes: x [B, I], w [O, I], b [O], y [B, O]; gradients as what they belong to. f is the identity, relu or sigmoid; m the mask
// of dropout.cu over the elements of x with its state [3], made again where x is read, four elements at a time, and dx written;
// none where the threshold is 0. Without a bias b is bound to any buffer and not read. An output that `wanted` leaves out is one
// element, set to 0.
//
// Threads: a block owns a tile of 32 x 32 outputs. Of y and dx a thread owns 2 x 2, 16 apart, and both factors pass through
// shared memory 32 terms at a time. Of dw a thread owns 4 x 4, 8 apart, over a quarter of the batch, 128 rows of which are in
// shared memory at once; the quarters are added in order. A narrow dw, of at most 4096 elements, would be few such blocks with a
// long walk over the batch each: there a block owns 8 x 8, a thread 4 x 4 over every 64th row, from memory into registers. Of db
// a block owns 32 or fewer; all its threads share the batch. In bwd these are ranges of the grid. Rows in shared memory are 33
// floats apart, so that neither loads nor reads conflict.
//
// Cost: 2 B I O flops forward and as many for each of dx and dw; every buffer moves once. The head of the network (64 -> 32 -> 1
// at B = 512) is 2 MFLOP and 0.2 MB in cache: nothing against the launch, so the latency of one block's loads binds.
#include "prelude.cuh"

namespace {

struct LinearParams {
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
// A dw of at most NARROW elements is cut into patches of PATCH x PATCH, of whose rows a thread reads AT_ONCE together.
constexpr unsigned NARROW = 4096;
constexpr unsigned PATCH = 8;
constexpr unsigned AT_ONCE = 4;

__device__ inline unsigned tiles(unsigned n) { return (n + TILE - 1) / TILE; }

// What element `at` of x or dx is multiplied by, of the words of at / 4.
__device__ inline float factor(const unsigned (&word)[4], unsigned at, LinearParams p) {
    const unsigned low = at % 2 ? word[1] : word[0], high = at % 2 ? word[3] : word[2];
    return (at % 4 < 2 ? low : high) >= p.threshold ? p.scale : 0.0f;
}

__device__ inline void words_of(unsigned (&word)[4], unsigned at, const unsigned* __restrict__ state, LinearParams p) {
    philox4x32(word, at / 4, state[2], p.stream, 0, state[0], state[1]);
}

// v behind a factor; a dropped element is 0 whatever it was.
__device__ inline float scaled(float v, float factor) { return factor == 0.0f ? 0.0f : factor * v; }

// The value of element `at` of dx behind the mask.
__device__ inline float masked(float v, unsigned at, const unsigned* __restrict__ state, LinearParams p) {
    if (p.threshold == 0) return v;
    unsigned word[4];
    words_of(word, at, state, p);
    return scaled(v, factor(word, at, p));
}

// Four neighbours of a row of x behind the mask, zeros beyond its end and beyond the batch.
__device__ inline void read_x(float (&v)[4], const float* __restrict__ x, unsigned row, unsigned column,
                              const unsigned* __restrict__ state, LinearParams p) {
    const unsigned count = row < p.batch && column < p.inputs ? min(p.inputs - column, 4u) : 0, at = row * p.inputs + column;
    if (count == 4 && at % 4 == 0 && is_aligned<16>(x)) {
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

// dy f'(y)
__device__ inline float dz_of(float y, float dy, LinearParams p) {
    if (p.activation == RELU) return y > 0.0f ? dy : 0.0f;
    if (p.activation == SIGMOID) return dy * y * (1.0f - y);
    return dy;
}

// Both loads are under way before either is looked at.
__device__ inline float dz(const float* __restrict__ y, const float* __restrict__ dy, unsigned row, unsigned output,
                           LinearParams p) {
    const unsigned at = row * p.outputs + output;
    const float v = p.activation != 0 ? y[at] : 0.0f, d = dy[at];
    return dz_of(v, d, p);
}

// Four neighbours of a row of y or dy, zeros beyond its end and beyond the batch.
__device__ inline void read_outputs(float (&v)[4], const float* __restrict__ from, unsigned row, unsigned output, bool aligned,
                                    LinearParams p) {
    const unsigned count = row < p.batch && output < p.outputs ? min(p.outputs - output, 4u) : 0, at = row * p.outputs + output;
    if (count == 4 && aligned) {
        const float4 q = at4(from, at);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
    } else {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) v[e] = e < count ? from[at + e] : 0.0f;
    }
}

// Adds `terms` products of the tile, and zeros up to a multiple of 8, to a thread's sums: rows (0, 0, 16, 16) and columns (0, 16,
// 0, 16) from its own.
__device__ inline void multiply(float (&sums)[4], const float (&left)[TILE * PITCH], const float (&right)[TILE * PITCH],
                                unsigned terms) {
    const float* l = left + threadIdx.x / 16 * PITCH;
    const float* r = right + threadIdx.x % 16 * PITCH;
    for (unsigned start = 0; start < min(terms, TILE); start += 8) {
#pragma unroll
        for (unsigned k = start; k < start + 8; ++k) {
            const float l0 = l[k], l1 = l[16 * PITCH + k], r0 = r[k], r1 = r[16 * PITCH + k];
            sums[0] += l0 * r0;
            sums[1] += l0 * r1;
            sums[2] += l1 * r0;
            sums[3] += l1 * r1;
        }
    }
}

// dx: rows of the batch, columns of inputs, terms over outputs.
__device__ inline void tile_of_dx(unsigned row, unsigned column, const unsigned* __restrict__ state, const float* __restrict__ w,
                                  const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ dx,
                                  LinearParams p, float (&left)[TILE * PITCH], float (&right)[TILE * PITCH]) {
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
        multiply(sums, left, right, p.outputs - start);
    }
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned r = row + threadIdx.x / 16 + 16 * (i / 2), c = column + threadIdx.x % 16 + 16 * (i % 2);
        if (r < p.batch && c < p.inputs) dx[r * p.inputs + c] = masked(sums[i], r * p.inputs + c, state, p);
    }
}

// dw: rows of outputs, columns of inputs, terms over the batch.
__device__ inline void tile_of_dw(unsigned row, unsigned column, const unsigned* __restrict__ state, const float* __restrict__ x,
                                  const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ dw,
                                  LinearParams p, float (&left)[ROWS * PITCH], float (&right)[ROWS * PITCH]) {
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

// A patch of a narrow dw: rows of outputs, columns of inputs, terms over the batch; a thread owns 4 x 4 over every 64th row.
__device__ inline void patch_of_dw(unsigned row, unsigned column, const unsigned* __restrict__ state, const float* __restrict__ x,
                                   const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ dw,
                                   LinearParams p, float* shares) {
    const unsigned ours = threadIdx.x % 2 * 4, mine = threadIdx.x / 2 % 2 * 4;
    const bool aligned = p.outputs % 4 == 0 && is_aligned<16>(y, dy);
    float sums[4][4] = {};
    for (unsigned start = threadIdx.x / 4; start < p.batch; start += AT_ONCE * BLOCK / 4) {
        float r[AT_ONCE][4], d[AT_ONCE][4], v[AT_ONCE][4] = {};
#pragma unroll
        for (unsigned j = 0; j < AT_ONCE; ++j) {
            const unsigned of = start + j * BLOCK / 4;
            read_outputs(d[j], dy, of, row + mine, aligned, p);
            if (p.activation != 0) read_outputs(v[j], y, of, row + mine, aligned, p);
            read_x(r[j], x, of, column + ours, state, p);
        }
#pragma unroll
        for (unsigned j = 0; j < AT_ONCE; ++j) {
#pragma unroll
            for (unsigned a = 0; a < 4; ++a) {
                const float l = dz_of(v[j][a], d[j][a], p);
#pragma unroll
                for (unsigned b = 0; b < 4; ++b) sums[a][b] += l * r[j][b];
            }
        }
    }
    // Eight threads of a warp meet in a butterfly, the warps in shared memory.
#pragma unroll
    for (unsigned a = 0; a < 4; ++a) {
#pragma unroll
        for (unsigned b = 0; b < 4; ++b) {
#pragma unroll
            for (unsigned offset = 16; offset >= 4; offset /= 2) sums[a][b] += __shfl_xor_sync(FULL, sums[a][b], offset);
            if (threadIdx.x % 32 < 4) shares[(threadIdx.x / 32 * PATCH + mine + a) * PATCH + ours + b] = sums[a][b];
        }
    }
    __syncthreads();
    const unsigned r = row + threadIdx.x / PATCH, c = column + threadIdx.x % PATCH;
    if (threadIdx.x >= PATCH * PATCH || r >= p.outputs || c >= p.inputs) return;
    float sum = 0.0f;
#pragma unroll
    for (unsigned warp = 0; warp < BLOCK / 32; ++warp) sum += shares[warp * PATCH * PATCH + threadIdx.x];
    dw[r * p.inputs + c] = sum;
}

// Up to 32 elements of db, `wide` side by side; the other threads share the batch, those of a warp meet in a butterfly, the warps
// in shared memory.
__device__ inline void run_of_db(unsigned start, const float* __restrict__ y, const float* __restrict__ dy,
                                 float* __restrict__ db, LinearParams p, float (&parts)[TILE * PITCH]) {
    unsigned wide = 1;
    while (wide < min(p.outputs - start, TILE)) wide *= 2;
    const unsigned output = start + threadIdx.x % wide, shares = BLOCK / wide;
    const bool there = output < p.outputs;
    float part = 0.0f;
    for (unsigned first = threadIdx.x / wide; first < p.batch; first += 8 * shares) {
        float d[8];
#pragma unroll
        for (unsigned j = 0; j < 8; ++j)
            d[j] = there && first + j * shares < p.batch ? dz(y, dy, first + j * shares, output, p) : 0.0f;
#pragma unroll
        for (unsigned j = 0; j < 8; ++j) part += d[j];
    }
    for (unsigned offset = 16; offset >= wide; offset /= 2) part += __shfl_xor_sync(FULL, part, offset);
    if (threadIdx.x % 32 < wide) parts[threadIdx.x] = part;
    __syncthreads();
    if (threadIdx.x < wide && there) {
        float sum = 0.0f;
#pragma unroll
        for (unsigned i = threadIdx.x; i < BLOCK; i += 32) sum += parts[i];
        db[output] = sum;
    }
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT)
    linear_fwd(const unsigned* __restrict__ state, const float* __restrict__ x, const float* __restrict__ w,
               const float* __restrict__ b, float* __restrict__ y, LinearParams p) {
    __shared__ float left[TILE * PITCH];
    __shared__ float right[TILE * PITCH];
    // 1. This block's tile.
    const unsigned across = tiles(p.outputs), row = blockIdx.x / across * TILE, column = blockIdx.x % across * TILE,
                   k = threadIdx.x % TILE;
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
        multiply(sums, left, right, p.inputs - start);
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

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT)
    linear_bwd(const unsigned* __restrict__ state, const float* __restrict__ x, const float* __restrict__ w,
               const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ dx, float* __restrict__ dw,
               float* __restrict__ db, LinearParams p) {
    __shared__ float left[ROWS * PITCH];
    __shared__ float right[ROWS * PITCH];
    float (&tile_left)[TILE * PITCH] = *as<float[TILE * PITCH]>(left);
    float (&tile_right)[TILE * PITCH] = *as<float[TILE * PITCH]>(right);
    const unsigned across = tiles(p.inputs), number = blockIdx.x;
    const bool narrow = p.outputs * p.inputs <= NARROW;
    const unsigned patches = (p.inputs + PATCH - 1) / PATCH,
                   of_w = narrow ? (p.outputs + PATCH - 1) / PATCH * patches : tiles(p.outputs) * across;
    const unsigned x_tiles = p.wanted & WANT_X ? tiles(p.batch) * across : 0, w_tiles = p.wanted & WANT_W ? of_w : 0;
    const unsigned b_runs = p.wanted & WANT_B ? tiles(p.outputs) : 0;
    if (number == 0 && threadIdx.x == 0) {
        if (x_tiles == 0) dx[0] = 0.0f;
        if (w_tiles == 0) dw[0] = 0.0f;
        if (b_runs == 0) db[0] = 0.0f;
    }
    if (number < w_tiles && narrow) {
        patch_of_dw(number / patches * PATCH, number % patches * PATCH, state, x, y, dy, dw, p, left);
    } else if (number < w_tiles) {
        tile_of_dw(number / across * TILE, number % across * TILE, state, x, y, dy, dw, p, left, right);
    } else if (number - w_tiles < x_tiles) {
        const unsigned tile = number - w_tiles;
        tile_of_dx(tile / across * TILE, tile % across * TILE, state, w, y, dy, dx, p, tile_left, tile_right);
    } else if (number - w_tiles - x_tiles < b_runs) {
        run_of_db((number - w_tiles - x_tiles) * TILE, y, dy, db, p, tile_left);
    }
}
