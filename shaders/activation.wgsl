// Activations: relu and leaky relu are one kernel, sigmoid another.
//
//   relu     y = x where x > 0, else slope * x       dx = dy where x > 0, else slope * dy
//   sigmoid  y = 1 / (1 + exp(-x))                   dx = dy * y * (1 - y), from the output y
//
// Shapes: every buffer has n elements. Threads: a workgroup owns SPAN elements, a thread every 256th.
// Cost: a few flops an element; every buffer moves once.

struct ActivationParams {
    n: u32,
    slope: f32,
}
@group(1) @binding(0) var<uniform> p: ActivationParams;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn activation_relu_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, p.n); i += WIDTH) {
        let v = x[i];
        y[i] = select(p.slope * v, v, v > 0.0);
    }
}

@compute @workgroup_size(256)
fn activation_sigmoid_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, p.n); i += WIDTH) {
        y[i] = sigmoid(x[i]);
    }
}

@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn activation_relu_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, p.n); i += WIDTH) {
        let d = dy[i];
        dx[i] = select(p.slope * d, d, x[i] > 0.0);
    }
}

// Binding 0 is the output y here.
@compute @workgroup_size(256)
fn activation_sigmoid_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, p.n); i += WIDTH) {
        let v = x[i];
        dx[i] = dy[i] * v * (1.0 - v);
    }
}
