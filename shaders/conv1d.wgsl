// One-dimensional convolution in the sense of PyTorch, a cross-correlation, and its gradients.
// with: conv
//
//   fwd    y[n,c,o] = b[c] + sum_i sum_k w[c,i,k] x[n, i, o stride + k dilation - padding]
//   bwd_x  dx[n,i,t] = sum_c sum_k w[c,i,k] dy[n, c, (t + padding - k dilation) / stride]    where that is whole
//   bwd_w  dw[c,i,k] = sum_n sum_o dy[n,c,o] x[n, i, o stride + k dilation - padding]
//   bwd_b  db[c] = sum_n sum_o dy[n,c,o]
// over the channels i of output channel c's group; x and dy are 0 beyond their ends.
//
// Shapes: x, dx [batch, cin, t]; w, dw [cout, cin / groups, k]; b, db [cout]; y, dy [batch, cout, out]; part
// [splits, weights], or one element where splits is 1. Without a bias another buffer is bound in its place and not read.
//
// conv.wgsl has the tiles, who owns what and what it costs.

struct Conv1dParams {
    batch: u32,
    cin: u32,
    cout: u32,
    groups: u32,
    t: u32,
    k: u32,
    out: u32,
    stride: u32,
    padding: u32,
    dilation: u32,
    bias: u32,
    splits: u32,
    tf32: u32,
}
@group(1) @binding(0) var<uniform> p: Conv1dParams;

override k: u32 = 1u;
override stride: u32 = 1u;
override dilation: u32 = 1u;

fn taps() -> u32 {
    return k;
}

fn inputs() -> u32 {
    return p.t;
}

fn outputs() -> u32 {
    return p.out;
}

// What lies under a tap at output position o.
fn input(n: u32, channel: u32, o: u32, tap: u32) -> f32 {
    let padded = o * stride + tap * dilation;
    if padded < p.padding || padded - p.padding >= p.t {
        return 0.0;
    }
    return x[(n * cin + channel) * p.t + padded - p.padding];
}

fn phases() -> u32 {
    return min(stride, p.t);
}

// Input positions of a phase.
fn places() -> u32 {
    return (p.t + stride - 1u) / stride;
}

fn phase_of(number: u32) -> Taps {
    return taps_along(number, k, stride, p.padding, dilation);
}

fn reaching(phase: Taps) -> u32 {
    return phase.count;
}

fn tap_of(phase: Taps, e: u32) -> u32 {
    return phase.first + e * phase.step;
}

fn position(phase: Taps, place: u32) -> u32 {
    return phase.phase + place * stride;
}

fn inside(t: u32) -> bool {
    return t < p.t;
}

fn flat(t: u32) -> u32 {
    return t;
}

// The gradient that reaches input position t by a tap of its phase.
fn upstream(n: u32, channel: u32, t: u32, tap: u32) -> f32 {
    let padded = t + p.padding;
    if padded < tap * dilation {
        return 0.0;
    }
    let o = (padded - tap * dilation) / stride;
    if o >= p.out {
        return 0.0;
    }
    return dy[(n * cout + channel) * p.out + o];
}

@compute @workgroup_size(256)
fn conv1d_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    fwd(group_of(group, grid), thread);
}

@compute @workgroup_size(256)
fn conv1d_bwd_x(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    bwd_x(group_of(group, grid), thread);
}

@compute @workgroup_size(256)
fn conv1d_bwd_w(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    bwd_w(group_of(group, grid), thread);
}

@compute @workgroup_size(256)
fn conv1d_bwd_w_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    bwd_w_2(group_of(group, grid), thread);
}

@compute @workgroup_size(256)
fn conv1d_bwd_b(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    bwd_b(group_of(group, grid), thread);
}
