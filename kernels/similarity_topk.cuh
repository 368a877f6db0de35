// similarity_topk: the best k of each row. Included after similarity_tiles.cuh; similarity.cu says what is computed.
//
// Shapes: a [n, d], b [m, d], values, indices [n, k]; shared memory: two stages of both sides' 32 columns, a tile of similarities
// [64, 128], norms, and the least of each row.
// Cost: d multiply-adds a pair, 2 d by differences, which bind while k is small; about k ln(m / k) insertions a row.

namespace {

struct TopKParams {
    unsigned n, m, d, kind, k;
};

// Rows of a that a block of similarity_topk owns.
constexpr unsigned TOP_ROWS = 64;
// The index that stands where a row has no more similarities.
constexpr unsigned NOTHING = 0xffffffffu;

// A key that no other is below: minus infinity.
__device__ inline float worst() { return __uint_as_float(0xff800000u); }

template <bool DIFFERENCE, unsigned R>
__device__ __forceinline__ void products(float (&acc)[R][8], const float4* a, const float4* b, unsigned quads) {
    const unsigned it = threadIdx.x / 16, jt = threadIdx.x % 16;
#pragma unroll 1
    for (unsigned q = 0; q < quads; q++) {
        float4 x[R];
#pragma unroll
        for (unsigned r = 0; r < R; r++) x[r] = a[place<2>(it + 16 * r, q, LOG_PITCH)];
#pragma unroll
        for (unsigned c = 0; c < 8; c++) {
            const float4 y = b[place<2>(4 * jt + c % 4 + c / 4 * 64, q, LOG_PITCH)];
#pragma unroll
            for (unsigned r = 0; r < R; r++) {
                if (DIFFERENCE) {
                    const float4 e = make_float4(x[r].x - y.x, x[r].y - y.y, x[r].z - y.z, x[r].w - y.w);
                    acc[r][c] = fmaf(e.w, e.w, fmaf(e.z, e.z, fmaf(e.y, e.y, fmaf(e.x, e.x, acc[r][c]))));
                } else {
                    acc[r][c] = fmaf(x[r].w, y.w, fmaf(x[r].z, y.z, fmaf(x[r].y, y.y, fmaf(x[r].x, y.x, acc[r][c]))));
                }
            }
        }
    }
}

template <class T> __device__ inline Rows rows_of(const T* z, unsigned n) {
    return {z, n, stored_as(T()), nullptr, nullptr, 1.0f};
}

// Puts the keys of the lanes in `taken` among the k of a row, in falling order and its least first to go; they are at `index`, in
// rising order and beyond all indices in the list, so of equal ones the list's comes first. A whole warp.
__device__ __forceinline__ void insert(float* keys, unsigned* indices, unsigned k, float key, unsigned index, unsigned taken) {
    const unsigned lane = threadIdx.x % 32, end = div_up(k, 32) * 32;
    // Of the list, padded to `end`: how many this lane's key is beyond.
    unsigned beyond = 0;
    for (unsigned start = end; start > 0;) {
        start -= 32;
        const unsigned at = start + lane;
        const float old = at < k ? keys[at] : worst();
        unsigned shift = 0, moved = 0;
        for (unsigned rest = taken; rest != 0; rest &= rest - 1) {
            const unsigned from = __ffs(static_cast<int>(rest)) - 1;
            const bool better = __shfl_sync(FULL, key, static_cast<int>(from)) > old;
            const unsigned votes = __ballot_sync(FULL, better);
            if (lane == from) beyond += __popc(votes);
            shift += better;
            moved |= votes;
        }
        if (moved == 0) break;
        const unsigned old_index = at < k ? indices[at] : 0;
        __syncwarp();
        if (shift > 0 && at + shift < k) keys[at + shift] = old, indices[at + shift] = old_index;
        __syncwarp();
    }
    unsigned to = end - beyond;
    for (unsigned rest = taken; rest != 0; rest &= rest - 1) {
        const unsigned from = __ffs(static_cast<int>(rest)) - 1;
        const float other = __shfl_sync(FULL, key, static_cast<int>(from));
        to += other > key || (other == key && from < lane);
    }
    if ((taken >> lane & 1) != 0 && to < k) keys[to] = key, indices[to] = index;
    __syncwarp();
}

__device__ __forceinline__ void best(float4* memory, const Rows& of_a, const Rows& of_b, float* values, unsigned* indices,
                                     const TopKParams& p) {
    constexpr unsigned PANEL_A = TOP_ROWS << LOG_PITCH, PANELS = PANEL_A + (SQUARE << LOG_PITCH), R = TOP_ROWS / 16;
    constexpr unsigned WARPS = 8, OWN = TOP_ROWS / WARPS;
    float* const found = as<float>(memory + 2 * PANELS);
    float* const norm_a = found + TOP_ROWS * SQUARE;
    float* const norm_b = norm_a + TOP_ROWS;
    // What a key must be beyond to be among its row's best.
    float* const least = norm_b + SQUARE;
    const unsigned i0 = blockIdx.x * TOP_ROWS, rows = min(TOP_ROWS, p.n - i0);
    const unsigned it = threadIdx.x / 16, jt = threadIdx.x % 16, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const bool nearest = p.kind > COSINE;
    values += static_cast<size_t>(i0) * p.k;
    indices += static_cast<size_t>(i0) * p.k;
    for (unsigned row = warp * OWN; row < min(rows, warp * OWN + OWN); row++) {
        for (unsigned e = lane; e < p.k; e += 32) {
            values[static_cast<size_t>(row) * p.k + e] = worst();
            indices[static_cast<size_t>(row) * p.k + e] = NOTHING;
        }
        if (lane == 0) least[row] = worst();
    }
    __syncwarp();
    stage<2>(memory, LOG_PITCH, of_a, i0, TOP_ROWS, p.d, 0);
    stage<2>(memory + PANEL_A, LOG_PITCH, of_b, 0, SQUARE, p.d, 0);
    copy_commit();
    if (p.kind == COSINE) norms<true>(norm_a, of_a, i0, TOP_ROWS, p.d);
    unsigned now = 0;
    for (unsigned tile = 0; tile < div_up(p.m, SQUARE); tile++) {
        const unsigned j0 = tile * SQUARE, columns = min(SQUARE, p.m - j0);
        if (p.kind == COSINE) norms<true>(norm_b, of_b, j0, SQUARE, p.d);
        float acc[R][8] = {};
        for (unsigned k = 0; k < p.d; k += 32) {
            copy_wait<0>();
            __syncthreads();
            const float4* const at = memory + now * PANELS;
            now ^= 1;
            // The next columns; after the last, the first of the next tile.
            const bool onward = k + 32 < p.d;
            const unsigned next = onward ? j0 : j0 + SQUARE, from = onward ? k + 32 : 0;
            if (onward || p.m - j0 > SQUARE) {
                stage<2>(memory + now * PANELS, LOG_PITCH, of_a, i0, TOP_ROWS, p.d, from);
                stage<2>(memory + now * PANELS + PANEL_A, LOG_PITCH, of_b, next, SQUARE, p.d, from);
            }
            copy_commit();
            const unsigned quads = div_up(min(32u, p.d - k), 4);
            if (nearest) {
                products<true>(acc, at, at + PANEL_A, quads);
            } else {
                products<false>(acc, at, at + PANEL_A, quads);
            }
        }
#pragma unroll
        for (unsigned r = 0; r < R; r++) {
            const unsigned row = it + 16 * r;
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                float v[4];
#pragma unroll
                for (unsigned c = 0; c < 4; c++) {
                    v[c] = acc[r][4 * h + c];
                    if (p.kind == COSINE) v[c] *= norm_a[row] * norm_b[4 * jt + c + 64 * h];
                    if (p.kind == EUCLIDEAN) v[c] = sqrtf(v[c]);
                    if (nearest) v[c] = 0.0f - v[c];
                }
                at4(found, row * SQUARE + 4 * jt + 64 * h) = make_float4(v[0], v[1], v[2], v[3]);
            }
        }
        __syncthreads();
#pragma unroll 1
        for (unsigned row = warp * OWN; row < min(rows, warp * OWN + OWN); row++) {
            float* const keys = values + static_cast<size_t>(row) * p.k;
            unsigned* const which = indices + static_cast<size_t>(row) * p.k;
            float limit = least[row];
#pragma unroll 1
            for (unsigned c = lane; c - lane < columns; c += 32) {
                const float key = found[row * SQUARE + c];
                const unsigned taken = __ballot_sync(FULL, c < columns && key > limit);
                if (taken == 0) continue;
                insert(keys, which, p.k, key, j0 + c, taken);
                limit = keys[p.k - 1];
            }
            __syncwarp();
            if (lane == 0) least[row] = limit;
        }
    }
    for (unsigned row = warp * OWN; row < min(rows, warp * OWN + OWN); row++) {
        for (unsigned e = lane; e < p.k; e += 32) {
            const size_t at = static_cast<size_t>(row) * p.k + e;
            if (indices[at] == NOTHING) {
                values[at] = __uint_as_float(0x7fc00000u);
            } else if (nearest) {
                values[at] = 0.0f - values[at];
            }
        }
    }
}

} // namespace
