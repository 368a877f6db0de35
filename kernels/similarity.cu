// Similarity matrices, every row of a [n, d] against every row of b [m, d], and their gradients.
//
//   dot                y_ij = a_i . b_j
//   cosine             y_ij = a_i . b_j / (|a_i| |b_j|); 0, with gradient 0, when a row is zero
//   squared Euclidean  y_ij = |a_i - b_j|^2
//   Euclidean          y_ij = |a_i - b_j|; gradient 0 where that is 0
//
// similarity_fwd: a, b -> y [n, m]. A block owns 128 x 128 entries and streams both sides' columns through shared memory, 16 at a
// time in three stages of asynchronous copies, which also transpose them; a thread owns 8 x 8 entries. d multiply-adds an entry;
// 4 n m bytes written, whole lines at a time, each entry once. In f32 on the CUDA cores arithmetic bounds it from d = 24 on
// (H100: 67 TFLOP/s, 3.35 TB/s). Distances are |a_i|^2 + |b_j|^2 - 2 a_i . b_j, the squares summed from what is staged; a tile
// with a pair where that cancels, below 1e-2 of the squared norms, is computed again by differences, at twice the cost.
//
// similarity_fwd_f16, _bf16: the same block on the tensor cores, 64 columns at a time, a warp owning 32 x 64 entries; the bytes
// of y bound it. Pairs below 1e-3 of the squared norms are taken by differences, one by one. Entries go out through shared
// memory.
//
// similarity_bwd: a, b, dy [n, m] -> da [n, d], db [m, d]. First the blocks that own rows of a, then those that own rows of b;
// what follows is said of a.
//   dot                da = dy b
//   squared Euclidean  da_i = 2 ((sum_j dy_ij) a_i - (dy b)_i), the sums from the staged tiles of dy
//   cosine             da_i = (v_i - (u_i . v_i) u_i) / |a_i|, v = dy b', where b' and u are rows over their norms, b' made so
//                      as it is staged
//   Euclidean          da_i = (sum_j g_ij) a_i - (g b)_i, g_ij = dy_ij / |a_i - b_j|: tiles of distances as in similarity_fwd
//                      first
// So d multiply-adds an entry and side, 2 d for Euclidean. A block of eight warps, each of 32 x 64 sums, owns 128 rows and 128
// columns, or where there are few rows 32 x 64 of them, in eight shares of the other rows that are added up at the end.
// Arithmetic bounds it. Sums over the other rows go through the gradient in memory every 2048 rows. Both sums of a Euclidean or
// squared gradient cancel where rows are near each other; so a Euclidean tile with a pair below 1e-2 of the squared norms is
// summed by differences, g_ij (a_i - b_j), at twice the cost. (The other gradients shrink with the distance themselves.) Rows of
// 16 bits are widened as they are staged: a dy of f32 rounded to 16 bits would cost the gradient its digits.
//
// similarity_topk: a, b -> values, indices [n, k], the best of each row first. A block owns 64 rows and walks over tiles of 128
// rows of b, with 4 x 8 entries to a thread and distances by differences, into shared memory; the matrix is never in global
// memory. A warp then owns 8 rows: a lane compares its entry of 32 with the row's least so far, and those that are beyond it go
// into the row's list at once, which lies in the output itself. About k ln(m / k) of m are, so the products bound it, as they do
// similarity_fwd, while k is below some hundreds.

#include "prelude.cuh"
#include "pairs.cuh"

namespace {

struct SimilarityParams {
    unsigned n, m, d, kind;
};

struct TopKParams {
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

// Columns that similarity_fwd and similarity_bwd stage at once.
constexpr unsigned STEP = 16;
// Columns up to which distances are taken by differences at once: writing y bounds them.
constexpr unsigned FEW_COLUMNS = 16;
// Share of the squared norms below which the distance by products has lost digits.
constexpr float NEAR_PRODUCT = 1e-2f;
// Rows of both sets below which a block of similarity_bwd owns few of them.
constexpr unsigned FEW_ROWS = 16384;
// Rows of the other set between two visits to the gradient in memory.
constexpr unsigned LONG = 2048;

__device__ constexpr unsigned larger(unsigned a, unsigned b) { return a > b ? a : b; }

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

template <class T> __device__ inline Rows rows_of(const T* z, unsigned n) {
    return {z, n, stored_as(T()), nullptr, nullptr, 1.0f};
}

// Four of a row of y [n, m], from column j on, which nothing reads here.
__device__ __forceinline__ void write_once(float* y, unsigned i, unsigned j, unsigned m, const float (&v)[4], bool whole) {
    float* const to = y + static_cast<size_t>(i) * m + j;
    if (whole) {
        if (j < m) __stcs(reinterpret_cast<float4*>(to), make_float4(v[0], v[1], v[2], v[3]));
    } else {
#pragma unroll
        for (unsigned c = 0; c < 4; c++)
            if (j + c < m) to[c] = v[c];
    }
}

// ---- Products on the CUDA cores. A block of 256 threads is eight warps, a warp's part of a tile 32 rows by 64 columns, a
// thread's 8 x 8: rows 4 (lane / 8) + (0..3) and 16 more, columns 4 (lane % 8) + (0..3) and 32 more. Operands lie in shared
// memory as [k][row]: of a k a thread reads 16 values, in four reads without a bank conflict, for 64 multiply-adds.

constexpr unsigned THREADS = 256;
// Floats between two k of an operand of so many rows: 8 k of 4 rows, as they are staged, lie in 32 banks.
__device__ constexpr unsigned pitch_of(unsigned rows) { return rows + 4; }

// acc += x y^T, or the squares of differences, at one k.
template <bool DIFFERENCE>
__device__ __forceinline__ void outer(float (&acc)[8][8], const float* x0, const float* x1, const float* y) {
    const float4 xs[2] = {at4(x0, 0), at4(x1, 0)}, ys[2] = {at4(y, 0), at4(y, 32)};
    const float u[8] = {xs[0].x, xs[0].y, xs[0].z, xs[0].w, xs[1].x, xs[1].y, xs[1].z, xs[1].w};
    const float v[8] = {ys[0].x, ys[0].y, ys[0].z, ys[0].w, ys[1].x, ys[1].y, ys[1].z, ys[1].w};
#pragma unroll
    for (unsigned r = 0; r < 8; r++) {
#pragma unroll
        for (unsigned c = 0; c < 8; c++) {
            if (DIFFERENCE) {
                const float e = u[r] - v[c];
                acc[r][c] = fmaf(e, e, acc[r][c]);
            } else {
                acc[r][c] = fmaf(u[r], v[c], acc[r][c]);
            }
        }
    }
}

__device__ __forceinline__ void clear(float (&acc)[8][8]) {
#pragma unroll
    for (unsigned r = 0; r < 8; r++)
#pragma unroll
        for (unsigned c = 0; c < 8; c++) acc[r][c] = 0.0f;
}

// One value, and four on a multiple of their size, into shared memory, as f32; zeros where `keep` is false.
__device__ inline void copy_one(float* to, const float* from, bool keep) { copy_async4(to, from, keep); }
template <class T> __device__ inline void copy_one(float* to, const T* from, bool keep) { *to = keep ? real(*from) : 0.0f; }
__device__ inline void copy_four(float* to, const float* from, bool keep) { copy_async16(to, from, keep); }
template <class T> __device__ inline void copy_four(float* to, const T* from, bool keep) {
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (keep) {
        const Four<T> four = *reinterpret_cast<const Four<T>*>(from);
        v = make_float4(real(four.v[0]), real(four.v[1]), real(four.v[2]), real(four.v[3]));
    }
    at4(to, 0) = v;
}

// Whether copy_four may copy from any fourth column of any row.
template <class T> __device__ inline bool on_fours(const T* z, unsigned d) {
    return d % 4 == 0 && reinterpret_cast<size_t>(z) % (4 * sizeof(T)) == 0;
}

// Stages columns k0 to k0 + K of ROWS rows of z [n, d], from `first` on, as [k][row]: neighbours copy 8 columns of 4 rows.
template <unsigned K, unsigned ROWS, class T>
__device__ __forceinline__ void stage_across(float* to, const T* z, unsigned n, unsigned first, unsigned d, unsigned k0) {
    const unsigned k = threadIdx.x % 8, row = threadIdx.x / 8;
    const T* const from = z + static_cast<size_t>(first + row) * d + k0 + k;
    to += k * pitch_of(ROWS) + row;
    if (n - first >= ROWS && d - k0 >= K) {
#pragma unroll
        for (unsigned r = 0; r < ROWS; r += 32)
#pragma unroll
            for (unsigned c = 0; c < K; c += 8)
                copy_one(to + c * pitch_of(ROWS) + r, from + static_cast<size_t>(r) * d + c, true);
    } else {
#pragma unroll 1
        for (unsigned r = 0; r < ROWS; r += 32) {
#pragma unroll 1
            for (unsigned c = 0; c < K; c += 8) {
                const bool keep = first + row + r < n && k0 + k + c < d;
                copy_one(to + c * pitch_of(ROWS) + r, keep ? from + static_cast<size_t>(r) * d + c : z, keep);
            }
        }
    }
}

// Stages rows k0 to k0 + K of z [n, d], COLUMNS of their columns from `first` on, as [k][column].
template <unsigned K, unsigned COLUMNS, class T>
__device__ __forceinline__ void stage_along(float* to, const T* z, unsigned n, unsigned k0, unsigned d, unsigned first,
                                            bool fours) {
    if (fours) {
        const unsigned q = threadIdx.x % (COLUMNS / 4), row = threadIdx.x / (COLUMNS / 4);
#pragma unroll
        for (unsigned k = 0; k < K; k += THREADS / (COLUMNS / 4)) {
            const bool keep = k0 + k + row < n && first + 4 * q < d;
            const T* const from = z + static_cast<size_t>(k0 + k + row) * d + first + 4 * q;
            copy_four(to + (k + row) * pitch_of(COLUMNS) + 4 * q, keep ? from : z, keep);
        }
    } else {
#pragma unroll 4
        for (unsigned e = threadIdx.x; e < K * COLUMNS; e += THREADS) {
            const unsigned k = e / COLUMNS, c = e % COLUMNS;
            const bool keep = k0 + k < n && first + c < d;
            copy_one(to + k * pitch_of(COLUMNS) + c, keep ? z + static_cast<size_t>(k0 + k) * d + first + c : z, keep);
        }
    }
}

// One over the norm of a row, 0 for a row of zeros: the largest element is taken out before the square.
template <class T> __device__ __noinline__ float inverse_norm(const T* z, unsigned d) {
    float largest = 0.0f, sum = 0.0f;
#pragma unroll 4
    for (unsigned k = 0; k < d; k++) largest = fmaxf(largest, fabsf(real(z[k])));
    if (!(largest >= TINY)) return 0.0f;
    const float over = 1.0f / largest;
#pragma unroll 4
    for (unsigned k = 0; k < d; k++) {
        const float v = real(z[k]) * over;
        sum = fmaf(v, v, sum);
    }
    return over / sqrtf(sum);
}

// The same of row i of z [n, d] whose square is known, if that is a number that f32 holds well; 0 beyond the last.
template <class T> __device__ __forceinline__ float inverse_of(float square, const T* z, unsigned n, unsigned i, unsigned d) {
    if (square > 1e-30f && square < 1e30f) return 1.0f / sqrtf(square);
    return i < n ? inverse_norm(z + static_cast<size_t>(i) * d, d) : 0.0f;
}

// A tile of pairs: WM warps over 32 rows of a each, the others of the eight over 64 rows of b each, K columns at a time, in three
// stages.
template <unsigned WM, unsigned K> struct Tile {
    static constexpr unsigned A = 32 * WM, B = 64 * (8 / WM), X = K * pitch_of(A), STAGE = X + K * pitch_of(B);
    // Rows whose square a thread adds up.
    static constexpr unsigned OWN = (A + B) / THREADS + ((A + B) % THREADS != 0);
};

// acc += the products, or squared distances, of rows from i0 on of a [n, d] with those from j0 on of b [m, d]; with `squares`
// also those of the rows themselves: thread t owns rows t, t + 256, ... of a's and then b's. The memory is free to whoever passes
// a barrier first.
template <class S, unsigned K, bool DIFFERENCE, class T>
__device__ __forceinline__ void walk(float (&acc)[8][8], float (&square)[S::OWN], float* memory, const T* a, unsigned n,
                                     unsigned i0, const T* b, unsigned m, unsigned j0, unsigned d, bool squares) {
    constexpr unsigned A = S::A, B = S::B, X = S::X;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned row = warp % (A / 32) * 32 + lane / 8 * 4, column = warp / (A / 32) * 64 + lane % 8 * 4;
    float* now = memory;
    stage_across<K, A>(now, a, n, i0, d, 0);
    stage_across<K, B>(now + X, b, m, j0, d, 0);
    copy_commit();
    if (d > K) {
        stage_across<K, A>(now + S::STAGE, a, n, i0, d, K);
        stage_across<K, B>(now + S::STAGE + X, b, m, j0, d, K);
    }
    copy_commit();
#pragma unroll 1
    for (unsigned k0 = 0; k0 < d; k0 += K) {
        copy_wait<1>();
        __syncthreads();
        if (d - k0 > 2 * K) {
            float* const after = now == memory ? now + 2 * S::STAGE : now - S::STAGE;
            stage_across<K, A>(after, a, n, i0, d, k0 + 2 * K);
            stage_across<K, B>(after + X, b, m, j0, d, k0 + 2 * K);
        }
        copy_commit();
        const float* const x = now + row;
        const float* const y = now + X + column;
#pragma unroll 4
        for (unsigned k = 0; k < K; k++) {
            const float* const at = x + k * pitch_of(A);
            outer<DIFFERENCE>(acc, at, at + 16, y + k * pitch_of(B));
        }
        if (squares) {
#pragma unroll
            for (unsigned e = 0; e < S::OWN; e++) {
                const unsigned own = threadIdx.x + e * THREADS;
                if (own >= A + B) continue;
                const float* const z = own < A ? now + own : now + X + own - A;
                const unsigned pitch = own < A ? pitch_of(A) : pitch_of(B);
#pragma unroll
                for (unsigned k = 0; k < K; k++) square[e] = fmaf(z[k * pitch], z[k * pitch], square[e]);
            }
        }
        now = now == memory + 2 * S::STAGE ? memory : now + S::STAGE;
    }
}

// |a_i|^2 + |b_j|^2 - 2 a_i . b_j in place of the products; whether any of the pairs that exist is near, or not a number.
template <class S>
__device__ __forceinline__ bool distances(float (&acc)[8][8], const float* norms, unsigned left_a, unsigned left_b) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned row = warp % (S::A / 32) * 32 + lane / 8 * 4, column = warp / (S::A / 32) * 64 + lane % 8 * 4;
    bool near = false;
#pragma unroll
    for (unsigned r = 0; r < 8; r++) {
        const unsigned i = row + r % 4 + r / 4 * 16;
        const float square = norms[i];
#pragma unroll
        for (unsigned c = 0; c < 8; c++) {
            const unsigned j = column + c % 4 + c / 4 * 32;
            const float squares = square + norms[S::A + j];
            acc[r][c] = fmaf(-2.0f, acc[r][c], squares);
            near |= !(acc[r][c] > NEAR_PRODUCT * squares) && i < left_a && j < left_b;
        }
    }
    return near;
}

// The block's tile of y, whose similarities but for the square root are acc.
__device__ __forceinline__ void write_tile(const float (&acc)[8][8], float* y, const SimilarityParams& p) {
    const unsigned across = div_up(p.m, SQUARE), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned row = blockIdx.x / across * SQUARE + warp % 4 * 32 + lane / 8 * 4;
    const unsigned column = blockIdx.x % across * SQUARE + warp / 4 * 64 + lane % 8 * 4;
    const bool whole = on_quads(y, p.m);
#pragma unroll
    for (unsigned r = 0; r < 8; r++) {
        const unsigned i = row + r % 4 + r / 4 * 16;
        if (i >= p.n) continue;
#pragma unroll
        for (unsigned h = 0; h < 2; h++) {
            float v[4];
#pragma unroll
            for (unsigned c = 0; c < 4; c++) v[c] = p.kind == EUCLIDEAN ? sqrtf(acc[r][4 * h + c]) : acc[r][4 * h + c];
            write_once(y, i, column + 32 * h, p.m, v, whole);
        }
    }
}

// A tile of distances by differences. A call, which leaves `forward` its registers.
__device__ __noinline__ void forward_near(float* memory, const float* a, const float* b, float* y, SimilarityParams p) {
    using S = Tile<4, STEP>;
    const unsigned across = div_up(p.m, SQUARE);
    float acc[8][8] = {}, none[1] = {};
    walk<S, STEP, true>(acc, none, memory, a, p.n, blockIdx.x / across * SQUARE, b, p.m, blockIdx.x % across * SQUARE, p.d,
                        false);
    write_tile(acc, y, p);
}

__device__ __forceinline__ void forward(float* memory, const float* a, const float* b, float* y, const SimilarityParams& p) {
    using S = Tile<4, STEP>;
    float* const norms = memory + 3 * S::STAGE;
    const unsigned across = div_up(p.m, SQUARE);
    const unsigned i0 = blockIdx.x / across * SQUARE, j0 = blockIdx.x % across * SQUARE;
    bool near = p.kind > COSINE && p.d <= FEW_COLUMNS;
    if (!near) {
        float acc[8][8] = {}, square[1] = {};
        walk<S, STEP, false>(acc, square, memory, a, p.n, i0, b, p.m, j0, p.d, p.kind != DOT);
        if (p.kind != DOT) {
            const unsigned own = threadIdx.x % SQUARE;
            if (p.kind == COSINE)
                square[0] = threadIdx.x < SQUARE ? inverse_of(square[0], a, p.n, i0 + own, p.d)
                                                 : inverse_of(square[0], b, p.m, j0 + own, p.d);
            norms[threadIdx.x] = square[0];
            __syncthreads();
            if (p.kind == COSINE) {
                const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
                const float* const norm_a = norms + warp % 4 * 32 + lane / 8 * 4;
                const float* const norm_b = norms + SQUARE + warp / 4 * 64 + lane % 8 * 4;
#pragma unroll
                for (unsigned r = 0; r < 8; r++)
#pragma unroll
                    for (unsigned c = 0; c < 8; c++) acc[r][c] *= norm_a[r % 4 + r / 4 * 16] * norm_b[c % 4 + c / 4 * 32];
            } else {
                near = __syncthreads_or(distances<S>(acc, norms, p.n - i0, p.m - j0)) != 0;
            }
        }
        if (!near) write_tile(acc, y, p);
    }
    if (near) forward_near(memory, a, b, y, p);
}

// The warps of a block of similarity_bwd: WM over 32 rows each, WN over 64 columns each, and WK share the rows of the other set.
template <unsigned WM, unsigned WN, unsigned WK> struct Sweep {
    static constexpr unsigned ROWS = 32 * WM, COLUMNS = 64 * WN, SHARE = WK;
    // Rows of the other set at a time.
    static constexpr unsigned K = WK == 8 ? 2 * STEP : STEP;
    // Threads that share a row's sum.
    static constexpr unsigned PARTS = THREADS / ROWS;
    using Pairs = Tile<WM, WM == 1 ? STEP / 2 : STEP>;
    static constexpr unsigned PAIRS_K = WM == 1 ? STEP / 2 : STEP;
    // Floats that warps exchange sums through.
    static constexpr unsigned SUMS = WK == 1 ? 0 : WK / 2 * WM * WN * 2048;
};

// A side of the gradient: rows from i0 on of own [n, d] against all of other [m, d].
template <class T> struct Gradient {
    const T* own;
    const T* other;
    const float* dy;
    float* out;
    unsigned n, m, d, kind, i0, column;
    bool second; // own is b, and dy [m, n]
};

// Adds up what the warps have of the same elements, in the warps with the first share.
template <class S> __device__ __forceinline__ void add_shares(float (&acc)[8][8], float* memory) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, at = warp % (8 / S::SHARE), share = warp / (8 / S::SHARE);
#pragma unroll 1
    for (unsigned half = S::SHARE / 2; half > 0; half /= 2) {
        float* const to = memory + (share % half * (8 / S::SHARE) + at) * 2048 + lane;
        __syncthreads();
        if (share >= half && share < 2 * half) {
#pragma unroll
            for (unsigned e = 0; e < 64; e++) to[32 * e] = acc[e / 8][e % 8];
        }
        __syncthreads();
        if (share < half) {
#pragma unroll
            for (unsigned e = 0; e < 64; e++) acc[e / 8][e % 8] += to[32 * e];
        }
    }
}

// Adds acc to what the block has in `out`, which is nothing yet the `first` time; the `last` time it becomes the gradient, for a
// cosine but for `project`. row_sums are those of the coefficients.
template <class S, class T>
__device__ __forceinline__ void flush(float (&acc)[8][8], float* memory, const Gradient<T>& g, const float* row_sums, bool first,
                                      bool last) {
    if (S::SHARE > 1) add_shares<S>(acc, memory);
    constexpr unsigned WM = S::ROWS / 32, WN = S::COLUMNS / 64;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (warp < WM * WN) {
        const bool whole = on_quads(g.out, g.d);
        const float by = g.kind == SQUARED ? 2.0f : 1.0f;
#pragma unroll
        for (unsigned r = 0; r < 8; r++) {
            const unsigned row = warp % WM * 32 + lane / 8 * 4 + r % 4 + r / 4 * 16, i = g.i0 + row;
            if (i >= g.n) continue;
            const float sum = last && g.kind > COSINE ? row_sums[row] : 0.0f;
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                const unsigned k = g.column + warp / WM * 64 + lane % 8 * 4 + h * 32;
                if (k >= g.d) continue;
                float* const to = g.out + static_cast<size_t>(i) * g.d + k;
                float4 v = make_float4(acc[r][4 * h], acc[r][4 * h + 1], acc[r][4 * h + 2], acc[r][4 * h + 3]);
                if (!first) v = sum_of(v, to, g.d - k, whole);
                if (last && g.kind > COSINE) {
                    const float4 z = quad_of(g.own + static_cast<size_t>(i) * g.d, k, g.d);
                    v = make_float4(by * (sum * z.x - v.x), by * (sum * z.y - v.y), by * (sum * z.z - v.z),
                                    by * (sum * z.w - v.w));
                }
                put(to, v, g.d - k, whole);
            }
        }
    }
    clear(acc);
}

// A thread's part of the sum of its row's coefficients, which lie as [k][row].
template <class S, unsigned K> __device__ __forceinline__ float part_of_sum(const float* x) {
    float sum = 0.0f;
#pragma unroll
    for (unsigned k = 0; k < K; k += S::PARTS) sum += x[(k + threadIdx.x / S::ROWS) * pitch_of(S::ROWS) + threadIdx.x % S::ROWS];
    return sum;
}

// The parts' sums, in the first ROWS of `sums`; ends with a barrier.
template <class S> __device__ __forceinline__ void add_parts(float* sums, float part) {
    sums[threadIdx.x] = part;
    __syncthreads();
    float sum = 0.0f;
    if (threadIdx.x < S::ROWS) {
#pragma unroll
        for (unsigned e = 0; e < S::PARTS; e++) sum += sums[e * S::ROWS + threadIdx.x];
    }
    __syncthreads();
    if (threadIdx.x < S::ROWS) sums[threadIdx.x] = sum;
    __syncthreads();
}

// Makes K staged rows of `other`, from j on, those over their norms.
template <class S, class T> __device__ __forceinline__ void normalise(float* y, const Gradient<T>& g, unsigned j) {
    constexpr unsigned LANES = THREADS / S::K, QUADS = S::COLUMNS / 4 / LANES;
    const unsigned row = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    float* const at = y + row * pitch_of(S::COLUMNS) + 4 * lane;
    float4 v[QUADS];
    float square = 0.0f;
#pragma unroll
    for (unsigned q = 0; q < QUADS; q++) {
        v[q] = at4(at, 4 * LANES * q);
        square += dot4(v[q], v[q]);
    }
    if (g.d > S::COLUMNS) {
        square = 0.0f;
        const T* const z = g.other + static_cast<size_t>(j + row) * g.d;
#pragma unroll 8
        for (unsigned k = lane; k < (j + row < g.m ? g.d : 0); k += LANES) square = fmaf(real(z[k]), real(z[k]), square);
    }
#pragma unroll
    for (unsigned o = LANES / 2; o > 0; o /= 2) square += __shfl_xor_sync(FULL, square, static_cast<int>(o));
    const float by = inverse_of(square, g.other, g.m, j + row, g.d);
#pragma unroll
    for (unsigned q = 0; q < QUADS; q++) at4(at, 4 * LANES * q) = make_float4(v[q].x * by, v[q].y * by, v[q].z * by, v[q].w * by);
}

// Takes the part along its row off each row of a cosine's gradient: the last of the blocks that share the rows.
template <class S, class T> __device__ __noinline__ void project(const Gradient<T>& g) {
    const unsigned lane = threadIdx.x % 32;
#pragma unroll 1
    for (unsigned row = threadIdx.x / 32; row < S::ROWS && g.i0 + row < g.n; row += 8) {
        const T* const z = g.own + static_cast<size_t>(g.i0 + row) * g.d;
        float* const out = g.out + static_cast<size_t>(g.i0 + row) * g.d;
        float square = 0.0f;
#pragma unroll 4
        for (unsigned k = lane; k < g.d; k += 32) square = fmaf(real(z[k]), real(z[k]), square);
        // On a line the angle is 0 or pi whatever the lengths.
        const float over = g.d == 1 ? 0.0f : inverse_of(warp_sum(square), z, 1, 0, g.d);
        float along = 0.0f;
#pragma unroll 4
        for (unsigned k = lane; k < g.d; k += 32) along = fmaf(real(z[k]) * over, __ldcg(out + k), along);
        along = warp_sum(along);
#pragma unroll 4
        for (unsigned k = lane; k < g.d; k += 32) {
            const float v = over * fmaf(-along, real(z[k]) * over, __ldcg(out + k));
            out[k] = over > 0.0f ? v : 0.0f;
        }
    }
}

// The gradient of all but the distance, whose coefficients are dy itself: a product of matrices.
template <class S, class T> __device__ __noinline__ void sweep_given(float* memory, const Gradient<T> g) {
    constexpr unsigned K = S::K, X = K * pitch_of(S::ROWS), STAGE = X + K * pitch_of(S::COLUMNS), WM = S::ROWS / 32,
                       WN = S::COLUMNS / 64;
    float* const shares = memory + 3 * STAGE;
    float* const sums = shares + S::SUMS;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, share = warp / (WM * WN) * (K / S::SHARE);
    const unsigned row = warp % WM * 32 + lane / 8 * 4, column = warp / WM % WN * 64 + lane % 8 * 4;
    const bool fours = on_fours(g.other, g.d), fours_dy = g.second && on_fours(g.dy, g.n);
    float* now = memory;
    float* next = memory + STAGE;
    float* after = memory + 2 * STAGE;
    const auto stage = [&](float* to, unsigned j) {
        if (j < g.m) {
            if (g.second) {
                stage_along<K, S::ROWS>(to, g.dy, g.m, j, g.n, g.i0, fours_dy);
            } else {
                stage_across<K, S::ROWS>(to, g.dy, g.n, g.i0, g.m, j);
            }
            stage_along<K, S::COLUMNS>(to + X, g.other, g.m, j, g.d, g.column, fours);
        }
        copy_commit();
    };
    float recent = 0.0f, sum = 0.0f;
    const auto prepare = [&](float* at, unsigned j) {
        if (g.kind == SQUARED) recent += part_of_sum<S, K>(at);
        if (g.kind == COSINE) normalise<S>(at + X, g, j);
    };
    stage(now, 0);
    stage(next, K);
    if (g.kind != DOT) {
        copy_wait<1>();
        __syncthreads();
        prepare(now, 0);
    }
    float acc[8][8] = {};
    bool first = true;
#pragma unroll 1
    for (unsigned j = 0; j < g.m; j += K) {
        copy_wait<0>();
        __syncthreads();
        stage(after, j + 2 * K);
        const float* const x = now + share * pitch_of(S::ROWS) + row;
        const float* const y = now + X + share * pitch_of(S::COLUMNS) + column;
#pragma unroll 8
        for (unsigned k = 0; k < K / S::SHARE; k++) {
            const float* const at = x + k * pitch_of(S::ROWS);
            outer<false>(acc, at, at + 16, y + k * pitch_of(S::COLUMNS));
        }
        if (g.kind != DOT && g.m - j > K) prepare(next, j + K);
        float* const free = now;
        now = next, next = after, after = free;
        if ((j / K + 1) % (LONG / K) != 0 && g.m - j > K) continue;
        sum += recent;
        recent = 0.0f;
        const bool last = g.m - j <= K;
        if (last && g.kind == SQUARED) add_parts<S>(sums, sum);
        flush<S>(acc, shares, g, sums, first, last);
        first = false;
    }
}

// Where a coefficient lies in an array of [j][ROWS]: threads of a warp write theirs without a bank conflict.
template <class S> __device__ inline unsigned place_of(unsigned j, unsigned row) { return j * S::ROWS + (row ^ (j / 4 % 8 * 4)); }

// Step 3 of the distance's gradient, for the tile of rows from j0 on whose squared distances are t.
template <class S, bool NEAR_PAIRS, class T>
__device__ __forceinline__ void combine(float (&acc)[8][8], const float (&t)[8][8], float& sum, float* memory,
                                        float* coefficients, const Gradient<T>& g, unsigned j0) {
    constexpr unsigned K = S::K, WM = S::ROWS / 32, WN = S::COLUMNS / 64, STAGE = K * pitch_of(S::COLUMNS);
    // A tile's coefficients are in memory in two halves: of each 64 rows the first 32, then the others.
    constexpr unsigned HALF = S::Pairs::B / 2, STEPS = HALF / K;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, share = warp / (WM * WN) * (K / S::SHARE);
    const unsigned row = warp % WM * 32 + lane / 8 * 4, column = warp / WM % WN * 64 + lane % 8 * 4;
    const bool fours = on_fours(g.other, g.d), fours_dy = on_fours(g.dy, g.second ? g.n : g.m);
    float* now = memory;
    float* next = memory + STAGE;
    float* after = memory + 2 * STAGE;
    const auto stage = [&](float* to, unsigned s) {
        const unsigned at = s % STEPS * K, j = j0 + at / 32 * 64 + at % 32 + s / STEPS * 32;
        if (s < 2 * STEPS) stage_along<K, S::COLUMNS>(to, g.other, g.m, j, g.d, g.column, fours);
        copy_commit();
    };
    stage(now, 0);
    stage(next, 1);
#pragma unroll 1
    for (unsigned s = 0; s < 2 * STEPS; s++) {
        if (s % STEPS == 0) {
            const bool later = s != 0;
            // The thread's four columns of the tile, and where they are among the coefficients.
            const unsigned at = warp / WM * 32 + lane % 8 * 4, j = j0 + warp / WM * 64 + lane % 8 * 4 + (later ? 32 : 0);
            float c[8][4];
#pragma unroll
            for (unsigned e = 0; e < 8; e++) {
                float v[4] = {};
                const unsigned i = g.i0 + row + (g.second ? e / 4 * 16 : e % 4 + e / 4 * 16);
                if (g.second) {
                    if (j + e % 4 < g.m && i < g.n) load4(v, g.dy + static_cast<size_t>(j + e % 4) * g.n, i, g.n, fours_dy);
#pragma unroll
                    for (unsigned r = 0; r < 4; r++) c[e / 4 * 4 + r][e % 4] = v[r];
                } else {
                    if (j < g.m && i < g.n) load4(v, g.dy + static_cast<size_t>(i) * g.m, j, g.m, fours_dy);
#pragma unroll
                    for (unsigned r = 0; r < 4; r++) c[e][r] = v[r];
                }
            }
            if (later) __syncthreads(); // whoever still reads the first half
#pragma unroll
            for (unsigned e = 0; e < 4; e++) {
#pragma unroll
                for (unsigned h = 0; h < 2; h++) {
                    float v[4];
#pragma unroll
                    for (unsigned r = 0; r < 4; r++) {
                        const float distance = later ? t[4 * h + r][4 + e] : t[4 * h + r][e];
                        v[r] = distance > 0.0f ? c[4 * h + r][e] * rsqrtf(distance) : 0.0f;
                    }
                    at4(coefficients, place_of<S>(at + e, row + 16 * h)) = make_float4(v[0], v[1], v[2], v[3]);
                }
            }
        }
        copy_wait<1>();
        __syncthreads();
        stage(after, s + 2);
        const unsigned from = s % STEPS * K + share;
        const float* const y = now + share * pitch_of(S::COLUMNS) + column;
        if (NEAR_PAIRS) {
            // Of half its columns a thread's own rows fit into registers.
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                float own[8][4];
#pragma unroll
                for (unsigned r = 0; r < 8; r++) {
                    const unsigned i = g.i0 + row + r % 4 + r / 4 * 16, k = g.column + column + 32 * h;
                    const bool keep = i < g.n && k < g.d;
                    const float4 v =
                        keep ? quad_of(g.own + static_cast<size_t>(i) * g.d, k, g.d) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                    own[r][0] = v.x, own[r][1] = v.y, own[r][2] = v.z, own[r][3] = v.w;
                }
#pragma unroll 1
                for (unsigned k = 0; k < K / S::SHARE; k++) {
                    const float4 x0 = at4(coefficients, place_of<S>(from + k, row)),
                                 x1 = at4(coefficients, place_of<S>(from + k, row + 16));
                    const float4 ys = at4(y, k * pitch_of(S::COLUMNS) + 32 * h);
                    const float u[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w}, v[4] = {ys.x, ys.y, ys.z, ys.w};
#pragma unroll
                    for (unsigned r = 0; r < 8; r++)
#pragma unroll
                        for (unsigned c = 0; c < 4; c++) acc[r][4 * h + c] = fmaf(u[r], v[c] - own[r][c], acc[r][4 * h + c]);
                }
            }
        } else {
#pragma unroll 4
            for (unsigned k = 0; k < K / S::SHARE; k++) {
                const float* const x = coefficients + place_of<S>(from + k, row);
                outer<false>(acc, x, coefficients + place_of<S>(from + k, row + 16), y + k * pitch_of(S::COLUMNS));
            }
#pragma unroll
            for (unsigned k = 0; k < K; k += S::PARTS)
                sum += coefficients[place_of<S>(s % STEPS * K + k + threadIdx.x / S::ROWS, threadIdx.x % S::ROWS)];
        }
        float* const free = now;
        now = next, next = after, after = free;
    }
}

// The distance's gradient, g_ij = dy_ij / |own_i - other_j|: a tile of squared distances, as in `forward`, then of coefficients,
// then their product with the other rows; FlashAttention (Dao et al., 2022) without its softmax.
template <class S, class T> __device__ __noinline__ void sweep_distance(float* memory, const Gradient<T> g) {
    using Pairs = typename S::Pairs;
    constexpr unsigned STAGES = 3 * larger(larger(Pairs::STAGE, S::K * pitch_of(S::COLUMNS)), (S::SUMS + 2) / 3);
    float* const coefficients = memory + STAGES;
    float* const norms = coefficients + Pairs::B / 2 * S::ROWS;
    float* const sums = norms + Pairs::A + Pairs::B;
    float acc[8][8] = {};
    float recent = 0.0f, sum = 0.0f;
    bool first = true;
#pragma unroll 1
    for (unsigned j = 0; j < g.m; j += Pairs::B) {
        float t[8][8] = {};
        float square[Pairs::OWN] = {};
        walk<Pairs, S::PAIRS_K, false>(t, square, memory, g.own, g.n, g.i0, g.other, g.m, j, g.d, true);
#pragma unroll
        for (unsigned e = 0; e < Pairs::OWN; e++)
            if (threadIdx.x + e * THREADS < Pairs::A + Pairs::B) norms[threadIdx.x + e * THREADS] = square[e];
        __syncthreads();
        if (__syncthreads_or(distances<Pairs>(t, norms, g.n - g.i0, g.m - j))) {
            clear(t);
            walk<Pairs, S::PAIRS_K, true>(t, square, memory, g.own, g.n, g.i0, g.other, g.m, j, g.d, false);
            __syncthreads();
            combine<S, true>(acc, t, recent, memory, coefficients, g, j);
        } else {
            combine<S, false>(acc, t, recent, memory, coefficients, g, j);
        }
        __syncthreads();
        const bool last = g.m - j <= Pairs::B;
        if ((j / Pairs::B + 1) % (LONG / Pairs::B) != 0 && !last) continue;
        sum += recent;
        recent = 0.0f;
        if (last) add_parts<S>(sums, sum);
        flush<S>(acc, memory, g, sums, first, last);
        __syncthreads();
        first = false;
    }
}

// A block's rows of either gradient.
template <class S, class T>
__device__ __forceinline__ void backward_of(float* memory, const T* a, const T* b, const float* dy, float* da, float* db,
                                            const SimilarityParams& p, unsigned* ticket) {
    const unsigned of_a = div_up(p.n, S::ROWS), column = blockIdx.y * S::COLUMNS;
    const bool second = blockIdx.x >= of_a;
    const unsigned i0 = (second ? blockIdx.x - of_a : blockIdx.x) * S::ROWS;
    const T* const own = second ? b : a;
    const T* const other = second ? a : b;
    float* const out = second ? db : da;
    const unsigned n = second ? p.m : p.n, m = second ? p.n : p.m;
    const Gradient<T> g = {own, other, dy, out, n, m, p.d, p.kind, i0, column, second};
    if (p.kind == EUCLIDEAN) {
        sweep_distance<S>(memory, g);
    } else {
        sweep_given<S>(memory, g);
        if (p.kind == COSINE && last_block(ticket + blockIdx.x, gridDim.y)) project<S>(g);
    }
}

template <class T>
__device__ __forceinline__ void backward(float* memory, const T* a, const T* b, const float* dy, float* da, float* db,
                                         const SimilarityParams& p, unsigned* ticket) {
    if (static_cast<size_t>(p.n) + p.m < FEW_ROWS) {
        backward_of<Sweep<1, 1, 8>>(memory, a, b, dy, da, db, p, ticket);
    } else {
        backward_of<Sweep<4, 2, 1>>(memory, a, b, dy, da, db, p, ticket);
    }
}

// |x - y|^2 by differences, of two rows.
template <class T> __device__ __noinline__ float distance(const T* x, const T* y, unsigned d) {
    float t = 0.0f;
#pragma unroll 1
    for (unsigned k = 0; k < d; k += 4) {
        const float4 u = quad_of(x, k, d), v = quad_of(y, k, d);
        const float4 e = make_float4(u.x - v.x, u.y - v.y, u.z - v.z, u.w - v.w);
        t += dot4(e, e);
    }
    return t;
}

// Stages 64 columns from k0 on of SQUARE rows, as they are stored.
template <class T>
__device__ __forceinline__ void stage_panel(uint4* to, const T* z, unsigned n, unsigned first, unsigned d, unsigned k0) {
    const unsigned row = threadIdx.x / 8, c = threadIdx.x % 8, k = k0 + 8 * c;
    const T* const from = z + static_cast<size_t>(first + row) * d + k;
    const bool whole = d % 8 == 0 && reinterpret_cast<size_t>(z) % 16 == 0;
    to += place_half(row, c, LOG_PITCH);
#pragma unroll
    for (unsigned r = 0; r < SQUARE; r += 32) {
        const bool keep = first + row + r < n && k < d;
        const T* const at = keep ? from + static_cast<size_t>(r) * d : z;
        if (whole) {
            copy_async16(to + (r << LOG_PITCH), at, keep);
        } else {
            to[r << LOG_PITCH] = eight_of(at, keep ? d - k : 0);
        }
    }
}

// The sum of the squares of two elements in a register.
__device__ inline float square_of(unsigned bits, __half) {
    __half both[2];
    both[0].bits = static_cast<unsigned short>(bits), both[1].bits = static_cast<unsigned short>(bits >> 16);
    const float x = __half2float(both[0]), y = __half2float(both[1]);
    return fmaf(x, x, y * y);
}
__device__ inline float square_of(unsigned bits, __nv_bfloat16) {
    const float x = __uint_as_float(bits << 16), y = __uint_as_float(bits & 0xffff0000u);
    return fmaf(x, x, y * y);
}

template <class T>
__device__ __forceinline__ void forward_half(float4* memory, const T* a, const T* b, float* y, const SimilarityParams& p) {
    constexpr unsigned PANEL = SQUARE << LOG_PITCH, COLUMNS = 8 << LOG_PITCH;
    uint4* const panels = reinterpret_cast<uint4*>(memory);
    float* const norms = reinterpret_cast<float*>(memory + 4 * PANEL);
    const unsigned across = div_up(p.m, SQUARE);
    const unsigned i0 = blockIdx.x / across * SQUARE, j0 = blockIdx.x % across * SQUARE;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, in = lane % 4;
    // The warp's 32 rows and 64 columns.
    const unsigned row0 = warp / 2 * 32, col0 = warp % 2 * 64;
    stage_panel(panels, a, p.n, i0, p.d, 0);
    stage_panel(panels + PANEL, b, p.m, j0, p.d, 0);
    copy_commit();
    if (p.d > COLUMNS) {
        stage_panel(panels + 2 * PANEL, a, p.n, i0, p.d, COLUMNS);
        stage_panel(panels + 3 * PANEL, b, p.m, j0, p.d, COLUMNS);
    }
    copy_commit();
    float acc[2][8][4] = {};
    // Of one of the 256 rows.
    float square = 0.0f;
    unsigned now = 0;
#pragma unroll 1
    for (unsigned k = 0; k < p.d; k += COLUMNS) {
        copy_wait<1>();
        __syncthreads();
        const uint4* const x0 = panels + now * 2 * PANEL;
        const unsigned steps = div_up(min(COLUMNS, p.d - k), 16);
#pragma unroll 1
        for (unsigned s = 0; s < steps; s++) {
            unsigned x[2][4];
#pragma unroll
            for (unsigned w = 0; w < 2; w++)
                load_matrices(x[w], x0 + place_half(row0 + 16 * w + lane % 16, 2 * s + lane / 16, LOG_PITCH));
#pragma unroll
            for (unsigned n = 0; n < 8; n += 2) {
                unsigned both[4];
                load_matrices(both,
                              x0 + PANEL + place_half(col0 + 8 * n + lane % 8 + lane / 16 * 8, 2 * s + lane / 8 % 2, LOG_PITCH));
                const unsigned y0[2] = {both[0], both[1]}, y1[2] = {both[2], both[3]};
#pragma unroll
                for (unsigned w = 0; w < 2; w++) {
                    multiply(acc[w][n], x[w], y0, T());
                    multiply(acc[w][n + 1], x[w], y1, T());
                }
            }
        }
        if (p.kind != DOT) {
#pragma unroll 2
            for (unsigned c = 0; c < 2 * steps; c++) {
                const uint4 bits = x0[place_half(threadIdx.x, c, LOG_PITCH)];
                square += square_of(bits.x, T()) + square_of(bits.y, T()) + square_of(bits.z, T()) + square_of(bits.w, T());
            }
        }
        if (p.d - k > 2 * COLUMNS) {
            __syncthreads(); // whoever still reads what is overwritten
            stage_panel(panels + now * 2 * PANEL, a, p.n, i0, p.d, k + 2 * COLUMNS);
            stage_panel(panels + now * 2 * PANEL + PANEL, b, p.m, j0, p.d, k + 2 * COLUMNS);
        }
        copy_commit();
        now ^= 1;
    }
    if (p.kind != DOT) {
        const unsigned own = threadIdx.x % SQUARE;
        if (p.kind == COSINE)
            square = threadIdx.x < SQUARE ? inverse_of(square, a, p.n, i0 + own, p.d) : inverse_of(square, b, p.m, j0 + own, p.d);
        norms[threadIdx.x] = square;
    }
    __syncthreads();
    bool near = false;
    if (p.kind != DOT) {
#pragma unroll
        for (unsigned w = 0; w < 2; w++) {
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                const unsigned row = row0 + 16 * w + 8 * h + group;
                const float norm = norms[row];
#pragma unroll
                for (unsigned n = 0; n < 8; n++) {
#pragma unroll
                    for (unsigned e = 0; e < 2; e++) {
                        const unsigned col = col0 + 8 * n + 2 * in + e;
                        float& v = acc[w][n][2 * h + e];
                        if (p.kind == COSINE) {
                            v *= norm * norms[SQUARE + col];
                        } else {
                            const float squares = norm + norms[SQUARE + col];
                            v = fmaf(-2.0f, v, squares);
                            // Not a number counts as near.
                            const bool far = v > NEAR_GRAM * squares;
                            near |= !far;
                            v = far ? v : -1.0f; // until it is taken again
                        }
                    }
                }
            }
        }
    }
    // Out through shared memory, 16 rows of a warp at a time, so that a half-warp writes 256 bytes of a row.
    constexpr unsigned WAY = 72;
    float* const tile = reinterpret_cast<float*>(memory) + warp * 16 * WAY;
    const bool whole = on_quads(y, p.m), again = __ballot_sync(FULL, near) != 0;
#pragma unroll
    for (unsigned w = 0; w < 2; w++) {
        __syncwarp();
#pragma unroll
        for (unsigned n = 0; n < 8; n++) {
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                float* const to = tile + (8 * h + group) * WAY + 8 * n + 2 * in;
                *reinterpret_cast<float2*>(to) = make_float2(acc[w][n][2 * h], acc[w][n][2 * h + 1]);
            }
        }
        __syncwarp();
        if (again) {
#pragma unroll 1
            for (unsigned e = lane; e < 16 * 64; e += 32) {
                const unsigned i = i0 + row0 + 16 * w + e / 64, j = j0 + col0 + e % 64;
                float& v = tile[e / 64 * WAY + e % 64];
                if (v < 0.0f && i < p.n && j < p.m)
                    v = distance(a + static_cast<size_t>(i) * p.d, b + static_cast<size_t>(j) * p.d, p.d);
            }
            __syncwarp();
        }
#pragma unroll
        for (unsigned r = 0; r < 16; r += 2) {
            const unsigned row = r + lane / 16, i = i0 + row0 + 16 * w + row;
            const float4 q = at4(tile, row * WAY + lane % 16 * 4);
            float v[4] = {q.x, q.y, q.z, q.w};
            if (p.kind == EUCLIDEAN) {
#pragma unroll
                for (unsigned c = 0; c < 4; c++) v[c] = sqrtf(v[c]);
            }
            if (i < p.n) write_once(y, i, j0 + col0 + lane % 16 * 4, p.m, v, whole);
        }
    }
}

// Puts the keys of the lanes in `taken` among the k of a row, in falling order and its least first to go; they are at `index`, in
// rising order and beyond all indices in the list, so of equal ones the list's comes first. A whole warp.
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

__device__ __forceinline__ void best(float4* memory, const Rows& of_a, const Rows& of_b, float* values, unsigned* indices,
                                     const TopKParams& p) {
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

extern "C" __global__ void __launch_bounds__(256, 2)
    similarity_fwd(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, SimilarityParams p) {
    extern __shared__ float4 fwd_memory[];
    forward(reinterpret_cast<float*>(fwd_memory), a, b, y, p);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    similarity_fwd_f16(const __half* __restrict__ a, const __half* __restrict__ b, float* __restrict__ y, SimilarityParams p) {
    extern __shared__ float4 fwd_f16_memory[];
    forward_half(fwd_f16_memory, a, b, y, p);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    similarity_fwd_bf16(const __nv_bfloat16* __restrict__ a, const __nv_bfloat16* __restrict__ b, float* __restrict__ y,
                        SimilarityParams p) {
    extern __shared__ float4 fwd_bf16_memory[];
    forward_half(fwd_bf16_memory, a, b, y, p);
}

extern "C" __global__ void __launch_bounds__(256)
    similarity_bwd(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ dy, float* __restrict__ da,
                   float* __restrict__ db, SimilarityParams p, unsigned* ticket) {
    extern __shared__ float4 bwd_memory[];
    backward(reinterpret_cast<float*>(bwd_memory), a, b, dy, da, db, p, ticket);
}

extern "C" __global__ void __launch_bounds__(256)
    similarity_bwd_f16(const __half* __restrict__ a, const __half* __restrict__ b, const float* __restrict__ dy,
                       float* __restrict__ da, float* __restrict__ db, SimilarityParams p, unsigned* ticket) {
    extern __shared__ float4 bwd_f16_memory[];
    backward(reinterpret_cast<float*>(bwd_f16_memory), a, b, dy, da, db, p, ticket);
}

extern "C" __global__ void __launch_bounds__(256)
    similarity_bwd_bf16(const __nv_bfloat16* __restrict__ a, const __nv_bfloat16* __restrict__ b, const float* __restrict__ dy,
                        float* __restrict__ da, float* __restrict__ db, SimilarityParams p, unsigned* ticket) {
    extern __shared__ float4 bwd_bf16_memory[];
    backward(reinterpret_cast<float*>(bwd_bf16_memory), a, b, dy, da, db, p, ticket);
}

extern "C" __global__ void __launch_bounds__(256)
    similarity_topk(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ values,
                    unsigned* __restrict__ indices, TopKParams p) {
    extern __shared__ float4 topk_memory[];
    best(topk_memory, rows_of(a, p.n), rows_of(b, p.m), values, indices, p);
}
