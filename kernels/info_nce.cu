// InfoNCE weighted by how far labels are from one another (Dufumier et al., MICCAI 2021).
//
// Of anchor i, with s_k = cosine_ik / t, and r_k how far the label of k is from its own, over sigma:
//
//   p_k     = exp(s_k) / sum exp(s)          w_k = exp(-r_k^2 / 2) / sum exp(-r^2 / 2)
//   loss_i  = -sum of w_k log p_k
//   d/ds_k  = p_k - w_k, over n
//
// Both with their largest term apart; of the weights that is the nearest label's, r_0, and the exponent -(r - r_0) (r + r_0) / 2.
//
//   rows   labels [n], other_labels [m], cosines [rows, m] of anchors first + (0..rows) -> losses [rows]; where asked for, the
//          gradient of the loss by the cosines in their place, or of each times upstream [rows]. `own`: anchors are of the
//          same rows, none is held against itself.
//          A block owns an anchor, a thread every 256th of its columns, three times: the ends, the sums, the gradient.
//          Cost: some 50 flops a pair, four exponentials of which bind it, and 16 bytes, which the second cache keeps.
//   mean   losses [n] -> loss [1]. One block.
#include "prelude.cuh"

namespace {

struct InfoNceParams {
    unsigned n, m, first, rows, own, gradient;
    float sigma, temperature;
};

constexpr unsigned BLOCK = 256;
constexpr unsigned EACH = 2;
// No number is beyond it.
constexpr float LAST = 3.402823466e38f;

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    info_nce_rows(const float* __restrict__ labels, const float* __restrict__ other_labels, const float* __restrict__ upstream,
                  float* __restrict__ cosines, float* __restrict__ losses, InfoNceParams p) {
    const unsigned row = blockIdx.x, m = p.m, at = p.first + row;
    // No column where the anchor is of another set.
    const unsigned own = p.own != 0 ? at : m;
    const float label = labels[at];
    float* const cosine = cosines + static_cast<size_t>(row) * m;
    float largest = -LAST, nearest = LAST;
    bool bad = false;
    for (unsigned k = threadIdx.x; k < m; k += BLOCK) {
        if (k == own) continue;
        const float s = cosine[k] / p.temperature, far = fabsf(label - other_labels[k]) / p.sigma;
        bad |= !is_finite(s) || !is_finite(far);
        largest = fmaxf(largest, s);
        nearest = fminf(nearest, far);
    }
    largest = block_max(largest);
    nearest = -block_max(-nearest);
    float sum = 0.0f, weights = 0.0f, weighted = 0.0f;
    for (unsigned k = threadIdx.x; k < m; k += BLOCK) {
        if (k == own) continue;
        const float below = cosine[k] / p.temperature - largest, far = fabsf(label - other_labels[k]) / p.sigma;
        const float weight = expf(-(far - nearest) * (0.5f * far + 0.5f * nearest));
        sum += expf(below);
        weights += weight;
        weighted = fmaf(weight, below, weighted);
    }
    if (bad) sum = __uint_as_float(0x7fc00000u);
    sum = block_sum(sum);
    weights = block_sum(weights);
    weighted = block_sum(weighted);
    if (threadIdx.x == 0) losses[row] = logf(sum) - weighted / weights;
    if (p.gradient == 0) return;
    const float scale = p.gradient == EACH ? upstream[row] / p.temperature : 1.0f / (static_cast<float>(p.n) * p.temperature);
    for (unsigned k = threadIdx.x; k < m; k += BLOCK) {
        float slope = 0.0f;
        if (k != own) {
            const float below = cosine[k] / p.temperature - largest, far = fabsf(label - other_labels[k]) / p.sigma;
            const float weight = expf(-(far - nearest) * (0.5f * far + 0.5f * nearest));
            slope = scale * (expf(below) / sum - weight / weights);
        }
        cosine[k] = slope;
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    info_nce_mean(const float* __restrict__ losses, float* __restrict__ loss, InfoNceParams p) {
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < p.n; i += BLOCK) sum += losses[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) loss[0] = sum / static_cast<float>(p.n);
}
