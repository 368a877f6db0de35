// similarity_fwd of rows of 16 bits, on the tensor cores. Included after similarity_fwd.cuh; similarity.cu says what is computed.
//
// Shapes: a [n, d], b [m, d], y [n, m]; shared memory: two stages of both sides' 64 columns of 128 rows, then 128 + 128 norms.
// Cost: d multiply-adds an entry; the 4 n m bytes of y bind.

namespace {

// Units of 16 bytes of a panel.
constexpr unsigned PANEL = SQUARE << LOG_PITCH;

// |x - y|^2 by differences, of two rows.
template <class T> __device__ __noinline__ float distance(const T* x, const T* y, unsigned d) {
    float t = 0.0f;
#pragma unroll 1
    for (unsigned k = 0; k < d; k += 4) {
        const float4 u = quad_of(x, k, d), v = quad_of(y, k, d);
        const float4 e = make_float4(u.x - v.x, u.y - v.y, u.z - v.z, u.w - v.w);
        t += dot4(e, e);
    }
    return t;
}

// Stages 64 columns from k0 on of SQUARE rows, as they are stored.
template <class T>
__device__ __forceinline__ void stage_panel(uint4* to, const T* z, unsigned n, unsigned first, unsigned d, unsigned k0) {
    const unsigned row = threadIdx.x / 8, c = threadIdx.x % 8, k = k0 + 8 * c;
    const T* const from = z + static_cast<size_t>(first + row) * d + k;
    const bool whole = d % 8 == 0 && is_aligned<16>(z);
    to += place_half(row, c, LOG_PITCH);
#pragma unroll
    for (unsigned r = 0; r < SQUARE; r += 32) {
        const bool keep = first + row + r < n && k < d;
        const T* const at = keep ? from + static_cast<size_t>(r) * d : z;
        if (whole) {
            copy_async16(to + (r << LOG_PITCH), at, keep);
        } else {
            to[r << LOG_PITCH] = eight_of(at, keep ? d - k : 0);
        }
    }
}

// The sum of the squares of two elements in a register.
__device__ inline float square_of(unsigned bits, __half) {
    __half both[2];
    both[0].bits = static_cast<unsigned short>(bits), both[1].bits = static_cast<unsigned short>(bits >> 16);
    const float x = __half2float(both[0]), y = __half2float(both[1]);
    return fmaf(x, x, y * y);
}
__device__ inline float square_of(unsigned bits, __nv_bfloat16) {
    const float x = __uint_as_float(bits << 16), y = __uint_as_float(bits & 0xffff0000u);
    return fmaf(x, x, y * y);
}

// acc += the products of a panel's first `steps` times 16 columns, of a's rows from row0 on and b's from col0 on.
template <class T>
__device__ __forceinline__ void multiply_panels(float (&acc)[2][8][4], const uint4* x0, unsigned steps, unsigned row0,
                                                unsigned col0) {
    const unsigned lane = threadIdx.x % 32;
#pragma unroll 1
    for (unsigned s = 0; s < steps; s++) {
        unsigned x[2][4];
#pragma unroll
        for (unsigned w = 0; w < 2; w++)
            load_matrices(x[w], x0 + place_half(row0 + 16 * w + lane % 16, 2 * s + lane / 16, LOG_PITCH));
#pragma unroll
        for (unsigned n = 0; n < 8; n += 2) {
            unsigned both[4];
            load_matrices(both,
                          x0 + PANEL + place_half(col0 + 8 * n + lane % 8 + lane / 16 * 8, 2 * s + lane / 8 % 2, LOG_PITCH));
            const unsigned y0[2] = {both[0], both[1]}, y1[2] = {both[2], both[3]};
#pragma unroll
            for (unsigned w = 0; w < 2; w++) {
                multiply(acc[w][n], x[w], y0, T());
                multiply(acc[w][n + 1], x[w], y1, T());
            }
        }
    }
}

// The similarity but for the square root in place of the products, by the rows' norms or squares; whether a lane has a pair that
// is near, in whose place -1 is until it is taken again.
__device__ __forceinline__ bool similarities(float (&acc)[2][8][4], const float* norms, unsigned row0, unsigned col0,
                                             unsigned kind) {
    const unsigned lane = threadIdx.x % 32, group = lane / 4, in = lane % 4;
    bool near = false;
#pragma unroll
    for (unsigned w = 0; w < 2; w++) {
#pragma unroll
        for (unsigned h = 0; h < 2; h++) {
            const unsigned row = row0 + 16 * w + 8 * h + group;
            const float norm = norms[row];
#pragma unroll
            for (unsigned n = 0; n < 8; n++) {
#pragma unroll
                for (unsigned e = 0; e < 2; e++) {
                    const unsigned col = col0 + 8 * n + 2 * in + e;
                    float& v = acc[w][n][2 * h + e];
                    if (kind == COSINE) {
                        v *= norm * norms[SQUARE + col];
                    } else {
                        const float squares = norm + norms[SQUARE + col];
                        v = fmaf(-2.0f, v, squares);
                        // Not a number counts as near.
                        const bool far = v > NEAR_GRAM * squares;
                        near |= !far;
                        v = far ? v : -1.0f; // until it is taken again
                    }
                }
            }
        }
    }
    return near;
}

// Writes a warp's 32 x 64 similarities, whose first is (i0, j0); with `near` pairs among them, takes those again.
template <class T>
__device__ __forceinline__ void write_panel(const float (&acc)[2][8][4], float* memory, bool near, const T* a, const T* b,
                                            float* y, unsigned i0, unsigned j0, const SimilarityParams& p) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, in = lane % 4;
    // Out through shared memory, 16 rows of a warp at a time, so that a half-warp writes 256 bytes of a row.
    constexpr unsigned WAY = 72;
    float* const tile = memory + warp * 16 * WAY;
    const bool whole = on_quads(y, p.m), again = __ballot_sync(FULL, near) != 0;
#pragma unroll
    for (unsigned w = 0; w < 2; w++) {
        __syncwarp();
#pragma unroll
        for (unsigned n = 0; n < 8; n++) {
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                float* const to = tile + (8 * h + group) * WAY + 8 * n + 2 * in;
                *as<float2>(to) = make_float2(acc[w][n][2 * h], acc[w][n][2 * h + 1]);
            }
        }
        __syncwarp();
        if (again) {
#pragma unroll 1
            for (unsigned e = lane; e < 16 * 64; e += 32) {
                const unsigned i = i0 + 16 * w + e / 64, j = j0 + e % 64;
                float& v = tile[e / 64 * WAY + e % 64];
                if (v < 0.0f && i < p.n && j < p.m)
                    v = distance(a + static_cast<size_t>(i) * p.d, b + static_cast<size_t>(j) * p.d, p.d);
            }
            __syncwarp();
        }
#pragma unroll
        for (unsigned r = 0; r < 16; r += 2) {
            const unsigned row = r + lane / 16, i = i0 + 16 * w + row;
            const float4 q = at4(tile, row * WAY + lane % 16 * 4);
            float v[4] = {q.x, q.y, q.z, q.w};
            if (p.kind == EUCLIDEAN) {
#pragma unroll
                for (unsigned c = 0; c < 4; c++) v[c] = sqrtf(v[c]);
            }
            if (i < p.n) write_once(y, i, j0 + lane % 16 * 4, p.m, v, whole);
        }
    }
}

template <class T>
__device__ __forceinline__ void forward_half(float4* memory, const T* a, const T* b, float* y, const SimilarityParams& p) {
    constexpr unsigned COLUMNS = 8 << LOG_PITCH;
    uint4* const panels = as<uint4>(memory);
    float* const norms = as<float>(memory + 4 * PANEL);
    const unsigned across = div_up(p.m, SQUARE);
    const unsigned i0 = blockIdx.x / across * SQUARE, j0 = blockIdx.x % across * SQUARE;
    const unsigned warp = threadIdx.x / 32;
    // The warp's 32 rows and 64 columns.
    const unsigned row0 = warp / 2 * 32, col0 = warp % 2 * 64;
    stage_panel(panels, a, p.n, i0, p.d, 0);
    stage_panel(panels + PANEL, b, p.m, j0, p.d, 0);
    copy_commit();
    if (p.d > COLUMNS) {
        stage_panel(panels + 2 * PANEL, a, p.n, i0, p.d, COLUMNS);
        stage_panel(panels + 3 * PANEL, b, p.m, j0, p.d, COLUMNS);
    }
    copy_commit();
    float acc[2][8][4] = {};
    // Of one of the 256 rows.
    float square = 0.0f;
    unsigned now = 0;
#pragma unroll 1
    for (unsigned k = 0; k < p.d; k += COLUMNS) {
        copy_wait<1>();
        __syncthreads();
        const uint4* const x0 = panels + now * 2 * PANEL;
        const unsigned steps = div_up(min(COLUMNS, p.d - k), 16);
        multiply_panels<T>(acc, x0, steps, row0, col0);
        if (p.kind != DOT) {
#pragma unroll 2
            for (unsigned c = 0; c < 2 * steps; c++) {
                const uint4 bits = x0[place_half(threadIdx.x, c, LOG_PITCH)];
                square += square_of(bits.x, T()) + square_of(bits.y, T()) + square_of(bits.z, T()) + square_of(bits.w, T());
            }
        }
        if (p.d - k > 2 * COLUMNS) {
            __syncthreads(); // whoever still reads what is overwritten
            stage_panel(panels + now * 2 * PANEL, a, p.n, i0, p.d, k + 2 * COLUMNS);
            stage_panel(panels + now * 2 * PANEL + PANEL, b, p.m, j0, p.d, k + 2 * COLUMNS);
        }
        copy_commit();
        now ^= 1;
    }
    if (p.kind != DOT) {
        const unsigned own = threadIdx.x % SQUARE;
        if (p.kind == COSINE)
            square = threadIdx.x < SQUARE ? inverse_of(square, a, p.n, i0 + own, p.d) : inverse_of(square, b, p.m, j0 + own, p.d);
        norms[threadIdx.x] = square;
    }
    __syncthreads();
    bool near = false;
    if (p.kind != DOT) near = similarities(acc, norms, row0, col0, p.kind);
    write_panel(acc, as<float>(memory), near, a, b, y, i0 + row0, j0 + col0, p);
}

} // namespace
