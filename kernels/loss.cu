// Losses between predictions and targets: the mean times a weight, and its gradient, in one launch.
//
//   mse         weight * mean (p - t)^2                                  dp = weight * 2 (p - t) / n
//   mse_weighted  weight * sum w (p - t)^2 / n                           dp = weight * 2 w (p - t) / n
//               what has the weight 0 adds nothing, whatever it is
//   bce         -weight * mean (t ln p + (1 - t) ln (1 - p))             dp = weight * (p - t) / max(p (1 - p), 1e-12) / n
//               each logarithm at least -100; p beyond [0, 1] counts as the nearer end
//   bce_logits  weight * mean (max(x, 0) - x t + ln (1 + exp(-|x|)))     dp = weight * (sigmoid(x) - t) / n
//
// Shapes: p [n], t [n], loss [1], dp [n] for upstream 1, part [ceil(n / SPAN)]; of mse_weighted w [n] too.
// Threads: a block owns SPAN terms, a thread four of them in a row; it leaves their sum in part, and the last block adds these.
// One block, up to SPAN terms (as long as a batch), draws no ticket. Sums are trees in a fixed order.
// Cost: 5 to 14 flops and 12 bytes a term, 16 with weights: bytes bind; a batch is all latency.
#include "prelude.cuh"

namespace {

struct LossParams {
    unsigned n;
    float weight;
};

constexpr unsigned SPAN = 1024;
constexpr unsigned BLOCK = SPAN / 4;

// Value and derivative of a term.
struct Term {
    float value;
    float slope;
};

struct Mse {
    static constexpr bool WEIGHTED = false;

    __device__ Term operator()(float p, float t, float) const {
        const float d = p - t;
        return {d * d, d + d};
    }
};

struct MseWeighted {
    static constexpr bool WEIGHTED = true;

    __device__ Term operator()(float p, float t, float w) const {
        if (w == 0.0f) return {0.0f, 0.0f};
        const float d = p - t;
        return {w * (d * d), w * (d + d)};
    }
};

// A comparison that lets a NaN through, unlike fmaxf.
__device__ inline float at_least(float v, float low) { return v < low ? low : v; }

struct Bce {
    static constexpr bool WEIGHTED = false;

    __device__ Term operator()(float prediction, float t, float) const {
        const float p = prediction > 1.0f ? 1.0f : at_least(prediction, 0.0f);
        const float yes = at_least(logf(p), -100.0f), no = at_least(log1pf(-p), -100.0f);
        return {-(t * yes + (1.0f - t) * no), (p - t) / at_least(p * (1.0f - p), 1e-12f)};
    }
};

struct BceLogits {
    static constexpr bool WEIGHTED = false;

    __device__ Term operator()(float x, float t, float) const {
        return {at_least(x, 0.0f) - x * t + log1pf(expf(-fabsf(x))), sigmoid(x) - t};
    }
};

// `w` is read where the term is weighted, and may be null elsewhere.
template <class F>
__device__ void run(F term, const float* __restrict__ p, const float* __restrict__ t, const float* __restrict__ w,
                    float* __restrict__ loss, float* __restrict__ dp, float* part, LossParams params, unsigned* ticket) {
    const unsigned n = params.n, first = blockIdx.x * SPAN + 4 * threadIdx.x;
    const float scale = params.weight / static_cast<float>(n);
    float sum = 0.0f;
    if (first < n) {
        const bool aligned = is_aligned<16>(p, t, dp);
        float prediction[4], target[4], weights[4], slope[4];
        load4(prediction, p, first, n, aligned);
        load4(target, t, first, n, aligned);
        if constexpr (F::WEIGHTED) load4(weights, w, first, n, is_aligned<16>(w));
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const Term it = term(prediction[k], target[k], F::WEIGHTED ? weights[k] : 1.0f);
            slope[k] = scale * it.slope;
            if (first + k < n) sum += it.value;
        }
        store4(dp, first, n, aligned, slope);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) __stcg(part + blockIdx.x, sum);
    if (gridDim.x > 1) {
        if (!last_block(ticket)) return;
        sum = 0.0f;
        for (unsigned i = threadIdx.x; i < gridDim.x; i += BLOCK) sum += __ldcg(part + i);
        sum = block_sum(sum);
    }
    if (threadIdx.x == 0) loss[0] = scale * sum;
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    loss_mse(const float* __restrict__ p, const float* __restrict__ t, float* __restrict__ loss, float* __restrict__ dp,
             float* __restrict__ part, LossParams params, unsigned* ticket) {
    run(Mse(), p, t, nullptr, loss, dp, part, params, ticket);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    loss_mse_weighted(const float* __restrict__ p, const float* __restrict__ t, float* __restrict__ loss, float* __restrict__ dp,
                      float* __restrict__ part, const float* __restrict__ w, LossParams params, unsigned* ticket) {
    run(MseWeighted(), p, t, w, loss, dp, part, params, ticket);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    loss_bce(const float* __restrict__ p, const float* __restrict__ t, float* __restrict__ loss, float* __restrict__ dp,
             float* __restrict__ part, LossParams params, unsigned* ticket) {
    run(Bce(), p, t, nullptr, loss, dp, part, params, ticket);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    loss_bce_logits(const float* __restrict__ p, const float* __restrict__ t, float* __restrict__ loss, float* __restrict__ dp,
                    float* __restrict__ part, LossParams params, unsigned* ticket) {
    run(BceLogits(), p, t, nullptr, loss, dp, part, params, ticket);
}
