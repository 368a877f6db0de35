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
// A channel is cut into splits of L values, which leave two numbers each in part [C, ceil(N / L), 2]: their mean (less k)
// and their squares about it, which merge without cancelling (Chan, Golub and LeVeque 1979), or sum dy xh and sum dy.
// Whoever goes on adds them up again.
//
// Differences from the pivot are exact for values of one magnitude, so a large mean loses no digits.
// Shapes: x, y, dy, dx [B, C, S], saved [2, C] = centre, rstd; everything else [C].
// Threads: a workgroup owns a split of a channel: each thread sums every 256th value in order, then the 256 sums in a
// tree; there are at most 256 splits. Only eval_fwd gives a workgroup SPAN elements of y.
// Cost: 2 reads of x forward, 2 of x and dy backward; in evaluation 1.

struct BatchNormParams {
    batch: u32,
    channels: u32,
    inner: u32,
    eps: f32,
    momentum: f32,
    split: u32,
}
@group(1) @binding(0) var<uniform> p: BatchNormParams;

// A walk over every 256th value of a split: row, place in it, values left.
struct Walk {
    b: u32,
    s: u32,
    left: u32,
}

fn splits() -> u32 {
    return (p.batch * p.inner - 1u) / p.split + 1u;
}

// Values of split i.
fn split_count(i: u32) -> u32 {
    return min(p.split, p.batch * p.inner - i * p.split);
}

fn walk_from(i: u32, thread: u32) -> Walk {
    let at = i * p.split + thread;
    let n = split_count(i);
    return Walk(at / p.inner, at % p.inner, select(0u, (n - thread - 1u) / WIDTH + 1u, thread < n));
}

fn walk_on(w: Walk) -> Walk {
    var next = Walk(w.b + WIDTH / p.inner, w.s + WIDTH % p.inner, w.left - 1u);
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
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;

// Mean and squares of each split.
@compute @workgroup_size(256)
fn batch_norm_stats(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let g = group_of(group, groups);
    if g >= p.channels * splits() {
        return;
    }
    let c = g / splits();
    let i = g % splits();
    let n = f32(split_count(i));
    let pivot = x[c * p.inner];
    var sum = 0.0;
    for (var w = walk_from(i, thread); w.left > 0u; w = walk_on(w)) {
        sum += x[place(w, c)] - pivot;
    }
    let mean = group_sum(thread, sum) / n;
    sum = 0.0;
    for (var w = walk_from(i, thread); w.left > 0u; w = walk_on(w)) {
        let d = (x[place(w, c)] - pivot) - mean;
        sum += d * d;
    }
    let squares = group_sum(thread, sum);
    if thread == 0u {
        stats[2u * g] = mean;
        stats[2u * g + 1u] = squares;
    }
}

@group(0) @binding(1) var<storage, read> part: array<f32>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> beta: array<f32>;
@group(0) @binding(4) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> running_var: array<f32>;
@group(0) @binding(6) var<storage, read_write> train_y: array<f32>;
@group(0) @binding(7) var<storage, read_write> saved: array<f32>;

// What the thread's split of channel c left: two numbers.
fn left_by(c: u32, thread: u32) -> vec2<f32> {
    if thread >= splits() {
        return vec2<f32>();
    }
    let at = 2u * (c * splits() + thread);
    return vec2<f32>(part[at], part[at + 1u]);
}

@compute @workgroup_size(256)
fn batch_norm_train_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let g = group_of(group, groups);
    if g >= p.channels * splits() {
        return;
    }
    let c = g / splits();
    let i = g % splits();
    let n = count();
    let pivot = x[c * p.inner];
    let mine = left_by(c, thread);
    let weight = f32(select(0u, split_count(thread), thread < splits()));
    let centre = group_sum(thread, weight * mine.x) / n;
    let d = mine.x - centre;
    let variance = group_sum(thread, mine.y + weight * (d * d)) / n;
    let rstd = 1.0 / sqrt(variance + p.eps);
    if i == 0u && thread == 0u {
        saved[c] = centre;
        saved[p.channels + c] = rstd;
        running_mean[c] = (1.0 - p.momentum) * running_mean[c] + p.momentum * (pivot + centre);
        running_var[c] = (1.0 - p.momentum) * running_var[c] + p.momentum * (variance * (n / (n - 1.0)));
    }
    let scale = gamma[c] * rstd;
    for (var w = walk_from(i, thread); w.left > 0u; w = walk_on(w)) {
        let at = place(w, c);
        train_y[at] = ((x[at] - pivot) - centre) * scale + beta[c];
    }
}

@group(0) @binding(1) var<storage, read> saved_in: array<f32>;
@group(0) @binding(2) var<storage, read> sums_dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums_part: array<f32>;

@compute @workgroup_size(256)
fn batch_norm_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let g = group_of(group, groups);
    if g >= p.channels * splits() {
        return;
    }
    let c = g / splits();
    let pivot = x[c * p.inner];
    let centre = saved_in[c];
    let rstd = saved_in[p.channels + c];
    var with_x = 0.0;
    var alone = 0.0;
    for (var w = walk_from(g % splits(), thread); w.left > 0u; w = walk_on(w)) {
        let at = place(w, c);
        with_x += sums_dy[at] * (((x[at] - pivot) - centre) * rstd);
        alone += sums_dy[at];
    }
    with_x = group_sum(thread, with_x);
    alone = group_sum(thread, alone);
    if thread == 0u {
        sums_part[2u * g] = with_x;
        sums_part[2u * g + 1u] = alone;
    }
}

@group(0) @binding(3) var<storage, read> bwd_saved: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(7) var<storage, read_write> dbeta: array<f32>;

@compute @workgroup_size(256)
fn batch_norm_train_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let g = group_of(group, groups);
    if g >= p.channels * splits() {
        return;
    }
    let c = g / splits();
    let i = g % splits();
    let n = count();
    let pivot = x[c * p.inner];
    let centre = bwd_saved[c];
    let rstd = bwd_saved[p.channels + c];
    let mine = left_by(c, thread);
    let with_x = group_sum(thread, mine.x);
    let alone = group_sum(thread, mine.y);
    if i == 0u && thread == 0u {
        dgamma[c] = with_x;
        dbeta[c] = alone;
    }
    let scale = gamma[c] * rstd;
    let mean = alone / n;
    let slope = rstd * with_x / n;
    for (var w = walk_from(i, thread); w.left > 0u; w = walk_on(w)) {
        let at = place(w, c);
        dx[at] = scale * (dy[at] - mean - ((x[at] - pivot) - centre) * slope);
    }
}

@group(0) @binding(1) var<storage, read> eval_gamma: array<f32>;
@group(0) @binding(2) var<storage, read> eval_beta: array<f32>;
@group(0) @binding(3) var<storage, read> eval_mean: array<f32>;
@group(0) @binding(4) var<storage, read> eval_var: array<f32>;
@group(0) @binding(5) var<storage, read_write> eval_y: array<f32>;

@compute @workgroup_size(256)
fn batch_norm_eval_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, elements()); i += WIDTH) {
        let c = i / p.inner % p.channels;
        eval_y[i] = (x[i] - eval_mean[c]) * (eval_gamma[c] / sqrt(eval_var[c] + p.eps)) + eval_beta[c];
    }
}

@group(0) @binding(2) var<storage, read> bwd_mean: array<f32>;
@group(0) @binding(3) var<storage, read> bwd_var: array<f32>;
@group(0) @binding(5) var<storage, read_write> eval_part: array<f32>;
@group(0) @binding(6) var<storage, read_write> eval_dx: array<f32>;
@group(0) @binding(7) var<storage, read_write> eval_dgamma: array<f32>;
@group(0) @binding(8) var<storage, read_write> eval_dbeta: array<f32>;

// dx, and the sums of each split.
@compute @workgroup_size(256)
fn batch_norm_eval_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let g = group_of(group, groups);
    if g >= p.channels * splits() {
        return;
    }
    let c = g / splits();
    let mean = bwd_mean[c];
    let rstd = 1.0 / sqrt(bwd_var[c] + p.eps);
    let scale = eval_gamma[c] * rstd;
    var with_x = 0.0;
    var alone = 0.0;
    for (var w = walk_from(g % splits(), thread); w.left > 0u; w = walk_on(w)) {
        let at = place(w, c);
        with_x += dy[at] * ((x[at] - mean) * rstd);
        alone += dy[at];
        eval_dx[at] = scale * dy[at];
    }
    with_x = group_sum(thread, with_x);
    alone = group_sum(thread, alone);
    if thread == 0u {
        eval_part[2u * g] = with_x;
        eval_part[2u * g + 1u] = alone;
    }
}

// dgamma and dbeta.
@compute @workgroup_size(256)
fn batch_norm_eval_bwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let c = group_of(group, groups);
    if c >= p.channels {
        return;
    }
    var with_x = 0.0;
    var alone = 0.0;
    if thread < splits() {
        let at = 2u * (c * splits() + thread);
        with_x = eval_part[at];
        alone = eval_part[at + 1u];
    }
    with_x = group_sum(thread, with_x);
    alone = group_sum(thread, alone);
    if thread == 0u {
        eval_dgamma[c] = with_x;
        eval_dbeta[c] = alone;
    }
}
