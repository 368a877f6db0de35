// The contrastive loss of each row of a block of pairs.
//
// Of row i of a block and column j, with the distance d of their embeddings, how far their labels are apart, w, and the pair's
// weight s:
//
//   l_ij    = d^2 / 2 where w <= tau, max(0, margin w - d)^2 / 2 elsewhere
//   sums_i  = sum over j of s_ij l_ij          totals_i = sum over j of s_ij
//   d/dd_ij = upstream_i s_ij (d where w <= tau, -max(0, margin w - d) elsewhere)
//
//   fwd   labels, other_labels, weights, similarities [rows, m] -> sums, totals [rows]. Labels are [rows] and [m], or the first
//         are the matrix [rows, m] of how far they are apart; weights are the columns', [m], or a matrix, or all 1. Similarities
//         are Euclidean distances or cosines, of which d = 1 - cos. `own`: rows are those of the columns' own set from `first`
//         on, and none makes a pair with itself.
//   bwd   those and upstream [rows] -> slopes [rows, m], the gradient by the similarities.
//
// A pair of weight 0 has no part, whatever it holds. A row's sum is NaN where a weight is not finite or negative, or of a pair
// that counts the distance is not finite, or how far its labels are apart is not finite or negative; a slope, where what it is
// made of is not finite.
//
// A block owns a row, a thread every 256th of its columns. Cost: some 10 flops and 4 to 16 bytes a pair, which bind it.
#include "prelude.cuh"

namespace {

struct PairLossParams {
    unsigned rows, m, first, own, apart, weighted, metric;
    float margin, tau;
};

constexpr unsigned BLOCK = 256;
constexpr unsigned COSINE = 1;
// That labels are a matrix, and that weights are one.
constexpr unsigned MATRIX = 1, OF_PAIRS = 2;

// A row of a block.
struct Row {
    const float *labels, *weights, *similarities;
    float label;
    bool apart, weighted;
    unsigned own; // the column of the row itself; m where there is none

    __device__ float weight(unsigned j) const { return j == own ? 0.0f : weighted ? weights[j] : 1.0f; }
    __device__ float apart_of(unsigned j) const { return apart ? labels[j] : fabsf(label - labels[j]); }
};

__device__ inline Row row_of(const float* labels, const float* other_labels, const float* weights, const float* similarities,
                             const PairLossParams& p) {
    const size_t at = static_cast<size_t>(blockIdx.x) * p.m;
    const bool apart = p.apart == MATRIX;
    return {apart ? labels + at : other_labels,
            p.weighted == OF_PAIRS ? weights + at : weights,
            similarities + at,
            apart ? 0.0f : labels[blockIdx.x],
            apart,
            p.weighted != 0,
            p.own != 0 ? p.first + blockIdx.x : p.m};
}

__device__ inline bool counted(float v) { return is_finite(v) && v >= 0.0f; }

// The loss's slope by the distance d of a pair whose labels are w apart.
__device__ inline float slope_of(float d, float w, const PairLossParams& p) {
    return w <= p.tau ? d : -fmaxf(p.margin * w - d, 0.0f);
}

__device__ inline float distance_of(float similarity, const PairLossParams& p) {
    return p.metric == COSINE ? 1.0f - similarity : similarity;
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    pair_loss_fwd(const float* __restrict__ labels, const float* __restrict__ other_labels, const float* __restrict__ weights,
                  const float* __restrict__ similarities, float* __restrict__ sums, float* __restrict__ totals,
                  PairLossParams p) {
    const Row row = row_of(labels, other_labels, weights, similarities, p);
    float sum = 0.0f, total = 0.0f;
    bool bad = false;
    for (size_t j = threadIdx.x; j < p.m; j += BLOCK) {
        const unsigned column = static_cast<unsigned>(j);
        const float s = row.weight(column);
        total += s;
        if (s == 0.0f) continue;
        const float w = row.apart_of(column), d = distance_of(row.similarities[j], p), slope = slope_of(d, w, p);
        bad |= !counted(s) || !counted(w) || !is_finite(d);
        sum = fmaf(s * slope, slope, sum);
    }
    if (bad) sum = __uint_as_float(0x7fc00000u);
    sum = block_sum(sum);
    total = block_sum(total);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = 0.5f * sum;
        totals[blockIdx.x] = total;
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    pair_loss_bwd(const float* __restrict__ labels, const float* __restrict__ other_labels, const float* __restrict__ weights,
                  const float* __restrict__ similarities, const float* __restrict__ upstream, float* __restrict__ slopes,
                  PairLossParams p) {
    const Row row = row_of(labels, other_labels, weights, similarities, p);
    const float up = p.metric == COSINE ? -upstream[blockIdx.x] : upstream[blockIdx.x];
    float* const to = slopes + static_cast<size_t>(blockIdx.x) * p.m;
    for (size_t j = threadIdx.x; j < p.m; j += BLOCK) {
        const unsigned column = static_cast<unsigned>(j);
        const float s = row.weight(column);
        float slope = 0.0f;
        if (!(s <= 0.0f)) {
            const float w = row.apart_of(column), d = distance_of(row.similarities[j], p);
            const bool sound = is_finite(s) && is_finite(w) && is_finite(d);
            slope = sound ? up * s * slope_of(d, w, p) : __uint_as_float(0x7fc00000u);
        }
        to[j] = slope;
    }
}
