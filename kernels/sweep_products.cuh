// Steps 1 and 3 of the sweep: rows in shared memory, the Gram tile, and the second product, on the tensor cores. Included after
// pairs.cuh; sweep.cuh says what is computed.
//
// Shapes: zi [own, columns], zj [TILE, columns] staged; gram [16, TILE] and acc [16, CHUNK] of a warp, in the fragments of its
// lanes.
// Cost: a pair takes 6 multiply-adds a column in f32, 3 in 16 bits, from shared memory.

namespace {

constexpr unsigned BLOCK = 128;
constexpr unsigned WARPS = BLOCK / 32;
// Rows j of a tile, columns of a chunk.
constexpr unsigned TILE = 32;
constexpr unsigned CHUNK = 128;
// Blocks of eight rows j of a tile, and of eight columns of a chunk.
constexpr unsigned BLOCKS = TILE / 8;
constexpr unsigned COLUMNS = CHUNK / 8;

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
    stage_half<T>(as<uint4>(to), log, from, first, count, d, k0);
}

// Four columns of a staged row.
__device__ inline float4 staged(float, const float4* rows, unsigned log, unsigned row, unsigned q) {
    return rows[row * pitch_of(0.0f, log) + q];
}
template <class T> __device__ inline float4 staged(T, const float4* rows, unsigned log, unsigned row, unsigned q) {
    const uint4* const unit = as<const uint4>(rows) + place_half(row, q / 2, log);
    const Four<T> v = as<const Four<T>>(unit)[q % 2];
    return make_float4(real(v.v[0]), real(v.v[1]), real(v.v[2]), real(v.v[3]));
}

// The lane's columns of blocks m and m + 1 of eight: two of each in turn, as column_of.
__device__ inline float4 own_columns(float, const float4* rows, unsigned log, unsigned row, unsigned m) {
    return staged(0.0f, rows, log, row, 2 * m + threadIdx.x % 4);
}
template <class T> __device__ inline float4 own_columns(T, const float4* rows, unsigned log, unsigned row, unsigned m) {
    const unsigned* const words = as<const unsigned>(rows) + threadIdx.x % 4;
    const unsigned u = words[4 * place_half(row, m, log)], v = words[4 * place_half(row, m + 1, log)];
    const Two<T> x = *as<const Two<T>>(&u), y = *as<const Two<T>>(&v);
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
    const float2* const x = as<const float2>(zi) + (row + group) * pitch + in;
    const float2* const y = as<const float2>(zj) + group * pitch + in;
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
    const uint4* const x = as<const uint4>(zi);
    const uint4* const y = as<const uint4>(zj);
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
    const Two<__half> two = *as<const Two<__half>>(&v);
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
    const float2* const y = as<const float2>(zj) + 2 * in * pitch + group;
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
    const uint4* const y = as<const uint4>(zj);
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

} // namespace
