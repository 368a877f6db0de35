// Tiles of pairs of rows, for the stems that meet every row of one set with every row of another. Included once by each of
// them, after prelude.cuh.
//
// The sweep, in f32. A block owns ROWS rows i and 128 columns of what they add up, and walks over tiles of 32 rows j:
//
//   1. t_ij = |u_i - u_j|^2 by differences, chunks of 128 columns through shared memory; u are the rows, for the cosine over their
//      norm. A thread owns ROWS / 16 x 4 pairs, 16 and 8 rows apart.
//   2. The stem's coefficient g_ij of u_i - u_j in the gradient, into shared memory, transposed.
//   3. acc_i += sum_j g_ij u_j, in registers. A thread owns ROWS / 8 rows and 8 columns; where the rows are short, the threads left over
//      take every other j. At the end the gradient is (sum_j g_ij) u_i - acc_i; the cosine's is projected off u_i, whose share is known from
//      the pairs alone, sum_j g_ij t_ij / 2, so that blocks of other columns need not be asked.
//
// The chunk with the block's own columns comes last, so step 3 finds both sides' in shared memory. Tiles of j are
// double-buffered by asynchronous copies. This is FlashAttention (Dao et al., 2022) without its softmax.
//
// Both ends of a pair compute it: 3 d multiply-adds a pair and end (2 d for the difference and its square). Doing each unordered
// pair once would save step 1 of one end, d or 2 d of 6 d, and need either atomics or n^2 / ROWS rows of partial sums to the rows j
// in memory; neither is worth a third.
//
// Accuracy. Differences do not cancel, so t keeps its digits however near the rows are. Step 3's two sums do cancel where a pair is
// near: a tile with a pair nearer than 1e-4 of its squared norms is summed by differences instead, g_ij (u_i - u_j), at 1.3 times
// the cost. A cosine pair whose t is below 1e-5 is taken from the rows as given (`refine`). Sums over j go through dz every 2048 rows.
//
// Rows of weight 0, and those beyond the last, are staged as zeros and never read.

namespace {

constexpr unsigned BLOCK = 128;
// Rows j of a tile, columns of a chunk.
constexpr unsigned TILE = 32;
constexpr unsigned CHUNK = 128;
// Rows a block owns: the first where there are FEW rows in all.
constexpr unsigned ROWS_FEW = 32;
constexpr unsigned ROWS_MANY = 64;
constexpr unsigned FEW = 8192;
// Tiles between two visits to dz.
constexpr unsigned FLUSH = 64;
// Share of the squared norms below which a pair is near; and the cosine's t below which rounding counts.
constexpr float NEAR = 1e-4f;
constexpr float NEAR_UNIT = 1e-5f;

__device__ inline unsigned div_up(unsigned a, unsigned b) { return a / b + (a % b != 0); }

__device__ inline float real(float v) { return v; }
__device__ inline float real(__half v) { return __half2float(v); }
__device__ inline float real(__nv_bfloat16 v) { return __bfloat162float(v); }

template <class T> struct alignas(8) Four {
    T v[4];
};

// Columns k to k + 3 of a row of d, 0 beyond the last.
template <class T> __device__ inline float4 quad_of(const T* row, unsigned k, unsigned d) {
    if (sizeof(T) == 2 && d % 4 == 0 && reinterpret_cast<size_t>(row) % 8 == 0) {
        const Four<T> four = *reinterpret_cast<const Four<T>*>(row + k);
        return make_float4(real(four.v[0]), real(four.v[1]), real(four.v[2]), real(four.v[3]));
    }
    float4 v = make_float4(real(row[k]), 0.0f, 0.0f, 0.0f);
    if (k + 1 < d) v.y = real(row[k + 1]);
    if (k + 2 < d) v.z = real(row[k + 2]);
    if (k + 3 < d) v.w = real(row[k + 3]);
    return v;
}

// How rows are stored; a value rather than a type where one sweep serves all three.
constexpr unsigned F32 = 0, F16 = 1, BF16 = 2;
__device__ inline unsigned stored_as(float) { return F32; }
__device__ inline unsigned stored_as(__half) { return F16; }
__device__ inline unsigned stored_as(__nv_bfloat16) { return BF16; }

// A set of rows.
struct Rows {
    const void* z; // [n, d]
    unsigned n;
    unsigned stored;
    const float* labels; // [n], or null
    const float* weights; // [n], or null where each is 1
    float unit; // what weights are multiplied by

    // The weight of row i, 0 beyond the last.
    __device__ float weight(unsigned i) const {
        if (i >= n) return 0.0f;
        return weights ? weights[i] * unit : 1.0f;
    }
    template <class T> __device__ const T* row(unsigned i, unsigned d) const {
        return static_cast<const T*>(z) + static_cast<size_t>(i) * d;
    }
    // Columns k to k + 3 of row i, 0 beyond the last. A call, for the rows that are not f32 on 16 bytes.
    __device__ __noinline__ float4 quad(unsigned i, unsigned k, unsigned d) const {
        if (stored == F32) return quad_of(row<float>(i, d), k, d);
        return stored == F16 ? quad_of(row<__half>(i, d), k, d) : quad_of(row<__nv_bfloat16>(i, d), k, d);
    }
};

// Whether every fourth column of every row is on 16 bytes.
__device__ inline bool on_quads(const void* z, unsigned d) {
    return d % 4 == 0 && reinterpret_cast<size_t>(z) % 16 == 0;
}

// Where quad q of a staged row lies. Rows are a multiple of 8 quads apart: neighbours 2^SHIFT rows apart start at other banks.
template <int SHIFT> __device__ inline unsigned place(unsigned row, unsigned q, unsigned log_pitch) {
    return (row << log_pitch) + (q ^ ((row >> SHIFT) & 7));
}

// Stages columns k0 to k0 + 4 * 2^log_pitch of `count` rows from `first` on.
template <int SHIFT>
__device__ inline void stage(float4* to, unsigned log_pitch, const Rows& from, unsigned first, unsigned count, unsigned d, unsigned k0) {
    const bool whole = from.stored == F32 && on_quads(from.z, d);
    for (unsigned e = threadIdx.x; e < count << log_pitch; e += blockDim.x) {
        const unsigned row = e >> log_pitch, q = e - (row << log_pitch);
        const unsigned i = first + row, k = k0 + 4 * q;
        float4* at = to + place<SHIFT>(row, q, log_pitch);
        const bool keep = k < d && from.weight(i) > 0.0f;
        if (whole) {
            copy_async16(at, keep ? from.row<float>(i, d) + k : from.z, keep);
        } else {
            *at = keep ? from.quad(i, k, d) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
    }
}

__device__ inline float dot4(float4 a, float4 b) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, a.x * b.x)));
}

__device__ inline float largest4(float4 v) {
    return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}

__device__ inline float sum_of_four(float v) {
    v += __shfl_xor_sync(FULL, v, 1);
    return v + __shfl_xor_sync(FULL, v, 2);
}

__device__ inline float largest_of_four(float v) {
    v = fmaxf(v, __shfl_xor_sync(FULL, v, 1));
    return fmaxf(v, __shfl_xor_sync(FULL, v, 2));
}

// What four neighbouring threads find of a row of which get(q) is the q-th quad: the square of its norm, or with UNIT one over its norm,
// 0 for a zero row (the largest element is taken out before the square). Whole warps must come here.
template <bool UNIT, class Get> __device__ inline float norm_of(unsigned quads, Get get) {
    const unsigned first = threadIdx.x % 4;
    float largest = 1.0f;
    if (UNIT) {
        largest = 0.0f;
#pragma unroll 4
        for (unsigned q = first; q < quads; q += 4) largest = fmaxf(largest, largest4(get(q)));
        largest = largest_of_four(largest);
    }
    const float over = 1.0f / fmaxf(largest, TINY);
    float sum = 0.0f;
#pragma unroll 4
    for (unsigned q = first; q < quads; q += 4) {
        float4 v = get(q);
        if (UNIT) v = make_float4(v.x * over, v.y * over, v.z * over, v.w * over);
        sum += dot4(v, v);
    }
    sum = sum_of_four(sum);
    if (!UNIT) return sum;
    return largest >= TINY ? over / sqrtf(sum) : 0.0f;
}

// norm_of for `count` rows from memory.
template <bool UNIT>
__device__ inline void norms(float* to, const Rows& from, unsigned first, unsigned count, unsigned d) {
    const bool whole = from.stored == F32 && on_quads(from.z, d);
    for (unsigned row = threadIdx.x / 4; row < count; row += blockDim.x / 4) {
        const unsigned i = first + row;
        const bool keep = from.weight(i) > 0.0f;
        const unsigned quads = keep ? div_up(d, 4) : 0;
        const float norm = whole ? norm_of<UNIT>(quads, [&](unsigned q) { return at4(from.row<float>(i, d), 4 * q); })
                                 : norm_of<UNIT>(quads, [&](unsigned q) { return from.quad(i, 4 * q, d); });
        if (threadIdx.x % 4 == 0) to[row] = norm;
    }
}

// A cosine pair near enough that rounding of rows to norm 1 counts, from the rows as given.
struct Refined {
    float t; // |u_i - u_j|^2; negative where the norms are so unlike that this is no better
    float along; // (z_i - z_j) / |z_j| along u_i
};

// From e = (z_i - z_j) / |z_i|: ee = e . e, q = e . (z_i + z_j) / |z_i|, and ratio = |z_j| / |z_i|. |u_i - u_j|^2 is ee less the square of
// the norms' difference. u_i - u_j may be replaced by (z_i - z_j) / |z_j|, from which it differs by a multiple of u_i that the
// projection removes.
__device__ inline Refined refined(float ee, float q, float ratio, float t) {
    const float radial = q / (1.0f + ratio);
    const bool better = ee <= 2.0f * sqrtf(t) + 1e-7f;
    return {better ? fmaxf(ee - radial * radial, 0.0f) / ratio : -1.0f, 0.5f * (ee + q) / ratio};
}

__device__ __noinline__ Refined refine(const Rows& a, const Rows& b, unsigned i, unsigned j, float ri, float rj, float t, unsigned d) {
    float ee = 0.0f, q = 0.0f;
#pragma unroll 1
    for (unsigned k = 0; k < d; k += 4) {
        const float4 x = a.quad(i, k, d), y = b.quad(j, k, d);
        const float4 e = make_float4((x.x - y.x) * ri, (x.y - y.y) * ri, (x.z - y.z) * ri, (x.w - y.w) * ri);
        ee += dot4(e, e);
        q += dot4(e, make_float4(fmaf(x.x, ri, y.x * ri), fmaf(x.y, ri, y.y * ri), fmaf(x.z, ri, y.z * ri), fmaf(x.w, ri, y.w * ri)));
    }
    return refined(ee, q, ri / rj, t);
}

// Twice a pair's loss, and the coefficient of u_i - u_j in its gradient.
struct Term {
    float loss, g;
};

// Rows a block owns where two sets have this many rows in all.
__device__ inline unsigned rows_of_block(size_t rows) { return rows < FEW ? ROWS_FEW : ROWS_MANY; }

// Quads from one staged row to the next, as a power of two.
__device__ inline unsigned log_pitch_of(unsigned d) { return d <= 32 ? 3 : d <= 64 ? 4 : 5; }

// v and what this launch has written to the `left` elements, at most four, from `at` on; `whole` where one access takes four.
__device__ inline float4 sum_of(float4 v, const float* at, unsigned left, bool whole) {
    if (whole) {
        const float4 old = __ldcg(reinterpret_cast<const float4*>(at));
        return make_float4(v.x + old.x, v.y + old.y, v.z + old.z, v.w + old.w);
    }
    v.x += __ldcg(at);
    if (left > 1) v.y += __ldcg(at + 1);
    if (left > 2) v.z += __ldcg(at + 2);
    if (left > 3) v.w += __ldcg(at + 3);
    return v;
}

__device__ inline void put(float* at, float4 v, unsigned left, bool whole) {
    if (whole) {
        at4(at, 0) = v;
        return;
    }
    at[0] = v.x;
    if (left > 1) at[1] = v.y;
    if (left > 2) at[2] = v.z;
    if (left > 3) at[3] = v.w;
}

// What a sweep makes of its pairs. What is the same for a whole launch is a value: a template would double what is to be compiled.
struct Pairs {
    bool same; // both sets are one, and a row makes no pair with itself
    bool distance; // t is needed; without it (dot products) the gradient is -acc
    float scale; // of the gradient
};

// Rows i0 to i0 + ROWS of `a` against all of `b`, columns from `column` on. `term(t, w, i, j, real)` is the pair's at label distance
// w; `real` is false where a cosine has no direction. Writes the gradient into out [a.n, d]; returns the thread's part of
// twice the sum of the losses.
template <unsigned ROWS, bool COSINE, class F>
__device__ __noinline__ double sweep(float4* memory, const Rows& a, const Rows& b, unsigned i0, unsigned column, unsigned d, const Pairs& pairs, float* out, const F& term) {
    constexpr unsigned R1 = ROWS / 16, R3 = ROWS / 8, WAY = ROWS + 4;
    const unsigned log_pitch = log_pitch_of(d), pitch = 1u << log_pitch;
    float4* const zi = memory;
    float4* const zj = zi + ROWS * pitch;
    float* const coefficients = reinterpret_cast<float*>(zj + 2 * TILE * pitch);
    float* const norm_i = coefficients + TILE * WAY;
    float* const weight_i = norm_i + ROWS;
    float* const label_i = weight_i + ROWS;
    float* const sum_i = label_i + ROWS;
    float* const along_i = sum_i + ROWS;
    unsigned* const refined_i = reinterpret_cast<unsigned*>(along_i + ROWS);
    float* const norm_j = reinterpret_cast<float*>(refined_i + ROWS);
    float* const weight_j = norm_j + TILE;
    float* const label_j = weight_j + TILE;

    const unsigned chunks = div_up(d, CHUNK), own = column / CHUNK, tiles = div_up(b.n, TILE);
    // Steps 1 and 2: rows it + 16 r, jt + 8 c.
    const unsigned it = threadIdx.x / 8, jt = threadIdx.x % 8;
    // Step 3: rows R3 * group + r, quads lane and lane + lanes, every split-th j.
    const unsigned quads = div_up(min(CHUNK, d - column), 4);
    const unsigned lanes = quads <= 2 ? 1 : quads <= 4 ? 2 : quads <= 8 ? 4 : quads <= 16 ? 8 : 16;
    const unsigned split = 16 / lanes, group = threadIdx.x / 16, lane = threadIdx.x % lanes, turn = threadIdx.x % 16 / lanes;

    stage<0>(zj, log_pitch, b, 0, TILE, d, chunks == 1 ? 0 : (own + 1) % chunks * CHUNK);
    if (chunks == 1) stage<0>(zi, log_pitch, a, i0, ROWS, d, 0);
    copy_commit();
    if (pairs.distance) norms<COSINE>(norm_i, a, i0, ROWS, d);
    for (unsigned r = threadIdx.x; r < ROWS; r += BLOCK) {
        weight_i[r] = a.weight(i0 + r);
        label_i[r] = a.labels && i0 + r < a.n ? a.labels[i0 + r] : 0.0f;
    }

    float acc[R3][8] = {};
    float t[R1][4] = {};
    float sums[R1] = {}, along[R1] = {};
    double losses = 0.0;
    unsigned now = 0;
    for (unsigned tile = 0; tile < tiles; tile++) {
        const unsigned j0 = tile * TILE;
        for (unsigned c = 0; c < chunks; c++) {
            const unsigned k0 = chunks == 1 ? 0 : (own + 1 + c) % chunks * CHUNK;
            if (chunks > 1) {
                __syncthreads(); // whoever still reads zi
                stage<0>(zi, log_pitch, a, i0, ROWS, d, k0);
                copy_commit();
            }
            copy_wait<0>();
            __syncthreads();
            float4* const tile_j = zj + now * TILE * pitch;
            now ^= 1;
            if (c + 1 < chunks || tile + 1 < tiles) {
                const unsigned next = c + 1 < chunks ? j0 : j0 + TILE;
                const unsigned k = chunks == 1 ? 0 : (own + 1 + (c + 1) % chunks) % chunks * CHUNK;
                stage<0>(zj + now * TILE * pitch, log_pitch, b, next, TILE, d, k);
            }
            copy_commit();
            if (c == 0) {
                if (threadIdx.x < TILE) {
                    const unsigned j = j0 + threadIdx.x;
                    weight_j[threadIdx.x] = b.weight(j);
                    label_j[threadIdx.x] = b.labels && j < b.n ? b.labels[j] : 0.0f;
                }
                if (threadIdx.x < ROWS) refined_i[threadIdx.x] = 0;
                if (pairs.distance && chunks == 1) {
                    const unsigned row = threadIdx.x / 4;
                    const float norm = norm_of<COSINE>(quads, [&](unsigned q) { return tile_j[place<0>(row, q, log_pitch)]; });
                    if (threadIdx.x % 4 == 0) norm_j[row] = norm;
                } else if (pairs.distance) {
                    norms<COSINE>(norm_j, b, j0, TILE, d);
                }
                __syncthreads();
            }
            if (pairs.distance) {
                const unsigned count = div_up(min(CHUNK, d - k0), 4);
                float ri[R1], rj[4];
                if (COSINE) {
#pragma unroll
                    for (unsigned r = 0; r < R1; r++) ri[r] = norm_i[it + 16 * r];
#pragma unroll
                    for (unsigned s = 0; s < 4; s++) rj[s] = norm_j[jt + 8 * s];
                }
#pragma unroll 1
                for (unsigned q = 0; q < count; q++) {
                    float4 y[4];
#pragma unroll
                    for (unsigned s = 0; s < 4; s++) {
                        y[s] = tile_j[place<0>(jt + 8 * s, q, log_pitch)];
                        if (COSINE) y[s] = make_float4(y[s].x * rj[s], y[s].y * rj[s], y[s].z * rj[s], y[s].w * rj[s]);
                    }
#pragma unroll
                    for (unsigned r = 0; r < R1; r++) {
                        const float4 x = zi[place<0>(it + 16 * r, q, log_pitch)];
#pragma unroll
                        for (unsigned s = 0; s < 4; s++) {
                            const float by = COSINE ? ri[r] : 1.0f;
                            const float4 e = make_float4(fmaf(x.x, by, -y[s].x), fmaf(x.y, by, -y[s].y), fmaf(x.z, by, -y[s].z), fmaf(x.w, by, -y[s].w));
                            t[r][s] = fmaf(e.w, e.w, fmaf(e.z, e.z, fmaf(e.y, e.y, fmaf(e.x, e.x, t[r][s]))));
                        }
                    }
                }
            }
            if (c + 1 < chunks) continue;

            bool near = false;
            float recent = 0.0f;
#pragma unroll
            for (unsigned r = 0; r < R1; r++) {
#pragma unroll
                for (unsigned s = 0; s < 4; s++) {
                    const unsigned row = it + 16 * r, col = jt + 8 * s, i = i0 + row, j = j0 + col;
                    const float both = pairs.same && i == j ? 0.0f : weight_i[row] * weight_j[col];
                    float g = 0.0f;
                    if (both > 0.0f) {
                        float te = t[r][s];
                        float inward = 0.5f * te;
                        bool directed = true;
                        if (COSINE) {
                            directed = norm_i[row] > 0.0f && norm_j[col] > 0.0f;
                            if (directed && te < NEAR_UNIT) {
                                const Refined better = refine(a, b, i, j, norm_i[row], norm_j[col], te, d);
                                if (better.t >= 0.0f) {
                                    te = better.t;
                                    inward = better.along;
                                    atomicOr(&refined_i[row], 1u << col);
                                }
                            }
                        }
                        const Term of = term(te, fabsf(label_i[row] - label_j[col]), i, j, directed);
                        recent += both * of.loss;
                        g = both * of.g;
                        if (COSINE) along[r] += g * inward;
                        if (pairs.distance) near |= g != 0.0f && te <= (COSINE ? 2.0f * NEAR : NEAR * (norm_i[row] + norm_j[col]));
                    }
                    t[r][s] = g;
                    coefficients[col * WAY + row] = COSINE ? g * norm_j[col] : g;
                }
            }
            losses += recent;
            if (__syncthreads_or(near)) {
#pragma unroll 1
                for (unsigned j = turn; j < TILE; j += split) {
                    const float4 y0 = tile_j[place<0>(j, lane, log_pitch)], y1 = tile_j[place<0>(j, lane + lanes, log_pitch)];
#pragma unroll
                    for (unsigned r = 0; r < R3; r++) {
                        const unsigned row = R3 * group + r;
                        const float g = coefficients[j * WAY + row];
                        const bool given = !COSINE || (refined_i[row] >> j & 1);
                        const float by = given ? 1.0f : norm_j[j] > 0.0f ? norm_i[row] / norm_j[j] : 0.0f;
                        const float4 x0 = zi[place<0>(row, lane, log_pitch)], x1 = zi[place<0>(row, lane + lanes, log_pitch)];
                        acc[r][0] = fmaf(g, fmaf(-by, x0.x, y0.x), acc[r][0]);
                        acc[r][1] = fmaf(g, fmaf(-by, x0.y, y0.y), acc[r][1]);
                        acc[r][2] = fmaf(g, fmaf(-by, x0.z, y0.z), acc[r][2]);
                        acc[r][3] = fmaf(g, fmaf(-by, x0.w, y0.w), acc[r][3]);
                        acc[r][4] = fmaf(g, fmaf(-by, x1.x, y1.x), acc[r][4]);
                        acc[r][5] = fmaf(g, fmaf(-by, x1.y, y1.y), acc[r][5]);
                        acc[r][6] = fmaf(g, fmaf(-by, x1.z, y1.z), acc[r][6]);
                        acc[r][7] = fmaf(g, fmaf(-by, x1.w, y1.w), acc[r][7]);
                    }
                }
            } else {
#pragma unroll
                for (unsigned r = 0; r < R1; r++) sums[r] += (t[r][0] + t[r][1]) + (t[r][2] + t[r][3]);
#pragma unroll 2
                for (unsigned j = turn; j < TILE; j += split) {
                    const float4 y0 = tile_j[place<0>(j, lane, log_pitch)], y1 = tile_j[place<0>(j, lane + lanes, log_pitch)];
                    float g[R3];
#pragma unroll
                    for (unsigned r = 0; r < R3; r += 4) {
                        const float4 v = *reinterpret_cast<const float4*>(coefficients + j * WAY + R3 * group + r);
                        g[r] = v.x, g[r + 1] = v.y, g[r + 2] = v.z, g[r + 3] = v.w;
                    }
#pragma unroll
                    for (unsigned r = 0; r < R3; r++) {
                        acc[r][0] = fmaf(g[r], y0.x, acc[r][0]);
                        acc[r][1] = fmaf(g[r], y0.y, acc[r][1]);
                        acc[r][2] = fmaf(g[r], y0.z, acc[r][2]);
                        acc[r][3] = fmaf(g[r], y0.w, acc[r][3]);
                        acc[r][4] = fmaf(g[r], y1.x, acc[r][4]);
                        acc[r][5] = fmaf(g[r], y1.y, acc[r][5]);
                        acc[r][6] = fmaf(g[r], y1.z, acc[r][6]);
                        acc[r][7] = fmaf(g[r], y1.w, acc[r][7]);
                    }
                }
            }
#pragma unroll
            for (unsigned r = 0; r < R1; r++)
#pragma unroll
                for (unsigned s = 0; s < 4; s++) t[r][s] = 0.0f;

            const bool last = tile + 1 == tiles;
            if (!last && (tile + 1) % FLUSH != 0) continue;
            // What the block's rows have so far, in memory between two flushes; at the end the gradient.
            if (last) {
#pragma unroll
                for (unsigned r = 0; r < R1; r++) {
                    for (unsigned o = 1; o < 8; o *= 2) {
                        sums[r] += __shfl_xor_sync(FULL, sums[r], o);
                        along[r] += __shfl_xor_sync(FULL, along[r], o);
                    }
                    if (jt == 0) {
                        sum_i[it + 16 * r] = sums[r];
                        along_i[it + 16 * r] = along[r];
                    }
                }
            }
#pragma unroll 1
            for (unsigned o = lanes; o < 16; o *= 2)
#pragma unroll
                for (unsigned r = 0; r < R3; r++)
#pragma unroll
                    for (unsigned e = 0; e < 8; e++) acc[r][e] += __shfl_xor_sync(FULL, acc[r][e], o);
            // Out through where the tile was, 32 rows at a time, so that neighbours write neighbours.
            const bool whole = on_quads(out, d);
#pragma unroll 1
            for (unsigned from = 0; from < ROWS; from += TILE) {
                __syncthreads(); // whoever still reads the tile
                if (turn == 0 && R3 * group >= from && R3 * group < from + TILE) {
#pragma unroll
                    for (unsigned r = 0; r < R3; r++) {
                        const unsigned row = R3 * group + r - from;
                        tile_j[place<0>(row, lane, log_pitch)] = make_float4(acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
                        tile_j[place<0>(row, lane + lanes, log_pitch)] = make_float4(acc[r][4], acc[r][5], acc[r][6], acc[r][7]);
                    }
                }
                __syncthreads();
#pragma unroll 1
                for (unsigned e = threadIdx.x; e < TILE << log_pitch; e += BLOCK) {
                    const unsigned row = from + (e >> log_pitch), q = e % pitch, i = i0 + row, k = column + 4 * q;
                    if (i >= a.n || q >= quads) continue;
                    float4 v = tile_j[place<0>(e >> log_pitch, q, log_pitch)];
                    float* const to = out + static_cast<size_t>(i) * d + k;
                    if (tile >= FLUSH) v = sum_of(v, to, d - k, whole);
                    if (last && pairs.distance) {
                        const float4 u = zi[place<0>(row, q, log_pitch)];
                        const float norm = COSINE ? norm_i[row] : 1.0f;
                        const float inward = COSINE ? (sum_i[row] - along_i[row]) * norm : sum_i[row];
                        // On a line the angle is 0 or pi whatever the lengths.
                        const float by = COSINE && d == 1 ? 0.0f : pairs.scale * norm;
                        v = make_float4(by * (inward * u.x - v.x), by * (inward * u.y - v.y), by * (inward * u.z - v.z), by * (inward * u.w - v.w));
                    } else if (last) {
                        v = make_float4(-pairs.scale * v.x, -pairs.scale * v.y, -pairs.scale * v.z, -pairs.scale * v.w);
                    }
                    put(to, v, d - k, whole);
                }
            }
#pragma unroll
            for (unsigned r = 0; r < R3; r++)
#pragma unroll
                for (unsigned e = 0; e < 8; e++) acc[r][e] = 0.0f;
        }
    }
    return losses;
}

// ---- The sweep of rows stored in 16 bits, on the tensor cores.
//
// The same three steps, a warp owning 16 rows i with all the tile's columns, as in FlashAttention-2 (Dao, 2023): the Gram tile's
// accumulators become, rounded to 16 bits, the left operand of the second product without leaving the registers. The squared
// distance is |z_i|^2 + |z_j|^2 - 2 z_i . z_j; a pair where that cancels, nearer than 1e-3 of the squared norms, and one whose
// coefficient 16 bits cannot hold, is computed by its warp from differences in f32.
//
// A coefficient rounded to bf16 is off by up to 2^-9, and alike where weights or labels are, so that sums over many rows do not average
// it out (3e-3 of a cosine's gradient at 8,200 rows, in the CPU run). So its residual takes a second product: 6 d multiply-adds a
// pair in place of 4 d for both ends. sum_j g_ij is taken of the same two parts, on the tensor cores too.
//
// The cosine's coefficient of z_j is g_ij |z_i| / |z_j|, near 1 in size whatever the norms; acc_i . z_i = sum_j of that times z_i . z_j
// is what the projection takes off.

// Warps of a block, each of which owns 16 rows.
constexpr unsigned WARPS = BLOCK / 32;
constexpr unsigned ROWS_HALF = 16 * WARPS;
constexpr float NEAR_GRAM = 1e-3f;

__device__ inline void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], __half) { mma_f16(d, a, b); }
__device__ inline void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], __nv_bfloat16) { mma_bf16(d, a, b); }

__device__ inline unsigned bits_of(__half v) { return __half_as_ushort(v); }
__device__ inline unsigned bits_of(__nv_bfloat16 v) { return __bfloat16_as_ushort(v); }
__device__ inline __half rounded(float v, __half) { return __float2half_rn(v); }
__device__ inline __nv_bfloat16 rounded(float v, __nv_bfloat16) { return __float2bfloat16_rn(v); }
// The largest coefficient that keeps its digits.
__device__ inline float most(__half) { return 6e4f; }
__device__ inline float most(__nv_bfloat16) { return 3e38f; }

// Two values as one register of an operand.
template <class T> __device__ inline unsigned packed(T x, T y) { return bits_of(x) | bits_of(y) << 16; }

// Chunk c of 8 elements of a staged row.
__device__ inline unsigned place_half(unsigned row, unsigned c, unsigned log_pitch) { return (row << log_pitch) + (c ^ (row & 7)); }
__device__ inline unsigned log_pitch_half(unsigned d) { return d <= 64 ? 3 : 4; }

// The first `left` of 8 elements, zeros after them.
template <class T> __device__ __noinline__ uint4 eight_of(const T* z, unsigned left) {
    unsigned v[4] = {};
#pragma unroll
    for (unsigned h = 0; h < 8; h++)
        if (h < left) v[h / 2] |= bits_of(z[h]) << (16 * (h % 2));
    return make_uint4(v[0], v[1], v[2], v[3]);
}

// Stages columns k0 to k0 + 8 * 2^log_pitch of `count` rows from `first` on, as they are stored.
template <class T>
__device__ inline void stage_half(uint4* to, unsigned log_pitch, const Rows& from, unsigned first, unsigned count, unsigned d, unsigned k0) {
    const bool whole = d % 8 == 0 && reinterpret_cast<size_t>(from.z) % 16 == 0;
    for (unsigned e = threadIdx.x; e < count << log_pitch; e += blockDim.x) {
        const unsigned row = e >> log_pitch, c = e - (row << log_pitch);
        const unsigned i = first + row, k = k0 + 8 * c;
        uint4* const at = to + place_half(row, c, log_pitch);
        const bool keep = k < d && from.weight(i) > 0.0f;
        const T* const z = from.row<T>(keep ? i : 0, d) + (keep ? k : 0);
        if (whole) {
            copy_async16(at, z, keep);
        } else {
            *at = eight_of(z, keep ? d - k : 0);
        }
    }
}

// A pair from differences in f32, by a warp.
struct Direct {
    float t, along, xi, xj; // u_i - u_j is xi z_i - xj z_j, but for a multiple of u_i
};
template <bool COSINE, class T>
__device__ __noinline__ Direct direct(const Rows& a, const Rows& b, unsigned i, unsigned j, float ri, float rj, unsigned d) {
    const T* const x = a.row<T>(i, d);
    const T* const y = b.row<T>(j, d);
    float t = 0.0f, ee = 0.0f, q = 0.0f;
    if (!COSINE) ri = rj = 1.0f;
    for (unsigned k = threadIdx.x % 32; k < d; k += 32) {
        const float xk = real(x[k]), yk = real(y[k]);
        const float v = fmaf(xk, ri, -(yk * rj));
        t = fmaf(v, v, t);
        if (COSINE) {
            const float e = (xk - yk) * ri;
            ee = fmaf(e, e, ee);
            q = fmaf(e, fmaf(xk, ri, yk * ri), q);
        }
    }
    t = warp_sum(t);
    Direct of = {t, 0.5f * t, ri, rj};
    if (COSINE) {
        ee = warp_sum(ee);
        q = warp_sum(q);
        const Refined better = refined(ee, q, ri / rj, t);
        if (t < NEAR_UNIT && ri > 0.0f && rj > 0.0f && better.t >= 0.0f) of = {better.t, better.along, rj, rj};
    }
    return of;
}

// As `sweep`.
template <bool COSINE, class T, class F>
__device__ __noinline__ double sweep_half(float4* memory, const Rows& a, const Rows& b, unsigned i0, unsigned column, unsigned d, const Pairs& pairs, float* out, const F& term) {
    constexpr unsigned ROWS = ROWS_HALF, BLOCKS = TILE / 8;
    static_assert(BLOCKS * 4 <= 32, "a bit for each pair of a lane");
    const unsigned log_pitch = log_pitch_half(d), pitch = 1u << log_pitch;
    uint4* const zi = reinterpret_cast<uint4*>(memory);
    uint4* const zj = zi + ROWS * pitch;
    float* const norm_i = reinterpret_cast<float*>(zj + 2 * TILE * pitch);
    float* const weight_i = norm_i + ROWS;
    float* const label_i = weight_i + ROWS;
    float* const norm_j = label_i + ROWS;
    float* const weight_j = norm_j + TILE;
    float* const label_j = weight_j + TILE;

    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, in = lane % 4;
    const unsigned chunks = div_up(d, CHUNK), own = column / CHUNK, tiles = div_up(b.n, TILE);
    const unsigned width = min(CHUNK, d - column);
    const T like = rounded(0.0f, T());

    stage_half<T>(zj, log_pitch, b, 0, TILE, d, chunks == 1 ? 0 : (own + 1) % chunks * CHUNK);
    if (chunks == 1) stage_half<T>(zi, log_pitch, a, i0, ROWS, d, 0);
    copy_commit();
    norms<COSINE>(norm_i, a, i0, ROWS, d);
    for (unsigned r = threadIdx.x; r < ROWS; r += BLOCK) {
        weight_i[r] = a.weight(i0 + r);
        label_i[r] = a.labels && i0 + r < a.n ? a.labels[i0 + r] : 0.0f;
    }

    float acc[16][4] = {};
    float gram[BLOCKS][4] = {};
    float sums[4] = {}; // of coefficients, the same in every column
    float along[2] = {}; // the lane's part of acc_i . z_i
    double losses = 0.0;
    unsigned now = 0;
    for (unsigned tile = 0; tile < tiles; tile++) {
        const unsigned j0 = tile * TILE;
        uint4* tile_j = zj;
        for (unsigned c = 0; c < chunks; c++) {
            const unsigned k0 = chunks == 1 ? 0 : (own + 1 + c) % chunks * CHUNK;
            if (chunks > 1) {
                __syncthreads(); // whoever still reads zi
                stage_half<T>(zi, log_pitch, a, i0, ROWS, d, k0);
                copy_commit();
            }
            copy_wait<0>();
            __syncthreads();
            tile_j = zj + now * TILE * pitch;
            now ^= 1;
            if (c + 1 < chunks || tile + 1 < tiles) {
                const unsigned next = c + 1 < chunks ? j0 : j0 + TILE;
                const unsigned k = chunks == 1 ? 0 : (own + 1 + (c + 1) % chunks) % chunks * CHUNK;
                stage_half<T>(zj + now * TILE * pitch, log_pitch, b, next, TILE, d, k);
            }
            copy_commit();
            const unsigned steps = div_up(min(CHUNK, d - k0), 16);
            if (c == 0) {
                if (threadIdx.x < TILE) {
                    const unsigned j = j0 + threadIdx.x;
                    weight_j[threadIdx.x] = b.weight(j);
                    label_j[threadIdx.x] = b.labels && j < b.n ? b.labels[j] : 0.0f;
                }
                if (chunks > 1) {
                    norms<COSINE>(norm_j, b, j0, TILE, d);
                } else {
                    // The squares of the norms are the diagonal of the tile with itself: 8 of its 32 rows to a warp.
                    float square[4] = {};
                    for (unsigned s = 0; s < steps; s++) {
                        unsigned x[4], y[4];
                        load_matrices(x, tile_j + place_half(warp / 2 * 16 + lane % 16, 2 * s + lane / 16, log_pitch));
                        load_matrices(y, tile_j + place_half(8 * warp + lane % 8, 2 * s + lane / 8 % 2, log_pitch));
                        const unsigned y2[2] = {y[0], y[1]};
                        multiply(square, x, y2, like);
                    }
                    if (in == group / 2) {
                        const unsigned row = 8 * warp + group;
                        const float v = group % 2 ? (warp % 2 ? square[3] : square[1]) : (warp % 2 ? square[2] : square[0]);
                        float norm = v;
                        if (COSINE) {
                            norm = v > 1e-30f && v < 1e30f ? 1.0f / sqrtf(v) : 0.0f;
                            if (norm == 0.0f && b.weight(j0 + row) > 0.0f) {
                                float largest = 0.0f, sum = 0.0f;
                                const T* const z = b.row<T>(j0 + row, d);
#pragma unroll 1
                                for (unsigned k = 0; k < d; k++) largest = fmaxf(largest, fabsf(real(z[k])));
                                const float over = 1.0f / fmaxf(largest, TINY);
#pragma unroll 1
                                for (unsigned k = 0; k < d; k++) sum = fmaf(real(z[k]) * over, real(z[k]) * over, sum);
                                norm = largest >= TINY ? over / sqrtf(sum) : 0.0f;
                            }
                        }
                        norm_j[row] = norm;
                    }
                }
                __syncthreads();
            }
            // Step 1.
#pragma unroll 1
            for (unsigned s = 0; s < steps; s++) {
                unsigned y[BLOCKS / 2][4];
#pragma unroll
                for (unsigned h = 0; h < BLOCKS / 2; h++)
                    load_matrices(y[h], tile_j + place_half(16 * h + lane % 8 + lane / 16 * 8, 2 * s + lane / 8 % 2, log_pitch));
                unsigned x[4];
                load_matrices(x, zi + place_half(16 * warp + lane % 16, 2 * s + lane / 16, log_pitch));
#pragma unroll
                for (unsigned n = 0; n < BLOCKS; n++) {
                    const unsigned y2[2] = {y[n / 2][n % 2 * 2], y[n / 2][n % 2 * 2 + 1]};
                    multiply(gram[n], x, y2, like);
                }
            }
        }

        // Step 2: `high` and `low` are the left operand of step 3.
        unsigned high[BLOCKS][2], low[BLOCKS][2];
        unsigned pending = 0; // pairs to be computed from differences
        float recent = 0.0f;
#pragma unroll
        for (unsigned n = 0; n < BLOCKS; n++) {
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                const unsigned row = 16 * warp + 8 * h + group;
                const float ni = norm_i[row], si = weight_i[row], li = label_i[row];
                const float length = COSINE && ni > 0.0f ? 1.0f / ni : 0.0f;
                T rough[2], rest[2];
#pragma unroll
                for (unsigned e = 0; e < 2; e++) {
                    const unsigned col = 8 * n + 2 * in + e, i = i0 + row, j = j0 + col;
                    const float product = gram[n][2 * h + e], nj = norm_j[col];
                    const float both = pairs.same && i == j ? 0.0f : si * weight_j[col];
                    const bool directed = !COSINE || (ni > 0.0f && nj > 0.0f);
                    const float t = COSINE ? fmaxf(2.0f - 2.0f * (product * ni * nj), 0.0f) : fmaxf(ni + nj - 2.0f * product, 0.0f);
                    // Not a number counts as near.
                    bool far = COSINE ? !directed || t > 2.0f * NEAR_GRAM : t > NEAR_GRAM * (ni + nj);
                    const Term of = term(t, fabsf(li - label_j[col]), i, j, directed);
                    float g = weight_j[col] * of.g;
                    if (COSINE) g = directed ? g * (nj * length) : 0.0f;
                    far = far && fabsf(g) <= most(like);
                    const bool counts = both > 0.0f;
                    if (counts && !far) pending |= 1u << ((n * 2 + h) * 2 + e);
                    const bool plain = counts && far;
                    recent += plain ? both * of.loss : 0.0f;
                    g = plain ? g : 0.0f;
                    rough[e] = rounded(g, like);
                    float used = real(rough[e]);
                    rest[e] = rounded(g - used, like);
                    used += real(rest[e]);
                    if (COSINE && plain) along[h] += used * product;
                }
                high[n][h] = packed(rough[0], rough[1]);
                low[n][h] = packed(rest[0], rest[1]);
            }
        }
        while (const unsigned lanes = __ballot_sync(FULL, pending != 0)) {
            const int from = __ffs(lanes) - 1;
            const unsigned bit = __shfl_sync(FULL, static_cast<unsigned>(__ffs(pending) - 1), from);
            if (static_cast<int>(lane) == from) pending &= pending - 1;
            const unsigned e = bit % 2, h = bit / 2 % 2, n = bit / 4;
            const unsigned row = 16 * warp + 8 * h + from / 4, col = 8 * n + 2 * (from % 4) + e;
            const unsigned i = i0 + row, j = j0 + col;
            const float ni = norm_i[row], nj = norm_j[col];
            const bool directed = !COSINE || (ni > 0.0f && nj > 0.0f);
            const Direct pair = direct<COSINE, T>(a, b, i, j, ni, nj, d);
            const float label = fabsf(label_i[row] - label_j[col]);
            const Term of = term(pair.t, label, i, j, directed);
            if (static_cast<int>(lane) == from) recent += weight_i[row] * weight_j[col] * of.loss;
            float g = directed ? weight_j[col] * of.g : 0.0f;
            if (COSINE) g = directed ? g / ni : 0.0f;
            if (g != 0.0f && static_cast<int>(group) == from / 4) {
                const T* const x = a.row<T>(i, d) + column;
                const T* const y = b.row<T>(j, d) + column;
                if (COSINE && static_cast<int>(lane) == from) along[h] -= g * pair.along / ni;
#pragma unroll
                for (unsigned m = 0; m < 16; m++)
#pragma unroll
                    for (unsigned s = 0; s < 2; s++) {
                        const unsigned k = 8 * m + 2 * in + s;
                        if (k >= width) continue;
                        const float v = g * fmaf(pair.xi, real(x[k]), -(pair.xj * real(y[k])));
                        acc[m][s] -= h == 0 ? v : 0.0f;
                        acc[m][2 + s] -= h == 0 ? 0.0f : v;
                    }
            }
        }
        losses += recent;

        // Step 3.
        const unsigned one = bits_of(rounded(1.0f, like)), ones[2] = {one | one << 16, one | one << 16};
#pragma unroll
        for (unsigned s = 0; s < TILE / 16; s++) {
            unsigned x[4], rest[4];
#pragma unroll
            for (unsigned v = 0; v < 4; v++) {
                x[v] = high[2 * s + v / 2][v % 2];
                rest[v] = low[2 * s + v / 2][v % 2];
            }
            if (!COSINE) {
                multiply(sums, x, ones, like);
                multiply(sums, rest, ones, like);
            }
#pragma unroll
            for (unsigned m = 0; m < 16; m += 2) {
                if (8 * m >= width) break;
                unsigned y[4];
                load_matrices_transposed(y, tile_j + place_half(16 * s + lane % 16, m + lane / 16, log_pitch));
                const unsigned y0[2] = {y[0], y[1]}, y1[2] = {y[2], y[3]};
                multiply(acc[m], x, y0, like);
                multiply(acc[m + 1], x, y1, like);
                multiply(acc[m], rest, y0, like);
                multiply(acc[m + 1], rest, y1, like);
            }
        }
#pragma unroll
        for (unsigned n = 0; n < BLOCKS; n++)
#pragma unroll
            for (unsigned e = 0; e < 4; e++) gram[n][e] = 0.0f;

        const bool last = tile + 1 == tiles;
        if (!last && (tile + 1) % FLUSH != 0) continue;
        // As in `sweep`, a warp's 16 rows at a time; acc is in units of z_j, and of a cosine its part along z_i is taken off.
        float* const rows = reinterpret_cast<float*>(tile_j);
        const bool whole = on_quads(out, d);
#pragma unroll 1
        for (unsigned w = 0; w < WARPS; w++) {
            __syncthreads(); // whoever still reads the tile, or what is known of it
            if (warp == w) {
#pragma unroll
                for (unsigned h = 0; h < 2; h++) {
                    const unsigned row = 8 * h + group;
                    const float inward = COSINE ? sum_of_four(along[h]) : sums[2 * h];
                    if (last && in == 0) norm_j[row] = inward;
#pragma unroll
                    for (unsigned m = 0; m < 16; m++) {
                        if (8 * m >= width) break;
                        float* const to = rows + 4 * place<0>(row, 2 * m + in / 2, log_pitch + 1) + 2 * (in % 2);
                        to[0] = acc[m][2 * h], to[1] = acc[m][2 * h + 1];
                    }
                }
            }
            __syncthreads();
#pragma unroll 1
            for (unsigned e = threadIdx.x; e < 32u << log_pitch; e += BLOCK) {
                const unsigned row = e >> (log_pitch + 1), q = e % (2 * pitch), i = i0 + 16 * w + row, k = column + 4 * q;
                if (i >= a.n || 4 * q >= width) continue;
                float4 v = at4(rows, 4 * place<0>(row, q, log_pitch + 1));
                float* const to = out + static_cast<size_t>(i) * d + k;
                if (tile >= FLUSH) v = sum_of(v, to, d - k, whole);
                if (last) {
                    const float by = pairs.scale * weight_i[16 * w + row], ni = norm_i[16 * w + row];
                    const bool counts = by > 0.0f || by < 0.0f;
                    const float4 z = counts ? quad_of(a.row<T>(i, d), k, d) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                    // On a line the angle is 0 or pi whatever the lengths.
                    const bool none = COSINE && (d == 1 || ni == 0.0f);
                    const float along_z = COSINE ? norm_j[row] * ni * ni * ni : norm_j[row];
                    const float along_v = COSINE ? ni : 1.0f, all = none ? 0.0f : COSINE ? by * ni : by;
                    v = make_float4(along_z * z.x - along_v * v.x, along_z * z.y - along_v * v.y, along_z * z.z - along_v * v.z, along_z * z.w - along_v * v.w);
                    v = none ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : make_float4(all * v.x, all * v.y, all * v.z, all * v.w);
                }
                put(to, v, d - k, whole);
            }
        }
#pragma unroll
        for (unsigned m = 0; m < 16; m++)
#pragma unroll
            for (unsigned e = 0; e < 4; e++) acc[m][e] = 0.0f;
    }
    return losses;
}

} // namespace
