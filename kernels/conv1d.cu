// One-dimensional convolution in the sense of PyTorch, a cross-correlation, and its gradients.
//
//   fwd    y[n,c,o] = b[c] + Σ_i Σ_k w[c,i,k] x[n, i, o·stride + k·dilation − padding]
//   bwd_x  dx[n,i,t] = Σ_c Σ_k w[c,i,k] dy[n, c, (t + padding − k·dilation) / stride]    where that is whole
//   bwd_w  dw[c,i,k] = Σ_n Σ_o dy[n,c,o] x[n, i, o·stride + k·dilation − padding]
//   bwd_b  db[c] = Σ_n Σ_o dy[n,c,o]
// over the channels i of output channel c's group; x and dy are 0 beyond their ends.
//
// Shapes: x, dx [batch, cin, t]; w, dw [cout, cin / groups, k]; b, db [cout]; y, dy [batch, cout, out]; part as
// Conv1dParams::parts of the row has it, or one element where splits is 1. Without a bias another buffer is bound in its place
// and not read.
//
// conv.cuh has the tiles, who owns what, and what bounds them. Cost: 2·batch·cout·out·cin/groups·k flops each for fwd, bwd_x and
// bwd_w, every buffer once; bwd_w also writes and reads `part`.

#include "prelude.cuh"
#include "conv.cuh"
#include "conv_narrow.cuh"
#include "conv_tile.cuh"
#include "conv_weights.cuh"

namespace {

struct Conv1dParams {
    unsigned batch, cin, cout, groups, t, k, out, stride, padding, dilation, bias, splits, tf32;
};

__device__ inline Conv<1> conv(const Conv1dParams& p) {
    const Axis axis = {p.t, p.out, p.k, p.stride, p.padding, p.dilation};
    return {p.batch, p.groups, p.cin / p.groups, p.cout / p.groups, {axis}, p.splits, p.tf32 == 1};
}

} // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    conv1d_fwd(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b, float* __restrict__ y,
               Conv1dParams p) {
    extern __shared__ float4 room[];
    convolve<false>(conv(p), room, x, w, p.bias ? b : nullptr, y);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    conv1d_bwd_x(const float* __restrict__ dy, const float* __restrict__ w, float* __restrict__ dx, Conv1dParams p) {
    extern __shared__ float4 room[];
    convolve<true>(conv(p), room, dy, w, nullptr, dx);
}

extern "C" __global__ void __launch_bounds__(WEIGHT_THREADS, 1)
    conv1d_bwd_w(const float* __restrict__ x, const float* __restrict__ dy, float* part, float* __restrict__ dw, Conv1dParams p,
                 unsigned* ticket) {
    extern __shared__ float4 room[];
    weight_gradient(conv(p), room, x, dy, part, dw, ticket);
}

extern "C" __global__ void __launch_bounds__(BIAS_THREADS)
    conv1d_bwd_b(const float* __restrict__ dy, float* __restrict__ db, Conv1dParams p) {
    bias_gradient(conv(p), dy, db);
}
