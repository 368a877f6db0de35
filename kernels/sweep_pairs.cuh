// Step 2 of the sweep: the losses and coefficients of a tile of pairs; those that are near are summed here. Included after
// sweep_products.cuh; sweep.cuh says what is computed.
//
// Shapes: t [16, TILE] of a warp, in the fragments of its lanes; norms, weights and labels of the tile's rows j [TILE] in shared
// memory.
// Cost: some 20 operations a pair; a tile with a near pair computes its distances again, d operations a pair, from memory.

namespace {

// Share of the squared norms below which a squared distance is taken from differences: f32 rows may be ten times as far from the
// origin as from each other and keep five digits.
__device__ inline float cancels(float) { return 2e-2f; }
template <class T> __device__ inline float cancels(T) { return 1e-3f; }
__device__ inline float most(float) { return 3e38f; }

// Four columns of a row in memory.
__device__ inline float4 given(const float* row, unsigned k, unsigned d, bool whole) {
    return whole ? at4(row, k) : quad_of(row, k, d);
}
template <class T> __device__ inline float4 given(const T* row, unsigned k, unsigned d, bool whole) {
    if (!whole) return quad_of(row, k, d);
    const Four<T> four = *as<const Four<T>>(row + k);
    return make_float4(real(four.v[0]), real(four.v[1]), real(four.v[2]), real(four.v[3]));
}
// Whether each fourth column of every row is on four of its size.
template <class T> __device__ inline bool on_fours(const T* z, unsigned d) { return d % 4 == 0 && is_aligned<4 * sizeof(T)>(z); }

// What a lane knows of its two rows i, `first` and `first` + 8.
struct Owned {
    unsigned first;
    float norm[2];   // squared; of a cosine one over it, 0 for a zero row
    float length[2]; // of a cosine
    float label[2];
};
// And of the tile's rows j, in shared memory.
struct Others {
    const float *norm, *weight, *label;
};

// What a lane knows of its rows, the first of which is the block's `row`-th; nothing of their norms where the slice has not `any`
// pairs.
template <bool COSINE>
__device__ __forceinline__ Owned owned(const float* norm_i, const Rows& a, unsigned i0, unsigned row, bool any) {
    Owned my;
    my.first = i0 + row;
#pragma unroll
    for (unsigned h = 0; h < 2; h++) {
        my.norm[h] = any ? norm_i[row + 8 * h] : 0.0f;
        my.length[h] = COSINE && my.norm[h] > 0.0f ? 1.0f / my.norm[h] : 0.0f;
        my.label[h] = my.first + 8 * h < a.n ? a.labels[my.first + 8 * h] : 0.0f;
    }
    return my;
}

// What keeps a lane's pairs of a tile from the plain way: one that is near, or a row without a direction.
struct Doubts {
    bool near, undirected;
};

// t of the tile's pairs, from their products.
template <bool COSINE, class T>
__device__ __forceinline__ Doubts squared_distances(float (&t)[BLOCKS][4], const float (&gram)[BLOCKS][4], const Owned& my,
                                                    const Others& their) {
    const unsigned in = threadIdx.x % 4;
    Doubts found = {false, false};
#pragma unroll
    for (unsigned n = 0; n < BLOCKS; n++) {
        const float2 norm = *as<const float2>(their.norm + 8 * n + 2 * in);
#pragma unroll
        for (unsigned e = 0; e < 4; e++) {
            const float nj = e % 2 == 0 ? norm.x : norm.y, ni = my.norm[e / 2], by = ni * nj, squares = COSINE ? 2.0f : ni + nj;
            const float te = COSINE ? fmaf(-2.0f * by, gram[n][e], 2.0f) : fmaf(-2.0f, gram[n][e], squares);
            // Not a number counts as near, and so does a cosine whose product may be too large or small for f32; zero rows,
            // which those that are masked or beyond the last are staged as, do not.
            if (COSINE) {
                found.undirected |= (ni == 0.0f) | (nj == 0.0f);
                found.near |= (!(te > cancels(T()) * 2.0f) | !(by > 1e-24f) | !(by < 1e24f)) & (ni != 0.0f) & (nj != 0.0f);
            } else {
                found.near |= !(te > cancels(T()) * squares) & (squares != 0.0f);
            }
            t[n][e] = te;
        }
    }
    return found;
}

// Whether any pair of two different rows is near, in a tile from j on that rows are in on both sides.
template <bool COSINE, class T>
__device__ __forceinline__ bool others_near(const float (&t)[BLOCKS][4], const Owned& my, const Others& their, unsigned j) {
    const unsigned in = threadIdx.x % 4;
    bool others = false;
#pragma unroll
    for (unsigned n = 0; n < BLOCKS; n++) {
#pragma unroll
        for (unsigned e = 0; e < 4; e++) {
            const unsigned col = 8 * n + 2 * in + e % 2;
            const float squares = COSINE ? 2.0f : my.norm[e / 2] + their.norm[col];
            others |= !(t[n][e] > cancels(T()) * squares) & (squares != 0.0f) & (my.first + 4 * (e - e % 2) != j + col);
        }
    }
    return others;
}

// t of the tile's pairs, from differences.
template <bool COSINE, class T>
__device__ __forceinline__ void exact(float (&t)[BLOCKS][4], const Rows& a, const Rows& b, const Owned& my, const Others& their,
                                      unsigned j0, unsigned d) {
    const unsigned in = threadIdx.x % 4;
    const bool whole = on_fours(a.row<T>(0, d), d) && on_fours(b.row<T>(0, d), d);
#pragma unroll
    for (unsigned n = 0; n < BLOCKS; n++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) t[n][e] = 0.0f;
    const T* const x0 = a.row<T>(min(my.first, a.n - 1), d);
    const T* const x1 = a.row<T>(min(my.first + 8, a.n - 1), d);
#pragma unroll 1
    for (unsigned k = 0; k < d; k += 4) {
        float4 x[2] = {given(x0, k, d, whole), given(x1, k, d, whole)};
#pragma unroll
        for (unsigned h = 0; h < 2; h++)
            if (COSINE) x[h] = make_float4(x[h].x * my.norm[h], x[h].y * my.norm[h], x[h].z * my.norm[h], x[h].w * my.norm[h]);
#pragma unroll
        for (unsigned c = 0; c < 2 * BLOCKS; c++) {
            const unsigned col = c / 2 * 8 + 2 * in + c % 2;
            float4 y = given(b.row<T>(min(j0 + col, b.n - 1), d), k, d, whole);
            const float by = COSINE ? their.norm[col] : 1.0f;
            if (COSINE) y = make_float4(y.x * by, y.y * by, y.z * by, y.w * by);
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                const float4 v = make_float4(x[h].x - y.x, x[h].y - y.y, x[h].z - y.z, x[h].w - y.w);
                float& sum = t[c / 2][2 * h + c % 2];
                sum = fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
            }
        }
    }
}

// What a lane adds up of a tile.
struct Found {
    float loss;    // twice the losses
    float sums[2]; // of its rows: of the coefficients; of a cosine, of the coefficients of u_j times u_i . u_j
    bool large;    // whether a coefficient is more than `Left` holds: nothing of the rest is of use then
};

// Step 2 of a tile whose pairs all count and are all far; a cosine's t goes with `gram`.
template <bool COSINE, class T, class F>
__device__ __forceinline__ Found plain(const float (&t)[BLOCKS][4], const float (&gram)[BLOCKS][4], Left<T>& left,
                                       const Owned& my, const Others& their, const F& term) {
    const unsigned in = threadIdx.x % 4;
    Found found = {};
#pragma unroll
    for (unsigned n = 0; n < BLOCKS; n++) {
        const float2 label = *as<const float2>(their.label + 8 * n + 2 * in);
        const float2 norm = *as<const float2>(their.norm + 8 * n + 2 * in);
#pragma unroll
        for (unsigned h = 0; h < 2; h++) {
            const Term one = term(t[n][2 * h], fabsf(my.label[h] - label.x), true);
            const Term two = term(t[n][2 * h + 1], fabsf(my.label[h] - label.y), true);
            found.loss += one.loss + two.loss;
            const float g0 = COSINE ? one.g * (norm.x * my.length[h]) : one.g,
                        g1 = COSINE ? two.g * (norm.y * my.length[h]) : two.g;
            if (sizeof(T) == 2) found.large |= !(fmaxf(fabsf(g0), fabsf(g1)) <= most(T()));
            const float2 used = left.put(n, h, g0, g1);
            found.sums[h] += COSINE ? fmaf(used.x, gram[n][2 * h], used.y * gram[n][2 * h + 1]) : used.x + used.y;
        }
    }
    if (COSINE) found.sums[0] *= my.norm[0] * my.norm[0], found.sums[1] *= my.norm[1] * my.norm[1];
    return found;
}

// All that step 2 of any other tile takes and gives, in memory: a call, so that the registers are the plain tiles'.
template <class T> struct General {
    float t[BLOCKS][4], acc[COLUMNS][4];
    Rows a, b;
    Owned my;
    Others their;
    bool same, near;
    unsigned j0, d, width, log;
    const float4 *zi, *zj; // staged
    unsigned row;          // the lane's first of zi
    Left<T> left;
    Found found;
};

// Step 2 of any other tile. A pair that is near, or whose coefficient `Left` does not hold, goes into `acc` here, from
// differences of the staged rows.
template <bool COSINE, class T, class F> __device__ __noinline__ void general(General<T>& tile, const F& term) {
    const Rows &a = tile.a, &b = tile.b;
    const Owned my = tile.my;
    const Others their = tile.their;
    const bool same = tile.same;
    const unsigned j0 = tile.j0, d = tile.d, width = tile.width, log = tile.log, row = tile.row;
    const float4 *const zi = tile.zi, *const zj = tile.zj;
    float (&t)[BLOCKS][4] = tile.t;
    if (tile.near) exact<COSINE, T>(t, a, b, my, their, j0, d);
    const unsigned lane = threadIdx.x % 32, in = lane % 4;
    const float weight_i[2] = {a.weight(my.first), a.weight(my.first + 8)};
    Found found = {};
    Left<T> left;
    float apart[BLOCKS][4];
    unsigned refined = 0; // a bit for each pair
    bool any = false;
#pragma unroll
    for (unsigned n = 0; n < BLOCKS; n++) {
#pragma unroll
        for (unsigned h = 0; h < 2; h++) {
            float g[2], product[2];
#pragma unroll
            for (unsigned e = 0; e < 2; e++) {
                const unsigned col = 8 * n + 2 * in + e, i = my.first + 8 * h, j = j0 + col;
                const float ni = my.norm[h], nj = their.norm[col], both = same && i == j ? 0.0f : weight_i[h] * their.weight[col];
                const bool counts = both > 0.0f, directed = !COSINE || (ni > 0.0f && nj > 0.0f);
                float te = t[n][2 * h + e], inward = 0.5f * te;
                bool given = false;
                if (COSINE && counts && directed && te < NEAR_UNIT) {
                    const Refined better = refine(a, b, i, j, ni, nj, te, d);
                    given = better.t >= 0.0f;
                    if (given) te = better.t, inward = better.along;
                }
                const Term of = term(te, fabsf(my.label[h] - their.label[col]), directed);
                // The hinge would hide what is not a number.
                if (counts) found.loss += te == te ? both * of.loss : te;
                const float weighted = counts && directed ? their.weight[col] * of.g : 0.0f;
                g[e] = COSINE && weighted != 0.0f ? weighted * (nj * my.length[h]) : weighted;
                const bool near = !(te > (COSINE ? 2.0f * NEAR : NEAR * (ni + nj)));
                const bool alone = weighted != 0.0f && (near || !(fabsf(g[e]) <= most(T())));
                apart[n][2 * h + e] = !alone ? 0.0f : COSINE ? weighted * my.length[h] : weighted;
                if (alone) {
                    any = true;
                    refined |= static_cast<unsigned>(given) << (4 * n + 2 * h + e);
                    if (COSINE) found.sums[h] -= weighted * inward;
                    g[e] = 0.0f;
                }
                product[e] = COSINE && g[e] != 0.0f ? (1.0f - 0.5f * te) * (ni / nj) : 1.0f;
            }
            const float2 used = left.put(n, h, g[0], g[1]);
            found.sums[h] += fmaf(used.x, product[0], used.y * product[1]);
        }
    }
    tile.left = left;
    tile.found = found;
    if (!__any_sync(FULL, any)) return;
    // Column after column of the tile, for whichever of the warp's rows it stands apart.
    float sum[COLUMNS][4] = {};
#pragma unroll 1
    for (unsigned c = 0; c < TILE; c++) {
        const unsigned of = c / 8 * 4 + c % 2;
        float v[2] = {};
#pragma unroll
        for (unsigned n = 0; n < BLOCKS; n++)
#pragma unroll
            for (unsigned e = 0; e < 2; e++)
                if (4 * n + e == of) v[0] = apart[n][e], v[1] = apart[n][2 + e];
        const int from = static_cast<int>(lane - in + c % 8 / 2);
        v[0] = __shfl_sync(FULL, v[0], from), v[1] = __shfl_sync(FULL, v[1], from);
        const unsigned bits = COSINE ? __shfl_sync(FULL, refined, from) >> of : 0;
        if (!__any_sync(FULL, v[0] != 0.0f || v[1] != 0.0f)) continue;
        const float nj = COSINE ? their.norm[c] : 1.0f;
        // u_i - u_j, or where both are taken as given (z_i - z_j) / |z_j|.
        const auto difference = [&](unsigned h, float x, float y) {
            if (!COSINE) return x - y;
            return bits >> 2 * h & 1 ? nj * (x - y) : fmaf(my.norm[h], x, -(nj * y));
        };
#pragma unroll
        for (unsigned m = 0; m < COLUMNS; m += 2) {
            if (8 * m >= width) break;
            const float4 y = own_columns(T(), zj, log, c, m);
#pragma unroll
            for (unsigned h = 0; h < 2; h++) {
                const float4 x = own_columns(T(), zi, log, row + 8 * h, m);
                sum[m][2 * h] = fmaf(v[h], difference(h, x.x, y.x), sum[m][2 * h]);
                sum[m + 1][2 * h] = fmaf(v[h], difference(h, x.y, y.y), sum[m + 1][2 * h]);
                sum[m][2 * h + 1] = fmaf(v[h], difference(h, x.z, y.z), sum[m][2 * h + 1]);
                sum[m + 1][2 * h + 1] = fmaf(v[h], difference(h, x.w, y.w), sum[m + 1][2 * h + 1]);
            }
        }
    }
#pragma unroll
    for (unsigned m = 0; m < COLUMNS; m++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) tile.acc[m][e] -= sum[m][e];
}

// Step 2 of a tile by `general`, to and from its memory.
template <bool COSINE, class T, class F>
__device__ __forceinline__ Found general_of(const float (&t)[BLOCKS][4], float (&acc)[COLUMNS][4], Left<T>& left, const Rows& a,
                                            const Rows& b, const Owned& my, const Others& their, bool same, bool near, unsigned j,
                                            unsigned d, unsigned width, unsigned log, const float4* zi, const float4* zj,
                                            unsigned row, const F& term) {
    General<T> all_of_it;
#pragma unroll
    for (unsigned e = 0; e < 4; e++) {
#pragma unroll
        for (unsigned n = 0; n < BLOCKS; n++) all_of_it.t[n][e] = t[n][e];
#pragma unroll
        for (unsigned m = 0; m < COLUMNS; m++) all_of_it.acc[m][e] = acc[m][e];
    }
    all_of_it.a = a, all_of_it.b = b, all_of_it.my = my, all_of_it.their = their, all_of_it.same = same, all_of_it.near = near;
    all_of_it.j0 = j, all_of_it.d = d, all_of_it.width = width, all_of_it.log = log;
    all_of_it.zi = zi, all_of_it.zj = zj, all_of_it.row = row;
    const F copy = term;
    general<COSINE, T>(all_of_it, copy);
#pragma unroll
    for (unsigned m = 0; m < COLUMNS; m++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) acc[m][e] = all_of_it.acc[m][e];
    left = all_of_it.left;
    return all_of_it.found;
}

} // namespace
