// What the second derivatives of similarities are made of, beside their own kernels.
//
// Rows a_i, b_j move by da_i, db_j; u is a row of norm 1, P x = x - u (u . x) what of x is across it, dy an upstream gradient.
//
//   moves   ds_ij = 2 (a_i - b_j) . (da_i - db_j)       how squared distances move
//   slopes  of_y = ds / 2 y, p = dy / y, q = -p of_y / y: how Euclidean distances y move, and the two factors of how their
//           gradients do; all 0 where y is
//   rows    sum_j p_ij (da_i - db_j) + q_ij (a_i - b_j): how the gradient by a_i moves; with `side` that by b_j, alike
//   unit    u = a / |a|, du = P da / |a|; both 0 of a row that is 0
//   bent    (P (dg - ((u . da) g + (u . g) da) / |a|) - (g . du) u) / |a|: how the gradient by a row moves, where that by its u
//           is g, which moves by dg; 0 where both are
//
// Shapes: a, da [n, d]; b, db [m, d]; matrices [n, m]; units = (u, du) and of_units = (g, dg) [2, n, d]; bent [n, d].
//
// moves: a block owns 16 x 16 entries, a thread one, of columns staged in shared memory 16 at a time: 4 flops an entry and
// column, of differences, which do not cancel; 4 reads of shared memory for them bind it. rows: a block owns 16 rows and streams
// the others 16 at a time; thread (r, c) owns columns c, c + 16, ... of row r; 6 flops a pair and column, 2 reads of the cache.
// The rest: a block a row, a thread every 256th column; memory binds them.

#include "prelude.cuh"

namespace {

struct SimilarityHvpParams {
    unsigned n, m, d, side;
};

constexpr unsigned BLOCK = 256;
constexpr unsigned TILE = 16;

// Rows and their moves, 16 columns of them; a column more keeps a warp's two rows in different banks.
struct Stage {
    float row[TILE][TILE + 1], move[TILE][TILE + 1];
};

// Thread (r, c) brings column k0 + c of row i0 + r; 0 beyond the ends.
__device__ inline void bring(Stage& to, const float* rows, const float* moves, unsigned i0, unsigned n, unsigned k0, unsigned d) {
    const unsigned r = threadIdx.x / TILE, c = threadIdx.x % TILE;
    const bool there = r < n - i0 && c < d - k0;
    const size_t at = there ? static_cast<size_t>(i0 + r) * d + k0 + c : 0;
    to.row[r][c] = there ? rows[at] : 0.0f;
    to.move[r][c] = there ? moves[at] : 0.0f;
}

// What a row is divided by to be of norm 1, in two steps, so that no square overflows: its largest element, and the norm of what
// that leaves, which is 0 of a row that is 0. All threads must come here.
__device__ inline float2 length_of(const float* row, unsigned d) {
    float most = 0.0f;
    for (size_t k = threadIdx.x; k < d; k += BLOCK) most = fmaxf(most, fabsf(row[k]));
    most = block_max(most);
    const float largest = most > 0.0f ? most : 1.0f;
    float squares = 0.0f;
    for (size_t k = threadIdx.x; k < d; k += BLOCK) {
        const float v = row[k] / largest;
        squares = fmaf(v, v, squares);
    }
    return make_float2(largest, sqrtf(block_sum(squares)));
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    similarity_hvp_moves(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ da,
                         const float* __restrict__ db, float* __restrict__ moves, SimilarityHvpParams p) {
    __shared__ Stage own;
    __shared__ Stage other;
    const unsigned r = threadIdx.x / TILE, c = threadIdx.x % TILE, across = p.m / TILE + (p.m % TILE != 0);
    const unsigned i0 = blockIdx.x / across * TILE, j0 = blockIdx.x % across * TILE;
    float sum = 0.0f;
    for (unsigned k0 = 0; k0 < p.d; k0 += TILE) {
        __syncthreads(); // whoever still reads what was brought before
        bring(own, a, da, i0, p.n, k0, p.d);
        bring(other, b, db, j0, p.m, k0, p.d);
        __syncthreads();
#pragma unroll
        for (unsigned k = 0; k < TILE; k++) {
            sum = fmaf(own.row[r][k] - other.row[c][k], own.move[r][k] - other.move[c][k], sum);
        }
    }
    if (r < p.n - i0 && c < p.m - j0) moves[static_cast<size_t>(i0 + r) * p.m + j0 + c] = 2.0f * sum;
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    similarity_hvp_slopes(const float* __restrict__ y, const float* __restrict__ moves, const float* __restrict__ dy,
                          float* __restrict__ of_y, float* __restrict__ p, float* __restrict__ q, SimilarityHvpParams of) {
    const size_t row = static_cast<size_t>(blockIdx.x) * of.m;
    for (size_t j = threadIdx.x; j < of.m; j += BLOCK) {
        const size_t at = row + j;
        const float d = y[at];
        const bool together = d < TINY;
        const float moved = together ? 0.0f : 0.5f * moves[at] / d, slope = together ? 0.0f : dy[at] / d;
        of_y[at] = moved;
        p[at] = slope;
        q[at] = together ? 0.0f : -slope * (moved / d);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    similarity_hvp_rows(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ da,
                        const float* __restrict__ db, const float* __restrict__ p, const float* __restrict__ q,
                        float* __restrict__ bent, SimilarityHvpParams of) {
    // Both factors of the pairs of a tile.
    __shared__ float2 factors[TILE][TILE];
    const bool of_b = of.side != 0;
    const float *const own = of_b ? b : a, *const own_moves = of_b ? db : da;
    const float *const others = of_b ? a : b, *const moves = of_b ? da : db;
    const unsigned n = of_b ? of.m : of.n, m = of_b ? of.n : of.m;
    const unsigned r = threadIdx.x / TILE, c = threadIdx.x % TILE, i0 = blockIdx.x * TILE, i = i0 + r;
    const bool there = r < n - i0;
    const size_t row = static_cast<size_t>(i) * of.d;
    for (size_t k = c; there && k < of.d; k += TILE) bent[row + k] = 0.0f;
    for (size_t j0 = 0; j0 < m; j0 += TILE) {
        __syncthreads(); // whoever still reads the factors before
        const size_t j = j0 + c, at = of_b ? j * of.m + i : static_cast<size_t>(i) * of.m + j;
        const bool pair = there && j < m;
        factors[r][c] = make_float2(pair ? p[at] : 0.0f, pair ? q[at] : 0.0f);
        __syncthreads();
        const unsigned tile = static_cast<unsigned>(min(static_cast<size_t>(TILE), m - j0));
        for (size_t k = c; there && k < of.d; k += TILE) {
            const float x = own[row + k], dx = own_moves[row + k];
            float sum = 0.0f;
            for (unsigned t = 0; t < tile; t++) {
                const size_t other = (j0 + t) * of.d + k;
                const float2 by = factors[r][t];
                sum = fmaf(by.x, dx - moves[other], fmaf(by.y, x - others[other], sum));
            }
            bent[row + k] += sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK) similarity_hvp_unit(const float* __restrict__ a, const float* __restrict__ da,
                                                                        float* __restrict__ units, SimilarityHvpParams p) {
    const size_t row = static_cast<size_t>(blockIdx.x) * p.d;
    const float *const of_a = a + row, *const of_da = da + row;
    float *const u = units + row, *const du = u + static_cast<size_t>(p.n) * p.d;
    const float2 length = length_of(of_a, p.d);
    const bool flat = length.y == 0.0f;
    const float norm = flat ? 1.0f : length.y;
    float along = 0.0f;
    for (size_t k = threadIdx.x; k < p.d; k += BLOCK) along = fmaf(of_a[k] / length.x / norm, of_da[k], along);
    along = block_sum(along);
    for (size_t k = threadIdx.x; k < p.d; k += BLOCK) {
        const float of_row = of_a[k] / length.x / norm;
        u[k] = flat ? 0.0f : of_row;
        du[k] = flat ? 0.0f : (of_da[k] - of_row * along) / norm / length.x;
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    similarity_hvp_bent(const float* __restrict__ a, const float* __restrict__ da, const float* __restrict__ of_units,
                        float* __restrict__ bent, SimilarityHvpParams p) {
    const size_t row = static_cast<size_t>(blockIdx.x) * p.d;
    const float *const of_a = a + row, *const of_da = da + row;
    const float *const g = of_units + row, *const dg = g + static_cast<size_t>(p.n) * p.d;
    const float2 length = length_of(of_a, p.d);
    const bool flat = length.y == 0.0f;
    const float norm = flat ? 1.0f : length.y;
    float onto_a = 0.0f, onto_g = 0.0f, onto_dg = 0.0f, both = 0.0f, any = 0.0f;
    for (size_t k = threadIdx.x; k < p.d; k += BLOCK) {
        const float u = of_a[k] / length.x / norm;
        onto_a = fmaf(u, of_da[k], onto_a);
        onto_g = fmaf(u, g[k], onto_g);
        onto_dg = fmaf(u, dg[k], onto_dg);
        both = fmaf(g[k], of_da[k], both);
        if (!(g[k] == 0.0f && dg[k] == 0.0f)) any = 1.0f;
    }
    onto_a = block_sum(onto_a), onto_g = block_sum(onto_g), onto_dg = block_sum(onto_dg), both = block_sum(both);
    // A row that is masked may hold anything, and nothing comes to it.
    const bool none = block_sum(any) == 0.0f || flat;
    const float inverse = 1.0f / norm / length.x, back = onto_dg + inverse * (both - 3.0f * onto_a * onto_g);
    for (size_t k = threadIdx.x; k < p.d; k += BLOCK) {
        const float turned = onto_a * g[k] + onto_g * of_da[k];
        bent[row + k] = none ? 0.0f : inverse * (dg[k] - inverse * turned - back * (of_a[k] / length.x / norm));
    }
}
