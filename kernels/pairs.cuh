// Rows, and pairs of rows, for the stems that meet every row of one set with every row of another: how rows are read, staged in
// shared memory and measured. Included once by each of them, after prelude.cuh.
//
// Rows of weight 0, and those beyond the last, are staged as zeros and never read. A cosine pair whose squared distance on the
// unit sphere is below 1e-5 is taken from the rows as given (`refine`).

namespace {

// Share of the squared norms below which a pair is near; and the cosine's t below which rounding counts.
constexpr float NEAR = 1e-4f;
constexpr float NEAR_UNIT = 1e-5f;

__device__ inline unsigned div_up(unsigned a, unsigned b) { return a / b + (a % b != 0); }

__device__ inline float real(float v) { return v; }
__device__ inline float real(__half v) { return __half2float(v); }
__device__ inline float real(__nv_bfloat16 v) { return __bfloat162float(v); }

template <class T> struct alignas(8) Four {
    T v[4];
};

// Columns k to k + 3 of a row of d, 0 beyond the last.
template <class T> __device__ inline float4 quad_of(const T* row, unsigned k, unsigned d) {
    if (sizeof(T) == 2 && d % 4 == 0 && is_aligned<8>(row)) {
        const Four<T> four = *as<const Four<T>>(row + k);
        return make_float4(real(four.v[0]), real(four.v[1]), real(four.v[2]), real(four.v[3]));
    }
    float4 v = make_float4(real(row[k]), 0.0f, 0.0f, 0.0f);
    if (k + 1 < d) v.y = real(row[k + 1]);
    if (k + 2 < d) v.z = real(row[k + 2]);
    if (k + 3 < d) v.w = real(row[k + 3]);
    return v;
}

// How rows are stored; a value rather than a type where one sweep serves all three.
constexpr unsigned F32 = 0, F16 = 1, BF16 = 2;
__device__ inline unsigned stored_as(float) { return F32; }
__device__ inline unsigned stored_as(__half) { return F16; }
__device__ inline unsigned stored_as(__nv_bfloat16) { return BF16; }

// A set of rows.
struct Rows {
    const void* z; // [n, d]
    unsigned n;
    unsigned stored;
    const float* labels;  // [n], or null
    const float* weights; // [n], or null where each is 1
    float unit;           // what weights are multiplied by

    // Whether the weight of row i is neither NaN nor infinite nor negative; and its label, if it is not masked.
    __device__ bool weighs(unsigned i) const { return !weights || (weights[i] >= 0.0f && is_finite(weights[i])); }
    __device__ bool counted(unsigned i) const {
        return weighs(i) && (weight(i) == 0.0f || (labels[i] >= 0.0f && is_finite(labels[i])));
    }
    // The weight of row i, 0 beyond the last.
    __device__ float weight(unsigned i) const {
        if (i >= n) return 0.0f;
        return weights ? weights[i] * unit : 1.0f;
    }
    template <class T> __device__ const T* row(unsigned i, unsigned d) const {
        return static_cast<const T*>(z) + static_cast<size_t>(i) * d;
    }
    // Columns k to k + 3 of row i, 0 beyond the last. A call, for the rows that are not f32 on 16 bytes.
    __device__ __noinline__ float4 quad(unsigned i, unsigned k, unsigned d) const {
        if (stored == F32) return quad_of(row<float>(i, d), k, d);
        return stored == F16 ? quad_of(row<__half>(i, d), k, d) : quad_of(row<__nv_bfloat16>(i, d), k, d);
    }
};

// Whether every fourth column of every row is on 16 bytes.
__device__ inline bool on_quads(const void* z, unsigned d) { return d % 4 == 0 && is_aligned<16>(z); }

// Where quad q of a staged row lies. Rows are a multiple of 8 quads apart: neighbours 2^SHIFT rows apart start at other banks.
template <int SHIFT> __device__ inline unsigned place(unsigned row, unsigned q, unsigned log_pitch) {
    return (row << log_pitch) + (q ^ ((row >> SHIFT) & 7));
}

// Stages columns k0 to k0 + 4 * 2^log_pitch of `count` rows from `first` on.
template <int SHIFT>
__device__ inline void stage(float4* to, unsigned log_pitch, const Rows& from, unsigned first, unsigned count, unsigned d,
                             unsigned k0) {
    const bool whole = from.stored == F32 && on_quads(from.z, d);
    for (unsigned e = threadIdx.x; e < count << log_pitch; e += blockDim.x) {
        const unsigned row = e >> log_pitch, q = e - (row << log_pitch);
        const unsigned i = first + row, k = k0 + 4 * q;
        float4* at = to + place<SHIFT>(row, q, log_pitch);
        const bool keep = k < d && from.weight(i) > 0.0f;
        if (whole) {
            copy_async16(at, keep ? from.row<float>(i, d) + k : from.z, keep);
        } else {
            *at = keep ? from.quad(i, k, d) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
    }
}

__device__ inline float dot4(float4 a, float4 b) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, a.x * b.x))); }

__device__ inline float largest4(float4 v) { return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))); }

__device__ inline float sum_of_four(float v) {
    v += __shfl_xor_sync(FULL, v, 1);
    return v + __shfl_xor_sync(FULL, v, 2);
}

__device__ inline float largest_of_four(float v) {
    v = fmaxf(v, __shfl_xor_sync(FULL, v, 1));
    return fmaxf(v, __shfl_xor_sync(FULL, v, 2));
}

// What four neighbouring threads find of a row of which get(q) is the q-th quad: the square of its norm, or with UNIT one over
// its norm, 0 for a zero row (the largest element is taken out before the square). Whole warps must come here.
template <bool UNIT, class Get> __device__ inline float norm_of(unsigned quads, Get get) {
    const unsigned first = threadIdx.x % 4;
    float largest = 1.0f;
    if (UNIT) {
        largest = 0.0f;
#pragma unroll 4
        for (unsigned q = first; q < quads; q += 4) largest = fmaxf(largest, largest4(get(q)));
        largest = largest_of_four(largest);
    }
    const float over = 1.0f / fmaxf(largest, TINY);
    float sum = 0.0f;
#pragma unroll 4
    for (unsigned q = first; q < quads; q += 4) {
        float4 v = get(q);
        if (UNIT) v = make_float4(v.x * over, v.y * over, v.z * over, v.w * over);
        sum += dot4(v, v);
    }
    sum = sum_of_four(sum);
    if (!UNIT) return sum;
    return largest >= TINY ? over / sqrtf(sum) : 0.0f;
}

// norm_of for `count` rows from memory.
template <bool UNIT> __device__ inline void norms(float* to, const Rows& from, unsigned first, unsigned count, unsigned d) {
    const bool whole = from.stored == F32 && on_quads(from.z, d);
    for (unsigned row = threadIdx.x / 4; row < count; row += blockDim.x / 4) {
        const unsigned i = first + row;
        const bool keep = from.weight(i) > 0.0f;
        const unsigned quads = keep ? div_up(d, 4) : 0;
        const float norm = whole ? norm_of<UNIT>(quads, [&](unsigned q) { return at4(from.row<float>(i, d), 4 * q); })
                                 : norm_of<UNIT>(quads, [&](unsigned q) { return from.quad(i, 4 * q, d); });
        if (threadIdx.x % 4 == 0) to[row] = norm;
    }
}

// A cosine pair near enough that rounding of rows to norm 1 counts, from the rows as given.
struct Refined {
    float t;     // |u_i - u_j|^2; negative where the norms are so unlike that this is no better
    float along; // (z_i - z_j) / |z_j| along u_i
};

// From e = (z_i - z_j) / |z_i|: ee = e . e, q = e . (z_i + z_j) / |z_i|, and ratio = |z_j| / |z_i|. |u_i - u_j|^2 is ee less the
// square of the norms' difference. u_i - u_j may be replaced by (z_i - z_j) / |z_j|, from which it differs by a multiple of u_i
// that the projection removes.
__device__ inline Refined refined(float ee, float q, float ratio, float t) {
    const float radial = q / (1.0f + ratio);
    const bool better = ee <= 2.0f * sqrtf(t) + 1e-7f;
    return {better ? fmaxf(ee - radial * radial, 0.0f) / ratio : -1.0f, 0.5f * (ee + q) / ratio};
}

__device__ __noinline__ Refined refine(const Rows& a, const Rows& b, unsigned i, unsigned j, float ri, float rj, float t,
                                       unsigned d) {
    float ee = 0.0f, q = 0.0f;
#pragma unroll 1
    for (unsigned k = 0; k < d; k += 4) {
        const float4 x = a.quad(i, k, d), y = b.quad(j, k, d);
        const float4 e = make_float4((x.x - y.x) * ri, (x.y - y.y) * ri, (x.z - y.z) * ri, (x.w - y.w) * ri);
        ee += dot4(e, e);
        const float u = fmaf(x.x, ri, y.x * ri), v = fmaf(x.y, ri, y.y * ri), w = fmaf(x.z, ri, y.z * ri);
        q += dot4(e, make_float4(u, v, w, fmaf(x.w, ri, y.w * ri)));
    }
    return refined(ee, q, ri / rj, t);
}

// Twice a pair's loss, and the coefficient of u_i - u_j in its gradient.
struct Term {
    float loss, g;
};

// Quads from one staged row to the next, as a power of two.
__device__ inline unsigned log_pitch_of(unsigned d) { return d <= 32 ? 3 : d <= 64 ? 4 : 5; }

// v and what this launch has written to the `left` elements, at most four, from `at` on; `whole` where one access takes four.
__device__ inline float4 sum_of(float4 v, const float* at, unsigned left, bool whole) {
    if (whole) {
        const float4 old = __ldcg(as<const float4>(at));
        return make_float4(v.x + old.x, v.y + old.y, v.z + old.z, v.w + old.w);
    }
    v.x += __ldcg(at);
    if (left > 1) v.y += __ldcg(at + 1);
    if (left > 2) v.z += __ldcg(at + 2);
    if (left > 3) v.w += __ldcg(at + 3);
    return v;
}

// The reverse: writes what a block of this launch may read.
__device__ inline void put(float* at, float4 v, unsigned left, bool whole) {
    if (whole) {
        __stcg(as<float4>(at), v);
        return;
    }
    __stcg(at, v.x);
    if (left > 1) __stcg(at + 1, v.y);
    if (left > 2) __stcg(at + 2, v.z);
    if (left > 3) __stcg(at + 3, v.w);
}

// ---- Rows stored in 16 bits, for the tensor cores.

constexpr float NEAR_GRAM = 1e-3f;

__device__ inline void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], __half) { mma_f16(d, a, b); }
__device__ inline void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], __nv_bfloat16) {
    mma_bf16(d, a, b);
}

__device__ inline unsigned bits_of(__half v) { return __half_as_ushort(v); }
__device__ inline unsigned bits_of(__nv_bfloat16 v) { return __bfloat16_as_ushort(v); }
// The largest coefficient that keeps its digits.
__device__ inline float most(__half) { return 6e4f; }
__device__ inline float most(__nv_bfloat16) { return 3e38f; }

// Chunk c of 8 elements of a staged row.
__device__ inline unsigned place_half(unsigned row, unsigned c, unsigned log_pitch) {
    return (row << log_pitch) + (c ^ (row & 7));
}
__device__ inline unsigned log_pitch_half(unsigned d) { return d <= 64 ? 3 : 4; }

// The first `left` of 8 elements, zeros after them.
template <class T> __device__ __noinline__ uint4 eight_of(const T* z, unsigned left) {
    unsigned v[4] = {};
#pragma unroll
    for (unsigned h = 0; h < 8; h++)
        if (h < left) v[h / 2] |= bits_of(z[h]) << (16 * (h % 2));
    return make_uint4(v[0], v[1], v[2], v[3]);
}

// Stages columns k0 to k0 + 8 * 2^log_pitch of `count` rows from `first` on, as they are stored.
template <class T>
__device__ inline void stage_half(uint4* to, unsigned log_pitch, const Rows& from, unsigned first, unsigned count, unsigned d,
                                  unsigned k0) {
    const bool whole = d % 8 == 0 && is_aligned<16>(from.z);
    for (unsigned e = threadIdx.x; e < count << log_pitch; e += blockDim.x) {
        const unsigned row = e >> log_pitch, c = e - (row << log_pitch);
        const unsigned i = first + row, k = k0 + 8 * c;
        uint4* const at = to + place_half(row, c, log_pitch);
        const bool keep = k < d && from.weight(i) > 0.0f;
        const T* const z = from.row<T>(keep ? i : 0, d) + (keep ? k : 0);
        if (whole) {
            copy_async16(at, z, keep);
        } else {
            *at = eight_of(z, keep ? d - k : 0);
        }
    }
}

} // namespace
