// The gradient of the contrastive loss at dual rows, of which its second derivatives are made.
//
// Dual rows are rows x and how they move, dx. Of each row i and every other row j that is not masked, with D = x_i - y_j and
// dD = dx_i - dy_j:
//
//   g_i  = sum_j s_i s_j scale p D                       the gradient, not yet divided by the pairs' weight
//   dg_i = sum_j s_i s_j scale (p dD + q D)              how it moves: the Hessian times dx
//   Euclidean, d = |D|        positive (w <= tau)  p = 1, q = 0    negative, d < margin w  p = 1 - margin w / d
//                                                                                          q = margin w (D dD) / d^3
//   cosine, d = |D|^2 / 2     positive  p = d, q = D dD            negative, d < margin w  p = d - margin w, q = D dD
//
// A negative pair at Euclidean distance 0, one with a row of norm 0 for the cosine, and one beyond its margin add nothing.
//
// rows [2, n, d], labels, weights [n], others [2, m, d], labels_o, weights_o [m], sums [2, n, d] = (g, dg); `same`: the others
// are the rows, and none makes a pair with itself.
//
// share: relative [n], relative_o [m], the weights over a power of two next to the largest, so that their products fit; and 1
// over the pairs' weight, the sum of such s_i s_j over i < j, or over all; 0 where that is. One block, a thread a run of
// samples; runs add up as (sum, pairs), so that nothing cancels. 4 flops a sample; latency binds it.
//
// A block owns 16 rows and streams tiles of 16 others. Thread (r, c) first takes pair (i0 + r, j0 + c): |D|^2 and D dD over 16
// columns at a time, staged in shared memory; then, with the tile's coefficients there, columns c, c + 16, ... of row r, whose
// sums it alone owns. Cost: 14 flops a pair and column from each end; the others are read once a block. Shared memory binds it:
// 4 reads of 4 bytes for 4 multiply-adds in the first half.

#include "prelude.cuh"

namespace {

struct ContrastiveHvpParams {
    unsigned n, m, d, metric;
    float margin, tau, scale;
    unsigned weighted, same;
};

constexpr unsigned COSINE = 1;
constexpr unsigned TILE = 16;

// Rows and their moves, 16 columns of them; a column more keeps a warp's two rows in different banks.
struct Stage {
    float row[TILE][TILE + 1], move[TILE][TILE + 1];
};

// Thread (r, c) brings column k0 + c of row i0 + r; 0 beyond the ends.
__device__ inline void bring(Stage& to, const float* rows, unsigned i0, unsigned n, unsigned k0, unsigned d) {
    const unsigned r = threadIdx.x / TILE, c = threadIdx.x % TILE, k = k0 + c;
    const bool there = r < n - i0 && k < d;
    const float* const row = rows + (there ? static_cast<size_t>(i0 + r) * d + k : 0);
    to.row[r][c] = there ? row[0] : 0.0f;
    to.move[r][c] = there ? row[static_cast<size_t>(n) * d] : 0.0f;
}

// p and q of a pair at label distance w, with t = |D|^2 and e = D dD.
__device__ inline float2 coefficients(const ContrastiveHvpParams& p, float w, float t, float e, bool flat) {
    const float reach = p.margin * w;
    const bool positive = w <= p.tau;
    if (p.metric == COSINE) {
        const float d = 0.5f * t;
        if (flat) return make_float2(0.0f, 0.0f);
        if (positive) return make_float2(d, e);
        return d >= reach ? make_float2(0.0f, 0.0f) : make_float2(d - reach, e);
    }
    if (positive) return make_float2(1.0f, 0.0f);
    const float d = sqrtf(t);
    if (t < TINY || d >= reach) return make_float2(0.0f, 0.0f);
    return make_float2(1.0f - reach / d, reach / d * (e / t));
}

// Of n weights, all 1 where there are none: what they are `relative` to a power of two next to the largest; and the sum of these,
// and that of the products of every two, in runs[0], for the first thread of 256 alone, which wrote it. All must come here.
__device__ inline void totals(float2 (&runs)[256], const float* weights, unsigned n, float* relative) {
    float largest = 0.0f;
    for (size_t i = threadIdx.x; weights && i < n; i += blockDim.x) largest = fmaxf(largest, weights[i]);
    const float power = __uint_as_float(__float_as_uint(block_max(largest)) & 0x7f800000u), unit = power > 0.0f ? power : 1.0f;
    const unsigned length = n / blockDim.x + (n % blockDim.x != 0);
    const size_t first = static_cast<size_t>(threadIdx.x) * length, end = min(first + length, static_cast<size_t>(n));
    float sum = 0.0f, products = 0.0f;
    for (size_t i = first; i < end; i++) {
        const float w = weights ? weights[i] / unit : 1.0f;
        relative[i] = w;
        products = fmaf(w, sum, products);
        sum += w;
    }
    runs[threadIdx.x] = make_float2(sum, products);
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            const float2 left = runs[threadIdx.x], right = runs[threadIdx.x + half];
            runs[threadIdx.x] = make_float2(left.x + right.x, left.y + right.y + left.x * right.x);
        }
    }
}

} // namespace

extern "C" __global__ void __launch_bounds__(256)
    contrastive_hvp_rows(const float* __restrict__ rows, const float* __restrict__ labels, const float* __restrict__ weights,
                         const float* __restrict__ others, const float* __restrict__ labels_o,
                         const float* __restrict__ weights_o, float* __restrict__ sums, ContrastiveHvpParams p) {
    __shared__ Stage own;
    __shared__ Stage other;
    // p and q of a pair, times its weights.
    __shared__ float2 of_pair[TILE][TILE];
    const unsigned r = threadIdx.x / TILE, c = threadIdx.x % TILE, i0 = blockIdx.x * TILE, i = i0 + r;
    const float s_i = i < p.n ? (p.weighted & 1 ? weights[i] : 1.0f) : 0.0f;
    const size_t of_row = static_cast<size_t>(i) * p.d, of_move = of_row + static_cast<size_t>(p.n) * p.d;
    for (unsigned k = c; i < p.n && k < p.d; k += TILE) sums[of_row + k] = 0.0f, sums[of_move + k] = 0.0f;
    for (unsigned j0 = 0; j0 < p.m; j0 += TILE) {
        // 1. The pairs' coefficients.
        const unsigned j = j0 + c;
        float t = 0.0f, e = 0.0f, xx = 0.0f, yy = 0.0f;
        for (unsigned k0 = 0; k0 < p.d; k0 += TILE) {
            __syncthreads(); // whoever still reads what was brought before
            bring(own, rows, i0, p.n, k0, p.d);
            bring(other, others, j0, p.m, k0, p.d);
            __syncthreads();
#pragma unroll
            for (unsigned k = 0; k < TILE; k++) {
                const float x = own.row[r][k], y = other.row[c][k], apart = x - y;
                t = fmaf(apart, apart, t);
                e = fmaf(apart, own.move[r][k] - other.move[c][k], e);
                xx = fmaf(x, x, xx);
                yy = fmaf(y, y, yy);
            }
        }
        float2 pq = make_float2(0.0f, 0.0f);
        const float s_j = j < p.m ? (p.weighted & 2 ? weights_o[j] : 1.0f) : 0.0f;
        if (s_i != 0.0f && s_j != 0.0f && !(p.same && i == j)) {
            pq = coefficients(p, fabsf(labels[i] - labels_o[j]), t, e, xx == 0.0f || yy == 0.0f);
            const float s = s_j * s_i * p.scale;
            pq = make_float2(s * pq.x, s * pq.y);
        }
        of_pair[r][c] = pq;
        __syncthreads();
        // 2. The row's sums; what a pair that adds nothing holds is not looked at.
        for (unsigned k = c; i < p.n && k < p.d; k += TILE) {
            const float x = rows[of_row + k], move = rows[of_move + k];
            float g = 0.0f, dg = 0.0f;
            for (unsigned b = 0; b < min(TILE, p.m - j0); b++) {
                const float2 of = of_pair[r][b];
                if (of.x == 0.0f && of.y == 0.0f) continue;
                const float* const y = others + static_cast<size_t>(j0 + b) * p.d + k;
                const float apart = x - y[0];
                g = fmaf(of.x, apart, g);
                dg = fmaf(of.x, move - y[static_cast<size_t>(p.m) * p.d], fmaf(of.y, apart, dg));
            }
            sums[of_row + k] += g;
            sums[of_move + k] += dg;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
    contrastive_hvp_share(const float* __restrict__ weights, const float* __restrict__ weights_o, float* __restrict__ relative,
                          float* __restrict__ relative_o, float* __restrict__ share, ContrastiveHvpParams p) {
    __shared__ float2 own[256];
    __shared__ float2 other[256];
    totals(own, p.weighted & 1 ? weights : nullptr, p.n, relative);
    totals(other, p.weighted & 2 ? weights_o : nullptr, p.m, relative_o);
    if (threadIdx.x == 0) {
        const float pairs = p.same ? own[0].y : own[0].x * other[0].x;
        share[0] = pairs == 0.0f ? 0.0f : 1.0f / pairs;
    }
}
