// The contrastive loss of each row of a block of pairs.
//
// Of row i of a block and column j, with the distance d of their embeddings, how far their labels are apart, w, and the pair's
// weight s:
//
//   l_ij    = d^2 / 2 where w <= tau, max(0, margin w - d)^2 / 2 elsewhere
//   sums_i  = sum over j of s_ij l_ij          totals_i = sum over j of s_ij
//   d/dd_ij = upstream_i s_ij (d where w <= tau, -max(0, margin w - d) elsewhere)
//
//   fwd   labels, other_labels, weights, similarities [rows, m] -> sums, totals [rows]. Labels are [rows] and [m], or the first
//         are the matrix [rows, m] of how far they are apart; weights are the columns', [m], or a matrix, or all 1. Similarities
//         are Euclidean distances or cosines, of which d = 1 - cos. `own`: rows are those of the columns' own set from `first`
//         on, and none makes a pair with itself.
//   bwd   those and upstream [rows] -> slopes [rows, m], the gradient by the similarities.
//
// A pair of weight 0 has no part, whatever it holds. A row's sum is NaN where a weight is not finite or negative, or of a pair
// that counts the distance is not finite, or how far its labels are apart is not finite or negative; a slope, where what it is
// made of is not finite.
//
// A workgroup owns a row, a thread every 256th of its columns. Cost: some 10 flops and 4 to 16 bytes a pair, which bind it.

struct PairLossParams {
    rows: u32,
    m: u32,
    first: u32,
    own: u32,
    apart: u32,
    weighted: u32,
    metric: u32,
    margin: f32,
    tau: f32,
}
@group(1) @binding(0) var<uniform> p: PairLossParams;

const BLOCK: u32 = 256u;
const COSINE: u32 = 1u;
// That labels are a matrix, and whose the weights are.
const MATRIX: u32 = 1u;
const OF_COLUMNS: u32 = 1u;
const OF_PAIRS: u32 = 2u;

fn counted(v: f32) -> bool {
    return is_finite(v) && v >= 0.0;
}

// The loss's slope by the distance d of a pair whose labels are w apart.
fn slope_of(d: f32, w: f32) -> f32 {
    return select(-max(p.margin * w - d, 0.0), d, w <= p.tau);
}

fn distance_of(similarity: f32) -> f32 {
    return select(similarity, 1.0 - similarity, p.metric == COSINE);
}

@group(0) @binding(0) var<storage, read> labels: array<f32>;
@group(0) @binding(1) var<storage, read> other_labels: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> similarities: array<f32>;

// What a pair counts: nothing where it is a row's with itself.
fn weight_of(row: u32, j: u32) -> f32 {
    if p.own != 0u && j == p.first + row {
        return 0.0;
    }
    if p.weighted == OF_COLUMNS {
        return weights[j];
    }
    if p.weighted == OF_PAIRS {
        return weights[row * p.m + j];
    }
    return 1.0;
}

// How far the labels of a pair are apart.
fn apart_of(row: u32, j: u32) -> f32 {
    if p.apart == MATRIX {
        return labels[row * p.m + j];
    }
    return abs(labels[row] - other_labels[j]);
}

@group(0) @binding(4) var<storage, read_write> sums: array<f32>;
@group(0) @binding(5) var<storage, read_write> totals: array<f32>;

@compute @workgroup_size(256)
fn pair_loss_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = group_of(group, groups);
    if row >= p.rows {
        return;
    }
    let of_row = row * p.m;
    var sum = 0.0;
    var total = 0.0;
    var bad = false;
    for (var j = thread; j < p.m; j += BLOCK) {
        let s = weight_of(row, j);
        // A NaN by its bits: it may be taken to equal anything.
        let part = !is_finite(s) || s != 0.0;
        if part {
            let w = apart_of(row, j);
            let d = distance_of(similarities[of_row + j]);
            let slope = slope_of(d, w);
            bad = bad || !counted(s) || !counted(w) || !is_finite(d);
            sum = fma(s * slope, slope, sum);
            total += s;
        }
    }
    sum = group_sum(thread, sum);
    total = group_sum(thread, total);
    let no_result = group_any(thread, bad || cut_short(p.m + 1u));
    if thread == 0u {
        sums[row] = nan_if(no_result, 0.5 * sum);
        totals[row] = total;
    }
}

@group(0) @binding(4) var<storage, read> upstream: array<f32>;
@group(0) @binding(5) var<storage, read_write> slopes: array<f32>;

@compute @workgroup_size(256)
fn pair_loss_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = group_of(group, groups);
    if row >= p.rows {
        return;
    }
    let of_row = row * p.m;
    let up = select(upstream[row], -upstream[row], p.metric == COSINE);
    for (var j = thread; j < p.m; j += BLOCK) {
        let s = weight_of(row, j);
        let w = apart_of(row, j);
        let d = distance_of(similarities[of_row + j]);
        let part = !is_finite(s) || s > 0.0;
        let bad = part && !(is_finite(s) && is_finite(w) && is_finite(d));
        slopes[of_row + j] = nan_if(bad, select(0.0, up * s * slope_of(d, w), part));
    }
    // One is enough for the gradient by the row.
    if thread < p.m && cut_short(p.m + 1u) {
        slopes[of_row + thread] = nan_if(true, 0.0);
    }
}
