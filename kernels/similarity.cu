// Similarity matrices, every row of a [n, d] against every row of b [m, d], and their gradients.
//
//   dot                y_ij = a_i . b_j
//   cosine             y_ij = a_i . b_j / (|a_i| |b_j|); 0, with gradient 0, when a row is zero
//   squared Euclidean  y_ij = |a_i - b_j|^2
//   Euclidean          y_ij = |a_i - b_j|; gradient 0 where that is 0
//
// similarity_fwd: a, b -> y [n, m]. A block owns 128 x 128 entries and streams both sides' columns through shared memory, 16 at a
// time in three stages of asynchronous copies, which also transpose them; a thread owns 8 x 8 entries. d multiply-adds an entry;
// 4 n m bytes written, whole lines at a time, each entry once. In f32 on the CUDA cores arithmetic bounds it from d = 24 on
// (H100: 67 TFLOP/s, 3.35 TB/s). Distances are |a_i|^2 + |b_j|^2 - 2 a_i . b_j, the squares summed from what is staged; a tile
// with a pair where that cancels, below 1e-2 of the squared norms, is computed again by differences, at twice the cost.
//
// similarity_fwd_f16, _bf16: the same block on the tensor cores, 64 columns at a time, a warp owning 32 x 64 entries; the bytes
// of y bound it. Pairs below 1e-3 of the squared norms are taken by differences, one by one. Entries go out through shared
// memory.
//
// similarity_bwd: a, b, dy [n, m] -> da [n, d], db [m, d]. First the blocks that own rows of a, then those that own rows of b;
// what follows is said of a.
//   dot                da = dy b
//   squared Euclidean  da_i = 2 ((sum_j dy_ij) a_i - (dy b)_i), the sums from the staged tiles of dy
//   cosine             da_i = (v_i - (u_i . v_i) u_i) / |a_i|, v = dy b', where b' and u are rows over their norms, b' made so
//                      as it is staged
//   Euclidean          da_i = (sum_j g_ij) a_i - (g b)_i, g_ij = dy_ij / |a_i - b_j|: tiles of distances as in similarity_fwd
//                      first
// So d multiply-adds an entry and side, 2 d for Euclidean. A block of eight warps, each of 32 x 64 sums, owns 128 rows and 128
// columns, or where there are few rows 32 x 64 of them, in eight shares of the other rows that are added up at the end.
// Arithmetic bounds it. Sums over the other rows go through the gradient in memory every 2048 rows. Both sums of a Euclidean or
// squared gradient cancel where rows are near each other; so a Euclidean tile with a pair below 1e-2 of the squared norms is
// summed by differences, g_ij (a_i - b_j), at twice the cost. (The other gradients shrink with the distance themselves.) Rows of
// 16 bits are widened as they are staged: a dy of f32 rounded to 16 bits would cost the gradient its digits.
//
// similarity_topk: a, b -> values, indices [n, k], the best of each row first. A block owns 64 rows and walks over tiles of 128
// rows of b, with 4 x 8 entries to a thread and distances by differences, into shared memory; the matrix is never in global
// memory. A warp then owns 8 rows: a lane compares its entry of 32 with the row's least so far, and those that are beyond it go
// into the row's list at once, which lies in the output itself. About k ln(m / k) of m are, so the products bound it, as they do
// similarity_fwd, while k is below some hundreds.

#include "prelude.cuh"
#include "pairs.cuh"
#include "similarity_tiles.cuh"
#include "similarity_fwd.cuh"
#include "similarity_fwd_half.cuh"
#include "similarity_bwd.cuh"
#include "similarity_topk.cuh"

extern "C" __global__ void __launch_bounds__(256, 2)
    similarity_fwd(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, SimilarityParams p) {
    extern __shared__ float4 fwd_memory[];
    // By its first member: behind `as`, nvcc no longer knows which memory it is, and spills.
    forward(&fwd_memory[0].x, a, b, y, p);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    similarity_fwd_f16(const __half* __restrict__ a, const __half* __restrict__ b, float* __restrict__ y, SimilarityParams p) {
    extern __shared__ float4 fwd_f16_memory[];
    forward_half(fwd_f16_memory, a, b, y, p);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    similarity_fwd_bf16(const __nv_bfloat16* __restrict__ a, const __nv_bfloat16* __restrict__ b, float* __restrict__ y,
                        SimilarityParams p) {
    extern __shared__ float4 fwd_bf16_memory[];
    forward_half(fwd_bf16_memory, a, b, y, p);
}

extern "C" __global__ void __launch_bounds__(256)
    similarity_bwd(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ dy, float* __restrict__ da,
                   float* __restrict__ db, SimilarityParams p, unsigned* ticket) {
    extern __shared__ float4 bwd_memory[];
    backward(&bwd_memory[0].x, a, b, dy, da, db, p, ticket);
}

extern "C" __global__ void __launch_bounds__(256)
    similarity_bwd_f16(const __half* __restrict__ a, const __half* __restrict__ b, const float* __restrict__ dy,
                       float* __restrict__ da, float* __restrict__ db, SimilarityParams p, unsigned* ticket) {
    extern __shared__ float4 bwd_f16_memory[];
    backward(&bwd_f16_memory[0].x, a, b, dy, da, db, p, ticket);
}

extern "C" __global__ void __launch_bounds__(256)
    similarity_bwd_bf16(const __nv_bfloat16* __restrict__ a, const __nv_bfloat16* __restrict__ b, const float* __restrict__ dy,
                        float* __restrict__ da, float* __restrict__ db, SimilarityParams p, unsigned* ticket) {
    extern __shared__ float4 bwd_bf16_memory[];
    backward(&bwd_bf16_memory[0].x, a, b, dy, da, db, p, ticket);
}

extern "C" __global__ void __launch_bounds__(256)
    similarity_topk(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ values,
                    unsigned* __restrict__ indices, TopKParams p) {
    extern __shared__ float4 topk_memory[];
    best(topk_memory, rows_of(a, p.n), rows_of(b, p.m), values, indices, p);
}
