// Activations: relu and leaky relu are one kernel, sigmoid another.
//
//   relu     y = x where x > 0, else slope * x       dx = dy where x > 0, else slope * dy
//   sigmoid  y = 1 / (1 + exp(-x))                   dx = dy * y * (1 - y), from the output y
//
// Shapes: every buffer has n elements. Threads: a block owns SPAN elements; a thread takes four that lie side by side, in one
// 16-byte access where every buffer's address allows it, and the last few of n one by one. Cost: a few flops an element; every
// buffer moves once, 8 n bytes forward and 12 n backward. Bandwidth binds.

#include "prelude.cuh"

namespace {

constexpr unsigned BLOCK = 256, SPAN = 1024;

struct ActivationParams {
    unsigned n;
    float slope;
};

// y = f(x), for this thread's four elements.
template <typename F> __device__ inline void map(const float* __restrict__ x, float* __restrict__ y, unsigned n, F f) {
    const size_t i = static_cast<size_t>(blockIdx.x) * SPAN + 4 * threadIdx.x;
    if (is_aligned<16>(x, y) && i + 4 <= n) {
        const float4 v = at4(x, i);
        at4(y, i) = make_float4(f(v.x), f(v.y), f(v.z), f(v.w));
    } else {
        for (size_t j = i; j < i + 4 && j < n; j++) y[j] = f(x[j]);
    }
}

// dx = f(x, dy), for this thread's four elements.
template <typename F>
__device__ inline void map2(const float* __restrict__ x, const float* __restrict__ dy, float* __restrict__ dx, unsigned n, F f) {
    const size_t i = static_cast<size_t>(blockIdx.x) * SPAN + 4 * threadIdx.x;
    if (is_aligned<16>(x, dy, dx) && i + 4 <= n) {
        const float4 v = at4(x, i), d = at4(dy, i);
        at4(dx, i) = make_float4(f(v.x, d.x), f(v.y, d.y), f(v.z, d.z), f(v.w, d.w));
    } else {
        for (size_t j = i; j < i + 4 && j < n; j++) dx[j] = f(x[j], dy[j]);
    }
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    activation_relu_fwd(const float* __restrict__ x, float* __restrict__ y, ActivationParams p) {
    map(x, y, p.n, [&](float v) { return v > 0.0f ? v : p.slope * v; });
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    activation_relu_bwd(const float* __restrict__ x, const float* __restrict__ dy, float* __restrict__ dx, ActivationParams p) {
    map2(x, dy, dx, p.n, [&](float v, float d) { return v > 0.0f ? d : p.slope * d; });
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    activation_sigmoid_fwd(const float* __restrict__ x, float* __restrict__ y, ActivationParams p) {
    map(x, y, p.n, [](float v) { return sigmoid(v); });
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    activation_sigmoid_bwd(const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ dx,
                           ActivationParams p) {
    map2(y, dy, dx, p.n, [](float v, float d) { return d * v * (1.0f - v); });
}
