// Multiply-adds on registers alone: what a card does at most beside its tensor cores, the ceiling of the roofline.
//
//   fma, fma_f16  y = sum of sixteen v_k, after 4 rounds times v_k = x v_k + 1/8, from v_k = k / 16
//
// Shapes: x, y [n]; x and the arithmetic, but for the last sum, in f32 or f16. Threads: each owns an element; a number depends on
// itself from one multiply-add to the next, not on the others. Cost: 128 rounds flops an element, in sixteen registers, or eight
// that hold two each; memory weighs nothing.

#include "prelude.cuh"

namespace {

constexpr unsigned BLOCK = 256, NUMBERS = 16, UNROLLED = 4;

struct CeilingParams {
    unsigned n;
    unsigned rounds;
};

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    ceiling_fma(const float* __restrict__ x, float* __restrict__ y, CeilingParams p) {
    const size_t i = static_cast<size_t>(blockIdx.x) * BLOCK + threadIdx.x;
    if (i >= p.n) return;
    const float a = x[i];
    float v[NUMBERS];
#pragma unroll
    for (unsigned k = 0; k < NUMBERS; k++) v[k] = static_cast<float>(k) / NUMBERS;
    for (unsigned round = 0; round < p.rounds; round++) {
#pragma unroll
        for (unsigned step = 0; step < UNROLLED; step++) {
#pragma unroll
            for (unsigned k = 0; k < NUMBERS; k++) v[k] = fmaf(v[k], a, 0.125f);
        }
    }
    float sum = 0.0f;
#pragma unroll
    for (unsigned k = 0; k < NUMBERS; k++) sum += v[k];
    y[i] = sum;
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    ceiling_fma_f16(const __half* __restrict__ x, float* __restrict__ y, CeilingParams p) {
    const size_t i = static_cast<size_t>(blockIdx.x) * BLOCK + threadIdx.x;
    if (i >= p.n) return;
    const float x_i = __half2float(x[i]);
    const unsigned a = round_f16x2(x_i, x_i), b = round_f16x2(0.125f, 0.125f);
    unsigned v[NUMBERS / 2];
#pragma unroll
    for (unsigned k = 0; k < NUMBERS / 2; k++) v[k] = round_f16x2(2.0f * k / NUMBERS, (2.0f * k + 1.0f) / NUMBERS);
    for (unsigned round = 0; round < p.rounds; round++) {
#pragma unroll
        for (unsigned step = 0; step < UNROLLED; step++) {
#pragma unroll
            for (unsigned k = 0; k < NUMBERS / 2; k++) v[k] = fma_f16x2(v[k], a, b);
        }
    }
    float sum = 0.0f;
#pragma unroll
    for (unsigned k = 0; k < NUMBERS / 2; k++) {
        const float2 both = float2_of_f16x2(v[k]);
        sum += both.x + both.y;
    }
    y[i] = sum;
}
