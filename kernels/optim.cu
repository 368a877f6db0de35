// Optimizer updates of a flat parameter set, in place, one launch for all of it.
//
//   sgd    v = momentum * v + grad + weight_decay * theta           theta -= lr * v
//   adam   m += rate1 * (g - m)                                     g = grad (+ weight_decay * theta)
//          v += rate2 * (g^2 - v)
//          theta = shrink * theta - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//
// Shapes: hyper [3] = (lr, 1 - beta1^t, 1 - beta2^t), everything else n elements. After PyTorch; Adam is
// Kingma and Ba (2015), decoupled decay Loshchilov and Hutter (2019).
// Threads: one owns four elements in a row. Cost: 6 flops and 20 bytes an element (sgd), 16 and 28 (adam): bytes bind. A
// network of 2,000 parameters is two blocks, all latency: every load is issued before the first is used.
#include "prelude.cuh"

namespace {

struct SgdParams {
    unsigned n;
    float momentum;
    float weight_decay;
};

struct AdamParams {
    unsigned n;
    float rate1;
    float rate2;
    float eps;
    float weight_decay;
    unsigned decoupled;
};

constexpr unsigned BLOCK = 256;

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    optim_sgd(const float* __restrict__ hyper, const float* __restrict__ grad, float* __restrict__ theta,
              float* __restrict__ velocity, SgdParams p) {
    const unsigned first = 4 * (blockIdx.x * BLOCK + threadIdx.x);
    if (first >= p.n) return;
    const bool aligned = is_aligned<16>(grad, theta, velocity);
    float g[4], at[4], v[4];
    load4(g, grad, first, p.n, aligned);
    load4(at, theta, first, p.n, aligned);
    load4(v, velocity, first, p.n, aligned);
    const float lr = hyper[0];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        v[k] = p.momentum * v[k] + (g[k] + p.weight_decay * at[k]);
        at[k] -= lr * v[k];
    }
    store4(velocity, first, p.n, aligned, v);
    store4(theta, first, p.n, aligned, at);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    optim_adam(const float* __restrict__ hyper, const float* __restrict__ grad, float* __restrict__ theta, float* __restrict__ m,
               float* __restrict__ v, AdamParams p) {
    const unsigned first = 4 * (blockIdx.x * BLOCK + threadIdx.x);
    if (first >= p.n) return;
    const bool aligned = is_aligned<16>(grad, theta, m, v);
    float g[4], at[4], mean[4], square[4];
    load4(g, grad, first, p.n, aligned);
    load4(at, theta, first, p.n, aligned);
    load4(mean, m, first, p.n, aligned);
    load4(square, v, first, p.n, aligned);
    const float lr = hyper[0], step = lr / hyper[1], root = sqrtf(hyper[2]);
    const float couple = p.decoupled ? 0.0f : p.weight_decay;
    const float shrink = p.decoupled ? 1.0f - lr * p.weight_decay : 1.0f;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const float d = g[k] + couple * at[k];
        mean[k] += p.rate1 * (d - mean[k]);
        square[k] += p.rate2 * (d * d - square[k]);
        at[k] = shrink * at[k] - step * mean[k] / (sqrtf(square[k]) / root + p.eps);
    }
    store4(m, first, p.n, aligned, mean);
    store4(v, first, p.n, aligned, square);
    store4(theta, first, p.n, aligned, at);
}
