// Elementwise sums and copies: the glue of the tape.
//
//   fill        y = factor
//   copy        y = x
//   add         y = a + factor * b
//   accumulate  sum += x
//   scale       y = factor * s[0] * x
//
// Shapes: every buffer has n elements, s has one. Threads: a block owns SPAN elements; a thread takes four that lie side by side,
// in one 16-byte access where every buffer's address allows it (a window may start at any element), and the last few of n one by
// one. Cost: at most two flops an element, and every buffer moves once: 4 n bytes each for fill, 8 n for copy and scale, 12 n for
// add and accumulate. Bandwidth binds; at 3 TB/s a thousand blocks a microsecond.

#include "prelude.cuh"

namespace {

constexpr unsigned BLOCK = 256, SPAN = 1024;

struct ElementwiseParams {
    unsigned n;
    float factor;
};

// Calls f4(i) for whole groups of four where `wide`, f1(i) for what is left of this thread's four elements.
template <typename F4, typename F1> __device__ inline void fours(unsigned n, bool wide, F4 f4, F1 f1) {
    const size_t i = static_cast<size_t>(blockIdx.x) * SPAN + 4 * threadIdx.x;
    if (wide && i + 4 <= n) {
        f4(i);
    } else {
        for (size_t j = i; j < i + 4 && j < n; j++) f1(j);
    }
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK) elementwise_fill(float* __restrict__ y, ElementwiseParams p) {
    fours(
        p.n, is_aligned<16>(y), [&](size_t i) { at4(y, i) = make_float4(p.factor, p.factor, p.factor, p.factor); },
        [&](size_t i) { y[i] = p.factor; });
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    elementwise_copy(const float* __restrict__ x, float* __restrict__ y, ElementwiseParams p) {
    fours(p.n, is_aligned<16>(x, y), [&](size_t i) { at4(y, i) = at4(x, i); }, [&](size_t i) { y[i] = x[i]; });
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    elementwise_add(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, ElementwiseParams p) {
    fours(
        p.n, is_aligned<16>(a, b, y),
        [&](size_t i) {
            const float4 u = at4(a, i), v = at4(b, i);
            at4(y, i) = make_float4(fmaf(p.factor, v.x, u.x), fmaf(p.factor, v.y, u.y), fmaf(p.factor, v.z, u.z),
                                    fmaf(p.factor, v.w, u.w));
        },
        [&](size_t i) { y[i] = fmaf(p.factor, b[i], a[i]); });
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    elementwise_accumulate(const float* __restrict__ x, float* __restrict__ sum, ElementwiseParams p) {
    fours(
        p.n, is_aligned<16>(x, sum),
        [&](size_t i) {
            const float4 u = at4(x, i), v = at4(sum, i);
            at4(sum, i) = make_float4(v.x + u.x, v.y + u.y, v.z + u.z, v.w + u.w);
        },
        [&](size_t i) { sum[i] += x[i]; });
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    elementwise_scale(const float* __restrict__ x, const float* __restrict__ s, float* __restrict__ y, ElementwiseParams p) {
    const float factor = p.factor * s[0];
    fours(
        p.n, is_aligned<16>(x, y),
        [&](size_t i) {
            const float4 u = at4(x, i);
            at4(y, i) = make_float4(factor * u.x, factor * u.y, factor * u.z, factor * u.w);
        },
        [&](size_t i) { y[i] = factor * x[i]; });
}
