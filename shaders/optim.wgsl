// Optimizer updates of a flat parameter set, in place, one dispatch for all of it.
//
//   sgd    v = momentum * v + grad + weight_decay * theta           theta -= lr * v
//   adam   m += rate1 * (g - m)                                     g = grad (+ weight_decay * theta)
//          v += rate2 * (g^2 - v)
//          theta = shrink * theta - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//
// Shapes: hyper [3] = (lr, 1 - beta1^t, 1 - beta2^t), everything else n elements. After PyTorch; Adam is
// Kingma and Ba (2015), decoupled decay Loshchilov and Hutter (2019).
// Threads: a workgroup owns SPAN elements, a thread every 256th. Cost: 6 flops and 5 transfers an element
// (sgd), 16 and 7 (adam).

struct SgdParams {
    n: u32,
    momentum: f32,
    weight_decay: f32,
}
@group(1) @binding(0) var<uniform> sgd: SgdParams;

@group(0) @binding(0) var<storage, read> hyper: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> theta: array<f32>;
@group(0) @binding(3) var<storage, read_write> velocity: array<f32>;

@compute @workgroup_size(256)
fn optim_sgd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    let lr = hyper[0];
    for (var i = first + thread; i < min(first + SPAN, sgd.n); i += WIDTH) {
        let at = theta[i];
        let v = sgd.momentum * velocity[i] + (grad[i] + sgd.weight_decay * at);
        velocity[i] = v;
        theta[i] = at - lr * v;
    }
}

struct AdamParams {
    n: u32,
    rate1: f32,
    rate2: f32,
    eps: f32,
    weight_decay: f32,
    decoupled: u32,
}
@group(1) @binding(0) var<uniform> adam: AdamParams;

@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(256)
fn optim_adam(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    let lr = hyper[0];
    let step = lr / hyper[1];
    let root = sqrt(hyper[2]);
    let decoupled = adam.decoupled != 0u;
    let couple = select(adam.weight_decay, 0.0, decoupled);
    let shrink = select(1.0, 1.0 - lr * adam.weight_decay, decoupled);
    for (var i = first + thread; i < min(first + SPAN, adam.n); i += WIDTH) {
        let at = theta[i];
        let g = grad[i] + couple * at;
        let m1 = m[i] + adam.rate1 * (g - m[i]);
        let v1 = v[i] + adam.rate2 * (g * g - v[i]);
        m[i] = m1;
        v[i] = v1;
        theta[i] = shrink * at - step * m1 / (sqrt(v1) / root + adam.eps);
    }
}
