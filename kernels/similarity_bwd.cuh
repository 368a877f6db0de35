// similarity_bwd: the gradients of both sides. Included after similarity_tiles.cuh; similarity.cu says what is computed.
//
// Shapes: a, da [n, d], b, db [m, d], dy [n, m]; shared memory: three stages of dy and of the other rows, or of both sides of a
// tile of distances, whose coefficients and norms follow; then sums.
// Cost: d multiply-adds an entry and side, 2 d for the Euclidean distance; arithmetic binds.

namespace {

// Rows of both sets below which a block of similarity_bwd owns few of them.
constexpr unsigned FEW_ROWS = 16384;
// Rows of the other set between two visits to the gradient in memory.
constexpr unsigned LONG = 2048;

__device__ constexpr unsigned larger(unsigned a, unsigned b) { return a > b ? a : b; }

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
            __stcg(out + k, over > 0.0f ? v : 0.0f);
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

} // namespace
