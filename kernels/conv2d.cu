// Two-dimensional convolution in the sense of PyTorch, a cross-correlation, and its gradients.
//
//   fwd    y[n,c,o] = b[c] + Σ_i Σ_k w[c,i,k] x[n, i, o·stride + k·dilation − padding]
//   bwd_x  dx[n,i,t] = Σ_c Σ_k w[c,i,k] dy[n, c, (t + padding − k·dilation) / stride]    where that is whole
//   bwd_w  dw[c,i,k] = Σ_n Σ_o dy[n,c,o] x[n, i, o·stride + k·dilation − padding]
//   bwd_b  db[c] = Σ_n Σ_o dy[n,c,o]
// over the channels i of output channel c's group, where o, k and t are pairs (row, column) and every product and sum with
// them goes by its axis; x and dy are 0 beyond their edges.
//
// Shapes: x, dx [batch, cin, h, w]; w, dw [cout, cin / groups, kh, kw]; b, db [cout]; y, dy [batch, cout, oh, ow]; part as
// Conv2dParams::parts of the row has it, or one element where splits is 1. Without a bias another buffer is bound in its place
// and not read.
//
// conv.cuh has the tiles, who owns what, and what bounds them. Cost: 2·batch·cout·oh·ow·cin/groups·kh·kw flops each for fwd,
// bwd_x and bwd_w, every buffer once; bwd_w also writes and reads `part`.

#include "prelude.cuh"
#include "conv.cuh"
#include "conv_narrow.cuh"
#include "conv_tile.cuh"
#include "conv_weights.cuh"

namespace {

struct Conv2dParams {
    unsigned batch, cin, cout, groups, h, w, kh, kw, oh, ow;
    unsigned stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, bias, splits, tf32;
};

__device__ inline Conv<2> conv(const Conv2dParams& p) {
    const Axis rows = {p.h, p.oh, p.kh, p.stride_h, p.padding_h, p.dilation_h};
    const Axis columns = {p.w, p.ow, p.kw, p.stride_w, p.padding_w, p.dilation_w};
    return {p.batch, p.groups, p.cin / p.groups, p.cout / p.groups, {rows, columns}, p.splits, p.tf32 == 1};
}

} // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    conv2d_fwd(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b, float* __restrict__ y,
               Conv2dParams p) {
    extern __shared__ float4 room[];
    convolve<false>(conv(p), room, x, w, p.bias ? b : nullptr, y);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    conv2d_bwd_x(const float* __restrict__ dy, const float* __restrict__ w, float* __restrict__ dx, Conv2dParams p) {
    extern __shared__ float4 room[];
    convolve<true>(conv(p), room, dy, w, nullptr, dx);
}

extern "C" __global__ void __launch_bounds__(WEIGHT_THREADS, 1)
    conv2d_bwd_w(const float* __restrict__ x, const float* __restrict__ dy, float* part, float* __restrict__ dw, Conv2dParams p,
                 unsigned* ticket) {
    extern __shared__ float4 room[];
    weight_gradient(conv(p), room, x, dy, part, dw, ticket);
}

extern "C" __global__ void __launch_bounds__(BIAS_THREADS)
    conv2d_bwd_b(const float* __restrict__ dy, float* __restrict__ db, Conv2dParams p) {
    bias_gradient(conv(p), dy, db);
}
