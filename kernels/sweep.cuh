// The sweep of the contrastive loss: every row i of one set with every row j of another, on the tensor cores. Included once,
// after sweep_products.cuh and sweep_pairs.cuh, its steps.
//
// A warp owns 16 rows i and 128 columns of their gradient, and walks over tiles of 32 rows j, as in FlashAttention-2 (Dao, 2023):
//
//   1. The Gram tile z_i . z_j; t_ij = |z_i|^2 + |z_j|^2 - 2 z_i . z_j, of a cosine 2 - 2 u_i . u_j for u = z / |z|.
//   2. The stem's coefficient g_ij of u_i - u_j in the gradient. It stays in the registers of the tile, which are, with the
//      tile's columns taken in another order, those of step 3's left operand.
//   3. acc_i += sum_j g_ij z_j. At the end the gradient is (sum_j g_ij) z_i - acc_i; the cosine's is projected off u_i.
//
// Warps of a block share tiles where rows are many (4 x 1), and take two tiles at once where they are few (2 x 2), which the end
// adds up. Where there would be few blocks still, they cut the tiles into slices: each writes its part of the gradient, which is
// linear in the sums, and the last of a row's slices adds the parts in their order.
//
// Factors. f32: each is split in two of 11 bits, high and low (3xTF32: Ootomo and Yokota, 2022), and high x high, high x low and
// low x high are three products. 16 bits: rows are exact as they are; a coefficient is split in two of 16 bits, as sums over many
// rows do not average its rounding out (3e-3 of a cosine's gradient at 8,200 rows). So 6 d tensor multiply-adds a pair in f32,
// 3 d in 16 bits, and some 20 operations a pair on the CUDA cores.
//
// Accuracy. The tensor cores truncate their sums: accumulators take 64 columns, or one tile, and are then added in f32. The
// squared distance cancels where a pair is near: a tile with a pair nearer than `cancels` of the squared norms computes all of
// its distances from differences. Step 3's two sums cancel too: pairs nearer than NEAR add g_ij (z_i - z_j) on their own, and
// with them a coefficient that 16 bits cannot hold. A cosine pair whose t is below 1e-5 is taken from the rows as given
// (`refine`).
//
// Rows of weight 0, and those beyond the last, are staged as zeros.

namespace {

// Blocks below which the tiles are cut into slices, and most of them.
constexpr unsigned ENOUGH = 768;
constexpr unsigned SLICES = 8;
// Rows in all from which every warp of a block has rows of its own.
constexpr unsigned MANY = 8192;

// How a launch is cut; as `Cut` in src/kernels/contrastive/geometry.rs.
struct Cut {
    unsigned own;    // rows i of a block
    unsigned tiles;  // of a round
    unsigned rounds; // at most
    unsigned slices;

    __device__ unsigned blocks(unsigned rows) const { return div_up(rows, own); }
};

__device__ inline Cut cut_of(unsigned n, unsigned m, unsigned d) {
    Cut c;
    const bool many = static_cast<size_t>(n) + m >= MANY;
    c.own = many ? 64 : 32;
    c.tiles = many ? 1 : 2;
    c.rounds = div_up(max(n, m), TILE * c.tiles);
    const unsigned blocks = (c.blocks(n) + c.blocks(m)) * div_up(d, CHUNK);
    c.slices = min(max(ENOUGH / blocks, 1u), min(SLICES, div_up(c.rounds, 2)));
    return c;
}

// What is known of `count` staged rows j from `first` on: `lanes` neighbouring threads a row, of whole warps.
template <bool COSINE, class T>
__device__ inline void norms_staged(float* to, const float4* rows, unsigned log, const Rows& from, unsigned first,
                                    unsigned thread, unsigned lanes, unsigned d) {
    const unsigned row = thread / lanes, part = thread % lanes;
    float sum = 0.0f;
    for (unsigned q = part; 4 * q < d; q += lanes) {
        const float4 v = staged(T(), rows, log, row, q);
        sum += dot4(v, v);
    }
    for (unsigned o = 1; o < lanes; o *= 2) sum += __shfl_xor_sync(FULL, sum, o);
    if (COSINE) {
        float norm = sum > 1e-30f && sum < 1e30f ? 1.0f / sqrtf(sum) : 0.0f;
        if (norm == 0.0f && from.weight(first + row) > 0.0f) {
            const T* const z = from.row<T>(first + row, d);
            float largest = 0.0f;
#pragma unroll 1
            for (unsigned k = 0; k < d; k++) largest = fmaxf(largest, fabsf(real(z[k])));
            const float over = 1.0f / fmaxf(largest, TINY);
            sum = 0.0f;
#pragma unroll 1
            for (unsigned k = 0; k < d; k++) sum = fmaf(real(z[k]) * over, real(z[k]) * over, sum);
            norm = largest >= TINY ? over / sqrtf(sum) : 0.0f;
        }
        sum = norm;
    }
    if (part == 0) to[row] = sum;
}

// Leaves a warp's sums in shared memory: acc at its 16 rows of zj, `pitch_out` apart, and those of the coefficients in sum_i.
template <class T>
__device__ __forceinline__ void put_sums(float4* zj, float* sum_i, const float (&acc)[COLUMNS][4], const float (&sums)[2],
                                         unsigned pitch_out, unsigned width) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, in = lane % 4;
    float* const mine = as<float>(zj + 16 * warp * pitch_out);
#pragma unroll
    for (unsigned h = 0; h < 2; h++) {
        const float sum = sum_of_four(sums[h]);
        if (in == 0) sum_i[16 * warp + 8 * h + group] = sum;
#pragma unroll
        for (unsigned m = 0; m < COLUMNS; m++) {
            if (m % 2 == 0 && 8 * m >= width) break;
            mine[4 * pitch_out * (8 * h + group) + column_of(T(), m, 0)] = acc[m][2 * h];
            mine[4 * pitch_out * (8 * h + group) + column_of(T(), m, 1)] = acc[m][2 * h + 1];
        }
    }
}

__device__ inline bool all_finite(float4 v) { return is_finite(v.x) && is_finite(v.y) && is_finite(v.z) && is_finite(v.w); }

// Adds up the sums of the warps that share rows, and makes of them `scale` times the gradient of a chunk; 0 where there are not
// `any`. Whether all that the thread sees of rows, labels and weights is numbers.
template <bool COSINE, class T>
__device__ __forceinline__ bool put_gradient(float* out, const float4* zi, const float4* zj, const float* norm_i,
                                             const float* sum_i, const Rows& a, unsigned i0, unsigned column, unsigned d,
                                             const Cut& cut, bool any, float scale) {
    const unsigned log = log_units(T(), d), log_out = log_pitch_of(d), pitch_out = pitch_of(0.0f, log_out);
    const unsigned high = cut.own / 16, width = min(CHUNK, d - column);
    const bool whole = on_quads(out, d);
    bool sound = true;
    for (unsigned e = threadIdx.x; e < cut.own << log_out; e += BLOCK) {
        const unsigned row = e >> log_out, q = e - (row << log_out), r = i0 + row, k = column + 4 * q;
        if (r >= a.n || 4 * q >= width) continue;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f), z = v;
        if (any) z = staged(T(), zi, log, row, q);
        sound &= all_finite(z) && (q > 0 || a.counted(r));
        const float by = scale * a.weight(r);
        if (any && (by > 0.0f || by < 0.0f)) {
            float sum = 0.0f;
#pragma unroll 1
            for (unsigned w = 0; w < cut.tiles; w++) {
                const float4 u = zj[(16 * w * high + row) * pitch_out + q];
                v = make_float4(v.x + u.x, v.y + u.y, v.z + u.z, v.w + u.w);
                sum += sum_i[16 * w * high + row];
            }
            const float ni = norm_i[row];
            // On a line the angle is 0 or pi whatever the lengths.
            const bool none = COSINE && (d == 1 || ni == 0.0f);
            const float along_z = COSINE ? sum * ni : sum, along_v = COSINE ? ni : 1.0f, of = none ? 0.0f : COSINE ? by * ni : by;
            v = make_float4(along_z * z.x - along_v * v.x, along_z * z.y - along_v * v.y, along_z * z.z - along_v * v.z,
                            along_z * z.w - along_v * v.w);
            v = none ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : make_float4(of * v.x, of * v.y, of * v.z, of * v.w);
        }
        put(out + static_cast<size_t>(r) * d + k, v, d - k, whole);
    }
    return sound;
}

// What a thread has of a sweep: its part of twice the sum of the losses, and whether all that it saw was numbers.
struct Swept {
    double losses;
    bool sound;
};

// What is known of a round's rows j, from `first` on, of which `tile` is the warp's; their squares are taken from there where the
// tile is whole.
template <bool COSINE, class T>
__device__ __forceinline__ void tell_others(float* norm_j, float* weight_j, float* label_j, const float4* tile, const Rows& b,
                                            unsigned first, const Cut& cut, unsigned d) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, log = log_units(T(), d), rows = TILE * cut.tiles;
    const unsigned high = cut.own / 16, down = warp % high, across = warp / high;
    for (unsigned r = threadIdx.x; r < rows; r += BLOCK) {
        const unsigned j = first + r;
        weight_j[r] = b.weight(j);
        label_j[r] = j < b.n ? b.labels[j] : 0.0f;
    }
    if (d <= CHUNK) {
        norms_staged<COSINE, T>(norm_j + TILE * across, tile, log, b, first + TILE * across, 32 * down + lane, high, d);
    } else {
        norms<COSINE>(norm_j, b, first, rows, d);
    }
}

// Rows i0 to i0 + cut.own of `a` against the slice's rows of `b`, columns from `column` on; a row makes no pair with itself where
// both sets are the `same`. `term(t, w, directed)` is the pair's at label distance w; `directed` is false where a cosine has no
// direction. Writes `scale` times the slice's part of the gradient into out [a.n, d].
template <bool COSINE, class T, class F>
__device__ __noinline__ Swept sweep_rows(float4* memory, const Rows a, const Rows b, unsigned i0, unsigned column, unsigned d,
                                         const Cut cut, unsigned slice, bool same, float scale, float* out, const F term) {
    const unsigned log = log_units(T(), d), pitch = pitch_of(T(), log), log_out = log_pitch_of(d),
                   pitch_out = pitch_of(0.0f, log_out);
    const unsigned tile_units = TILE * pitch, round_units = cut.tiles * tile_units;
    float4* const zi = memory;
    float4* const zj = zi + cut.own * pitch;
    float* const norm_i = as<float>(zj + max(2 * round_units, 16 * WARPS * pitch_out));
    float* const norm_j = norm_i + 64;
    float* const weight_j = norm_j + 64;
    float* const label_j = weight_j + 64;
    float* const sum_i = label_j + 64;

    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4;
    const unsigned high = cut.own / 16, down = warp % high, across = warp / high;
    const unsigned chunks = div_up(d, CHUNK), own = column / CHUNK, width = min(CHUNK, d - column);
    const unsigned rounds = div_up(b.n, TILE * cut.tiles), share = div_up(rounds, cut.slices);
    const unsigned first = slice * share, end = min(first + share, rounds), rows = TILE * cut.tiles;
    const bool light = !a.weights && !b.weights;

    float acc[COLUMNS][4] = {};
    float sums[2] = {};
    double losses = 0.0;
    if (first < end) {
        stage_rows(T(), zj, log, b, first * rows, rows, d, chunks == 1 ? 0 : (own + 1) % chunks * CHUNK);
        if (chunks == 1) stage_rows(T(), zi, log, a, i0, cut.own, d, 0);
        copy_commit();
        norms<COSINE>(norm_i, a, i0, cut.own, d);
    }
    __syncthreads();
    const Owned my = owned<COSINE>(norm_i, a, i0, 16 * down + group, first < end);
    unsigned now = 0;
    for (unsigned round = first; round < end; round++) {
        float gram[BLOCKS][4] = {};
        const float4* tile = zj;
        for (unsigned c = 0; c < chunks; c++) {
            const unsigned k0 = chunks == 1 ? 0 : (own + 1 + c) % chunks * CHUNK;
            if (chunks > 1) {
                __syncthreads(); // whoever still reads zi
                stage_rows(T(), zi, log, a, i0, cut.own, d, k0);
                copy_commit();
            }
            copy_wait<0>();
            __syncthreads();
            const float4* const staged_now = zj + now * round_units;
            tile = staged_now + across * tile_units;
            now ^= 1;
            if (c + 1 < chunks || round + 1 < end) {
                const unsigned next = c + 1 < chunks ? round : round + 1;
                const unsigned k = chunks == 1 ? 0 : (own + 1 + (c + 1) % chunks) % chunks * CHUNK;
                stage_rows(T(), zj + now * round_units, log, b, next * rows, rows, d, k);
            }
            copy_commit();
            if (c == 0) {
                tell_others<COSINE, T>(norm_j, weight_j, label_j, tile, b, round * rows, cut, d);
                __syncthreads();
            }
            gram_tile(T(), gram, zi, 16 * down, tile, log, min(CHUNK, d - k0));
        }
        const unsigned i = i0 + 16 * down, j = round * rows + TILE * across;
        if (j >= b.n || i >= a.n) continue;
        const Others their = {norm_j + TILE * across, weight_j + TILE * across, label_j + TILE * across};
        const bool crosses = same && j < i + 16 && i < j + TILE;
        const bool all = light && !crosses && j + TILE <= b.n && i + 16 <= a.n;
        float t[BLOCKS][4];
        const Doubts doubts = squared_distances<COSINE, T>(t, gram, my, their);
        bool near = __any_sync(FULL, doubts.near);
        if (near && crosses) {
            // A row is near itself, which is no pair: only the others count.
            near = __any_sync(FULL, others_near<COSINE, T>(t, my, their, j));
        }
        Left<T> left;
        Found found;
        // A zero row has no direction.
        bool done = all && !near && !(COSINE && __any_sync(FULL, doubts.undirected));
        if (done) {
            found = plain<COSINE, T>(t, gram, left, my, their, term);
            done = sizeof(T) == 4 || !__any_sync(FULL, found.large);
        }
        if (!done) {
            found = general_of<COSINE, T>(t, acc, left, a, b, my, their, same, near, j, d, width, log, zi, tile,
                                          16 * down + group, term);
        }
        losses += found.loss;
        sums[0] += found.sums[0], sums[1] += found.sums[1];
        accumulate(acc, left, tile, log, width);
    }

    // Out through where the tiles were, so that neighbours write neighbours.
    copy_wait<0>();
    __syncthreads();
    put_sums<T>(zj, sum_i, acc, sums, pitch_out, width);
    __syncthreads();
    const bool sound = put_gradient<COSINE, T>(out, zi, zj, norm_i, sum_i, a, i0, column, d, cut, first < end, scale);
    return {losses, sound};
}

// The last of a block's slices adds up what they wrote to parts [slices, rows, d]: rows r0 to r0 + count, into out.
__device__ inline void add_slices(const float* parts, const Cut& cut, size_t rows, unsigned r0, unsigned count, unsigned column,
                                  unsigned d, float* out) {
    const unsigned width = min(CHUNK, d - column), quads = div_up(width, 4);
    const bool whole = on_quads(out, d) && on_quads(parts, d);
    for (unsigned e = threadIdx.x; e < count * quads; e += BLOCK) {
        const unsigned row = e / quads, k = column + 4 * (e - row * quads);
        const size_t at = (static_cast<size_t>(r0) + row) * d + k;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 8
        for (unsigned s = 0; s < cut.slices; s++) v = sum_of(v, parts + s * rows * d + at, d - k, whole);
        put(out + at, v, d - k, whole);
    }
}

} // namespace
