// Each wrapper of an instruction in prelude.cuh by itself, on one warp: tests/devices/instructions.rs has the rows, and says
// what a card must make of the numbers, from the manual of PTX and not from the wrapper's plain body. What the CPU runs is that
// body; so this is what runs first on a card.
//
//   round_f16x2, round_bf16x2   y = the pair x[2 l], x[2 l + 1] in 16 bits
//   half, bfloat                y = element l of x's 16-bit numbers as f32, and as it is
//   float2_of_f16x2             y = both numbers of x[l]
//   fma_f16x2                   y = x[l] x[32 + l] + x[64 + l], two numbers each
//   rsqrt_approx, to_tf32       y of x[l]
//   copy_async16, copy_async4   y = places of x, or 0 where a copy is not kept, through shared memory; copy_wait two groups
//   load_matrices, _transposed  y = four matrices of x whose rows lie in shared memory in another order
//   mma_tf32, mma_f16, mma_bf16 y = d + a b from the fragments of lane l: 4 l of a, 2 l of b, 4 l of d, one after the other in x
//
// Shapes: x, y as many words as the lanes read and write, at most 320. Threads: lane l of one warp, as said. Cost: none.

#include "prelude.cuh"

namespace {

constexpr unsigned WARP = 32;

// Where lane l's row or copy lies among 32, a permutation.
__device__ inline unsigned place_of(unsigned l) { return (5 * l + 3) % WARP; }

// Four matrices of x through shared memory, by `load`.
template <typename Load> __device__ inline void matrices(const unsigned* x, unsigned* y, uint4* rows, Load load) {
    const unsigned l = threadIdx.x;
    rows[l] = as<const uint4>(x)[l];
    __syncwarp();
    unsigned to[4];
    load(to, rows + place_of(l));
#pragma unroll
    for (unsigned m = 0; m < 4; m++) y[4 * l + m] = to[m];
}

// A product of matrices by `multiply`.
template <typename Multiply> __device__ inline void product(const unsigned* x, unsigned* y, Multiply multiply) {
    const unsigned l = threadIdx.x;
    unsigned a[4], b[2];
    float d[4];
#pragma unroll
    for (unsigned i = 0; i < 4; i++) a[i] = x[4 * l + i], d[i] = __uint_as_float(x[6 * WARP + 4 * l + i]);
#pragma unroll
    for (unsigned i = 0; i < 2; i++) b[i] = x[4 * WARP + 2 * l + i];
    multiply(d, a, b);
#pragma unroll
    for (unsigned i = 0; i < 4; i++) y[4 * l + i] = __float_as_uint(d[i]);
}

} // namespace

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_round_f16x2(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    const unsigned l = threadIdx.x;
    y[l] = round_f16x2(__uint_as_float(x[2 * l]), __uint_as_float(x[2 * l + 1]));
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_round_bf16x2(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    const unsigned l = threadIdx.x;
    y[l] = round_bf16x2(__uint_as_float(x[2 * l]), __uint_as_float(x[2 * l + 1]));
}

extern "C" __global__ void __launch_bounds__(WARP) instructions_half(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    const unsigned l = threadIdx.x;
    const __half v = as<const __half>(x)[l];
    y[2 * l] = __float_as_uint(__half2float(v));
    y[2 * l + 1] = __half_as_ushort(v);
}

extern "C" __global__ void __launch_bounds__(WARP) instructions_bfloat(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    const unsigned l = threadIdx.x;
    const __nv_bfloat16 v = as<const __nv_bfloat16>(x)[l];
    y[2 * l] = __float_as_uint(__bfloat162float(v));
    y[2 * l + 1] = __bfloat16_as_ushort(v);
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_float2_of_f16x2(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    const unsigned l = threadIdx.x;
    const float2 both = float2_of_f16x2(x[l]);
    y[2 * l] = __float_as_uint(both.x);
    y[2 * l + 1] = __float_as_uint(both.y);
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_fma_f16x2(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    const unsigned l = threadIdx.x;
    y[l] = fma_f16x2(x[l], x[WARP + l], x[2 * WARP + l]);
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_rsqrt_approx(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    y[threadIdx.x] = __float_as_uint(rsqrt_approx(__uint_as_float(x[threadIdx.x])));
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_to_tf32(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    y[threadIdx.x] = to_tf32(__uint_as_float(x[threadIdx.x]));
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_copy_async16(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    __shared__ uint4 to[WARP];
    const unsigned l = threadIdx.x;
    to[l] = make_uint4(1, 2, 3, 4);
    __syncwarp();
    copy_async16(to + l, as<const uint4>(x) + place_of(l), l % 3 != 0);
    copy_commit();
    copy_wait<0>();
    __syncwarp();
    const uint4 neighbour = to[(l + 1) % WARP];
    y[4 * l] = neighbour.x, y[4 * l + 1] = neighbour.y, y[4 * l + 2] = neighbour.z, y[4 * l + 3] = neighbour.w;
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_copy_async4(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    __shared__ unsigned to[WARP];
    const unsigned l = threadIdx.x;
    to[l] = 1;
    __syncwarp();
    copy_async4(to + l, x + place_of(l), l % 3 != 0);
    copy_commit();
    copy_wait<0>();
    __syncwarp();
    y[l] = to[(l + 1) % WARP];
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_copy_wait(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    __shared__ unsigned to[2 * WARP];
    const unsigned l = threadIdx.x;
    copy_async4(to + l, x + l, true);
    copy_commit();
    copy_async4(to + WARP + l, x + WARP + l, true);
    copy_commit();
    copy_wait<1>();
    y[l] = to[l];
    copy_wait<0>();
    y[WARP + l] = to[WARP + l];
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_load_matrices(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    __shared__ uint4 rows[WARP];
    matrices(x, y, rows, [](unsigned (&to)[4], const void* row) { load_matrices(to, row); });
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_load_matrices_transposed(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    __shared__ uint4 rows[WARP];
    matrices(x, y, rows, [](unsigned (&to)[4], const void* row) { load_matrices_transposed(to, row); });
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_mma_tf32(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    product(x, y, [](float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_tf32(d, a, b); });
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_mma_f16(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    product(x, y, [](float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_f16(d, a, b); });
}

extern "C" __global__ void __launch_bounds__(WARP)
    instructions_mma_bf16(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    product(x, y, [](float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_bf16(d, a, b); });
}
