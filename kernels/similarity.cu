// Similarity matrices, every row of a [n, d] against every row of b [m, d], and their gradients.
//
//   dot                y_ij = a_i . b_j
//   cosine             y_ij = a_i . b_j / (|a_i| |b_j|); 0, with gradient 0, when a row is zero
//   squared Euclidean  y_ij = |a_i - b_j|^2
//   Euclidean          y_ij = |a_i - b_j|; gradient 0 where that is 0
//
// similarity_fwd: a, b -> y [n, m]. A block owns 128 x 128 entries and streams both sides' columns through shared memory, 32 at a time,
// double-buffered; a thread owns 8 x 8 entries, rows 16 apart and columns in two runs of four, so that a half-warp writes 256
// bytes of a row at a time, each entry once. d multiply-adds an entry, 2 d for distances, which are sums of squared differences
// and do not cancel; 4 n m bytes written. In f32 on the CUDA cores arithmetic bounds it from d = 24 on (H100: 67 TFLOP/s, 3.35 TB/s).
// A quad of columns takes 16 reads of 16 bytes for 256 multiply-adds: the balance point of Volta and later.
//
// similarity_fwd_f16, _bf16: the same block on the tensor cores, 64 columns at a time, a warp owning 32 x 64 entries; the bytes of y bound
// it. Distances are |a_i|^2 + |b_j|^2 - 2 a_i . b_j, and by differences where that cancels, below 1e-3 of the squared norms. Two lanes swap
// halves of their accumulators, so that each writes 16 bytes.
//
// similarity_bwd: a, b, dy [n, m] -> da [n, d], db [m, d]. The sweep of pairs.cuh, first the blocks that own rows of a, then those that own
// rows of b; dy times the derivative by the squared distance is the coefficient. d multiply-adds an entry and side for the dot
// product, 3 d for the others. dy is read once a side (and 128 columns). Rows of 16 bits are widened as they are staged: a dy of f32
// rounded to 16 bits would cost the gradient its digits.
//
// similarity_topk: a, b -> values, indices [n, k], the best of each row first. A block owns 64 rows and walks over tiles of 128 rows of b,
// computed as in similarity_fwd with 4 x 8 entries to a thread, into shared memory; the matrix is never in global memory. A warp then owns 8 rows: a
// lane compares its entry of 32 with the row's least so far, and those that are beyond it go into the row's list at once, which lies in
// the output itself. About k ln(m / k) of m are, so the products bound it, as they do similarity_fwd, while k is below some hundreds.

#include "prelude.cuh"
#include "pairs.cuh"

namespace {

struct P {
    unsigned n, m, d, kind;
};

struct TopK {
    unsigned n, m, d, kind, k;
};

constexpr unsigned DOT = 0, COSINE = 1, SQUARED = 2, EUCLIDEAN = 3;

// Rows and columns of y that a block of 256 threads owns; 8 quads of columns are staged at once.
constexpr unsigned SQUARE = 128;
constexpr unsigned LOG_PITCH = 3;
// Rows of a that a block of similarity_topk owns.
constexpr unsigned TOP_ROWS = 64;
// The index that stands where a row has no more similarities.
constexpr unsigned NOTHING = 0xffffffffu;

// A key that no other is below: minus infinity.
__device__ inline float worst() { return __uint_as_float(0xff800000u); }

template <bool DIFFERENCE, unsigned R>
__device__ __forceinline__ void products(float (&acc)[R][8], const float4* a, const float4* b, unsigned quads) {
    const unsigned it = threadIdx.x / 16, jt = threadIdx.x % 16;
#pragma unroll 1
    for (unsigned q = 0; q < quads; q++) {
        float4 x[R];
#pragma unroll
        for (unsigned r = 0; r < R; r++) x[r] = a[place<2>(it + 16 * r, q, LOG_PITCH)];
#pragma unroll
        for (unsigned c = 0; c < 8; c++) {
            const float4 y = b[place<2>(4 * jt + c % 4 + c / 4 * 64, q, LOG_PITCH)];
#pragma unroll
            for (unsigned r = 0; r < R; r++) {
                if (DIFFERENCE) {
                    const float4 e = make_float4(x[r].x - y.x, x[r].y - y.y, x[r].z - y.z, x[r].w - y.w);
                    acc[r][c] = fmaf(e.w, e.w, fmaf(e.z, e.z, fmaf(e.y, e.y, fmaf(e.x, e.x, acc[r][c]))));
                } else {
                    acc[r][c] = fmaf(x[r].w, y.w, fmaf(x[r].z, y.z, fmaf(x[r].y, y.y, fmaf(x[r].x, y.x, acc[r][c]))));
                }
            }
        }
    }
}

template <class T> __device__ inline Rows rows_of(const T* z, unsigned n) { return {z, n, stored_as(T()), nullptr, nullptr, 1.0f}; }

// dy times the derivative by the squared distance (for products, minus that by the product).
struct Derivative {
    const float* dy;
    size_t at_i, at_j; // from one row i, or j, to the next
    unsigned kind;

    __device__ Term operator()(float t, float, unsigned i, unsigned j, bool directed) const {
        const float up = dy[i * at_i + j * at_j];
        if (kind == SQUARED) return {0.0f, 2.0f * up};
        if (kind == EUCLIDEAN) return {0.0f, t > 0.0f ? up * rsqrtf(t) : 0.0f};
        return {0.0f, directed ? -up : 0.0f};
    }
};

// A block's rows of either gradient.
template <unsigned ROWS>
__device__ __forceinline__ void backward_of(float4* memory, const Rows& a, const Rows& b, const float* dy, float* da, float* db, const P& p) {
    const unsigned of_a = div_up(p.n, ROWS), column = blockIdx.y * CHUNK;
    const bool second = blockIdx.x >= of_a;
    const unsigned i0 = (second ? blockIdx.x - of_a : blockIdx.x) * ROWS;
    const Rows own = second ? b : a, other = second ? a : b;
    float* const out = second ? db : da;
    const Derivative of = {dy, second ? 1 : p.m, second ? p.m : 1, p.kind};
    const Pairs pairs = {false, p.kind != DOT, 1.0f};
    if (p.kind == COSINE) {
        sweep<ROWS, true>(memory, own, other, i0, column, p.d, pairs, out, of);
    } else {
        sweep<ROWS, false>(memory, own, other, i0, column, p.d, pairs, out, of);
    }
}

// Of rows stored in any way, so that the sweep is compiled once.
__device__ __forceinline__ void backward(float4* memory, const Rows& a, const Rows& b, const float* dy, float* da, float* db, const P& p) {
    if (rows_of_block(static_cast<size_t>(p.n) + p.m) == ROWS_FEW) {
        backward_of<ROWS_FEW>(memory, a, b, dy, da, db, p);
    } else {
        backward_of<ROWS_MANY>(memory, a, b, dy, da, db, p);
    }
}

__device__ __forceinline__ void forward(float4* memory, const Rows& of_a, const Rows& of_b, float* y, const P& p) {
    constexpr unsigned PANEL = SQUARE << LOG_PITCH;
    float* const norm_a = reinterpret_cast<float*>(memory + 4 * PANEL);
    float* const norm_b = norm_a + SQUARE;
    const unsigned across = div_up(p.m, SQUARE);
    const unsigned i0 = blockIdx.x / across * SQUARE, j0 = blockIdx.x % across * SQUARE;
    stage<2>(memory, LOG_PITCH, of_a, i0, SQUARE, p.d, 0);
    stage<2>(memory + PANEL, LOG_PITCH, of_b, j0, SQUARE, p.d, 0);
    copy_commit();
    if (p.kind == COSINE) {
        norms<true>(norm_a, of_a, i0, SQUARE, p.d);
        norms<true>(norm_b, of_b, j0, SQUARE, p.d);
    }
    float acc[8][8] = {};
    unsigned now = 0;
    for (unsigned k = 0; k < p.d; k += 32) {
        copy_wait<0>();
        __syncthreads();
        const float4* const at = memory + now * 2 * PANEL;
        now ^= 1;
        if (k + 32 < p.d) {
            stage<2>(memory + now * 2 * PANEL, LOG_PITCH, of_a, i0, SQUARE, p.d, k + 32);
            stage<2>(memory + now * 2 * PANEL + PANEL, LOG_PITCH, of_b, j0, SQUARE, p.d, k + 32);
        }
        copy_commit();
        const unsigned quads = div_up(min(32u, p.d - k), 4);
        if (p.kind <= COSINE) {
            products<false>(acc, at, at + PANEL, quads);
        } else {
            products<true>(acc, at, at + PANEL, quads);
        }
    }
    const unsigned it = threadIdx.x / 16, jt = threadIdx.x % 16;
    const bool whole = on_quads(y, p.m);
#pragma unroll
    for (unsigned r = 0; r < 8; r++) {
        const unsigned i = i0 + it + 16 * r;
        if (i >= p.n) break;
#pragma unroll
        for (unsigned h = 0; h < 2; h++) {
            float v[4];
#pragma unroll
            for (unsigned c = 0; c < 4; c++) {
                v[c] = acc[r][4 * h + c];
                if (p.kind == COSINE) v[c] *= norm_a[it + 16 * r] * norm_b[4 * jt + c + 64 * h];
                if (p.kind == EUCLIDEAN) v[c] = sqrtf(v[c]);
            }
            const unsigned j = j0 + 4 * jt + 64 * h;
            float* const to = y + static_cast<size_t>(i) * p.m + j;
            if (whole && j < p.m) {
                *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
            } else {
#pragma unroll
                for (unsigned c = 0; c < 4; c++)
                    if (j + c < p.m) to[c] = v[c];
            }
        }
    }
}

// |a_i - b_j|^2 by differences.
__device__ __noinline__ float distance(const Rows& a, const Rows& b, unsigned i, unsigned j, unsigned d) {
    float t = 0.0f;
#pragma unroll 1
    for (unsigned k = 0; k < d; k += 4) {
        const float4 x = a.quad(i, k, d), y = b.quad(j, k, d);
        const float4 e = make_float4(x.x - y.x, x.y - y.y, x.z - y.z, x.w - y.w);
        t += dot4(e, e);
    }
    return t;
}

template <class T> __device__ __forceinline__ void forward_half(float4* memory, const Rows& of_a, const Rows& of_b, float* y, const P& p) {
    constexpr unsigned PANEL = SQUARE << LOG_PITCH, STEP = 8 << LOG_PITCH;
    uint4* const panels = reinterpret_cast<uint4*>(memory);
    float* const norm_a = reinterpret_cast<float*>(memory + 4 * PANEL);
    float* const norm_b = norm_a + SQUARE;
    const unsigned across = div_up(p.m, SQUARE);
    const unsigned i0 = blockIdx.x / across * SQUARE, j0 = blockIdx.x % across * SQUARE;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, in = lane % 4;
    // The warp's 32 rows and 64 columns.
    const unsigned row0 = warp / 2 * 32, col0 = warp % 2 * 64;
    stage_half<T>(panels, LOG_PITCH, of_a, i0, SQUARE, p.d, 0);
    stage_half<T>(panels + PANEL, LOG_PITCH, of_b, j0, SQUARE, p.d, 0);
    copy_commit();
    if (p.kind == COSINE) {
        norms<true>(norm_a, of_a, i0, SQUARE, p.d);
        norms<true>(norm_b, of_b, j0, SQUARE, p.d);
    } else if (p.kind != DOT) {
        norms<false>(norm_a, of_a, i0, SQUARE, p.d);
        norms<false>(norm_b, of_b, j0, SQUARE, p.d);
    }
    float acc[2][8][4] = {};
    unsigned now = 0;
    for (unsigned k = 0; k < p.d; k += STEP) {
        copy_wait<0>();
        __syncthreads();
        const uint4* const a = panels + now * 2 * PANEL;
        const uint4* const b = a + PANEL;
        now ^= 1;
        if (k + STEP < p.d) {
            stage_half<T>(panels + now * 2 * PANEL, LOG_PITCH, of_a, i0, SQUARE, p.d, k + STEP);
            stage_half<T>(panels + now * 2 * PANEL + PANEL, LOG_PITCH, of_b, j0, SQUARE, p.d, k + STEP);
        }
        copy_commit();
        const unsigned steps = div_up(min(STEP, p.d - k), 16);
#pragma unroll 1
        for (unsigned s = 0; s < steps; s++) {
            unsigned x[2][4];
#pragma unroll
            for (unsigned w = 0; w < 2; w++)
                load_matrices(x[w], a + place_half(row0 + 16 * w + lane % 16, 2 * s + lane / 16, LOG_PITCH));
#pragma unroll
            for (unsigned n = 0; n < 8; n += 2) {
                unsigned both[4];
                load_matrices(both, b + place_half(col0 + 8 * n + lane % 8 + lane / 16 * 8, 2 * s + lane / 8 % 2, LOG_PITCH));
                const unsigned y0[2] = {both[0], both[1]}, y1[2] = {both[2], both[3]};
#pragma unroll
                for (unsigned w = 0; w < 2; w++) {
                    multiply(acc[w][n], x[w], y0, T());
                    multiply(acc[w][n + 1], x[w], y1, T());
                }
            }
        }
    }
    const bool whole = on_quads(y, p.m);
#pragma unroll
    for (unsigned w = 0; w < 2; w++) {
#pragma unroll
        for (unsigned n = 0; n < 8; n++) {
#pragma unroll
            for (unsigned e = 0; e < 4; e++) {
                const unsigned row = row0 + 16 * w + e / 2 * 8 + group, col = col0 + 8 * n + 2 * in + e % 2;
                float& v = acc[w][n][e];
                if (p.kind == COSINE) v *= norm_a[row] * norm_b[col];
                if (p.kind > COSINE) {
                    const float squares = norm_a[row] + norm_b[col];
                    v = squares - 2.0f * v;
                    // Not a number counts as near.
                    if (!(v > NEAR_GRAM * squares) && i0 + row < p.n && j0 + col < p.m) v = distance(of_a, of_b, i0 + row, j0 + col, p.d);
                    if (p.kind == EUCLIDEAN) v = sqrtf(v);
                }
            }
            // Two neighbours share two rows of four columns: each takes one.
            const bool odd = in % 2 != 0;
            const float v0 = __shfl_xor_sync(FULL, odd ? acc[w][n][0] : acc[w][n][2], 1);
            const float v1 = __shfl_xor_sync(FULL, odd ? acc[w][n][1] : acc[w][n][3], 1);
            const float v[4] = {odd ? v0 : acc[w][n][0], odd ? v1 : acc[w][n][1], odd ? acc[w][n][2] : v0, odd ? acc[w][n][3] : v1};
            const unsigned i = i0 + row0 + 16 * w + 8 * (in % 2) + group, j = j0 + col0 + 8 * n + in / 2 * 4;
            if (i >= p.n) continue;
            float* const to = y + static_cast<size_t>(i) * p.m + j;
            if (whole && j < p.m) {
                *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
            } else {
#pragma unroll
                for (unsigned c = 0; c < 4; c++)
                    if (j + c < p.m) to[c] = v[c];
            }
        }
    }
}

// Puts the keys of the lanes in `taken` among the k of a row, in falling order and its least first to go; they are at `index`, in rising order and
// beyond all indices in the list, so of equal ones the list's comes first. A whole warp.
__device__ __forceinline__ void insert(float* keys, unsigned* indices, unsigned k, float key, unsigned index, unsigned taken) {
    const unsigned lane = threadIdx.x % 32, end = div_up(k, 32) * 32;
    // Of the list, padded to `end`: how many this lane's key is beyond.
    unsigned beyond = 0;
    for (unsigned start = end; start > 0;) {
        start -= 32;
        const unsigned at = start + lane;
        const float old = at < k ? keys[at] : worst();
        unsigned shift = 0, moved = 0;
        for (unsigned rest = taken; rest != 0; rest &= rest - 1) {
            const unsigned from = __ffs(static_cast<int>(rest)) - 1;
            const bool better = __shfl_sync(FULL, key, static_cast<int>(from)) > old;
            const unsigned votes = __ballot_sync(FULL, better);
            if (lane == from) beyond += __popc(votes);
            shift += better;
            moved |= votes;
        }
        if (moved == 0) break;
        const unsigned old_index = at < k ? indices[at] : 0;
        __syncwarp();
        if (shift > 0 && at + shift < k) keys[at + shift] = old, indices[at + shift] = old_index;
        __syncwarp();
    }
    unsigned to = end - beyond;
    for (unsigned rest = taken; rest != 0; rest &= rest - 1) {
        const unsigned from = __ffs(static_cast<int>(rest)) - 1;
        const float other = __shfl_sync(FULL, key, static_cast<int>(from));
        to += other > key || (other == key && from < lane);
    }
    if ((taken >> lane & 1) != 0 && to < k) keys[to] = key, indices[to] = index;
    __syncwarp();
}

__device__ __forceinline__ void best(float4* memory, const Rows& of_a, const Rows& of_b, float* values, unsigned* indices, const TopK& p) {
    constexpr unsigned PANEL_A = TOP_ROWS << LOG_PITCH, PANELS = PANEL_A + (SQUARE << LOG_PITCH), R = TOP_ROWS / 16;
    constexpr unsigned WARPS = 8, OWN = TOP_ROWS / WARPS;
    float* const found = reinterpret_cast<float*>(memory + 2 * PANELS);
    float* const norm_a = found + TOP_ROWS * SQUARE;
    float* const norm_b = norm_a + TOP_ROWS;
    // What a key must be beyond to be among its row's best.
    float* const least = norm_b + SQUARE;
    const unsigned i0 = blockIdx.x * TOP_ROWS, rows = min(TOP_ROWS, p.n - i0);
    const unsigned it = threadIdx.x / 16, jt = threadIdx.x % 16, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const bool nearest = p.kind > COSINE;
    values += static_cast<size_t>(i0) * p.k;
    indices += static_cast<size_t>(i0) * p.k;
    for (unsigned row = warp * OWN; row < min(rows, warp * OWN + OWN); row++) {
        for (unsigned e = lane; e < p.k; e += 32) {
            values[static_cast<size_t>(row) * p.k + e] = worst();
            indices[static_cast<size_t>(row) * p.k + e] = NOTHING;
        }
        if (lane == 0) least[row] = worst();
    }
    __syncwarp();
    stage<2>(memory, LOG_PITCH, of_a, i0, TOP_ROWS, p.d, 0);
    stage<2>(memory + PANEL_A, LOG_PITCH, of_b, 0, SQUARE, p.d, 0);
    copy_commit();
    if (p.kind == COSINE) norms<true>(norm_a, of_a, i0, TOP_ROWS, p.d);
    unsigned now = 0;
    for (unsigned tile = 0; tile < div_up(p.m, SQUARE); tile++) {
        const unsigned j0 = tile * SQUARE, columns = min(SQUARE, p.m - j0);
        if (p.kind == COSINE) norms<true>(norm_b, of_b, j0, SQUARE, p.d);
        float acc[R][8] = {};
        for (unsigned k = 0; k < p.d; k += 32) {
            copy_wait<0>();
            __syncthreads();
            const float4* const at = memory + now * PANELS;
            now ^= 1;
            // The next columns; after the last, the first of the next tile.
            const bool onward = k + 32 < p.d;
            const unsigned next = onward ? j0 : j0 + SQUARE, from = onward ? k + 32 : 0;
            if (onward || p.m - j0 > SQUARE) {
                stage<2>(memory + now * PANELS, LOG_PITCH, of_a, i0, TOP_ROWS, p.d, from);
                stage<2>(memory + now * PANELS + PANEL_A, LOG_PITCH, of_b, next, SQUARE, p.d, from);
            }
            copy_commit();
            const unsigned quads = div_up(min(32u, p.d - k), 4);
            if (nearest) {
                products<true>(acc, at, at + PANEL_A, quads);
            } else {
                products<false>(acc, at, at + PANEL_A, quads);
            }
        }
#pragma unroll
        for (unsigned r = 0; r < R; r++) {
            const unsigned row = it + 16 * r;
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                float v[4];
#pragma unroll
                for (unsigned c = 0; c < 4; c++) {
                    v[c] = acc[r][4 * h + c];
                    if (p.kind == COSINE) v[c] *= norm_a[row] * norm_b[4 * jt + c + 64 * h];
                    if (p.kind == EUCLIDEAN) v[c] = sqrtf(v[c]);
                    if (nearest) v[c] = 0.0f - v[c];
                }
                at4(found, row * SQUARE + 4 * jt + 64 * h) = make_float4(v[0], v[1], v[2], v[3]);
            }
        }
        __syncthreads();
#pragma unroll 1
        for (unsigned row = warp * OWN; row < min(rows, warp * OWN + OWN); row++) {
            float* const keys = values + static_cast<size_t>(row) * p.k;
            unsigned* const which = indices + static_cast<size_t>(row) * p.k;
            float limit = least[row];
#pragma unroll 1
            for (unsigned c = lane; c - lane < columns; c += 32) {
                const float key = found[row * SQUARE + c];
                const unsigned taken = __ballot_sync(FULL, c < columns && key > limit);
                if (taken == 0) continue;
                insert(keys, which, p.k, key, j0 + c, taken);
                limit = keys[p.k - 1];
            }
            __syncwarp();
            if (lane == 0) least[row] = limit;
        }
    }
    for (unsigned row = warp * OWN; row < min(rows, warp * OWN + OWN); row++) {
        for (unsigned e = lane; e < p.k; e += 32) {
            const size_t at = static_cast<size_t>(row) * p.k + e;
            if (indices[at] == NOTHING) {
                values[at] = __uint_as_float(0x7fc00000u);
            } else if (nearest) {
                values[at] = 0.0f - values[at];
            }
        }
    }
}

} // namespace

extern "C" __global__ void __launch_bounds__(256)
similarity_fwd(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, P p) {
    extern __shared__ float4 fwd_memory[];
    forward(fwd_memory, rows_of(a, p.n), rows_of(b, p.m), y, p);
}

extern "C" __global__ void __launch_bounds__(256)
similarity_fwd_f16(const __half* __restrict__ a, const __half* __restrict__ b, float* __restrict__ y, P p) {
    extern __shared__ float4 fwd_f16_memory[];
    forward_half<__half>(fwd_f16_memory, rows_of(a, p.n), rows_of(b, p.m), y, p);
}

extern "C" __global__ void __launch_bounds__(256)
similarity_fwd_bf16(const __nv_bfloat16* __restrict__ a, const __nv_bfloat16* __restrict__ b, float* __restrict__ y, P p) {
    extern __shared__ float4 fwd_bf16_memory[];
    forward_half<__nv_bfloat16>(fwd_bf16_memory, rows_of(a, p.n), rows_of(b, p.m), y, p);
}

extern "C" __global__ void __launch_bounds__(128)
similarity_bwd(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ dy, float* __restrict__ da, float* __restrict__ db, P p) {
    extern __shared__ float4 bwd_memory[];
    backward(bwd_memory, rows_of(a, p.n), rows_of(b, p.m), dy, da, db, p);
}

extern "C" __global__ void __launch_bounds__(128)
similarity_bwd_f16(const __half* __restrict__ a, const __half* __restrict__ b, const float* __restrict__ dy, float* __restrict__ da, float* __restrict__ db, P p) {
    extern __shared__ float4 bwd_f16_memory[];
    backward(bwd_f16_memory, rows_of(a, p.n), rows_of(b, p.m), dy, da, db, p);
}

extern "C" __global__ void __launch_bounds__(128)
similarity_bwd_bf16(const __nv_bfloat16* __restrict__ a, const __nv_bfloat16* __restrict__ b, const float* __restrict__ dy, float* __restrict__ da, float* __restrict__ db, P p) {
    extern __shared__ float4 bwd_bf16_memory[];
    backward(bwd_bf16_memory, rows_of(a, p.n), rows_of(b, p.m), dy, da, db, p);
}

extern "C" __global__ void __launch_bounds__(256)
similarity_topk(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ values, unsigned* __restrict__ indices, TopK p) {
    extern __shared__ float4 topk_memory[];
    best(topk_memory, rows_of(a, p.n), rows_of(b, p.m), values, indices, p);
}
