// Batches cut out of data that stays on the device; a step uploads nothing but indices.
//
//   window  s = start + floor((2t + 1) * window / 2T)          nearest of `window` frames at T columns
//           x[b, c, t] = data[offset + c * L + s]              0 where s >= L or beyond `total`
//                      + shift[b]                              where that is not 0 and c < shift_channels
//   rows    y[b] = table[indices[b]]                           0 where the row is beyond the table
//
// Shapes: data [total], rows [B, 4] = (offset, length L, start, window), shift [B], x [B, C, T] or, blocked,
// [ceil(B / 16), C, T, 16] with lanes beyond B 0; table [S, width], indices [B], y [B, width].
// With window = q * 2T + r the quotient is (2t + 1) * q + floor((2t + 1) * r / 2T): all within 32 bits as T <= 2^15.
// Threads: window, a block owns 64 columns of one channel of 16 samples. A warp reads 32 columns of a sample, which are
// neighbours in memory where the window is a copy; blocked, the tile is turned in shared memory and each thread writes four
// samples of a column: 16 bytes, 512 a warp. Rows of the tile are 2 mod 8 words apart: neither turn conflicts over banks.
// rows: a thread owns four elements of y, in a row where they can be moved as 16 bytes.
// Cost: output written once, as much read: bytes bind. The first kernel of a step: at B = 64, C = 1, T = 1000 it is 64
// blocks and 0.5 MB, three loads one after the other (row, data, tile) deep.
#include "prelude.cuh"

namespace {

struct GatherWindowParams {
    unsigned batch;
    unsigned channels;
    unsigned columns;
    unsigned total;
    unsigned shift_channels;
    unsigned blocked;
};

struct GatherRowsParams {
    unsigned batch;
    unsigned width;
    unsigned table;
};

constexpr unsigned BLOCK = 256;
constexpr unsigned WARPS = BLOCK / 32;

// Samples and columns of a tile; words from one sample of it to the next.
constexpr unsigned LANES = 16;
constexpr unsigned COLUMNS = 64;
constexpr unsigned STRIDE = COLUMNS + 2;

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    gather_window(const float* __restrict__ data, const unsigned* __restrict__ rows, const float* __restrict__ shift,
                  float* __restrict__ x, GatherWindowParams p) {
    __shared__ float tile[LANES * STRIDE];

    // 1. Which tile.
    const unsigned tiles = (p.columns + COLUMNS - 1) / COLUMNS;
    const unsigned t0 = blockIdx.x % tiles * COLUMNS, place = blockIdx.x / tiles;
    const unsigned c = place % p.channels, block = place / p.channels;

    // 2. Warp w reads samples w and w + 8.
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (unsigned l = warp; l < LANES; l += WARPS) {
        const unsigned b = block * LANES + l;
        unsigned offset = 0, length = 0, start = 0, window = 0;
        float add = 0.0f;
        if (b < p.batch) {
            offset = rows[4 * b], length = rows[4 * b + 1], start = rows[4 * b + 2], window = rows[4 * b + 3];
            if (c < p.shift_channels) add = shift[b];
        }
        const size_t from = offset + static_cast<size_t>(c) * length;
        const unsigned divisor = 2 * p.columns, whole = window / divisor, part = window % divisor;
#pragma unroll
        for (unsigned h = 0; h < COLUMNS; h += 32) {
            const unsigned t = t0 + h + lane;
            const unsigned nearest = window == p.columns ? t : (2 * t + 1) * whole + (2 * t + 1) * part / divisor;
            const size_t s = static_cast<size_t>(start) + nearest;
            float v = 0.0f;
            if (t < p.columns && s < length && from + s < p.total) v = data[from + s];
            if (v != 0.0f) v += add;
            if (p.blocked) {
                tile[l * STRIDE + h + lane] = v;
            } else if (b < p.batch && t < p.columns) {
                x[(static_cast<size_t>(b) * p.channels + c) * p.columns + t] = v;
            }
        }
    }
    if (!p.blocked) return;
    __syncthreads();

    // 3. Thread i writes samples 4 (i mod 4) .. + 4 of column i / 4.
    const unsigned column = threadIdx.x / 4, first = threadIdx.x % 4 * 4;
    if (t0 + column >= p.columns) return;
    float v[4];
#pragma unroll
    for (unsigned k = 0; k < 4; ++k) v[k] = tile[(first + k) * STRIDE + column];
    float* to = x + (static_cast<size_t>(place) * p.columns + t0 + column) * LANES;
    store4(to, first, LANES, is_aligned<16>(x), v);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    gather_rows(const float* __restrict__ table, const unsigned* __restrict__ indices, float* __restrict__ y,
                GatherRowsParams p) {
    const unsigned n = p.batch * p.width, span = blockIdx.x * (4 * BLOCK);
    if (p.width % 4 == 0 && is_aligned<16>(table, y)) {
        const unsigned first = span + 4 * threadIdx.x;
        if (first >= n) return;
        const unsigned b = first / p.width, row = indices[b];
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (row < p.table) {
            v = at4(table, static_cast<size_t>(row) * p.width + (first - b * p.width));
        }
        at4(y, first) = v;
        return;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; ++k) {
        const unsigned i = span + k * BLOCK + threadIdx.x;
        if (i >= n) return;
        const unsigned b = i / p.width, row = indices[b];
        y[i] = row < p.table ? table[static_cast<size_t>(row) * p.width + (i - b * p.width)] : 0.0f;
    }
}
