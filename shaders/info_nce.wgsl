// InfoNCE weighted by how far labels are from one another (Dufumier et al., MICCAI 2021).
//
// Of anchor i, with s_k = cosine_ik / t, and r_k how far the label of k is from its own, over sigma:
//
//   p_k     = exp(s_k) / sum exp(s)          w_k = exp(-r_k^2 / 2) / sum exp(-r^2 / 2)
//   loss_i  = -sum of w_k log p_k
//   d/ds_k  = p_k - w_k, over n
//
// Both with their largest term apart; of the weights that is the nearest label's, r_0, and the exponent -(r - r_0) (r + r_0) / 2.
//
//   rows   labels [n], other_labels [m], cosines [rows, m] of anchors first + (0..rows) -> losses [rows]; where asked for, the
//          gradient of the loss by the cosines in their place, or of each times upstream [rows]. `own`: anchors are of the
//          same rows, none is held against itself.
//          A workgroup owns an anchor, a thread every 256th of its columns, three times: the ends, the sums, the gradient.
//          Cost: some 50 flops a pair, four exponentials of which bind it, and 16 bytes.
//   mean   losses [n] -> loss [1]. One workgroup.

struct InfoNceParams {
    n: u32,
    m: u32,
    first: u32,
    rows: u32,
    own: u32,
    gradient: u32,
    sigma: f32,
    temperature: f32,
}
@group(1) @binding(0) var<uniform> p: InfoNceParams;

const BLOCK: u32 = 256u;
const EACH: u32 = 2u;
// No number is beyond it.
const LAST: f32 = 0x1.fffffep+127;

@group(0) @binding(0) var<storage, read> labels: array<f32>;
@group(0) @binding(1) var<storage, read> other_labels: array<f32>;
@group(0) @binding(2) var<storage, read> upstream: array<f32>;
@group(0) @binding(3) var<storage, read_write> cosines: array<f32>;
@group(0) @binding(4) var<storage, read_write> losses: array<f32>;

// How far the label of a column is from the anchor's, in sigmas.
fn far_of(label: f32, k: u32) -> f32 {
    return abs(label - other_labels[k]) / p.sigma;
}

fn weight_of(far: f32, nearest: f32) -> f32 {
    return exp(-(far - nearest) * (0.5 * far + 0.5 * nearest));
}

@compute @workgroup_size(256)
fn info_nce_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = group_of(group, groups);
    if row >= p.rows {
        return;
    }
    let m = p.m;
    let at = p.first + row;
    // No column where the anchor is of another set.
    let own = select(m, at, p.own != 0u);
    let label = labels[at];
    let of_row = row * m;
    var largest = -LAST;
    var nearest = LAST;
    var bad = false;
    for (var k = thread; k < m; k += BLOCK) {
        if k == own {
            continue;
        }
        let s = cosines[of_row + k] / p.temperature;
        let far = far_of(label, k);
        bad = bad || !is_finite(s) || !is_finite(far);
        largest = max(largest, s);
        nearest = min(nearest, far);
    }
    largest = group_max(thread, largest);
    nearest = -group_max(thread, -nearest);
    var sum = 0.0;
    var weights = 0.0;
    var weighted = 0.0;
    for (var k = thread; k < m; k += BLOCK) {
        if k == own {
            continue;
        }
        let below = cosines[of_row + k] / p.temperature - largest;
        let weight = weight_of(far_of(label, k), nearest);
        sum += exp(below);
        weights += weight;
        weighted += weight * below;
    }
    sum = group_sum(thread, sum);
    weights = group_sum(thread, weights);
    weighted = group_sum(thread, weighted);
    let no_result = group_any(thread, bad || cut_short(p.n + m));
    if thread == 0u {
        losses[row] = nan_if(no_result, ln(sum) - weighted / weights);
    }
    if p.gradient == 0u {
        return;
    }
    var scale = 1.0 / (f32(p.n) * p.temperature);
    if p.gradient == EACH {
        scale = upstream[row] / p.temperature;
    }
    for (var k = thread; k < m; k += BLOCK) {
        var slope = 0.0;
        if k != own {
            let below = cosines[of_row + k] / p.temperature - largest;
            slope = scale * (exp(below) / sum - weight_of(far_of(label, k), nearest) / weights);
        }
        cosines[of_row + k] = nan_if(no_result, slope);
    }
}

@group(0) @binding(0) var<storage, read> losses_in: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(256)
fn info_nce_mean(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    var bad = false;
    for (var i = thread; i < p.n; i += BLOCK) {
        sum += losses_in[i];
        bad = bad || is_nan(losses_in[i]);
    }
    let total = group_sum(thread, sum);
    let no_result = group_any(thread, bad || cut_short(p.n + p.m));
    if thread == 0u {
        loss[0] = nan_if(no_result, total / f32(p.n));
    }
}
