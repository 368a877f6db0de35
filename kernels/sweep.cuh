// The sweep of the contrastive loss: every row i of one set with every row j of another, on the tensor cores. Included once,
// after pairs.cuh.
//
// A warp owns 16 rows i and 128 columns of their gradient, and walks over tiles of 32 rows j, as in FlashAttention-2 (Dao, 2023):
//
//   1. The Gram tile z_i . z_j; t_ij = |z_i|^2 + |z_j|^2 - 2 z_i . z_j, of a cosine 2 - 2 u_i . u_j for u = z / |z|.
//   2. The stem's coefficient g_ij of u_i - u_j in the gradient. It stays in the registers of the tile, which are, with the
//      tile's columns taken in another order, those of step 3's left operand.
//   3. acc_i += sum_j g_ij z_j. At the end the gradient is (sum_j g_ij) z_i - acc_i; the cosine's is projected off u_i.
//
// Warps of a block share tiles where rows are many (4 x 1), and take two tiles at once where they are few (2 x 2), which the end
// adds up. Where there would be few blocks still, they cut the tiles into slices: each writes its part of the gradient, which is
// linear in the sums, and the last of a row's slices adds the parts in their order.
//
// Factors. f32: each is split in two of 11 bits, high and low (3xTF32: Ootomo and Yokota, 2022), and high x high, high x low and
// low x high are three products. 16 bits: rows are exact as they are; a coefficient is split in two of 16 bits, as sums over many
// rows do not average its rounding out (3e-3 of a cosine's gradient at 8,200 rows). So 6 d tensor multiply-adds a pair in f32,
// 3 d in 16 bits, and some 20 operations a pair on the CUDA cores.
//
// Accuracy. The tensor cores truncate their sums: accumulators take 64 columns, or one tile, and are then added in f32. The
// squared distance cancels where a pair is near: a tile with a pair nearer than `cancels` of the squared norms computes all of
// its distances from differences. Step 3's two sums cancel too: pairs nearer than NEAR add g_ij (z_i - z_j) on their own, and
// with them a coefficient that 16 bits cannot hold. A cosine pair whose t is below 1e-5 is taken from the rows as given
// (`refine`).
//
// Rows of weight 0, and those beyond the last, are staged as zeros.

namespace {

constexpr unsigned BLOCK = 128;
constexpr unsigned WARPS = BLOCK / 32;
// Rows j of a tile, columns of a chunk.
constexpr unsigned TILE = 32;
constexpr unsigned CHUNK = 128;
// Blocks below which the tiles are cut into slices, and most of them.
constexpr unsigned ENOUGH = 768;
constexpr unsigned SLICES = 8;
// Rows in all from which every warp of a block has rows of its own.
constexpr unsigned MANY = 8192;
// Blocks of eight rows j of a tile, and of eight columns of a chunk.
constexpr unsigned BLOCKS = TILE / 8;
constexpr unsigned COLUMNS = CHUNK / 8;

// How a launch is cut; as `Cut` in src/kernels/contrastive.rs.
struct Cut {
    unsigned own;    // rows i of a block
    unsigned tiles;  // of a round
    unsigned rounds; // at most
    unsigned slices;

    __device__ unsigned blocks(unsigned rows) const { return div_up(rows, own); }
};

__device__ inline Cut cut_of(unsigned n, unsigned m, unsigned d) {
    Cut c;
    const bool many = static_cast<size_t>(n) + m >= MANY;
    c.own = many ? 64 : 32;
    c.tiles = many ? 1 : 2;
    c.rounds = div_up(max(n, m), TILE * c.tiles);
    const unsigned blocks = (c.blocks(n) + c.blocks(m)) * div_up(d, CHUNK);
    c.slices = min(max(ENOUGH / blocks, 1u), min(SLICES, div_up(c.rounds, 2)));
    return c;
}

template <class T> struct alignas(4) Two {
    T v[2];
};

// ---- Rows in shared memory, in units of 16 bytes, 2^log of them to a row.

__device__ inline unsigned log_units(float, unsigned d) { return log_pitch_of(d); }
template <class T> __device__ inline unsigned log_units(T, unsigned d) { return log_pitch_half(d); }
// From one row to the next. f32 rows are a unit longer: neighbours start at other banks.
__device__ inline unsigned pitch_of(float, unsigned log) { return (1u << log) + 1; }
template <class T> __device__ inline unsigned pitch_of(T, unsigned log) { return 1u << log; }

// Columns k0 to k0 + 4 * 2^log of `count` rows from `first` on.
__device__ inline void stage_rows(float, float4* to, unsigned log, const Rows& from, unsigned first, unsigned count, unsigned d,
                                  unsigned k0) {
    const bool whole = on_quads(from.z, d);
    for (unsigned e = threadIdx.x; e < count << log; e += BLOCK) {
        const unsigned row = e >> log, q = e - (row << log), i = first + row, k = k0 + 4 * q;
        float4* const at = to + row * pitch_of(0.0f, log) + q;
        const bool keep = k < d && from.weight(i) > 0.0f;
        if (whole) {
            copy_async16(at, keep ? from.row<float>(i, d) + k : from.z, keep);
        } else {
            *at = keep ? quad_of(from.row<float>(i, d), k, d) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
    }
}
template <class T>
__device__ inline void stage_rows(T, float4* to, unsigned log, const Rows& from, unsigned first, unsigned count, unsigned d,
                                  unsigned k0) {
    stage_half<T>(reinterpret_cast<uint4*>(to), log, from, first, count, d, k0);
}

// Four columns of a staged row.
__device__ inline float4 staged(float, const float4* rows, unsigned log, unsigned row, unsigned q) {
    return rows[row * pitch_of(0.0f, log) + q];
}
template <class T> __device__ inline float4 staged(T, const float4* rows, unsigned log, unsigned row, unsigned q) {
    const uint4* const unit = reinterpret_cast<const uint4*>(rows) + place_half(row, q / 2, log);
    const Four<T> v = reinterpret_cast<const Four<T>*>(unit)[q % 2];
    return make_float4(real(v.v[0]), real(v.v[1]), real(v.v[2]), real(v.v[3]));
}

// The lane's columns of blocks m and m + 1 of eight: two of each in turn, as column_of.
__device__ inline float4 own_columns(float, const float4* rows, unsigned log, unsigned row, unsigned m) {
    return staged(0.0f, rows, log, row, 2 * m + threadIdx.x % 4);
}
template <class T> __device__ inline float4 own_columns(T, const float4* rows, unsigned log, unsigned row, unsigned m) {
    const unsigned* const words = reinterpret_cast<const unsigned*>(rows) + threadIdx.x % 4;
    const unsigned u = words[4 * place_half(row, m, log)], v = words[4 * place_half(row, m + 1, log)];
    const Two<T> x = *reinterpret_cast<const Two<T>*>(&u), y = *reinterpret_cast<const Two<T>*>(&v);
    return make_float4(real(x.v[0]), real(y.v[0]), real(x.v[1]), real(y.v[1]));
}

// Where a lane's accumulator `s` of either row in block m of eight columns stands. In f32 a lane's columns of two blocks are four
// neighbours, so that step 3 reads two at a time.
__device__ inline unsigned column_of(float, unsigned m, unsigned s) { return m / 2 * 16 + threadIdx.x % 4 * 4 + 2 * s + m % 2; }
template <class T> __device__ inline unsigned column_of(T, unsigned m, unsigned s) { return 8 * m + threadIdx.x % 4 * 2 + s; }

// ---- Step 1: gram[n][2 h + e] += z_i . z_j for row `row` + 8 h + lane / 4 of zi and 8 n + 2 (lane % 4) + e of zj.

// v as a sum of two of 11 bits, but for what is beyond 22: rounded, and what tensor cores make of the rest, truncated.
struct Split {
    unsigned high, low;
};
__device__ inline Split split(float v) {
    const unsigned high = (__float_as_uint(v) + 0x1000u) & 0xffffe000u;
    return {high, __float_as_uint(v - __uint_as_float(high))};
}

__device__ inline void multiply_split(float (&large)[4], float (&small)[4], const Split (&a)[4], const Split (&b)[2]) {
    const unsigned ah[4] = {a[0].high, a[1].high, a[2].high, a[3].high}, al[4] = {a[0].low, a[1].low, a[2].low, a[3].low};
    const unsigned bh[2] = {b[0].high, b[1].high}, bl[2] = {b[0].low, b[1].low};
    mma_tf32(small, al, bh);
    mma_tf32(small, ah, bl);
    mma_tf32(large, ah, bh);
}

__device__ inline void gram_tile(float, float (&gram)[BLOCKS][4], const float4* zi, unsigned row, const float4* zj, unsigned log,
                                 unsigned columns) {
    const unsigned lane = threadIdx.x % 32, group = lane / 4, in = lane % 4, pitch = 2 * pitch_of(0.0f, log);
    // Column 2 in of a step is the operands' column in, column 2 in + 1 their in + 4: the order of a sum.
    const float2* const x = reinterpret_cast<const float2*>(zi) + (row + group) * pitch + in;
    const float2* const y = reinterpret_cast<const float2*>(zj) + group * pitch + in;
    float small[BLOCKS][4] = {};
#pragma unroll 1
    for (unsigned from = 0; from < columns; from += 64) {
        float large[BLOCKS][4] = {};
        const unsigned end = min(from + 64, columns);
#pragma unroll 2
        for (unsigned k = from; k < end; k += 8) {
            const float2 x0 = x[k / 2], x1 = x[k / 2 + 8 * pitch];
            const Split a[4] = {split(x0.x), split(x1.x), split(x0.y), split(x1.y)};
#pragma unroll
            for (unsigned n = 0; n < BLOCKS; n++) {
                const float2 y0 = y[k / 2 + 8 * n * pitch];
                const Split b[2] = {split(y0.x), split(y0.y)};
                multiply_split(large[n], small[n], a, b);
            }
        }
#pragma unroll
        for (unsigned n = 0; n < BLOCKS; n++)
#pragma unroll
            for (unsigned e = 0; e < 4; e++) gram[n][e] += large[n][e];
    }
#pragma unroll
    for (unsigned n = 0; n < BLOCKS; n++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) gram[n][e] += small[n][e];
}

template <class T>
__device__ inline void gram_tile(T, float (&gram)[BLOCKS][4], const float4* zi, unsigned row, const float4* zj, unsigned log,
                                 unsigned columns) {
    const unsigned lane = threadIdx.x % 32;
    const uint4* const x = reinterpret_cast<const uint4*>(zi);
    const uint4* const y = reinterpret_cast<const uint4*>(zj);
#pragma unroll 1
    for (unsigned from = 0; from < columns; from += 64) {
        float sum[BLOCKS][4] = {};
        const unsigned end = div_up(min(from + 64, columns), 8);
#pragma unroll 2
        for (unsigned c = from / 8; c < end; c += 2) {
            unsigned a[4], b[BLOCKS / 2][4];
            load_matrices(a, x + place_half(row + lane % 16, c + lane / 16, log));
#pragma unroll
            for (unsigned h = 0; h < BLOCKS / 2; h++)
                load_matrices(b[h], y + place_half(16 * h + lane % 8 + lane / 16 * 8, c + lane / 8 % 2, log));
#pragma unroll
            for (unsigned n = 0; n < BLOCKS; n++) {
                const unsigned of[2] = {b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]};
                multiply(sum[n], a, of, T());
            }
        }
#pragma unroll
        for (unsigned n = 0; n < BLOCKS; n++)
#pragma unroll
            for (unsigned e = 0; e < 4; e++) gram[n][e] += sum[n][e];
    }
}

// Two numbers as one register of an operand, and back.
__device__ inline unsigned both_rounded(float x, float y, __half) { return round_f16x2(x, y); }
__device__ inline unsigned both_rounded(float x, float y, __nv_bfloat16) { return round_bf16x2(x, y); }
__device__ inline float2 both_real(unsigned v, __half) {
    const Two<__half> two = *reinterpret_cast<const Two<__half>*>(&v);
    return make_float2(real(two.v[0]), real(two.v[1]));
}
__device__ inline float2 both_real(unsigned v, __nv_bfloat16) {
    return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
}

// ---- Step 3's left operand: the coefficients of a tile.
template <class T> struct Left {
    unsigned high[BLOCKS][2], low[BLOCKS][2];

    // The coefficients of two neighbouring columns; what they are rounded to.
    __device__ float2 put(unsigned n, unsigned h, float g0, float g1) {
        const unsigned upper = both_rounded(g0, g1, T());
        const float2 u = both_real(upper, T());
        const unsigned lower = both_rounded(g0 - u.x, g1 - u.y, T());
        const float2 l = both_real(lower, T());
        high[n][h] = upper;
        low[n][h] = lower;
        return make_float2(u.x + l.x, u.y + l.y);
    }
};
template <> struct Left<float> {
    float g[BLOCKS][4];

    __device__ float2 put(unsigned n, unsigned h, float g0, float g1) {
        g[n][2 * h] = g0, g[n][2 * h + 1] = g1;
        return make_float2(g0, g1);
    }
};

// acc += left x the tile's first `width` columns.
__device__ inline void accumulate(float (&acc)[COLUMNS][4], const Left<float>& left, const float4* zj, unsigned log,
                                  unsigned width) {
    const unsigned lane = threadIdx.x % 32, group = lane / 4, in = lane % 4, pitch = 2 * pitch_of(0.0f, log);
    const float2* const y = reinterpret_cast<const float2*>(zj) + 2 * in * pitch + group;
    Split a[BLOCKS][4];
#pragma unroll
    for (unsigned s = 0; s < BLOCKS; s++) {
        a[s][0] = split(left.g[s][0]), a[s][1] = split(left.g[s][2]);
        a[s][2] = split(left.g[s][1]), a[s][3] = split(left.g[s][3]);
    }
#pragma unroll
    for (unsigned m = 0; m < COLUMNS; m += 2) {
        if (8 * m >= width) break;
        float large[2][4] = {}, small[2][4] = {};
#pragma unroll
        for (unsigned s = 0; s < BLOCKS; s++) {
            const float2 y0 = y[8 * s * pitch + 4 * m], y1 = y[(8 * s + 1) * pitch + 4 * m];
            const Split b0[2] = {split(y0.x), split(y1.x)}, b1[2] = {split(y0.y), split(y1.y)};
            multiply_split(large[0], small[0], a[s], b0);
            multiply_split(large[1], small[1], a[s], b1);
        }
#pragma unroll
        for (unsigned e = 0; e < 4; e++) {
            acc[m][e] += large[0][e] + small[0][e];
            acc[m + 1][e] += large[1][e] + small[1][e];
        }
    }
}

template <class T>
__device__ inline void accumulate(float (&acc)[COLUMNS][4], const Left<T>& left, const float4* zj, unsigned log, unsigned width) {
    const unsigned lane = threadIdx.x % 32;
    const uint4* const y = reinterpret_cast<const uint4*>(zj);
#pragma unroll
    for (unsigned m = 0; m < COLUMNS; m += 2) {
        if (8 * m >= width) break;
        float sum[2][4] = {};
#pragma unroll
        for (unsigned s = 0; s < BLOCKS / 2; s++) {
            const unsigned x[4] = {left.high[2 * s][0], left.high[2 * s][1], left.high[2 * s + 1][0], left.high[2 * s + 1][1]};
            const unsigned rest[4] = {left.low[2 * s][0], left.low[2 * s][1], left.low[2 * s + 1][0], left.low[2 * s + 1][1]};
            unsigned b[4];
            load_matrices_transposed(b, y + place_half(16 * s + lane % 16, m + lane / 16, log));
            const unsigned b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
            multiply(sum[0], rest, b0, T());
            multiply(sum[1], rest, b1, T());
            multiply(sum[0], x, b0, T());
            multiply(sum[1], x, b1, T());
        }
#pragma unroll
        for (unsigned e = 0; e < 4; e++) acc[m][e] += sum[0][e], acc[m + 1][e] += sum[1][e];
    }
}

// Share of the squared norms below which a squared distance is taken from differences: f32 rows may be ten times as far from the
// origin as from each other and keep five digits.
__device__ inline float cancels(float) { return 2e-2f; }
template <class T> __device__ inline float cancels(T) { return 1e-3f; }
__device__ inline float most(float) { return 3e38f; }

// Four columns of a row in memory.
__device__ inline float4 given(const float* row, unsigned k, unsigned d, bool whole) {
    return whole ? at4(row, k) : quad_of(row, k, d);
}
template <class T> __device__ inline float4 given(const T* row, unsigned k, unsigned d, bool whole) {
    if (!whole) return quad_of(row, k, d);
    const Four<T> four = *reinterpret_cast<const Four<T>*>(row + k);
    return make_float4(real(four.v[0]), real(four.v[1]), real(four.v[2]), real(four.v[3]));
}
// Whether each fourth column of every row is on four of its size.
template <class T> __device__ inline bool on_fours(const T* z, unsigned d) {
    return d % 4 == 0 && reinterpret_cast<size_t>(z) % (4 * sizeof(T)) == 0;
}

// What a lane knows of its two rows i, `first` and `first` + 8.
struct Owned {
    unsigned first;
    float norm[2];   // squared; of a cosine one over it, 0 for a zero row
    float length[2]; // of a cosine
    float label[2];
};
// And of the tile's rows j, in shared memory.
struct Others {
    const float *norm, *weight, *label;
};

// t of the tile's pairs, from differences.
template <bool COSINE, class T>
__device__ __forceinline__ void exact(float (&t)[BLOCKS][4], const Rows& a, const Rows& b, const Owned& my, const Others& their,
                                      unsigned j0, unsigned d) {
    const unsigned in = threadIdx.x % 4;
    const bool whole = on_fours(a.row<T>(0, d), d) && on_fours(b.row<T>(0, d), d);
#pragma unroll
    for (unsigned n = 0; n < BLOCKS; n++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) t[n][e] = 0.0f;
    const T* const x0 = a.row<T>(min(my.first, a.n - 1), d);
    const T* const x1 = a.row<T>(min(my.first + 8, a.n - 1), d);
#pragma unroll 1
    for (unsigned k = 0; k < d; k += 4) {
        float4 x[2] = {given(x0, k, d, whole), given(x1, k, d, whole)};
#pragma unroll
        for (unsigned h = 0; h < 2; h++)
            if (COSINE) x[h] = make_float4(x[h].x * my.norm[h], x[h].y * my.norm[h], x[h].z * my.norm[h], x[h].w * my.norm[h]);
#pragma unroll
        for (unsigned c = 0; c < 2 * BLOCKS; c++) {
            const unsigned col = c / 2 * 8 + 2 * in + c % 2;
            float4 y = given(b.row<T>(min(j0 + col, b.n - 1), d), k, d, whole);
            const float by = COSINE ? their.norm[col] : 1.0f;
            if (COSINE) y = make_float4(y.x * by, y.y * by, y.z * by, y.w * by);
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                const float4 v = make_float4(x[h].x - y.x, x[h].y - y.y, x[h].z - y.z, x[h].w - y.w);
                float& sum = t[c / 2][2 * h + c % 2];
                sum = fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
            }
        }
    }
}

// What a lane adds up of a tile.
struct Found {
    float loss;    // twice the losses
    float sums[2]; // of its rows: of the coefficients; of a cosine, of the coefficients of u_j times u_i . u_j
    bool large;    // whether a coefficient is more than `Left` holds: nothing of the rest is of use then
};

// Step 2 of a tile whose pairs all count and are all far; a cosine's t goes with `gram`.
template <bool COSINE, class T, class F>
__device__ __forceinline__ Found plain(const float (&t)[BLOCKS][4], const float (&gram)[BLOCKS][4], Left<T>& left,
                                       const Owned& my, const Others& their, const F& term) {
    const unsigned in = threadIdx.x % 4;
    Found found = {};
#pragma unroll
    for (unsigned n = 0; n < BLOCKS; n++) {
        const float2 label = *reinterpret_cast<const float2*>(their.label + 8 * n + 2 * in);
        const float2 norm = *reinterpret_cast<const float2*>(their.norm + 8 * n + 2 * in);
#pragma unroll
        for (unsigned h = 0; h < 2; h++) {
            const Term one = term(t[n][2 * h], fabsf(my.label[h] - label.x), true);
            const Term two = term(t[n][2 * h + 1], fabsf(my.label[h] - label.y), true);
            found.loss += one.loss + two.loss;
            const float g0 = COSINE ? one.g * (norm.x * my.length[h]) : one.g,
                        g1 = COSINE ? two.g * (norm.y * my.length[h]) : two.g;
            if (sizeof(T) == 2) found.large |= !(fmaxf(fabsf(g0), fabsf(g1)) <= most(T()));
            const float2 used = left.put(n, h, g0, g1);
            found.sums[h] += COSINE ? fmaf(used.x, gram[n][2 * h], used.y * gram[n][2 * h + 1]) : used.x + used.y;
        }
    }
    if (COSINE) found.sums[0] *= my.norm[0] * my.norm[0], found.sums[1] *= my.norm[1] * my.norm[1];
    return found;
}

// All that step 2 of any other tile takes and gives, in memory: a call, so that the registers are the plain tiles'.
template <class T> struct General {
    float t[BLOCKS][4], acc[COLUMNS][4];
    Rows a, b;
    Owned my;
    Others their;
    bool same, near;
    unsigned j0, d, width, log;
    const float4 *zi, *zj; // staged
    unsigned row;          // the lane's first of zi
    Left<T> left;
    Found found;
};

// Step 2 of any other tile. A pair that is near, or whose coefficient `Left` does not hold, goes into `acc` here, from
// differences of the staged rows.
template <bool COSINE, class T, class F> __device__ __noinline__ void general(General<T>& tile, const F& term) {
    const Rows &a = tile.a, &b = tile.b;
    const Owned my = tile.my;
    const Others their = tile.their;
    const bool same = tile.same;
    const unsigned j0 = tile.j0, d = tile.d, width = tile.width, log = tile.log, row = tile.row;
    const float4 *const zi = tile.zi, *const zj = tile.zj;
    float (&t)[BLOCKS][4] = tile.t;
    if (tile.near) exact<COSINE, T>(t, a, b, my, their, j0, d);
    const unsigned lane = threadIdx.x % 32, in = lane % 4;
    const float weight_i[2] = {a.weight(my.first), a.weight(my.first + 8)};
    Found found = {};
    Left<T> left;
    float apart[BLOCKS][4];
    unsigned refined = 0; // a bit for each pair
    bool any = false;
#pragma unroll
    for (unsigned n = 0; n < BLOCKS; n++) {
#pragma unroll
        for (unsigned h = 0; h < 2; h++) {
            float g[2], product[2];
#pragma unroll
            for (unsigned e = 0; e < 2; e++) {
                const unsigned col = 8 * n + 2 * in + e, i = my.first + 8 * h, j = j0 + col;
                const float ni = my.norm[h], nj = their.norm[col], both = same && i == j ? 0.0f : weight_i[h] * their.weight[col];
                const bool counts = both > 0.0f, directed = !COSINE || (ni > 0.0f && nj > 0.0f);
                float te = t[n][2 * h + e], inward = 0.5f * te;
                bool given = false;
                if (COSINE && counts && directed && te < NEAR_UNIT) {
                    const Refined better = refine(a, b, i, j, ni, nj, te, d);
                    given = better.t >= 0.0f;
                    if (given) te = better.t, inward = better.along;
                }
                const Term of = term(te, fabsf(my.label[h] - their.label[col]), directed);
                // The hinge would hide what is not a number.
                if (counts) found.loss += te == te ? both * of.loss : te;
                const float weighted = counts && directed ? their.weight[col] * of.g : 0.0f;
                g[e] = COSINE && weighted != 0.0f ? weighted * (nj * my.length[h]) : weighted;
                const bool near = !(te > (COSINE ? 2.0f * NEAR : NEAR * (ni + nj)));
                const bool alone = weighted != 0.0f && (near || !(fabsf(g[e]) <= most(T())));
                apart[n][2 * h + e] = !alone ? 0.0f : COSINE ? weighted * my.length[h] : weighted;
                if (alone) {
                    any = true;
                    refined |= static_cast<unsigned>(given) << (4 * n + 2 * h + e);
                    if (COSINE) found.sums[h] -= weighted * inward;
                    g[e] = 0.0f;
                }
                product[e] = COSINE && g[e] != 0.0f ? (1.0f - 0.5f * te) * (ni / nj) : 1.0f;
            }
            const float2 used = left.put(n, h, g[0], g[1]);
            found.sums[h] += fmaf(used.x, product[0], used.y * product[1]);
        }
    }
    tile.left = left;
    tile.found = found;
    if (!__any_sync(FULL, any)) return;
    // Column after column of the tile, for whichever of the warp's rows it stands apart.
    float sum[COLUMNS][4] = {};
#pragma unroll 1
    for (unsigned c = 0; c < TILE; c++) {
        const unsigned of = c / 8 * 4 + c % 2;
        float v[2] = {};
#pragma unroll
        for (unsigned n = 0; n < BLOCKS; n++)
#pragma unroll
            for (unsigned e = 0; e < 2; e++)
                if (4 * n + e == of) v[0] = apart[n][e], v[1] = apart[n][2 + e];
        const int from = static_cast<int>(lane - in + c % 8 / 2);
        v[0] = __shfl_sync(FULL, v[0], from), v[1] = __shfl_sync(FULL, v[1], from);
        const unsigned bits = COSINE ? __shfl_sync(FULL, refined, from) >> of : 0;
        if (!__any_sync(FULL, v[0] != 0.0f || v[1] != 0.0f)) continue;
        const float nj = COSINE ? their.norm[c] : 1.0f;
        // u_i - u_j, or where both are taken as given (z_i - z_j) / |z_j|.
        const auto difference = [&](unsigned h, float x, float y) {
            if (!COSINE) return x - y;
            return bits >> 2 * h & 1 ? nj * (x - y) : fmaf(my.norm[h], x, -(nj * y));
        };
#pragma unroll
        for (unsigned m = 0; m < COLUMNS; m += 2) {
            if (8 * m >= width) break;
            const float4 y = own_columns(T(), zj, log, c, m);
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                const float4 x = own_columns(T(), zi, log, row + 8 * h, m);
                sum[m][2 * h] = fmaf(v[h], difference(h, x.x, y.x), sum[m][2 * h]);
                sum[m + 1][2 * h] = fmaf(v[h], difference(h, x.y, y.y), sum[m + 1][2 * h]);
                sum[m][2 * h + 1] = fmaf(v[h], difference(h, x.z, y.z), sum[m][2 * h + 1]);
                sum[m + 1][2 * h + 1] = fmaf(v[h], difference(h, x.w, y.w), sum[m + 1][2 * h + 1]);
            }
        }
    }
#pragma unroll
    for (unsigned m = 0; m < COLUMNS; m++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) tile.acc[m][e] -= sum[m][e];
}

// What is known of `count` staged rows j from `first` on: `lanes` neighbouring threads a row, of whole warps.
template <bool COSINE, class T>
__device__ inline void norms_staged(float* to, const float4* rows, unsigned log, const Rows& from, unsigned first,
                                    unsigned thread, unsigned lanes, unsigned d) {
    const unsigned row = thread / lanes, part = thread % lanes;
    float sum = 0.0f;
    for (unsigned q = part; 4 * q < d; q += lanes) {
        const float4 v = staged(T(), rows, log, row, q);
        sum += dot4(v, v);
    }
    for (unsigned o = 1; o < lanes; o *= 2) sum += __shfl_xor_sync(FULL, sum, o);
    if (COSINE) {
        float norm = sum > 1e-30f && sum < 1e30f ? 1.0f / sqrtf(sum) : 0.0f;
        if (norm == 0.0f && from.weight(first + row) > 0.0f) {
            const T* const z = from.row<T>(first + row, d);
            float largest = 0.0f;
#pragma unroll 1
            for (unsigned k = 0; k < d; k++) largest = fmaxf(largest, fabsf(real(z[k])));
            const float over = 1.0f / fmaxf(largest, TINY);
            sum = 0.0f;
#pragma unroll 1
            for (unsigned k = 0; k < d; k++) sum = fmaf(real(z[k]) * over, real(z[k]) * over, sum);
            norm = largest >= TINY ? over / sqrtf(sum) : 0.0f;
        }
        sum = norm;
    }
    if (part == 0) to[row] = sum;
}

// Rows i0 to i0 + cut.own of `a` against the slice's rows of `b`, columns from `column` on; a row makes no pair with itself where
// both sets are the `same`. `term(t, w, directed)` is the pair's at label distance w; `directed` is false where a cosine has no
// direction. Writes `scale` times the slice's part of the gradient into out [a.n, d]; returns the thread's part of twice the sum
// of the losses.
template <bool COSINE, class T, class F>
__device__ __noinline__ double sweep_rows(float4* memory, const Rows a, const Rows b, unsigned i0, unsigned column, unsigned d,
                                          const Cut cut, unsigned slice, bool same, float scale, float* out, const F term) {
    const unsigned log = log_units(T(), d), pitch = pitch_of(T(), log), log_out = log_pitch_of(d),
                   pitch_out = pitch_of(0.0f, log_out);
    const unsigned tile_units = TILE * pitch, round_units = cut.tiles * tile_units;
    float4* const zi = memory;
    float4* const zj = zi + cut.own * pitch;
    float* const norm_i = reinterpret_cast<float*>(zj + max(2 * round_units, 16 * WARPS * pitch_out));
    float* const norm_j = norm_i + 64;
    float* const weight_j = norm_j + 64;
    float* const label_j = weight_j + 64;
    float* const sum_i = label_j + 64;

    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, in = lane % 4;
    const unsigned high = cut.own / 16, down = warp % high, across = warp / high;
    const unsigned chunks = div_up(d, CHUNK), own = column / CHUNK, width = min(CHUNK, d - column);
    const unsigned rounds = div_up(b.n, TILE * cut.tiles), share = div_up(rounds, cut.slices);
    const unsigned first = slice * share, end = min(first + share, rounds), rows = TILE * cut.tiles;
    const bool light = !a.weights && !b.weights;

    float acc[COLUMNS][4] = {};
    float sums[2] = {};
    double losses = 0.0;
    if (first < end) {
        stage_rows(T(), zj, log, b, first * rows, rows, d, chunks == 1 ? 0 : (own + 1) % chunks * CHUNK);
        if (chunks == 1) stage_rows(T(), zi, log, a, i0, cut.own, d, 0);
        copy_commit();
        norms<COSINE>(norm_i, a, i0, cut.own, d);
    }
    __syncthreads();
    Owned my;
    my.first = i0 + 16 * down + group;
#pragma unroll
    for (unsigned h = 0; h < 2; h++) {
        my.norm[h] = first < end ? norm_i[16 * down + group + 8 * h] : 0.0f;
        my.length[h] = COSINE && my.norm[h] > 0.0f ? 1.0f / my.norm[h] : 0.0f;
        my.label[h] = my.first + 8 * h < a.n ? a.labels[my.first + 8 * h] : 0.0f;
    }
    unsigned now = 0;
    for (unsigned round = first; round < end; round++) {
        float gram[BLOCKS][4] = {};
        const float4* tile = zj;
        for (unsigned c = 0; c < chunks; c++) {
            const unsigned k0 = chunks == 1 ? 0 : (own + 1 + c) % chunks * CHUNK;
            if (chunks > 1) {
                __syncthreads(); // whoever still reads zi
                stage_rows(T(), zi, log, a, i0, cut.own, d, k0);
                copy_commit();
            }
            copy_wait<0>();
            __syncthreads();
            const float4* const staged_now = zj + now * round_units;
            tile = staged_now + across * tile_units;
            now ^= 1;
            if (c + 1 < chunks || round + 1 < end) {
                const unsigned next = c + 1 < chunks ? round : round + 1;
                const unsigned k = chunks == 1 ? 0 : (own + 1 + (c + 1) % chunks) % chunks * CHUNK;
                stage_rows(T(), zj + now * round_units, log, b, next * rows, rows, d, k);
            }
            copy_commit();
            if (c == 0) {
                for (unsigned r = threadIdx.x; r < rows; r += BLOCK) {
                    const unsigned j = round * rows + r;
                    weight_j[r] = b.weight(j);
                    label_j[r] = j < b.n ? b.labels[j] : 0.0f;
                }
                if (chunks == 1) {
                    norms_staged<COSINE, T>(norm_j + TILE * across, tile, log, b, round * rows + TILE * across, 32 * down + lane,
                                            high, d);
                } else {
                    norms<COSINE>(norm_j, b, round * rows, rows, d);
                }
                __syncthreads();
            }
            gram_tile(T(), gram, zi, 16 * down, tile, log, min(CHUNK, d - k0));
        }
        const unsigned i = i0 + 16 * down, j = round * rows + TILE * across;
        if (j >= b.n || i >= a.n) continue;
        const Others their = {norm_j + TILE * across, weight_j + TILE * across, label_j + TILE * across};
        const bool crosses = same && j < i + 16 && i < j + TILE;
        const bool all = light && !crosses && j + TILE <= b.n && i + 16 <= a.n;
        bool near = false, undirected = false;
        float t[BLOCKS][4];
#pragma unroll
        for (unsigned n = 0; n < BLOCKS; n++) {
            const float2 norm = *reinterpret_cast<const float2*>(their.norm + 8 * n + 2 * in);
#pragma unroll
            for (unsigned e = 0; e < 4; e++) {
                const float nj = e % 2 == 0 ? norm.x : norm.y, ni = my.norm[e / 2], by = ni * nj,
                            squares = COSINE ? 2.0f : ni + nj;
                const float te = COSINE ? fmaf(-2.0f * by, gram[n][e], 2.0f) : fmaf(-2.0f, gram[n][e], squares);
                // Not a number counts as near, and so does a cosine whose product may be too large or small for f32; zero rows,
                // which those that are masked or beyond the last are staged as, do not.
                if (COSINE) {
                    undirected |= (ni == 0.0f) | (nj == 0.0f);
                    near |= (!(te > cancels(T()) * 2.0f) | !(by > 1e-24f) | !(by < 1e24f)) & (ni != 0.0f) & (nj != 0.0f);
                } else {
                    near |= !(te > cancels(T()) * squares) & (squares != 0.0f);
                }
                t[n][e] = te;
            }
        }
        near = __any_sync(FULL, near);
        if (near && crosses) {
            // A row is near itself, which is no pair: only the others count.
            bool others = false;
#pragma unroll
            for (unsigned n = 0; n < BLOCKS; n++) {
#pragma unroll
                for (unsigned e = 0; e < 4; e++) {
                    const unsigned col = 8 * n + 2 * in + e % 2;
                    const float squares = COSINE ? 2.0f : my.norm[e / 2] + their.norm[col];
                    others |= !(t[n][e] > cancels(T()) * squares) & (squares != 0.0f) & (my.first + 4 * (e - e % 2) != j + col);
                }
            }
            near = __any_sync(FULL, others);
        }
        Left<T> left;
        Found found;
        // A zero row has no direction.
        bool done = all && !near && !(COSINE && __any_sync(FULL, undirected));
        if (done) {
            found = plain<COSINE, T>(t, gram, left, my, their, term);
            done = sizeof(T) == 4 || !__any_sync(FULL, found.large);
        }
        if (!done) {
            General<T> all_of_it;
#pragma unroll
            for (unsigned e = 0; e < 4; e++) {
#pragma unroll
                for (unsigned n = 0; n < BLOCKS; n++) all_of_it.t[n][e] = t[n][e];
#pragma unroll
                for (unsigned m = 0; m < COLUMNS; m++) all_of_it.acc[m][e] = acc[m][e];
            }
            all_of_it.a = a, all_of_it.b = b, all_of_it.my = my, all_of_it.their = their, all_of_it.same = same,
            all_of_it.near = near;
            all_of_it.j0 = j, all_of_it.d = d, all_of_it.width = width, all_of_it.log = log;
            all_of_it.zi = zi, all_of_it.zj = tile, all_of_it.row = 16 * down + group;
            const F copy = term;
            general<COSINE, T>(all_of_it, copy);
#pragma unroll
            for (unsigned m = 0; m < COLUMNS; m++)
#pragma unroll
                for (unsigned e = 0; e < 4; e++) acc[m][e] = all_of_it.acc[m][e];
            left = all_of_it.left;
            found = all_of_it.found;
        }
        losses += found.loss;
        sums[0] += found.sums[0], sums[1] += found.sums[1];
        accumulate(acc, left, tile, log, width);
    }

    // Out through where the tiles were, so that neighbours write neighbours.
    copy_wait<0>();
    __syncthreads();
    float* const mine = reinterpret_cast<float*>(zj + 16 * warp * pitch_out);
#pragma unroll
    for (unsigned h = 0; h < 2; h++) {
        const float sum = sum_of_four(sums[h]);
        if (in == 0) sum_i[16 * warp + 8 * h + group] = sum;
#pragma unroll
        for (unsigned m = 0; m < COLUMNS; m++) {
            if (m % 2 == 0 && 8 * m >= width) break;
            mine[4 * pitch_out * (8 * h + group) + column_of(T(), m, 0)] = acc[m][2 * h];
            mine[4 * pitch_out * (8 * h + group) + column_of(T(), m, 1)] = acc[m][2 * h + 1];
        }
    }
    __syncthreads();
    const bool whole = on_quads(out, d);
    for (unsigned e = threadIdx.x; e < cut.own << log_out; e += BLOCK) {
        const unsigned row = e >> log_out, q = e - (row << log_out), r = i0 + row, k = column + 4 * q;
        if (r >= a.n || 4 * q >= width) continue;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        const float by = scale * a.weight(r);
        if (first < end && (by > 0.0f || by < 0.0f)) {
            float sum = 0.0f;
            for (unsigned w = 0; w < cut.tiles; w++) {
                const float4 u = zj[(16 * w * high + row) * pitch_out + q];
                v = make_float4(v.x + u.x, v.y + u.y, v.z + u.z, v.w + u.w);
                sum += sum_i[16 * w * high + row];
            }
            const float ni = norm_i[row];
            const float4 z = staged(T(), zi, log, row, q);
            // On a line the angle is 0 or pi whatever the lengths.
            const bool none = COSINE && (d == 1 || ni == 0.0f);
            const float along_z = COSINE ? sum * ni : sum, along_v = COSINE ? ni : 1.0f, of = none ? 0.0f : COSINE ? by * ni : by;
            v = make_float4(along_z * z.x - along_v * v.x, along_z * z.y - along_v * v.y, along_z * z.z - along_v * v.z,
                            along_z * z.w - along_v * v.w);
            v = none ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : make_float4(of * v.x, of * v.y, of * v.z, of * v.w);
        }
        put(out + static_cast<size_t>(r) * d + k, v, d - k, whole);
    }
    return losses;
}

// The last of a block's slices adds up what they wrote to parts [slices, rows, d]: rows r0 to r0 + count, into out.
__device__ inline void add_slices(const float* parts, const Cut& cut, size_t rows, unsigned r0, unsigned count, unsigned column,
                                  unsigned d, float* out) {
    const unsigned width = min(CHUNK, d - column), quads = div_up(width, 4);
    const bool whole = on_quads(out, d) && on_quads(parts, d);
    for (unsigned e = threadIdx.x; e < count * quads; e += BLOCK) {
        const unsigned row = e / quads, k = column + 4 * (e - row * quads);
        const size_t at = (static_cast<size_t>(r0) + row) * d + k;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 8
        for (unsigned s = 0; s < cut.slices; s++) v = sum_of(v, parts + s * rows * d + at, d - k, whole);
        put(out + at, v, d - k, whole);
    }
}

} // namespace
