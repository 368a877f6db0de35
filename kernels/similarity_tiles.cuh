// What the kernels of similarity.cu share: their params, and tiles of products or distances on the CUDA cores. Included after
// pairs.cuh; similarity.cu says what is computed.
//
// Shapes: a [n, d], b [m, d]; operands in shared memory [k][row].
// Cost: one multiply-add an entry and column, two operations where distances are taken by differences; the rows of a tile are
// read once from memory.

namespace {

struct SimilarityParams {
    unsigned n, m, d, kind;
};

constexpr unsigned DOT = 0, COSINE = 1, SQUARED = 2, EUCLIDEAN = 3;

// Rows and columns of y that a block of 256 threads owns; 8 quads of columns are staged at once.
constexpr unsigned SQUARE = 128;
constexpr unsigned LOG_PITCH = 3;
// Columns that similarity_fwd and similarity_bwd stage at once.
constexpr unsigned STEP = 16;
// Share of the squared norms below which the distance by products has lost digits.
constexpr float NEAR_PRODUCT = 1e-2f;

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
        const Four<T> four = *as<const Four<T>>(from);
        v = make_float4(real(four.v[0]), real(four.v[1]), real(four.v[2]), real(four.v[3]));
    }
    at4(to, 0) = v;
}

// Whether copy_four may copy from any fourth column of any row.
template <class T> __device__ inline bool on_fours(const T* z, unsigned d) { return d % 4 == 0 && is_aligned<4 * sizeof(T)>(z); }

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

} // namespace
