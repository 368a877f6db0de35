// Elementwise sums and copies: the glue of the tape.
//
//   fill        y = factor
//   copy        y = x
//   add         y = a + factor * b
//   accumulate  sum += x
//   scale       y = factor * s[0] * x
//
// Shapes: every buffer has n elements, s has one.
// Threads: a workgroup owns SPAN elements, a thread every 256th of them, so that reads coalesce and
// each thread has four loads in flight. Cost: at most two flops an element; every buffer moves once.

struct ElementwiseParams {
    n: u32,
    factor: f32,
}
@group(1) @binding(0) var<uniform> p: ElementwiseParams;

@group(0) @binding(0) var<storage, read_write> fill_y: array<f32>;

@compute @workgroup_size(256)
fn elementwise_fill(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, p.n); i += WIDTH) {
        fill_y[i] = p.factor;
    }
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> copy_y: array<f32>;

@compute @workgroup_size(256)
fn elementwise_copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, p.n); i += WIDTH) {
        copy_y[i] = x[i];
    }
}

@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn elementwise_add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, p.n); i += WIDTH) {
        y[i] = x[i] + p.factor * b[i];
    }
}

@group(0) @binding(1) var<storage, read_write> sum: array<f32>;

@compute @workgroup_size(256)
fn elementwise_accumulate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, p.n); i += WIDTH) {
        sum[i] += x[i];
    }
}

@compute @workgroup_size(256)
fn elementwise_scale(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    let factor = p.factor * b[0];
    for (var i = first + thread; i < min(first + SPAN, p.n); i += WIDTH) {
        y[i] = factor * x[i];
    }
}
