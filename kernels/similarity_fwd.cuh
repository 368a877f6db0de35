// similarity_fwd in f32: a tile of similarities, on the CUDA cores. Included after similarity_tiles.cuh; similarity.cu says what
// is computed.
//
// Shapes: a [n, d], b [m, d], y [n, m]; shared memory: three stages of both sides' columns, then the squares of 128 + 128 rows.
// Cost: d multiply-adds an entry, which bound it; 4 n m bytes written once.

namespace {

// Columns up to which distances are taken by differences at once: writing y bounds them.
constexpr unsigned FEW_COLUMNS = 16;

// Four of a row of y [n, m], from column j on, which nothing reads here.
__device__ __forceinline__ void write_once(float* y, unsigned i, unsigned j, unsigned m, const float (&v)[4], bool whole) {
    float* const to = y + static_cast<size_t>(i) * m + j;
    if (whole) {
        if (j < m) __stcs(as<float4>(to), make_float4(v[0], v[1], v[2], v[3]));
    } else {
#pragma unroll
        for (unsigned c = 0; c < 4; c++)
            if (j + c < m) to[c] = v[c];
    }
}

// The block's tile of y, whose similarities but for the square root are acc.
__device__ __forceinline__ void write_tile(const float (&acc)[8][8], float* y, const SimilarityParams& p) {
    const unsigned across = div_up(p.m, SQUARE), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned row = blockIdx.x / across * SQUARE + warp % 4 * 32 + lane / 8 * 4;
    const unsigned column = blockIdx.x % across * SQUARE + warp / 4 * 64 + lane % 8 * 4;
    const bool whole = on_quads(y, p.m);
#pragma unroll
    for (unsigned r = 0; r < 8; r++) {
        const unsigned i = row + r % 4 + r / 4 * 16;
        if (i >= p.n) continue;
#pragma unroll
        for (unsigned h = 0; h < 2; h++) {
            float v[4];
#pragma unroll
            for (unsigned c = 0; c < 4; c++) v[c] = p.kind == EUCLIDEAN ? sqrtf(acc[r][4 * h + c]) : acc[r][4 * h + c];
            write_once(y, i, column + 32 * h, p.m, v, whole);
        }
    }
}

// A tile of distances by differences. A call, which leaves `forward` its registers.
__device__ __noinline__ void forward_near(float* memory, const float* a, const float* b, float* y, SimilarityParams p) {
    using S = Tile<4, STEP>;
    const unsigned across = div_up(p.m, SQUARE);
    float acc[8][8] = {}, none[1] = {};
    walk<S, STEP, true>(acc, none, memory, a, p.n, blockIdx.x / across * SQUARE, b, p.m, blockIdx.x % across * SQUARE, p.d,
                        false);
    write_tile(acc, y, p);
}

__device__ __forceinline__ void forward(float* memory, const float* a, const float* b, float* y, const SimilarityParams& p) {
    using S = Tile<4, STEP>;
    float* const norms = memory + 3 * S::STAGE;
    const unsigned across = div_up(p.m, SQUARE);
    const unsigned i0 = blockIdx.x / across * SQUARE, j0 = blockIdx.x % across * SQUARE;
    bool near = p.kind > COSINE && p.d <= FEW_COLUMNS;
    if (!near) {
        float acc[8][8] = {}, square[1] = {};
        walk<S, STEP, false>(acc, square, memory, a, p.n, i0, b, p.m, j0, p.d, p.kind != DOT);
        if (p.kind != DOT) {
            const unsigned own = threadIdx.x % SQUARE;
            if (p.kind == COSINE)
                square[0] = threadIdx.x < SQUARE ? inverse_of(square[0], a, p.n, i0 + own, p.d)
                                                 : inverse_of(square[0], b, p.m, j0 + own, p.d);
            norms[threadIdx.x] = square[0];
            __syncthreads();
            if (p.kind == COSINE) {
                const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
                const float* const norm_a = norms + warp % 4 * 32 + lane / 8 * 4;
                const float* const norm_b = norms + SQUARE + warp / 4 * 64 + lane % 8 * 4;
#pragma unroll
                for (unsigned r = 0; r < 8; r++)
#pragma unroll
                    for (unsigned c = 0; c < 8; c++) acc[r][c] *= norm_a[r % 4 + r / 4 * 16] * norm_b[c % 4 + c / 4 * 32];
            } else {
                near = __syncthreads_or(distances<S>(acc, norms, p.n - i0, p.m - j0)) != 0;
            }
        }
        if (!near) write_tile(acc, y, p);
    }
    if (near) forward_near(memory, a, b, y, p);
}

} // namespace
