// Batch normalisation (Ioffe and Szegedy 2015) over x [B, C, S], S the product of all further dimensions.
//
// Training, over the N = B S values of a channel, with the pivot k = x[0, c, 0]:
//
//   centre = mean (x - k)        var = mean (x - k - centre)^2        rstd = 1 / sqrt(var + eps)
//   xh = (x - k - centre) rstd   y = gamma xh + beta
//   running_mean <- (1 - m) running_mean + m (k + centre)
//   running_var  <- (1 - m) running_var + m var N / (N - 1)
//   dgamma = sum dy xh           dbeta = sum dy           dx = gamma rstd (dy - dbeta / N - xh dgamma / N)
//
// Evaluation: xh = (x - running_mean) / sqrt(running_var + eps), dx = gamma dy / sqrt(running_var + eps).
//
// Differences from the pivot are exact for values of one magnitude, so a large mean loses no digits.
// Shapes: x, y, dy, dx [B, C, S], everything else [C].
// Threads: stage one, a workgroup owns a channel: each thread sums every 256th value in order, then the 256
// sums in a tree. Stage two, a workgroup owns SPAN elements of y or dx. A few channels leave a large GPU
// idle in stage one: the network's own layer (conv_block) sums by blocks instead.
// Cost: 3 reads of x forward, 2 of x and dy backward.

struct P {
    batch: u32,
    channels: u32,
    inner: u32,
    eps: f32,
    momentum: f32,
}
@group(1) @binding(0) var<uniform> p: P;

// A walk over the values of a channel, every 256th.
struct Walk {
    b: u32,
    s: u32,
}

fn walk_from(thread: u32) -> Walk {
    return Walk(thread / p.inner, thread % p.inner);
}

fn walk_on(w: Walk) -> Walk {
    var next = Walk(w.b + WIDTH / p.inner, w.s + WIDTH % p.inner);
    if next.s >= p.inner {
        next.s -= p.inner;
        next.b += 1u;
    }
    return next;
}

fn place(w: Walk, c: u32) -> u32 {
    return (w.b * p.channels + c) * p.inner + w.s;
}

fn count() -> f32 {
    return f32(p.batch * p.inner);
}

fn elements() -> u32 {
    return p.batch * p.channels * p.inner;
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
@group(0) @binding(2) var<storage, read> beta: array<f32>;
@group(0) @binding(3) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> running_var: array<f32>;
@group(0) @binding(5) var<storage, read_write> train_y: array<f32>;
@group(0) @binding(6) var<storage, read_write> centre: array<f32>;
@group(0) @binding(7) var<storage, read_write> rstd: array<f32>;

// Statistics.
@compute @workgroup_size(256)
fn batch_norm_train_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let c = group_of(group, groups);
    if c >= p.channels {
        return;
    }
    let n = count();
    let pivot = x[c * p.inner];
    var part = 0.0;
    for (var w = walk_from(thread); w.b < p.batch; w = walk_on(w)) {
        part += x[place(w, c)] - pivot;
    }
    let mean = group_sum(thread, part) / n;
    part = 0.0;
    for (var w = walk_from(thread); w.b < p.batch; w = walk_on(w)) {
        let d = (x[place(w, c)] - pivot) - mean;
        part += d * d;
    }
    let variance = group_sum(thread, part) / n;
    if thread == 0u {
        centre[c] = mean;
        rstd[c] = 1.0 / sqrt(variance + p.eps);
        running_mean[c] = (1.0 - p.momentum) * running_mean[c] + p.momentum * (pivot + mean);
        running_var[c] = (1.0 - p.momentum) * running_var[c] + p.momentum * (variance * (n / (n - 1.0)));
    }
}

// y.
@compute @workgroup_size(256)
fn batch_norm_train_fwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, elements()); i += WIDTH) {
        let c = i / p.inner % p.channels;
        let d = (x[i] - x[c * p.inner]) - centre[c];
        train_y[i] = d * (gamma[c] * rstd[c]) + beta[c];
    }
}

@group(0) @binding(2) var<storage, read> saved_centre: array<f32>;
@group(0) @binding(3) var<storage, read> saved_rstd: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(7) var<storage, read_write> dbeta: array<f32>;

// The sums of backward for one channel, x less its mean being (x - pivot) - offset.
fn sums(c: u32, pivot: f32, offset: f32, scale: f32, thread: u32) {
    var with_x = 0.0;
    var alone = 0.0;
    for (var w = walk_from(thread); w.b < p.batch; w = walk_on(w)) {
        let at = place(w, c);
        with_x += dy[at] * (((x[at] - pivot) - offset) * scale);
        alone += dy[at];
    }
    let g = group_sum(thread, with_x);
    let b = group_sum(thread, alone);
    if thread == 0u {
        dgamma[c] = g;
        dbeta[c] = b;
    }
}

@compute @workgroup_size(256)
fn batch_norm_train_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let c = group_of(group, groups);
    if c >= p.channels {
        return;
    }
    sums(c, x[c * p.inner], saved_centre[c], saved_rstd[c], thread);
}

// dx.
@compute @workgroup_size(256)
fn batch_norm_train_bwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    let n = count();
    for (var i = first + thread; i < min(first + SPAN, elements()); i += WIDTH) {
        let c = i / p.inner % p.channels;
        let scale = saved_rstd[c];
        let d = (x[i] - x[c * p.inner]) - saved_centre[c];
        dx[i] = gamma[c] * scale * (dy[i] - dbeta[c] / n - d * (scale * dgamma[c] / n));
    }
}

@group(0) @binding(3) var<storage, read> eval_mean: array<f32>;
@group(0) @binding(4) var<storage, read> eval_var: array<f32>;

@compute @workgroup_size(256)
fn batch_norm_eval_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, elements()); i += WIDTH) {
        let c = i / p.inner % p.channels;
        train_y[i] = (x[i] - eval_mean[c]) * (gamma[c] / sqrt(eval_var[c] + p.eps)) + beta[c];
    }
}

@compute @workgroup_size(256)
fn batch_norm_eval_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let c = group_of(group, groups);
    if c >= p.channels {
        return;
    }
    // Bindings 2 and 3 are the running mean and variance here.
    sums(c, saved_centre[c], 0.0, 1.0 / sqrt(saved_rstd[c] + p.eps), thread);
}

@compute @workgroup_size(256)
fn batch_norm_eval_bwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, elements()); i += WIDTH) {
        let c = i / p.inner % p.channels;
        dx[i] = gamma[c] / sqrt(saved_rstd[c] + p.eps) * dy[i];
    }
}
