// Means over time.
//
//   mean_fwd    y[b, c] = sum_t x[b, c, t] / T                   mean_bwd    dx[b, c, t] = dy[b, c] / T
//   masked_fwd  y[b, c] = sum_{t < n} x[b, c, t] / n             masked_bwd  dx[b, c, t] = dy[b, c] / n where t < n, else 0
//               n = min(lengths[b], T); a row of length 0 has mean 0 and gradient 0
//
// Shapes: x, dx [B, C, T], y, dy [B, C], lengths [B].
// Threads: forward, `lanes(T)` threads own a row, so that each reads four elements or more and short rows keep a warp busy; a
// row beyond WARP_FRAMES gets the whole block. Each lane sums in order, then the lanes in a butterfly. Backward, a thread
// owns four neighbours of dx, whatever rows they are of.
// Cost: one flop and one read an element forward, one flop and one write backward: bytes bind, 1.3 us for 512 x 16 x 34 in
// cache, where the launch costs more.
#include "prelude.cuh"

namespace {

struct PoolParams {
    unsigned batch;
    unsigned channels;
    unsigned frames;
};

constexpr unsigned BLOCK = 256;

// Longest row that a warp sums alone.
constexpr unsigned WARP_FRAMES = 4096;

// Threads of a row: a power of two up to a warp, or the block.
__device__ inline unsigned lanes(unsigned frames) {
    if (frames > WARP_FRAMES) return BLOCK;
    unsigned lanes = 1;
    while (lanes < 32 && 8 * lanes <= frames) lanes *= 2;
    return lanes;
}

// Frames that count in a row; all of them where there are no lengths.
__device__ inline unsigned row_length(const unsigned* lengths, unsigned row, PoolParams p) {
    return lengths ? min(lengths[row / p.channels], p.frames) : p.frames;
}

__device__ inline void fwd(const float* __restrict__ x, const unsigned* __restrict__ lengths, float* __restrict__ y,
                           PoolParams p) {
    // 1. Which row, and how much of it.
    const unsigned width = lanes(p.frames), lane = threadIdx.x % width, rows = p.batch * p.channels;
    const unsigned row = blockIdx.x * (BLOCK / width) + threadIdx.x / width;
    const unsigned n = row < rows ? row_length(lengths, row, p) : 0;
    const float* from = x + static_cast<size_t>(row) * p.frames;

    // 2. Every `width`-th quad or element.
    float sum = 0.0f;
    unsigned t = lane;
    if (p.frames % 4 == 0 && is_aligned<16>(x)) {
        for (unsigned q = lane; q < n / 4; q += width) {
            const float4 v = at4(from, 4 * q);
            sum += (v.x + v.y) + (v.z + v.w);
        }
        t += n / 4 * 4;
    }
#pragma unroll 4
    for (; t < n; t += width) sum += from[t];

    // 3. All lanes of the row.
    if (width == BLOCK) {
        sum = block_sum(sum);
    } else {
        for (unsigned offset = width / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(FULL, sum, offset);
    }
    if (row < rows && lane == 0) y[row] = sum / static_cast<float>(max(n, 1u));
}

__device__ inline void bwd(const unsigned* __restrict__ lengths, const float* __restrict__ dy, float* __restrict__ dx,
                           PoolParams p) {
    const unsigned rows = p.batch * p.channels, n = rows * p.frames, first = 4 * (blockIdx.x * BLOCK + threadIdx.x);
    if (first >= n) return;
    unsigned row = first / p.frames, t = first - row * p.frames;
    unsigned length = row_length(lengths, row, p);
    float slope = dy[row] / static_cast<float>(max(length, 1u));
    float v[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        v[k] = t < length ? slope : 0.0f;
        if (++t == p.frames && ++row < rows) {
            t = 0;
            length = row_length(lengths, row, p);
            slope = dy[row] / static_cast<float>(max(length, 1u));
        }
    }
    store4(dx, first, n, is_aligned<16>(dx), v);
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    pool_mean_fwd(const float* __restrict__ x, float* __restrict__ y, PoolParams p) {
    fwd(x, nullptr, y, p);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    pool_mean_bwd(const float* __restrict__ dy, float* __restrict__ dx, PoolParams p) {
    bwd(nullptr, dy, dx, p);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    pool_masked_fwd(const float* __restrict__ x, const unsigned* __restrict__ lengths, float* __restrict__ y, PoolParams p) {
    fwd(x, lengths, y, p);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    pool_masked_bwd(const unsigned* __restrict__ lengths, const float* __restrict__ dy, float* __restrict__ dx, PoolParams p) {
    bwd(lengths, dy, dx, p);
}
