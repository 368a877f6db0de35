// What every kernel may use. nvcc finds this file beside the sources; NVRTC and the CPU run get it in place of the #include.
#pragma once

// on_cpu/cuda_on_cpu.h, included before, stands for the compiler's built-ins. nvcc and NVRTC have all but the 16-bit floats built
// in; their header is not to be had with NVRTC alone, so what kernels need of it is here, under the same names.
namespace {

#ifndef ETUDE_ON_CPU
struct alignas(2) __half {
    unsigned short bits;
};

struct alignas(2) __nv_bfloat16 {
    unsigned short bits;
};

__device__ inline float __half2float(__half v) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(v.bits));
    return out;
}

__device__ inline unsigned short __half_as_ushort(__half v) { return v.bits; }

__device__ inline float __bfloat162float(__nv_bfloat16 v) { return __uint_as_float(static_cast<unsigned>(v.bits) << 16); }

__device__ inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
#endif

constexpr unsigned FULL = 0xffffffffu;

// The number of this block in its grid, and of this thread in its grid, x fastest.
__device__ inline unsigned block_number() { return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z); }

// Whether accesses of so many bytes may start at these pointers: a window of a buffer may start at any element.
template <unsigned BYTES, typename... T> __device__ inline bool is_aligned(const T*... p) {
    return ((reinterpret_cast<size_t>(p) | ...) % BYTES) == 0;
}

// The first multiple of 16 from p on.
__device__ inline float* align16(float* p) { return reinterpret_cast<float*>((reinterpret_cast<size_t>(p) + 15) / 16 * 16); }

// What is at p as elements of V, so that one access takes several of T: p is a multiple of V's alignment. A card stops at an
// address that is none; so does the CPU run.
#ifdef ETUDE_ON_CPU
using etude_on_cpu::as;
#else
template <class V, class T> __device__ __forceinline__ V* as(T* p) { return reinterpret_cast<V*>(p); }
#endif

// Elements i to i + 3 as one; the address is a multiple of 16.
__device__ __forceinline__ const float4& at4(const float* p, size_t i) { return *as<const float4>(p + i); }
__device__ __forceinline__ float4& at4(float* p, size_t i) { return *as<float4>(p + i); }

// Elements at..at + 4 of the n at `from`, zeros beyond the end, for a multiple `at` of 4 below n; in one access where
// `aligned` says that `from` is.
__device__ inline void load4(float (&v)[4], const float* from, unsigned at, unsigned n, bool aligned) {
    if (aligned && n - at >= 4) {
        const float4 q = at4(from, at);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
        return;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; ++k) v[k] = k < n - at ? from[at + k] : 0.0f;
}

// The reverse of load4; writes nothing beyond the end.
__device__ inline void store4(float* to, unsigned at, unsigned n, bool aligned, const float (&v)[4]) {
    if (aligned && n - at >= 4) {
        at4(to, at) = make_float4(v[0], v[1], v[2], v[3]);
        return;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; ++k) {
        if (k < n - at) to[at + k] = v[k];
    }
}

// Ten rounds of Philox4x32 (J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel random numbers: as easy as 1, 2, 3,
// SC 2011): four random words for a counter under a key, the same as everywhere else in the crate.
__device__ inline void philox4x32(unsigned (&word)[4], unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned key0,
                                  unsigned key1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned long long wide0 = 0xD2511F53ull * c0, wide1 = 0xCD9E8D57ull * c2;
        c0 = static_cast<unsigned>(wide1 >> 32) ^ c1 ^ key0;
        c1 = static_cast<unsigned>(wide1);
        c2 = static_cast<unsigned>(wide0 >> 32) ^ c3 ^ key1;
        c3 = static_cast<unsigned>(wide0);
        key0 += 0x9E3779B9u; // Weyl sequences: the golden ratio and sqrt(3) - 1
        key1 += 0xBB67AE85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

// The sum over a warp, in every lane; a butterfly, so the order is fixed.
__device__ inline float warp_sum(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(FULL, v, offset);
    return v;
}

// The sum over a block of whole warps, in every thread; all threads must come here.
__device__ inline float block_sum(float v) {
    __shared__ float parts[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    v = warp_sum(v);
    __syncthreads(); // whoever still reads the sum before
    if (lane == 0) parts[warp] = v;
    __syncthreads();
    return warp_sum(lane < warps ? parts[lane] : 0.0f);
}

// The largest over a block of whole warps, in every thread; all threads must come here.
__device__ inline float block_max(float v) {
    __shared__ float parts[32];
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) v = fmaxf(v, __shfl_xor_sync(FULL, v, offset));
    __syncthreads(); // whoever still reads the largest before
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
#pragma unroll 1
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) v = fmaxf(v, parts[warp]);
    return v;
}

// Whether this block is the last of `blocks` to come here with this ticket: what the others wrote before is then visible to every
// thread of it (read it with __ldcg). All threads must come here, once. One thread fences for all: the barrier orders what the
// block wrote before the fence, the fence that before the ticket, for whoever draws a later one; on the other side the ticket
// comes before the second fence, and the barrier after it hands on what that thread may see. As the barrier of a grid of NVIDIA's
// cooperative groups does.
__device__ inline bool last_block(unsigned* ticket, unsigned blocks) {
    __shared__ unsigned last;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicAdd(ticket, 1u) == blocks - 1;
        if (last != 0) {
            __threadfence();
            atomicExch(ticket, 0u);
        }
    }
    __syncthreads();
    return last != 0;
}

// The last block of the launch.
__device__ inline bool last_block(unsigned* ticket) { return last_block(ticket, gridDim.x * gridDim.y * gridDim.z); }

// More than any number that a card may flush to zero.
constexpr float TINY = 1.2e-38f;

// Neither NaN nor infinite.
__device__ inline bool is_finite(float v) { return fabsf(v) <= 3.402823466e38f; }

// 1 / sqrt(v) to 2 units in the last place, for v from TINY on, in one instruction.
__device__ inline float rsqrt_approx(float v) {
#ifdef ETUDE_ON_CPU
    return 1.0f / sqrtf(v);
#else
    float out;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(v));
    return out;
#endif
}

// Two numbers, rounded to 16 bits, x in the lower half.
__device__ inline unsigned round_f16x2(float x, float y) {
#ifdef ETUDE_ON_CPU
    const unsigned upper = __half_as_ushort(__float2half_rn(y));
    return __half_as_ushort(__float2half_rn(x)) | upper << 16;
#else
    unsigned out;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(y), "f"(x));
    return out;
#endif
}
// The two numbers of a register, x from the lower half.
__device__ inline float2 float2_of_f16x2(unsigned v) {
    float2 out;
#ifdef ETUDE_ON_CPU
    out.x = etude_on_cpu::half_to_float(static_cast<unsigned short>(v));
    out.y = etude_on_cpu::half_to_float(static_cast<unsigned short>(v >> 16));
#else
    asm("{.reg .b16 x, y; mov.b32 {x, y}, %2; cvt.f32.f16 %0, x; cvt.f32.f16 %1, y;}" : "=f"(out.x), "=f"(out.y) : "r"(v));
#endif
    return out;
}

// a·b + c of two numbers each, rounded once.
__device__ inline unsigned fma_f16x2(unsigned a, unsigned b, unsigned c) {
#ifdef ETUDE_ON_CPU
    // A product of two halves is exact in f32, their sum with a third nearly so.
    const float2 x = float2_of_f16x2(a), y = float2_of_f16x2(b), z = float2_of_f16x2(c);
    return round_f16x2(fmaf(x.x, y.x, z.x), fmaf(x.y, y.y, z.y));
#else
    unsigned out;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
    return out;
#endif
}

__device__ inline unsigned round_bf16x2(float x, float y) {
#ifdef ETUDE_ON_CPU
    const unsigned upper = __bfloat16_as_ushort(__float2bfloat16_rn(y));
    return __bfloat16_as_ushort(__float2bfloat16_rn(x)) | upper << 16;
#else
    unsigned out;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(y), "f"(x));
    return out;
#endif
}

// The logistic function; the exponential is only taken of what is not positive, so it never overflows.
__device__ inline float sigmoid(float x) {
    const float e = expf(-fabsf(x));
    const float tail = e / (1.0f + e);
    return x >= 0.0f ? 1.0f - tail : tail;
}

// Copies 16 bytes from global to shared memory past the registers (sm_80), zeros where `keep` is false; both addresses are
// multiples of 16. Visible to the thread after copy_wait, to the block after a barrier too.
__device__ inline void copy_async16(void* to, const void* from, bool keep) {
#ifdef ETUDE_ON_CPU
    etude_on_cpu::copy_async(to, from, 16, keep);
#else
    const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(keep ? 16 : 0));
#endif
}

// Copies 4 bytes, as copy_async16.
__device__ inline void copy_async4(void* to, const void* from, bool keep) {
#ifdef ETUDE_ON_CPU
    etude_on_cpu::copy_async(to, from, 4, keep);
#else
    const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(from), "r"(keep ? 4 : 0));
#endif
}

// Ends a group of copies.
__device__ inline void copy_commit() {
#ifdef ETUDE_ON_CPU
    etude_on_cpu::copy_commit();
#else
    asm volatile("cp.async.commit_group;");
#endif
}

// Waits until at most LEFT groups of this thread are unfinished.
template <int LEFT> __device__ inline void copy_wait() {
#ifdef ETUDE_ON_CPU
    etude_on_cpu::copy_wait(LEFT);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT));
#endif
}

// Four 8 x 8 matrices of 16-bit elements from shared memory, one register each: lane 8 m + r gives the address of row r of matrix
// m, a multiple of 16; lane 4 g + i receives elements (g, 2 i + (0, 1)), or transposed (2 i + (0, 1), g).
__device__ inline void load_matrices(unsigned (&to)[4], const void* row) {
#ifdef ETUDE_ON_CPU
    const unsigned lane = threadIdx.x % 32;
    for (unsigned m = 0; m < 4; m++) {
        const size_t at = __shfl_sync(FULL, reinterpret_cast<size_t>(row), static_cast<int>(8 * m + lane / 4));
        to[m] = reinterpret_cast<const unsigned*>(at)[lane % 4];
    }
#else
    const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared));
#endif
}

__device__ inline void load_matrices_transposed(unsigned (&to)[4], const void* row) {
#ifdef ETUDE_ON_CPU
    const unsigned lane = threadIdx.x % 32;
    for (unsigned m = 0; m < 4; m++) {
        unsigned both = 0;
        for (unsigned e = 0; e < 2; e++) {
            const size_t at = __shfl_sync(FULL, reinterpret_cast<size_t>(row), static_cast<int>(8 * m + 2 * (lane % 4) + e));
            both |= static_cast<unsigned>(reinterpret_cast<const unsigned short*>(at)[lane / 4]) << (16 * e);
        }
        to[m] = both;
    }
#else
    const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared));
#endif
}

// d += a·b on the tensor cores, m16n8k8, tf32 operands (f32 bits, rounded by to_tf32), f32 accumulators. Fragments as in the PTX
// manual: lane = 4·group + in; a[0..4] are rows (group, group + 8), columns (in, in + 4), row fastest; b[0..2] rows (in, in + 4),
// column group; d[0..4] rows (group, group, group + 8, group + 8), columns 2·in + (0, 1, 0, 1).
__device__ inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef ETUDE_ON_CPU
    etude_on_cpu::mma_m16n8k8_tf32(d, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Rounds to the 10 bits of a tf32 operand, ties away from zero.
__device__ inline unsigned to_tf32(float v) {
#ifdef ETUDE_ON_CPU
    return etude_on_cpu::to_tf32(v);
#else
    unsigned out;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(out) : "f"(v));
    return out;
#endif
}

// d += a·b on the tensor cores, m16n8k16, f16 or bf16 operands two to a register, f32 accumulators. Lane = 4·group + in; a[0..4]
// are rows (group, group + 8, group, group + 8), columns 2·in + (0, 1) and, for a[2], a[3], 8 more; b[0..2] rows 2·in + (0, 1)
// and 8 more, column group; d as in mma_tf32.
__device__ inline void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef ETUDE_ON_CPU
    etude_on_cpu::mma_m16n8k16_f16(d, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

__device__ inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef ETUDE_ON_CPU
    etude_on_cpu::mma_m16n8k16_bf16(d, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

} // namespace
