// Losses between predictions and targets: the mean times a weight, and its gradient, in one launch.
//
//   mse         weight * mean (p - t)^2                                  dp = weight * 2 (p - t) / n
//   mse_weighted  weight * sum w (p - t)^2 / n                           dp = weight * 2 w (p - t) / n
//               what has the weight 0 adds nothing, whatever it is
//   bce         -weight * mean (t ln p + (1 - t) ln (1 - p))             dp = weight * (p - t) / max(p (1 - p), 1e-12) / n
//               each logarithm at least -100; p beyond [0, 1] counts as the nearer end
//   bce_logits  weight * mean (max(x, 0) - x t + ln (1 + exp(-|x|)))     dp = weight * (sigmoid(x) - t) / n
//
// Shapes: p [n], t [n], loss [1], dp [n] for upstream 1, part [ceil(n / SPAN)]; of mse_weighted w [n] too.
// Threads: a workgroup owns SPAN terms, a thread every 256th of them; the 256 sums are added in a tree. Several workgroups
// leave their sums in part, and stage two, one workgroup, adds these in the same manner; one is done after stage one.
// Cost: a handful of flops an element, three passes over n elements.

struct LossParams {
    n: u32,
    weight: f32,
}
@group(1) @binding(0) var<uniform> params: LossParams;

@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> dp: array<f32>;
@group(0) @binding(4) var<storage, read_write> part: array<f32>;
@group(0) @binding(5) var<storage, read> w: array<f32>;

const MSE: u32 = 0u;
const BCE: u32 = 1u;
const BCE_LOGITS: u32 = 2u;

fn mse(p: f32, t: f32) -> vec2<f32> {
    let d = p - t;
    return vec2<f32>(d * d, d + d);
}

fn mse_weighted(p: f32, t: f32, w: f32) -> vec2<f32> {
    if w == 0.0 {
        return vec2<f32>(0.0, 0.0);
    }
    return w * mse(p, t);
}

fn bce(prediction: f32, t: f32) -> vec2<f32> {
    let p = clamp(prediction, 0.0, 1.0);
    var yes = -100.0;
    var no = -100.0;
    if p != 0.0 {
        yes = max(ln(p), -100.0);
    }
    if p != 1.0 {
        no = max(ln_1p(-p), -100.0);
    }
    // No bound swallows a prediction that is no number.
    let bad = is_nan(prediction);
    let value = -(t * yes + (1.0 - t) * no);
    return vec2<f32>(nan_if(bad, value), nan_if(bad, (p - t) / max(p * (1.0 - p), 1e-12)));
}

fn bce_logits(x: f32, t: f32) -> vec2<f32> {
    return vec2<f32>(max(x, 0.0) - x * t + ln_1p(exp(-abs(x))), sigmoid(x) - t);
}

// Value and derivative of element i; `kind` is a constant at each call.
fn term(kind: u32, i: u32) -> vec2<f32> {
    switch kind {
        case MSE: {
            return mse(p[i], t[i]);
        }
        case BCE: {
            return bce(p[i], t[i]);
        }
        default: {
            return bce_logits(p[i], t[i]);
        }
    }
}

fn run(kind: u32, group: u32, thread: u32) {
    let slope = params.weight / f32(params.n);
    let first = group * SPAN;
    if first >= params.n {
        return;
    }
    var sum = 0.0;
    for (var i = first + thread; i < min(first + SPAN, params.n); i += WIDTH) {
        let value = term(kind, i);
        sum += value.x;
        dp[i] = slope * value.y;
    }
    leave(group, thread, slope, sum);
}

// The same with weights, in a function of its own: who calls it has a binding more.
fn run_weighted(group: u32, thread: u32) {
    let slope = params.weight / f32(params.n);
    let first = group * SPAN;
    if first >= params.n {
        return;
    }
    var sum = 0.0;
    for (var i = first + thread; i < min(first + SPAN, params.n); i += WIDTH) {
        let value = mse_weighted(p[i], t[i], w[i]);
        sum += value.x;
        dp[i] = slope * value.y;
    }
    leave(group, thread, slope, sum);
}

// Leaves a workgroup's sum, which is all where there is one.
fn leave(group: u32, thread: u32, slope: f32, sum: f32) {
    let total = group_sum(thread, sum);
    if thread == 0u {
        part[group] = total;
        if params.n <= SPAN {
            loss[0] = slope * total;
        }
    }
}

fn finish(thread: u32) {
    var sum = 0.0;
    for (var i = thread; i < (params.n - 1u) / SPAN + 1u; i += WIDTH) {
        sum += part[i];
    }
    let total = group_sum(thread, sum);
    if thread == 0u {
        loss[0] = params.weight / f32(params.n) * total;
    }
}

@compute @workgroup_size(256)
fn loss_mse(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    run(MSE, group_of(group, groups), thread);
}

@compute @workgroup_size(256)
fn loss_mse_weighted(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    run_weighted(group_of(group, groups), thread);
}

@compute @workgroup_size(256)
fn loss_bce(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    run(BCE, group_of(group, groups), thread);
}

@compute @workgroup_size(256)
fn loss_bce_logits(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    run(BCE_LOGITS, group_of(group, groups), thread);
}

@compute @workgroup_size(256)
fn loss_mse_2(@builtin(local_invocation_index) thread: u32) {
    finish(thread);
}

@compute @workgroup_size(256)
fn loss_mse_weighted_2(@builtin(local_invocation_index) thread: u32) {
    finish(thread);
}

@compute @workgroup_size(256)
fn loss_bce_2(@builtin(local_invocation_index) thread: u32) {
    finish(thread);
}

@compute @workgroup_size(256)
fn loss_bce_logits_2(@builtin(local_invocation_index) thread: u32) {
    finish(thread);
}
