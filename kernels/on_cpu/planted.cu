// Kernels with one mistake each, and the same without it: what the CPU run and the sanitizers must catch, and what they must not.
//
// All take x and y of n elements, run as one block of n = 64 threads with 4 n bytes of dynamic shared memory; those with a ticket
// as four. `_bad` goes wrong in the line marked so; `_good` is its clean twin. scripts/cuda-sanitize and
// tests/devices/cuda_on_cpu.rs run them.

#include "../prelude.cuh"

namespace {

constexpr unsigned N = 64;

// In a template, because compilers place the statics of templates elsewhere.
template <bool BAD> __device__ inline void static_bounds(const float* x, float* y, unsigned n) {
    __shared__ float tile[N];
    const unsigned i = threadIdx.x;
    tile[i] = x[i];
    __syncthreads();
    const float* next = tile + i + (BAD ? 1 : 0);
    y[i] = *next; // planted: static_bounds_bad
}

template <bool BAD> __device__ inline void dynamic_bounds(const float* x, float* y, unsigned n) {
    extern __shared__ float memory[];
    const unsigned i = threadIdx.x;
    memory[i + (BAD ? 1 : 0)] = x[i]; // planted: dynamic_bounds_bad
    y[i] = x[i];
}

template <bool BAD> __device__ inline void global_bounds(const float* x, float* y, unsigned n) {
    const unsigned i = threadIdx.x + (BAD ? 1 : 0);
    if (i <= n) y[i] = x[threadIdx.x]; // planted: global_bounds_bad
}

// y reversed in halves of a block that are different warps.
template <bool BAD> __device__ inline void block_race(const float* x, float* y, unsigned n) {
    __shared__ float tile[N];
    const unsigned i = threadIdx.x;
    tile[i] = x[i];
    if (!BAD) __syncthreads();
    y[i] = tile[n - 1 - i]; // planted: block_race_bad
}

// The neighbour's value within a warp.
template <bool BAD> __device__ inline void warp_race(const float* x, float* y, unsigned n) {
    __shared__ float tile[N];
    const unsigned i = threadIdx.x;
    tile[i] = x[i];
    if (!BAD) __syncwarp();
    y[i] = tile[i ^ 1]; // planted: warp_race_bad
}

template <bool BAD> __device__ inline void divergence(const float* x, float* y, unsigned n) {
    const unsigned i = threadIdx.x;
    y[i] = x[i];
    if (BAD && i >= 40) return;
    __syncthreads(); // planted: divergence_bad
    y[i] += 1.0f;
}

// A copy is read before anybody waited for it.
template <bool BAD> __device__ inline void unawaited_copy(const float* x, float* y, unsigned n) {
    extern __shared__ float memory[];
    const unsigned i = threadIdx.x;
    copy_async4(memory + i, x + i, true);
    copy_commit();
    if (BAD) {
        copy_wait<1>();
    } else {
        copy_wait<0>();
    }
    y[i] = memory[i];
}

// Shared memory is read that nobody wrote.
template <bool BAD> __device__ inline void unwritten_shared(const float* x, float* y, unsigned n) {
    __shared__ float tile[N];
    const unsigned i = threadIdx.x;
    if (!BAD || i % 2) tile[i] = x[i];
    y[i] = tile[i];
}

// The value depends on which lane comes first.
template <bool BAD> __device__ inline void lane_order(const float* x, float* y, unsigned n) {
    __shared__ unsigned turn;
    const unsigned i = threadIdx.x;
    if (i == 0) turn = 0;
    __syncthreads();
    const unsigned mine = BAD ? atomicAdd(&turn, 1u) : i;
    y[i] = x[mine];
}

// Four elements at an address that is no multiple of 16.
template <bool BAD> __device__ inline void misaligned(const float* x, float* y, unsigned n) {
    const unsigned i = threadIdx.x;
    const float4 v = *as<const float4>(x + i / 16 * 4 + (BAD ? 1 : 0)); // planted: misaligned_bad
    y[i] = i < n ? v.x : v.y;
}

// How the last block finds what the others wrote: as `last_block`, or with one part of that left out.
enum Mistake { NONE, FIRST_FENCE, SECOND_FENCE, BARRIER, CACHED };

template <Mistake WITHOUT> __device__ inline void hand_over(const float* x, float* y, unsigned n, unsigned* ticket) {
    __shared__ unsigned last;
    const unsigned i = threadIdx.x;
    if (i == n - 1) __stcg(y + 8 + blockIdx.x, x[blockIdx.x] + 1.0f);
    if (WITHOUT != BARRIER) __syncthreads();
    if (i == 0) {
        if (WITHOUT != FIRST_FENCE) __threadfence();
        last = atomicAdd(ticket, 1u) == gridDim.x - 1;
        if (WITHOUT != SECOND_FENCE) __threadfence();
        if (last != 0) atomicExch(ticket, 0u);
    }
    __syncthreads();
    if (last == 0 || i >= gridDim.x) return;
    const float* from = y + 8 + i;
    y[i] = WITHOUT == CACHED ? *from : __ldcg(from); // planted: hand_over_bad
}

} // namespace

extern "C" __global__ void planted_static_bounds_bad(const float* x, float* y, unsigned n) { static_bounds<true>(x, y, n); }
extern "C" __global__ void planted_static_bounds_good(const float* x, float* y, unsigned n) { static_bounds<false>(x, y, n); }
extern "C" __global__ void planted_dynamic_bounds_bad(const float* x, float* y, unsigned n) { dynamic_bounds<true>(x, y, n); }
extern "C" __global__ void planted_dynamic_bounds_good(const float* x, float* y, unsigned n) { dynamic_bounds<false>(x, y, n); }
extern "C" __global__ void planted_global_bounds_bad(const float* x, float* y, unsigned n) { global_bounds<true>(x, y, n); }
extern "C" __global__ void planted_global_bounds_good(const float* x, float* y, unsigned n) { global_bounds<false>(x, y, n); }
extern "C" __global__ void planted_block_race_bad(const float* x, float* y, unsigned n) { block_race<true>(x, y, n); }
extern "C" __global__ void planted_block_race_good(const float* x, float* y, unsigned n) { block_race<false>(x, y, n); }
extern "C" __global__ void planted_warp_race_bad(const float* x, float* y, unsigned n) { warp_race<true>(x, y, n); }
extern "C" __global__ void planted_warp_race_good(const float* x, float* y, unsigned n) { warp_race<false>(x, y, n); }
extern "C" __global__ void planted_divergence_bad(const float* x, float* y, unsigned n) { divergence<true>(x, y, n); }
extern "C" __global__ void planted_divergence_good(const float* x, float* y, unsigned n) { divergence<false>(x, y, n); }
extern "C" __global__ void planted_unawaited_copy_bad(const float* x, float* y, unsigned n) { unawaited_copy<true>(x, y, n); }
extern "C" __global__ void planted_unawaited_copy_good(const float* x, float* y, unsigned n) { unawaited_copy<false>(x, y, n); }
extern "C" __global__ void planted_unwritten_shared_bad(const float* x, float* y, unsigned n) { unwritten_shared<true>(x, y, n); }
extern "C" __global__ void planted_unwritten_shared_good(const float* x, float* y, unsigned n) {
    unwritten_shared<false>(x, y, n);
}
extern "C" __global__ void planted_lane_order_bad(const float* x, float* y, unsigned n) { lane_order<true>(x, y, n); }
extern "C" __global__ void planted_lane_order_good(const float* x, float* y, unsigned n) { lane_order<false>(x, y, n); }
extern "C" __global__ void planted_misaligned_bad(const float* x, float* y, unsigned n) { misaligned<true>(x, y, n); }
extern "C" __global__ void planted_misaligned_good(const float* x, float* y, unsigned n) { misaligned<false>(x, y, n); }
extern "C" __global__ void planted_ticket_first_fence_bad(const float* x, float* y, unsigned n, unsigned* ticket) {
    hand_over<FIRST_FENCE>(x, y, n, ticket);
}
extern "C" __global__ void planted_ticket_second_fence_bad(const float* x, float* y, unsigned n, unsigned* ticket) {
    hand_over<SECOND_FENCE>(x, y, n, ticket);
}
extern "C" __global__ void planted_ticket_barrier_bad(const float* x, float* y, unsigned n, unsigned* ticket) {
    hand_over<BARRIER>(x, y, n, ticket);
}
extern "C" __global__ void planted_ticket_cached_bad(const float* x, float* y, unsigned n, unsigned* ticket) {
    hand_over<CACHED>(x, y, n, ticket);
}
extern "C" __global__ void planted_ticket_good(const float* x, float* y, unsigned n, unsigned* ticket) {
    hand_over<NONE>(x, y, n, ticket);
}
