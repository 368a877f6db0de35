// Two-dimensional convolution in the sense of PyTorch, a cross-correlation, and its gradients.
// with: conv
//
//   fwd    y[n,c,o] = b[c] + sum_i sum_k w[c,i,k] x[n, i, o stride + k dilation - padding]
//   bwd_x  dx[n,i,t] = sum_c sum_k w[c,i,k] dy[n, c, (t + padding - k dilation) / stride]    where that is whole
//   bwd_w  dw[c,i,k] = sum_n sum_o dy[n,c,o] x[n, i, o stride + k dilation - padding]
//   bwd_b  db[c] = sum_n sum_o dy[n,c,o]
// over the channels i of output channel c's group, where o, k and t are pairs (row, column) and every product and
// sum with them goes by its axis; x and dy are 0 beyond their edges.
//
// Shapes: x, dx [batch, cin, h, w]; w, dw [cout, cin / groups, kh, kw]; b, db [cout]; y, dy [batch, cout, oh, ow];
// part [splits, weights], or one element where splits is 1. Without a bias another buffer is bound in its place and not read.
//
// conv.wgsl has the tiles, who owns what and what it costs.

struct Conv2dParams {
    batch: u32,
    cin: u32,
    cout: u32,
    groups: u32,
    h: u32,
    w: u32,
    kh: u32,
    kw: u32,
    oh: u32,
    ow: u32,
    stride_h: u32,
    stride_w: u32,
    padding_h: u32,
    padding_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    bias: u32,
    splits: u32,
    tf32: u32,
}
@group(1) @binding(0) var<uniform> p: Conv2dParams;

override kh: u32 = 1u;
override kw: u32 = 1u;
override stride_h: u32 = 1u;
override stride_w: u32 = 1u;
override dilation_h: u32 = 1u;
override dilation_w: u32 = 1u;

fn taps() -> u32 {
    return kh * kw;
}

fn inputs() -> u32 {
    return p.h * p.w;
}

fn outputs() -> u32 {
    return p.oh * p.ow;
}

fn steps(tap: u32) -> vec2<u32> {
    return vec2<u32>(tap / kw * dilation_h, tap % kw * dilation_w);
}

// What lies under a tap at output position o.
fn input(n: u32, channel: u32, o: u32, tap: u32) -> f32 {
    let padding = vec2<u32>(p.padding_h, p.padding_w);
    let padded = vec2<u32>(o / p.ow * stride_h, o % p.ow * stride_w) + steps(tap);
    let at = padded - padding;
    if any(padded < padding) || at.x >= p.h || at.y >= p.w {
        return 0.0;
    }
    return x[((n * cin + channel) * p.h + at.x) * p.w + at.y];
}

struct Phase {
    rows: Taps,
    columns: Taps,
}

fn phases() -> u32 {
    return min(stride_h, p.h) * min(stride_w, p.w);
}

fn turns() -> vec2<u32> {
    return vec2<u32>((p.h + stride_h - 1u) / stride_h, (p.w + stride_w - 1u) / stride_w);
}

// Input positions of a phase.
fn places() -> u32 {
    return turns().x * turns().y;
}

fn phase_of(number: u32) -> Phase {
    return Phase(
        taps_along(number / min(stride_w, p.w), kh, stride_h, p.padding_h, dilation_h),
        taps_along(number % min(stride_w, p.w), kw, stride_w, p.padding_w, dilation_w),
    );
}

fn reaching(phase: Phase) -> u32 {
    return phase.rows.count * phase.columns.count;
}

fn tap_of(phase: Phase, e: u32) -> u32 {
    let row = phase.rows.first + e / phase.columns.count * phase.rows.step;
    return row * kw + phase.columns.first + e % phase.columns.count * phase.columns.step;
}

fn position(phase: Phase, place: u32) -> vec2<u32> {
    let across = turns().y;
    return vec2<u32>(
        phase.rows.phase + place / across * stride_h,
        phase.columns.phase + place % across * stride_w,
    );
}

fn inside(t: vec2<u32>) -> bool {
    return t.x < p.h && t.y < p.w;
}

fn flat(t: vec2<u32>) -> u32 {
    return t.x * p.w + t.y;
}

// The gradient that reaches input position t by a tap of its phase.
fn upstream(n: u32, channel: u32, t: vec2<u32>, tap: u32) -> f32 {
    let padded = t + vec2<u32>(p.padding_h, p.padding_w);
    let back = steps(tap);
    if any(padded < back) {
        return 0.0;
    }
    let o = (padded - back) / vec2<u32>(stride_h, stride_w);
    if o.x >= p.oh || o.y >= p.ow {
        return 0.0;
    }
    return dy[((n * cout + channel) * p.oh + o.x) * p.ow + o.y];
}

@compute @workgroup_size(256)
fn conv2d_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    fwd(group_of(group, grid), thread);
}

@compute @workgroup_size(256)
fn conv2d_bwd_x(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    bwd_x(group_of(group, grid), thread);
}

@compute @workgroup_size(256)
fn conv2d_bwd_w(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    bwd_w(group_of(group, grid), thread);
}

@compute @workgroup_size(256)
fn conv2d_bwd_w_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    bwd_w_2(group_of(group, grid), thread);
}

@compute @workgroup_size(256)
fn conv2d_bwd_b(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    bwd_b(group_of(group, grid), thread);
}
