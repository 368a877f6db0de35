// The label-distance-weighted contrastive loss, value and gradient in one launch.
//
//   w = |l_i - l_j|, d = |z_i - z_j| (Euclidean) or 1 - cos(z_i, z_j) (cosine; 1 where a row is zero)
//   positive (w <= tau)  d^2 / 2            negative  max(0, margin w - d)^2 / 2
//   loss = weight * sum s_i s_j l_ij / sum s_i s_j over the pairs, s the samples' weights (1 where none are given); its gradient
//   is 0 where d = 0, and by a cosine pair with a zero row; grad_scale multiplies the gradient alone. The loss is NaN where a
//   sample whose weight is not 0 has a row that is not finite, or a label or weight that is NaN, infinite or negative: fmaxf
//   would count it as 0.
//
//   all     every pair i < j of z [n, d], labels, weights [n]                              -> loss [1], dz [n, d]
//   cross   every pair of z [n, d] and others [m, d], labels and weights of each           -> loss [1], dz [n, d], dothers [m, d]
//   halves  pairing [m, 2] of z [n, d], each row in one pair at most                       -> loss [1], dz [n, d]
//
// all, cross: the sweep of sweep.cuh over both ends of every pair; cross first owns rows of z, then of the others. Tensor cores,
// 6 d multiply-adds a pair and end in f32 (3xTF32) and 3 d in 16 bits, and some 20 operations for its coefficient; (n + m) d read
// from memory once, from the second cache once a block. In 16 bits the operations bind it, in f32 the multiply-adds. part
// receives a loss for each block of rows and slice, and the slices' parts of the gradients; the last block adds the losses up.
//
// halves: a block owns 32 rows, eight threads each: it looks for them in the pairing, and each row computes its pair's distance
// and its own gradient. Bound by launch and latency.
//
// Sums of losses and of weights over rows are kept in f64; a weight is taken over the largest, and sum_{i<j} s_i s_j as
// sum_i s_i (s_0 + ... + s_{i-1}), which does not cancel.

#include "prelude.cuh"
#include "pairs.cuh"
#include "sweep_products.cuh"
#include "sweep_pairs.cuh"
#include "sweep.cuh"

namespace {

struct ContrastiveParams {
    unsigned n, m, d, metric;
    float margin, tau, weight;
    unsigned weighted;
    float grad_scale;
};

constexpr unsigned COSINE = 1;
// Threads and rows of a block of contrastive_halves.
constexpr unsigned BLOCK_HALVES = 256;
constexpr unsigned ROWS_HALVES = 32;

// The loss and coefficient of a pair at squared distance t of its rows (of norm 1 for the cosine) and label distance w.
template <bool UNIT> struct Contrast {
    float margin, tau;

    __device__ Term operator()(float t, float w, bool directed) const {
        if (UNIT) {
            const float dist = directed ? 0.5f * t : 1.0f;
            const float slope = w <= tau ? dist : -fmaxf(margin * w - dist, 0.0f);
            return {slope * slope, directed ? slope : 0.0f};
        }
        if (w <= tau) return {t, 1.0f};
        const float over = t >= TINY ? rsqrt_approx(t) : 0.0f;
        const float h = fmaxf(margin * w - t * over, 0.0f);
        return {h * h, -h * over};
    }
};

// The sum over a block, in every thread, and over the threads before this one; all threads must come here.
struct Sum {
    double all, before;
};
__device__ inline Sum block_sum_f64(double v) {
    __shared__ double parts[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    double upto = v;
    for (unsigned o = 1; o < 32; o *= 2) {
        const double lower = __shfl_up_sync(FULL, upto, o);
        if (lane >= o) upto += lower;
    }
    __syncthreads(); // whoever still reads the sum before
    if (lane == 31) parts[warp] = upto;
    __syncthreads();
    // The last lane's sum over lanes 0 to 30 and its own, without the rounding of a difference.
    const double before_lane = __shfl_up_sync(FULL, upto, 1);
    Sum sum = {0.0, lane > 0 ? before_lane : 0.0};
    double of_warps = 0.0;
#pragma unroll 1
    for (unsigned w = 0; w < warps; w++) {
        if (w == warp) sum.before += of_warps;
        of_warps += parts[w];
    }
    sum.all = of_warps;
    return sum;
}

// One over the largest weight; 1 where there are none.
__device__ inline float unit_of(const float* weights, unsigned n) {
    if (!weights) return 1.0f;
    float largest = 0.0f;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) largest = fmaxf(largest, weights[i]);
    largest = block_max(largest);
    return largest > 0.0f ? fminf(1.0f / largest, 3e38f) : 0.0f;
}

// Rows with their labels and weights.
template <class T> __device__ inline Rows samples_of(const T* z, unsigned n, const float* labels, const float* weights) {
    return {z, n, stored_as(T()), labels, weights, unit_of(weights, n)};
}

// The sum of all weights, or with PAIRS of the products of every two; a thread takes neighbours.
template <bool PAIRS> __device__ inline double total_of(const Rows& rows) {
    if (!rows.weights) return PAIRS ? 0.5 * rows.n * (rows.n - 1.0) : static_cast<double>(rows.n);
    const unsigned share = div_up(rows.n, blockDim.x);
    const size_t from = static_cast<size_t>(threadIdx.x) * share, to = min(from + share, static_cast<size_t>(rows.n));
    double sum = 0.0, products = 0.0;
    for (size_t i = from; i < to; i++) {
        const double v = rows.weight(static_cast<unsigned>(i));
        products += v * sum;
        sum += v;
    }
    const Sum sums = block_sum_f64(sum);
    return PAIRS ? block_sum_f64(products + sum * sums.before).all : sums.all;
}

// What a weighted sum over the pairs is divided by, as a factor; 0 where no pair counts.
__device__ inline double share_of(const ContrastiveParams& p, double total) { return total > 0.0 ? p.weight / total : 0.0; }

// The block's part, the `at`-th of `parts`, to the last block, which writes the loss; NaN where not all is `sound`.
__device__ inline void put_loss(double mine, bool sound, float* part, unsigned at, unsigned parts, double scale, float* loss,
                                unsigned* ticket) {
    const double sum = block_sum_f64(sound ? mine : __int_as_float(0x7fc00000)).all;
    if (threadIdx.x == 0) __stcg(part + at, static_cast<float>(sum));
    if (!last_block(ticket)) return;
    double total = 0.0;
    for (unsigned b = threadIdx.x; b < parts; b += blockDim.x) total += __ldcg(part + b);
    total = block_sum_f64(total).all;
    if (threadIdx.x == 0) loss[0] = static_cast<float>(scale * total);
}

// Where a launch over pairs keeps what: a loss for each block, then the slices' parts of the gradients.
__device__ inline float* parts_of(float* part) { return part + div_up(gridDim.x * gridDim.y * gridDim.z, 4) * 4; }

// To the last block, of a block of which `number` of `blocks` tell the rows, what the sweep gave: first those of the rows of z,
// whose losses count once, with the first columns. The others say no more than whether all was sound.
__device__ inline void put_swept(const Swept& swept, float* part, unsigned number, unsigned blocks, bool second, double scale,
                                 float* loss, unsigned* ticket) {
    const unsigned slices = gridDim.z, before = second ? (gridDim.x - blocks) * gridDim.y * slices : 0;
    const unsigned at = before + (blockIdx.y * slices + blockIdx.z) * blocks + number;
    put_loss(second || blockIdx.y > 0 ? 0.0 : swept.losses, swept.sound, part, at, gridDim.x * gridDim.y * slices, scale, loss,
             ticket);
}

// The block's rows of the gradient by `a`, which are its `row0`-th and following of all.
template <class T>
__device__ __forceinline__ Swept sweep_of(float4* memory, const Rows& a, const Rows& b, unsigned block, unsigned row0, bool same,
                                          float scale, const Cut& cut, float* parts, float* out, const ContrastiveParams& p,
                                          unsigned* ticket) {
    const unsigned i0 = block * cut.own, column = blockIdx.y * CHUNK;
    const size_t rows = static_cast<size_t>(p.n) + p.m;
    const bool sliced = cut.slices > 1;
    float* const to = sliced ? parts + (blockIdx.z * rows + row0) * p.d : out;
    const Swept swept = p.metric == COSINE ? sweep_rows<true, T>(memory, a, b, i0, column, p.d, cut, blockIdx.z, same, scale, to,
                                                                 Contrast<true>{p.margin, p.tau})
                                           : sweep_rows<false, T>(memory, a, b, i0, column, p.d, cut, blockIdx.z, same, scale, to,
                                                                  Contrast<false>{p.margin, p.tau});
    if (sliced && last_block(ticket + 1 + gridDim.x * blockIdx.y + blockIdx.x, cut.slices)) {
        add_slices(parts + static_cast<size_t>(row0) * p.d, cut, rows, i0, min(cut.own, a.n - i0), column, p.d, out);
    }
    return swept;
}

template <class T>
__device__ inline void all(float4* memory, const T* z, const float* labels, const float* weights, float* loss, float* dz,
                           float* part, const ContrastiveParams& p, unsigned* ticket) {
    const Rows rows = samples_of(z, p.n, labels, p.weighted & 1 ? weights : nullptr);
    const double scale = share_of(p, total_of<true>(rows));
    const Cut cut = cut_of(p.n, 0, p.d);
    const Swept swept = sweep_of<T>(memory, rows, rows, blockIdx.x, 0, true, static_cast<float>(scale * p.grad_scale), cut,
                                    parts_of(part), dz, p, ticket);
    // Each pair was met from both ends, and its loss is twice what counts.
    put_swept(swept, part, blockIdx.x, gridDim.x, false, 0.25 * scale, loss, ticket);
}

template <class T>
__device__ inline void cross(float4* memory, const T* z, const float* labels_z, const float* weights_z, const T* others,
                             const float* labels_o, const float* weights_o, float* loss, float* dz, float* dothers, float* part,
                             const ContrastiveParams& p, unsigned* ticket) {
    const Rows of_z = samples_of(z, p.n, labels_z, p.weighted & 1 ? weights_z : nullptr);
    const Rows of_o = samples_of(others, p.m, labels_o, p.weighted & 2 ? weights_o : nullptr);
    const double scale = share_of(p, total_of<false>(of_z) * total_of<false>(of_o));
    const Cut cut = cut_of(p.n, p.m, p.d);
    const unsigned blocks = cut.blocks(p.n);
    const bool second = blockIdx.x >= blocks;
    const unsigned number = second ? blockIdx.x - blocks : blockIdx.x;
    const Swept swept =
        sweep_of<T>(memory, second ? of_o : of_z, second ? of_z : of_o, number, second ? p.n : 0, false,
                    static_cast<float>(scale * p.grad_scale), cut, parts_of(part), second ? dothers : dz, p, ticket);
    put_swept(swept, part, number, second ? gridDim.x - blocks : blocks, second, 0.5 * scale, loss, ticket);
}

__device__ inline float sum_of_eight(float v) {
    v = sum_of_four(v);
    return v + __shfl_xor_sync(FULL, v, 4);
}

// One over the norm of row i, for its eight threads; 0 for a zero row and where there is none.
__device__ inline float norm_of_eight(const float* row, unsigned d, bool there) {
    float largest = 0.0f, sum = 0.0f;
    for (unsigned k = threadIdx.x % 8; there && k < d; k += 8) largest = fmaxf(largest, fabsf(row[k]));
    largest = largest_of_four(largest);
    largest = fmaxf(largest, __shfl_xor_sync(FULL, largest, 4));
    const float over = 1.0f / fmaxf(largest, TINY);
    for (unsigned k = threadIdx.x % 8; there && k < d; k += 8) sum += row[k] * over * (row[k] * over);
    sum = sum_of_eight(sum);
    return largest >= TINY ? over / sqrtf(sum) : 0.0f;
}

} // namespace

extern "C" __global__ void __launch_bounds__(128, 2)
    contrastive_all(const float* __restrict__ z, const float* __restrict__ labels, const float* __restrict__ weights,
                    float* __restrict__ loss, float* __restrict__ dz, float* __restrict__ part, ContrastiveParams p,
                    unsigned* ticket) {
    extern __shared__ float4 all_memory[];
    all(all_memory, z, labels, weights, loss, dz, part, p, ticket);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    contrastive_all_f16(const __half* __restrict__ z, const float* __restrict__ labels, const float* __restrict__ weights,
                        float* __restrict__ loss, float* __restrict__ dz, float* __restrict__ part, ContrastiveParams p,
                        unsigned* ticket) {
    extern __shared__ float4 all_f16_memory[];
    all(all_f16_memory, z, labels, weights, loss, dz, part, p, ticket);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    contrastive_all_bf16(const __nv_bfloat16* __restrict__ z, const float* __restrict__ labels, const float* __restrict__ weights,
                         float* __restrict__ loss, float* __restrict__ dz, float* __restrict__ part, ContrastiveParams p,
                         unsigned* ticket) {
    extern __shared__ float4 all_bf16_memory[];
    all(all_bf16_memory, z, labels, weights, loss, dz, part, p, ticket);
}

extern "C" __global__ void __launch_bounds__(128, 2)
    contrastive_cross(const float* __restrict__ z, const float* __restrict__ labels_z, const float* __restrict__ weights_z,
                      const float* __restrict__ others, const float* __restrict__ labels_o, const float* __restrict__ weights_o,
                      float* __restrict__ loss, float* __restrict__ dz, float* __restrict__ dothers, float* __restrict__ part,
                      ContrastiveParams p, unsigned* ticket) {
    extern __shared__ float4 cross_memory[];
    cross(cross_memory, z, labels_z, weights_z, others, labels_o, weights_o, loss, dz, dothers, part, p, ticket);
}

extern "C" __global__ void __launch_bounds__(128, 2)
    contrastive_cross_f16(const __half* __restrict__ z, const float* __restrict__ labels_z, const float* __restrict__ weights_z,
                          const __half* __restrict__ others, const float* __restrict__ labels_o,
                          const float* __restrict__ weights_o, float* __restrict__ loss, float* __restrict__ dz,
                          float* __restrict__ dothers, float* __restrict__ part, ContrastiveParams p, unsigned* ticket) {
    extern __shared__ float4 cross_f16_memory[];
    cross(cross_f16_memory, z, labels_z, weights_z, others, labels_o, weights_o, loss, dz, dothers, part, p, ticket);
}

extern "C" __global__ void __launch_bounds__(128, 2)
    contrastive_cross_bf16(const __nv_bfloat16* __restrict__ z, const float* __restrict__ labels_z,
                           const float* __restrict__ weights_z, const __nv_bfloat16* __restrict__ others,
                           const float* __restrict__ labels_o, const float* __restrict__ weights_o, float* __restrict__ loss,
                           float* __restrict__ dz, float* __restrict__ dothers, float* __restrict__ part, ContrastiveParams p,
                           unsigned* ticket) {
    extern __shared__ float4 cross_bf16_memory[];
    cross(cross_bf16_memory, z, labels_z, weights_z, others, labels_o, weights_o, loss, dz, dothers, part, p, ticket);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    contrastive_halves(const float* __restrict__ z, const float* __restrict__ labels, const float* __restrict__ weights,
                       const unsigned* __restrict__ pairing, float* __restrict__ loss, float* __restrict__ dz,
                       float* __restrict__ part, ContrastiveParams p, unsigned* ticket) {
    // How often each row is in the pairing, and where last; how many indices are no row.
    __shared__ unsigned count[ROWS_HALVES + 1];
    __shared__ unsigned last[ROWS_HALVES];
    const Rows rows = samples_of(z, p.n, labels, p.weighted & 1 ? weights : nullptr);
    const unsigned first = blockIdx.x * ROWS_HALVES;
    if (threadIdx.x <= ROWS_HALVES) count[threadIdx.x] = 0;
    if (threadIdx.x < ROWS_HALVES) last[threadIdx.x] = 0;
    __syncthreads();
    double total = 0.0;
    for (unsigned e = threadIdx.x; e < 2 * p.m; e += BLOCK_HALVES) {
        const unsigned i = pairing[e];
        if (i >= p.n) {
            atomicAdd(&count[ROWS_HALVES], 1u);
        } else if (i >= first && i - first < ROWS_HALVES) {
            atomicAdd(&count[i - first], 1u);
            atomicMax(&last[i - first], e);
        }
        if (rows.weights && e % 2 == 0) total += static_cast<double>(rows.weight(i)) * rows.weight(pairing[e + 1]);
    }
    total = block_sum_f64(total).all;
    const double scale = share_of(p, rows.weights ? total : p.m);
    const unsigned row = threadIdx.x / 8, lane = threadIdx.x % 8, i = first + row;
    const unsigned times = count[row], e = last[row];
    const bool bad = times > 1 || count[ROWS_HALVES] > 0;
    const unsigned j = times > 0 ? pairing[e ^ 1] : 0;
    const float both = times > 0 && j < p.n && j != i ? rows.weight(i) * rows.weight(j) : 0.0f;
    const bool there = both > 0.0f;
    const float* const a = z + (there ? static_cast<size_t>(i) * p.d : 0);
    const float* const b = z + (there ? static_cast<size_t>(j) * p.d : 0);
    const bool cosine = p.metric == COSINE;
    float ri = 1.0f, rj = 1.0f;
    if (cosine) {
        ri = norm_of_eight(a, p.d, there);
        rj = norm_of_eight(b, p.d, there);
    }
    const bool directed = !cosine || (ri > 0.0f && rj > 0.0f);
    float t = 0.0f, ee = 0.0f, q = 0.0f;
    for (unsigned k = lane; there && k < p.d; k += 8) {
        const float v = fmaf(a[k], ri, -(b[k] * rj)), r = (a[k] - b[k]) * ri;
        t = fmaf(v, v, t);
        ee = fmaf(r, r, ee);
        q = fmaf(r, fmaf(a[k], ri, b[k] * ri), q);
    }
    t = sum_of_eight(t);
    ee = sum_of_eight(ee);
    q = sum_of_eight(q);
    bool close = false;
    float along = cosine ? 0.5f * t : 0.0f;
    if (cosine && directed && t < NEAR_UNIT) {
        const Refined better = refined(ee, q, ri / rj, t);
        close = better.t >= 0.0f;
        if (close) t = better.t, along = better.along;
    }
    Term of = {0.0f, 0.0f};
    if (there) {
        const float w = fabsf(labels[i] - labels[j]);
        of = cosine ? Contrast<true>{p.margin, p.tau}(t, w, directed) : Contrast<false>{p.margin, p.tau}(t, w, directed);
    }
    const float slope = static_cast<float>(scale * p.grad_scale) * (both * of.g);
    for (unsigned k = lane; i < p.n && k < p.d; k += 8) {
        float v = 0.0f;
        if (there && of.g != 0.0f) {
            v = close ? (a[k] - b[k]) * rj : fmaf(a[k], ri, -(b[k] * rj));
            // On a line the angle is 0 or pi whatever the lengths.
            if (cosine) v = p.d == 1 ? 0.0f : (v - along * (a[k] * ri)) * ri;
            v *= slope;
        }
        dz[static_cast<size_t>(i) * p.d + k] = v;
    }
    // A pair's loss counts for the row that is named first. A pairing that is none makes it NaN.
    const double mine = lane == 0 && there && e % 2 == 0 ? static_cast<double>(both) * of.loss : 0.0;
    bool sound = !bad && (i >= p.n || rows.weighs(i));
    if (there) sound &= rows.counted(i);
    for (unsigned k = lane; there && k < p.d; k += 8) sound &= is_finite(a[k]);
    put_loss(mine, sound, part, blockIdx.x, div_up(p.n, ROWS_HALVES), 0.5 * scale, loss, ticket);
}
