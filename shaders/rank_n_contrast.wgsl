// Rank-N-Contrast's loss (Zha et al., NeurIPS 2023) over rows in the order of their labels.
//
// Of anchor i, with s_k = -distance_ik / t, and delta_k how far the label of k is from its own:
//
//   S(delta) = sum of exp(s_k) over k != i with delta_k >= delta      the negatives of a row that is so far
//   loss_i   = mean over j != i of log S(delta_j) - s_j
//   d/ds_k   = exp(s_k) Q(delta_k) - 1, over n (n - 1)                Q(delta) = sum of 1 / S(delta_j) over delta_j <= delta
//
// Among the sorted labels the rows of S are a run of the first and a run of the last, those of Q what is between: two running
// sums from the ends towards the anchor, and two back. All are logarithms, with their largest term apart.
//
//   order   labels [n] -> order [n], the row with the q-th least label; ranks [n], its inverse; sorted [n]
//           A thread owns a row and counts those before it, over tiles of labels in workgroup memory; n^2 comparisons.
//   rows    order, ranks, sorted [n], distances [rows, n] of anchors first + (0..rows) -> losses [rows]; where asked for, the
//           gradient of the loss by the distances in their place, or of each times upstream [rows]; sums [rows, 2, n]
//           A workgroup owns an anchor, a thread every 256th of its rows; in a running sum a run of neighbours, whose sum it
//           leaves to the others before it goes through them again. Which rows count is found by bisection.
//           Cost: some 60 flops a pair, 24 bytes and four searches of log n labels, which bind it.
//   sum     losses [n] -> loss [1], their mean. One workgroup.

struct RankNContrastParams {
    n: u32,
    first: u32,
    rows: u32,
    gradient: u32,
    temperature: f32,
}
@group(1) @binding(0) var<uniform> p: RankNContrastParams;

const BLOCK: u32 = 256u;
const EACH: u32 = 2u;
// Threads that share a sum of sums.
const GROUP: u32 = 16u;
// Less than any logarithm here, and far from the end of the range.
const LOWEST: f32 = -1e38;

@group(0) @binding(0) var<storage, read> labels: array<f32>;
@group(0) @binding(1) var<storage, read_write> order_of: array<u32>;
@group(0) @binding(2) var<storage, read_write> ranks_of: array<u32>;
@group(0) @binding(3) var<storage, read_write> sorted_of: array<f32>;

var<workgroup> keys: array<u32, 256>;

// Orders labels as whole numbers; those that are none come last, -0 and 0 are one.
fn key_of(label: f32) -> u32 {
    let bits = bitcast<u32>(label);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return 0xffffffffu;
    }
    if bits == 0x80000000u {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) != 0u);
}

@compute @workgroup_size(256)
fn rank_n_contrast_order(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = group_of(group, groups) * BLOCK + thread;
    var own = 0u;
    if i < p.n {
        own = key_of(labels[i]);
    }
    var rank = 0u;
    for (var first = 0u; first < p.n; first += BLOCK) {
        workgroupBarrier(); // whoever still reads the tile before
        if thread < p.n - first {
            keys[thread] = key_of(labels[first + thread]);
        }
        workgroupBarrier();
        for (var k = 0u; k < min(BLOCK, p.n - first); k++) {
            if keys[k] < own || (keys[k] == own && first + k < i) {
                rank += 1u;
            }
        }
    }
    let bad = cut_short(p.n);
    if i < p.n {
        order_of[rank] = i;
        ranks_of[i] = rank;
        sorted_of[rank] = nan_if(bad, labels[i]);
    }
}

@group(0) @binding(0) var<storage, read> order: array<u32>;
@group(0) @binding(1) var<storage, read> ranks: array<u32>;
@group(0) @binding(2) var<storage, read> sorted: array<f32>;
@group(0) @binding(3) var<storage, read> upstream: array<f32>;
@group(0) @binding(4) var<storage, read_write> distances: array<f32>;
@group(0) @binding(5) var<storage, read_write> losses: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;

var<workgroup> totals: array<f32, 256>;
var<workgroup> of_groups: array<f32, 16>;

// A sum of exponentials: sum exp(largest).
struct Running {
    largest: f32,
    sum: f32,
}

fn plus(of_sum: Running, v: f32) -> Running {
    if v > of_sum.largest {
        return Running(v, of_sum.sum * exp(of_sum.largest - v) + 1.0);
    }
    return Running(of_sum.largest, of_sum.sum + exp(v - of_sum.largest));
}

fn log_of(of_sum: Running) -> f32 {
    if of_sum.sum == 0.0 {
        return LOWEST;
    }
    return of_sum.largest + ln(of_sum.sum);
}

// The logarithm of exp(a) + exp(b).
fn log_sum(a: f32, b: f32) -> f32 {
    return log_of(plus(plus(Running(LOWEST, 0.0), a), b));
}

// Each of `count` values of `sums`, from number `first` on or backwards from it, becomes the logarithm of the sum of the
// exponentials up to it. All threads must come here.
fn run_up(thread: u32, first: u32, count: u32, backwards: bool) {
    let share = (count + BLOCK - 1u) / BLOCK;
    let begin = min(thread * share, count);
    let end = min(begin + share, count);
    var own = Running(LOWEST, 0.0);
    for (var k = begin; k < end; k++) {
        own = plus(own, sums[select(first + k, first - k, backwards)]);
    }
    totals[thread] = log_of(own);
    workgroupBarrier();
    if thread < GROUP {
        var of_group = Running(LOWEST, 0.0);
        for (var k = 0u; k < BLOCK / GROUP; k++) {
            of_group = plus(of_group, totals[thread * (BLOCK / GROUP) + k]);
        }
        of_groups[thread] = log_of(of_group);
    }
    workgroupBarrier();
    let group = thread / (BLOCK / GROUP);
    var before = Running(LOWEST, 0.0);
    for (var k = 0u; k < group; k++) {
        before = plus(before, of_groups[k]);
    }
    for (var k = group * (BLOCK / GROUP); k < thread; k++) {
        before = plus(before, totals[k]);
    }
    for (var k = begin; k < end; k++) {
        let at = select(first + k, first - k, backwards);
        before = plus(before, sums[at]);
        sums[at] = log_of(before);
    }
    storageBarrier();
    workgroupBarrier();
}

// How far the label of the q-th row is from that of the anchor, the c-th.
fn apart(c: u32, q: u32) -> f32 {
    if q > c {
        return sorted[q] - sorted[c];
    }
    return sorted[c] - sorted[q];
}

fn is_far(far: f32, delta: f32, is_farther: bool) -> bool {
    return select(far >= delta, far > delta, is_farther);
}

// How many of the rows before the anchor are as far as `delta`, or farther: the first ones.
fn before_of(c: u32, delta: f32, is_farther: bool) -> u32 {
    var low = 0u;
    var high = c;
    while low < high {
        let middle = low + (high - low) / 2u;
        if is_far(apart(c, middle), delta, is_farther) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

// The first of the rows behind the anchor that is as far as `delta`, or farther; n where none is.
fn behind_of(c: u32, delta: f32, is_farther: bool) -> u32 {
    var low = c + 1u;
    var high = p.n;
    while low < high {
        let middle = low + (high - low) / 2u;
        if is_far(apart(c, middle), delta, is_farther) {
            high = middle;
        } else {
            low = middle + 1u;
        }
    }
    return low;
}

@compute @workgroup_size(256)
fn rank_n_contrast_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = group_of(group, groups);
    if row >= p.rows {
        return;
    }
    let n = p.n;
    let c = ranks[p.first + row];
    let of_row = row * n;
    let inwards = 2u * of_row;
    let outwards = inwards + n;
    // Halves, whose difference cannot be more than there is.
    let first = sorted[0];
    let last = sorted[n - 1u];
    var bad = !(is_finite(first) && is_finite(last) && 0.5 * last - 0.5 * first < 1.7e38);
    for (var q = thread; q < n; q += BLOCK) {
        let far = distances[of_row + order[q]];
        bad = bad || (q != c && !is_finite(far));
        sums[inwards + q] = -far / p.temperature;
    }
    storageBarrier();
    workgroupBarrier();
    run_up(thread, inwards, c, false);
    run_up(thread, inwards + n - 1u, n - 1u - c, true);
    var loss = 0.0;
    for (var q = thread; q < n; q += BLOCK) {
        if q == c {
            continue;
        }
        let delta = apart(c, q);
        let before = before_of(c, delta, false);
        let behind = behind_of(c, delta, false);
        var of_before = LOWEST;
        if before > 0u {
            of_before = sums[inwards + before - 1u];
        }
        var of_behind = LOWEST;
        if behind < n {
            of_behind = sums[inwards + behind];
        }
        let log_all = log_sum(of_before, of_behind);
        loss += log_all + distances[of_row + order[q]] / p.temperature;
        sums[outwards + q] = -log_all;
    }
    storageBarrier();
    let total = group_sum(thread, loss);
    let no_result = group_any(thread, bad || cut_short(n));
    if thread == 0u {
        losses[row] = nan_if(no_result, total / f32(n - 1u));
    }
    if p.gradient == 0u {
        return;
    }
    run_up(thread, outwards + c - 1u, c, true);
    run_up(thread, outwards + c + 1u, n - 1u - c, false);
    var scale = 1.0 / (f32(n) * f32(n - 1u) * p.temperature);
    if p.gradient == EACH {
        scale = upstream[row] / (f32(n - 1u) * p.temperature);
    }
    for (var q = thread; q < n; q += BLOCK) {
        let at = of_row + order[q];
        if q == c {
            distances[at] = 0.0;
            continue;
        }
        let delta = apart(c, q);
        let before = before_of(c, delta, true);
        let behind = behind_of(c, delta, true);
        var of_before = LOWEST;
        if before < c {
            of_before = sums[outwards + before];
        }
        var of_behind = LOWEST;
        if behind > c + 1u {
            of_behind = sums[outwards + behind - 1u];
        }
        let slope = scale * (1.0 - exp(log_sum(of_before, of_behind) - distances[at] / p.temperature));
        distances[at] = nan_if(no_result, slope);
    }
}

@group(0) @binding(0) var<storage, read> losses_in: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(256)
fn rank_n_contrast_sum(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    var bad = false;
    for (var i = thread; i < p.n; i += BLOCK) {
        sum += losses_in[i];
        bad = bad || is_nan(losses_in[i]);
    }
    let total = group_sum(thread, sum);
    let no_result = group_any(thread, bad || cut_short(p.n));
    if thread == 0u {
        loss[0] = nan_if(no_result, total / f32(p.n));
    }
}
