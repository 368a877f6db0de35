// Lets a C++17 compiler build the CUDA sources of this directory and run them on a CPU, for the tests.
//
// Every CUDA thread is a fiber with a stack of its own; a block's fibers take turns on one thread of the machine and switch only
// where they wait for each other: barriers, shuffles, votes, matrix instructions. Blocks run one after another. What this makes
// visible that a GPU may hide: a barrier not all threads reach (the launch fails and says who waits where), shared memory read
// before it is written (it starts as NaN), a copy that nobody waited for (it lands at its wait), an access of several elements
// whose address is no multiple of its size, and, through the seed, results that depend on the order of lanes, warps or blocks.
//
// Blocks hand numbers on by __stcg, fence, ticket, fence and __ldcg. A word that __stcg writes is held back till the launch ends:
// only __ldcg finds it, and fails unless the reader must see it by CUDA's memory model: its own thread wrote it; or its block,
// before a barrier; or another block before a fence of a thread that then drew a ticket, which the reader drew later and fenced.
// So a fence or a barrier that is missing fails in any order of blocks, without trying them all, and a plain load finds what was
// there before. With ThreadSanitizer the words are where they belong and nothing but fence and ticket orders blocks.
//
// What it cannot show: CUDA's own rounding of math functions, what the compiler of a card does, speed.
//
// build/on_cpu.rs puts this file before each source and rewrites two things in it: `extern __shared__ T name[];` becomes a
// pointer to the block's dynamic shared memory, and each `__shared__` variable is one for each of SETS blocks, filled by
// ETUDE_ON_CPU_POISON(name).
#pragma once

#define ETUDE_ON_CPU

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <math.h>
#include <type_traits>
#include <utility>
#include <vector>

// ---------------------------------------------------------------------------------------------------------------- vector types

#define ETUDE_VECTOR(name, T, bytes)                                                                                             \
    struct name##1 { T x; };                                                                                                     \
    struct __attribute__((aligned(2 * bytes))) name##2 { T x, y; };                                                              \
    struct name##3 { T x, y, z; };                                                                                               \
    struct __attribute__((aligned(4 * bytes > 16 ? 16 : 4 * bytes))) name##4 { T x, y, z, w; };                                  \
    constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }                                                                \
    constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                                        \
    constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
ETUDE_VECTOR(char, signed char, 1)
ETUDE_VECTOR(uchar, unsigned char, 1)
ETUDE_VECTOR(short, short, 2)
ETUDE_VECTOR(ushort, unsigned short, 2)
ETUDE_VECTOR(int, int, 4)
ETUDE_VECTOR(uint, unsigned, 4)
ETUDE_VECTOR(longlong, long long, 8)
ETUDE_VECTOR(ulonglong, unsigned long long, 8)
ETUDE_VECTOR(float, float, 4)
ETUDE_VECTOR(double, double, 8)
#undef ETUDE_VECTOR

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

// ---------------------------------------------------------------------------------------------------------------- the machine

namespace etude_on_cpu {

// Where a thread waits.
enum class Wait : unsigned char { none, barrier, syncwarp, shuffle, vote, mma_tf32, mma_f16, mma_bf16 };

// What a lane brings to a warp operation, and what it takes away.
struct Offer {
    uint64_t value; // shuffled or voted
    unsigned from;  // the lane whose value is wanted
    float* d;       // fragments of a matrix instruction
    const unsigned *a, *b;
};

struct Copy {
    uint32_t* to;
    uint32_t words[4];
    unsigned bytes, group;
};

struct Fiber {
    uint3 thread;
    unsigned number;
    Wait wait;
    bool done;
    unsigned mask;    // of the warp operation
    int vote;         // of the barrier
    const char* file; // of the call that waits
    int line;
    Offer* offer;
    void* stack_pointer;
    char *stack, *stack_end;
    void* sanitizer; // its stack or thread as a sanitizer knows it
    unsigned group;  // copies committed so far
    std::vector<Copy> copies;
    const void* drawn; // the ticket that it drew last and has not fenced since
    bool fenced;       // since the last barrier
};

// __thread rather than thread_local: no initialisation to guard, hence no call on each use.
extern __thread Fiber* self;
extern __thread uint3 block;
extern __thread dim3 grid, block_size;
extern __thread uint64_t block_serial; // of this block among all that this thread of the machine ever ran
extern __thread void* dynamic_memory;

// As many blocks are unordered to a race detector; each has its own shared memory.
#ifdef ETUDE_ON_CPU_TSAN
constexpr unsigned SETS = 4;
extern __thread unsigned set;
#else
constexpr unsigned SETS = 1, set = 0;
#endif

// Ends the launch with an error.
[[noreturn]] void fail(const char* what, const char* file, int line);

// Waits for all threads of the block; the sums of `vote` (0 or 1) over them.
int barrier(int vote, const char* file, int line);

// Waits for the lanes of `mask`, then does what `wait` says for all of them.
void warp(Wait wait, unsigned mask, Offer& offer, const char* file, int line);

void poison(void* memory, size_t bytes);

// A word written by __stcg, and the one that __ldcg reads.
void publish(uint32_t* to, uint32_t bits, const char* file, int line);
uint32_t published(const uint32_t* from, const char* file, int line);

// What a __threadfence and an atomic operation on global memory mean for that.
void fence();
void draw(const void* ticket);

// One entry point and what it takes.
struct Entry {
    const char* name;
    void (*run)(void** arguments);
    const unsigned* sizes;
    unsigned count;
};

template <typename... A, size_t... I> void call(void (*f)(A...), void** arguments, std::index_sequence<I...>) {
    f(*static_cast<A*>(arguments[I])...);
}
template <typename... A> constexpr unsigned sizes_of[] = {sizeof(A)..., 0};
template <auto f, typename... A> constexpr Entry entry_of(const char* name, void (*)(A...)) {
    return {name, [](void** arguments) { call(f, arguments, std::index_sequence_for<A...>()); }, sizes_of<A...>, sizeof...(A)};
}
template <auto f> constexpr Entry entry(const char* name) { return entry_of<f>(name, f); }

template <typename T> T* dynamic_shared() { return static_cast<T*>(dynamic_memory); }

inline float as_float(uint32_t bits) {
    float v;
    memcpy(&v, &bits, 4);
    return v;
}
inline uint32_t as_bits(float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return bits;
}

} // namespace etude_on_cpu

#define threadIdx (etude_on_cpu::self->thread)
#define blockIdx (etude_on_cpu::block)
#define blockDim (etude_on_cpu::block_size)
#define gridDim (etude_on_cpu::grid)
constexpr int warpSize = 32;

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __launch_bounds__(...)
#define __noinline__ __attribute__((noinline))
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
// As an attribute it may follow `__shared__`, as nvcc has it.
#define alignas(n) __attribute__((aligned(n)))

// Sanitizers put guard zones round plain statics alone; the sanitized runner has one thread.
#ifdef ETUDE_ON_CPU_SANITIZED
#define ETUDE_ON_CPU_STATIC static
#else
#define ETUDE_ON_CPU_STATIC static __thread
#endif
#define __shared__ ETUDE_ON_CPU_STATIC
// The first thread of a block that comes by fills the variable with NaN.
#define ETUDE_ON_CPU_POISON(name)                                                                                                \
    {                                                                                                                            \
        ETUDE_ON_CPU_STATIC uint64_t poisoned;                                                                                   \
        if (__atomic_load_n(&poisoned, __ATOMIC_RELAXED) != etude_on_cpu::block_serial) {                                        \
            __atomic_store_n(&poisoned, etude_on_cpu::block_serial, __ATOMIC_RELAXED);                                           \
            etude_on_cpu::poison((void*)&name, sizeof(name));                                                                    \
        }                                                                                                                        \
    }

// ---------------------------------------------------------------------------------------------------------------- waiting

#define ETUDE_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(ETUDE_SITE) { etude_on_cpu::barrier(0, file, line); }
inline int __syncthreads_count(int p, ETUDE_SITE) { return etude_on_cpu::barrier(p != 0, file, line); }
inline int __syncthreads_or(int p, ETUDE_SITE) { return etude_on_cpu::barrier(p != 0, file, line) != 0; }
inline int __syncthreads_and(int p, ETUDE_SITE) { return etude_on_cpu::barrier(p == 0, file, line) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu, ETUDE_SITE) {
    etude_on_cpu::Offer offer{};
    etude_on_cpu::warp(etude_on_cpu::Wait::syncwarp, mask, offer, file, line);
}
inline void __threadfence() { etude_on_cpu::fence(); }
inline void __threadfence_block() {}
inline void __threadfence_system() {}

namespace etude_on_cpu {

template <typename T> T shuffle(unsigned mask, T v, unsigned from, const char* file, int line) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    Offer offer{};
    memcpy(&offer.value, &v, sizeof(T));
    offer.from = from;
    warp(Wait::shuffle, mask, offer, file, line);
    memcpy(static_cast<void*>(&v), &offer.value, sizeof(T));
    return v;
}

inline unsigned vote(unsigned mask, bool p, const char* file, int line) {
    Offer offer{};
    offer.value = p;
    warp(Wait::vote, mask, offer, file, line);
    return static_cast<unsigned>(offer.value);
}

inline unsigned lane() { return self->number % 32; }

} // namespace etude_on_cpu

// `width` parts the warp into groups, as in CUDA; a lane that asks outside its group gets its own value.
template <typename T> T __shfl_sync(unsigned mask, T v, int from, int width = 32, ETUDE_SITE) {
    const unsigned w = width, lane = etude_on_cpu::lane();
    return etude_on_cpu::shuffle(mask, v, lane / w * w + static_cast<unsigned>(from) % w, file, line);
}
template <typename T> T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32, ETUDE_SITE) {
    const unsigned w = width, lane = etude_on_cpu::lane(), from = lane ^ static_cast<unsigned>(with);
    return etude_on_cpu::shuffle(mask, v, from / w <= lane / w ? from : lane, file, line);
}
template <typename T> T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, ETUDE_SITE) {
    const unsigned w = width, lane = etude_on_cpu::lane();
    return etude_on_cpu::shuffle(mask, v, by <= lane % w ? lane - by : lane, file, line);
}
template <typename T> T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, ETUDE_SITE) {
    const unsigned w = width, lane = etude_on_cpu::lane();
    return etude_on_cpu::shuffle(mask, v, lane % w + by < w ? lane + by : lane, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int p, ETUDE_SITE) { return etude_on_cpu::vote(mask, p, file, line); }
inline int __any_sync(unsigned mask, int p, ETUDE_SITE) { return etude_on_cpu::vote(mask, p, file, line) != 0; }
inline int __all_sync(unsigned mask, int p, ETUDE_SITE) { return etude_on_cpu::vote(mask, !p, file, line) == 0; }

// ---------------------------------------------------------------------------------------------------------------- memory

namespace etude_on_cpu {

template <typename T> void check_aligned(const T* p, const char* file, int line) {
    if (reinterpret_cast<uintptr_t>(p) % alignof(T)) fail("an access's address is no multiple of its size", file, line);
}

// The prelude's.
template <class V, class T> V* as(T* p, ETUDE_SITE) {
    check_aligned(reinterpret_cast<V*>(p), file, line);
    return reinterpret_cast<V*>(p);
}

} // namespace etude_on_cpu

template <typename T> T __ldg(const T* p) { return *p; }
template <typename T> T __ldca(const T* p) { return *p; }
template <typename T> T __ldcg(const T* p, ETUDE_SITE) {
    etude_on_cpu::check_aligned(p, file, line);
#ifdef ETUDE_ON_CPU_SANITIZED
    return *p;
#else
    uint32_t words[sizeof(T) / 4];
    for (size_t i = 0; i < sizeof(T) / 4; i++) {
        words[i] = etude_on_cpu::published(reinterpret_cast<const uint32_t*>(p) + i, file, line);
    }
    T v;
    memcpy(static_cast<void*>(&v), words, sizeof(T));
    return v;
#endif
}
template <typename T> T __ldcs(const T* p) { return *p; }
template <typename T> T __ldcv(const T* p) { return *p; }
template <typename T> T __ldlu(const T* p) { return *p; }
template <typename T> void __stcg(T* p, T v, ETUDE_SITE) {
    etude_on_cpu::check_aligned(p, file, line);
#ifdef ETUDE_ON_CPU_SANITIZED
    *p = v;
#else
    uint32_t words[sizeof(T) / 4];
    memcpy(words, &v, sizeof(T));
    for (size_t i = 0; i < sizeof(T) / 4; i++) {
        etude_on_cpu::publish(reinterpret_cast<uint32_t*>(p) + i, words[i], file, line);
    }
#endif
}
template <typename T> void __stcs(T* p, T v, ETUDE_SITE) {
    etude_on_cpu::check_aligned(p, file, line);
    *p = v;
}
template <typename T> void __stwb(T* p, T v) { *p = v; }
template <typename T> void __stwt(T* p, T v) { *p = v; }

// Integers alone: sums of floats by atomics have no fixed order. Relaxed, as on a GPU.
#define ETUDE_ATOMICS(T)                                                                                                         \
    inline T atomicAdd(T* p, T v) {                                                                                              \
        etude_on_cpu::draw(p);                                                                                                   \
        return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);                                                                       \
    }                                                                                                                            \
    inline T atomicSub(T* p, T v) { return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED); }                                         \
    inline T atomicAnd(T* p, T v) { return __atomic_fetch_and(p, v, __ATOMIC_RELAXED); }                                         \
    inline T atomicOr(T* p, T v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }                                           \
    inline T atomicXor(T* p, T v) { return __atomic_fetch_xor(p, v, __ATOMIC_RELAXED); }                                         \
    inline T atomicExch(T* p, T v) { return __atomic_exchange_n(p, v, __ATOMIC_RELAXED); }                                       \
    inline T atomicCAS(T* p, T old, T v) {                                                                                       \
        __atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);                                      \
        return old;                                                                                                              \
    }                                                                                                                            \
    inline T atomicMax(T* p, T v) {                                                                                              \
        T old = __atomic_load_n(p, __ATOMIC_RELAXED);                                                                            \
        while (old < v && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}                \
        return old;                                                                                                              \
    }                                                                                                                            \
    inline T atomicMin(T* p, T v) {                                                                                              \
        T old = __atomic_load_n(p, __ATOMIC_RELAXED);                                                                            \
        while (v < old && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}                \
        return old;                                                                                                              \
    }
ETUDE_ATOMICS(int)
ETUDE_ATOMICS(unsigned)
ETUDE_ATOMICS(unsigned long long)
#undef ETUDE_ATOMICS

namespace etude_on_cpu {

// cp.async: the source is read now, the target is anybody's guess until the wait, where the copy lands. AddressSanitizer sees
// addresses of which nothing is kept, too: a card need not take a wild one.
inline void copy_async(void* to, const void* from, unsigned bytes, bool keep, ETUDE_SITE) {
    if (reinterpret_cast<uintptr_t>(to) % bytes || reinterpret_cast<uintptr_t>(from) % bytes) {
        fail("an asynchronous copy's address is no multiple of its size", file, line);
    }
    Copy copy{static_cast<uint32_t*>(to), {}, bytes, self->group};
#ifdef ETUDE_ON_CPU_ASAN
    static_cast<void>(*static_cast<const volatile uint32_t*>(from));
#endif
    for (unsigned i = 0; i < bytes / 4; i++) {
        if (keep) copy.words[i] = static_cast<const uint32_t*>(from)[i];
        copy.to[i] = 0xffffffffu;
    }
    self->copies.push_back(copy);
}

inline void copy_commit() { self->group++; }

inline void copy_wait(unsigned left) {
    size_t landed = 0;
    for (const Copy& copy : self->copies) {
        if (copy.group + left >= self->group) break;
        for (unsigned i = 0; i < copy.bytes / 4; i++) copy.to[i] = copy.words[i];
        landed++;
    }
    self->copies.erase(self->copies.begin(), self->copies.begin() + static_cast<ptrdiff_t>(landed));
}

// Matrix instructions; the prelude says which lane holds what.
inline void mma(Wait kind, float (&d)[4], const unsigned* a, const unsigned* b, const char* file, int line) {
    Offer offer{};
    offer.d = d;
    offer.a = a;
    offer.b = b;
    warp(kind, 0xffffffffu, offer, file, line);
}
inline void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], ETUDE_SITE) {
    mma(Wait::mma_tf32, d, a, b, file, line);
}
inline void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], ETUDE_SITE) {
    mma(Wait::mma_f16, d, a, b, file, line);
}
inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], ETUDE_SITE) {
    mma(Wait::mma_bf16, d, a, b, file, line);
}
inline unsigned to_tf32(float v) {
    const uint32_t bits = as_bits(v);
    return std::isfinite(v) ? (bits + 0x1000u) & ~0x1fffu : bits;
}

} // namespace etude_on_cpu

// ---------------------------------------------------------------------------------------------------------------- arithmetic

#define ETUDE_MIN_MAX(A, B, T)                                                                                                   \
    constexpr T min(A a, B b) { return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(a) : static_cast<T>(b); }          \
    constexpr T max(A a, B b) { return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a); }
ETUDE_MIN_MAX(int, int, int)
ETUDE_MIN_MAX(unsigned, unsigned, unsigned)
ETUDE_MIN_MAX(int, unsigned, unsigned)
ETUDE_MIN_MAX(unsigned, int, unsigned)
ETUDE_MIN_MAX(long, long, long)
ETUDE_MIN_MAX(unsigned long, unsigned long, unsigned long)
ETUDE_MIN_MAX(long long, long long, long long)
ETUDE_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
#undef ETUDE_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
// Never fused into a multiply-add, as CUDA promises: the compiler must store the rounded result.
inline float __fmul_rn(float a, float b) {
    volatile float product = a * b;
    return product;
}
inline float __fadd_rn(float a, float b) {
    volatile float sum = a + b;
    return sum;
}
inline float __fsub_rn(float a, float b) {
    volatile float difference = a - b;
    return difference;
}

inline float __int_as_float(int v) { return etude_on_cpu::as_float(static_cast<uint32_t>(v)); }
inline float __uint_as_float(unsigned v) { return etude_on_cpu::as_float(v); }
inline int __float_as_int(float v) { return static_cast<int>(etude_on_cpu::as_bits(v)); }
inline unsigned __float_as_uint(float v) { return etude_on_cpu::as_bits(v); }
inline int __float2int_rn(float v) { return static_cast<int>(nearbyintf(v)); }
inline int __float2int_rz(float v) { return static_cast<int>(v); }
inline int __float2int_rd(float v) { return static_cast<int>(floorf(v)); }
inline int __float2int_ru(float v) { return static_cast<int>(ceilf(v)); }
inline unsigned __float2uint_rn(float v) { return static_cast<unsigned>(nearbyintf(v)); }
inline unsigned __float2uint_rz(float v) { return static_cast<unsigned>(v); }
inline unsigned __float2uint_rd(float v) { return static_cast<unsigned>(floorf(v)); }
inline float __int2float_rn(int v) { return static_cast<float>(v); }
inline float __uint2float_rn(unsigned v) { return static_cast<float>(v); }
inline float __double2float_rn(double v) { return static_cast<float>(v); }

inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<int64_t>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz(static_cast<unsigned>(v)) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(static_cast<unsigned long long>(v)) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned __brev(unsigned v) {
    unsigned out = 0;
    for (int i = 0; i < 32; i++) out |= (v >> i & 1u) << (31 - i);
    return out;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32 | low) << (by & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (by & 31));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
    const uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) out |= static_cast<unsigned>(bytes >> 8 * (s >> 4 * i & 7) & 0xff) << 8 * i;
    return out;
}

// ---------------------------------------------------------------------------------------------------------------- half types

// Storage and conversions; arithmetic is done in float.
namespace etude_on_cpu {

inline float half_to_float(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
    if (exponent == 31) return as_float(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * static_cast<float>(fraction) * 0x1p-24f;
    return as_float(sign | (exponent + 112) << 23 | fraction << 13);
}

// To nearest, ties to even.
inline uint16_t half_from_float(float v) {
    const uint32_t bits = as_bits(v), magnitude = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    if (magnitude > 0x7f800000u) return 0x7fff;
    if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { // subnormal: in units of 2^-24
        return static_cast<uint16_t>(sign | static_cast<uint32_t>(nearbyintf(as_float(magnitude) * 0x1p24f)));
    }
    return static_cast<uint16_t>(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

inline uint16_t bfloat_from_float(float v) {
    const uint32_t bits = as_bits(v);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
inline float bfloat_to_float(uint16_t b) { return as_float(static_cast<uint32_t>(b) << 16); }

} // namespace etude_on_cpu

struct __half {
    uint16_t bits;
    __half() = default;
    __half(float v) : bits(etude_on_cpu::half_from_float(v)) {}
    operator float() const { return etude_on_cpu::half_to_float(bits); }
};
struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float v) : bits(etude_on_cpu::bfloat_from_float(v)) {}
    operator float() const { return etude_on_cpu::bfloat_to_float(bits); }
};
struct __attribute__((aligned(4))) __half2 {
    __half x, y;
};
struct __attribute__((aligned(4))) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline float __half2float(__half h) { return h; }
inline __half __float2half(float v) { return v; }
inline __half __float2half_rn(float v) { return v; }
inline float2 __half22float2(__half2 h) { return {h.x, h.y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 v) { return {v.x, v.y}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 h) { return h.x; }
inline __half __high2half(__half2 h) { return h.y; }
inline float __low2float(__half2 h) { return h.x; }
inline float __high2float(__half2 h) { return h.y; }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline __half __ushort_as_half(unsigned short bits) {
    __half h;
    h.bits = bits;
    return h;
}

inline float __bfloat162float(__nv_bfloat16 h) { return h; }
inline __nv_bfloat16 __float2bfloat16(float v) { return v; }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return v; }
inline float2 __bfloat1622float2(__nv_bfloat162 h) { return {h.x, h.y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 h) { return h.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 h) { return h.y; }
inline float __low2float(__nv_bfloat162 h) { return h.x; }
inline float __high2float(__nv_bfloat162 h) { return h.y; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    __nv_bfloat16 h;
    h.bits = bits;
    return h;
}
