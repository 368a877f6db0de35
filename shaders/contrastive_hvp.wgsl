// The gradient of the contrastive loss at dual rows, of which its second derivatives are made.
//
// Dual rows are rows x and how they move, dx. Of each row i and every other row j that is not masked, with D = x_i - y_j and
// dD = dx_i - dy_j:
//
//   g_i  = sum_j s_i s_j scale p D                       the gradient, not yet divided by the pairs' weight
//   dg_i = sum_j s_i s_j scale (p dD + q D)              how it moves: the Hessian times dx
//   Euclidean, d = |D|        positive (w <= tau)  p = 1, q = 0    negative, d < margin w  p = 1 - margin w / d
//                                                                                          q = margin w (D dD) / d^3
//   cosine, d = |D|^2 / 2     positive  p = d, q = D dD            negative, d < margin w  p = d - margin w, q = D dD
//
// A negative pair at Euclidean distance 0, one with a row of norm 0 for the cosine, and one beyond its margin add nothing.
//
// rows [2, n, d], labels, weights [n], others [2, m, d], labels_o, weights_o [m], sums [2, n, d] = (g, dg); `same`: the others
// are the rows, and none makes a pair with itself.
//
// share: relative [n], relative_o [m], the weights over a power of two next to the largest, so that their products fit; and 1
// over the pairs' weight, the sum of such s_i s_j over i < j, or over all; 0 where that is. One workgroup, a thread a run of
// samples; runs add up as (sum, pairs), so that nothing cancels. 4 flops a sample; latency binds it.
//
// A workgroup owns 16 rows and streams tiles of 16 others. Thread (r, c) first takes pair (i0 + r, j0 + c): |D|^2 and D dD; then,
// with the tile's coefficients in workgroup memory, columns c, c + 16, ... of row r, whose sums it alone owns.
// Cost: 14 flops a pair and column from each end; a workgroup reads the others 16 times, neighbours together.

struct ContrastiveHvpParams {
    n: u32,
    m: u32,
    d: u32,
    metric: u32,
    margin: f32,
    tau: f32,
    scale: f32,
    weighted: u32,
    same: u32,
}
@group(1) @binding(0) var<uniform> p: ContrastiveHvpParams;

@group(0) @binding(0) var<storage, read> rows: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> others: array<f32>;
@group(0) @binding(4) var<storage, read> labels_o: array<f32>;
@group(0) @binding(5) var<storage, read> weights_o: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;

const COSINE: u32 = 1u;
const TILE: u32 = 16u;
// More than any number that a card may flush to zero.
const TINY: f32 = 1.2e-38;

// p and q of the pairs of a tile, times their weights: row by row.
var<workgroup> of_pairs: array<vec2<f32>, 256>;

// p and q of a pair at label distance w, with t = |D|^2 and e = D dD.
fn coefficients(w: f32, t: f32, e: f32, is_flat: bool) -> vec2<f32> {
    let reach = p.margin * w;
    let positive = w <= p.tau;
    // What is no number opens its pair, and is handed on.
    let bad = is_nan(t) || is_nan(w);
    if p.metric == COSINE {
        let d = 0.5 * t;
        if is_flat || (!positive && !bad && d >= reach) {
            return vec2<f32>(0.0, 0.0);
        }
        return vec2<f32>(select(d - reach, d, positive), e);
    }
    if positive {
        return vec2<f32>(1.0, 0.0);
    }
    let d = sqrt(t);
    if !bad && (t < TINY || d >= reach) {
        return vec2<f32>(0.0, 0.0);
    }
    return vec2<f32>(1.0 - reach / d, reach / d * (e / t));
}

// p and q of pair (i, j), times its weights.
fn pair_of(i: u32, j: u32) -> vec2<f32> {
    if i >= p.n || j >= p.m || (p.same != 0u && i == j) {
        return vec2<f32>(0.0, 0.0);
    }
    var s_i = 1.0;
    if (p.weighted & 1u) != 0u {
        s_i = weights[i];
    }
    var s_j = 1.0;
    if (p.weighted & 2u) != 0u {
        s_j = weights_o[j];
    }
    if s_i == 0.0 || s_j == 0.0 {
        return vec2<f32>(0.0, 0.0);
    }
    var t = 0.0;
    var e = 0.0;
    var xx = 0.0;
    var yy = 0.0;
    for (var k = 0u; k < p.d; k++) {
        let x = rows[i * p.d + k];
        let y = others[j * p.d + k];
        let apart = x - y;
        t += apart * apart;
        e += apart * (rows[(p.n + i) * p.d + k] - others[(p.m + j) * p.d + k]);
        xx += x * x;
        yy += y * y;
    }
    return s_j * s_i * p.scale * coefficients(abs(labels[i] - labels_o[j]), t, e, xx == 0.0 || yy == 0.0);
}

@compute @workgroup_size(256)
fn contrastive_hvp_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i0 = group_of(group, groups) * TILE;
    if i0 >= p.n {
        return;
    }
    let row = thread / TILE;
    let column = thread % TILE;
    let i = i0 + row;
    let of_row = i * p.d;
    let of_move = (p.n + i) * p.d;
    if i < p.n {
        for (var k = column; k < p.d; k += TILE) {
            sums[of_row + k] = 0.0;
            sums[of_move + k] = 0.0;
        }
    }
    for (var j0 = 0u; j0 < p.m; j0 += TILE) {
        workgroupBarrier(); // whoever still reads the coefficients before
        of_pairs[thread] = pair_of(i, j0 + column);
        workgroupBarrier();
        if i < p.n {
            for (var k = column; k < p.d; k += TILE) {
                let x = rows[of_row + k];
                let move_x = rows[of_move + k];
                var g = 0.0;
                var dg = 0.0;
                for (var b = 0u; b < min(TILE, p.m - j0); b++) {
                    let of_pair = of_pairs[row * TILE + b];
                    // What a pair that adds nothing holds is not looked at.
                    if of_pair.x != 0.0 || of_pair.y != 0.0 {
                        let y = (j0 + b) * p.d + k;
                        let apart = x - others[y];
                        g += of_pair.x * apart;
                        dg += of_pair.x * (move_x - others[y + p.m * p.d]) + of_pair.y * apart;
                    }
                }
                sums[of_row + k] += g;
                sums[of_move + k] += dg;
            }
        }
    }
    if cut_short(p.n + p.m) && i < p.n {
        for (var k = column; k < p.d; k += TILE) {
            sums[of_row + k] = nan_if(true, 0.0);
            sums[of_move + k] = nan_if(true, 0.0);
        }
    }
}

// ---- What pairs weigh.

const BLOCK: u32 = 256u;

@group(0) @binding(0) var<storage, read> weights_all: array<f32>;
@group(0) @binding(1) var<storage, read> weights_all_o: array<f32>;
@group(0) @binding(2) var<storage, read_write> relative: array<f32>;
@group(0) @binding(3) var<storage, read_write> relative_o: array<f32>;
@group(0) @binding(4) var<storage, read_write> share: array<f32>;

// The sum of a run of samples, and that of the products of every two.
var<workgroup> runs: array<vec2<f32>, 256>;

fn weight_all(others: bool, i: u32) -> f32 {
    if others {
        if (p.weighted & 2u) != 0u {
            return weights_all_o[i];
        }
    } else if (p.weighted & 1u) != 0u {
        return weights_all[i];
    }
    return 1.0;
}

// Writes what weights are relative to a power of two next to the largest; gives what the samples weigh so together, and what
// their pairs do. All threads must come here.
fn totals(others: bool, thread: u32) -> vec2<f32> {
    let n = select(p.n, p.m, others);
    var most = 0.0;
    for (var i = thread; i < n; i += BLOCK) {
        let w = weight_all(others, i);
        most = select(most, w, w > most);
    }
    let unit = ldexp(1.0, frexp(group_max(thread, most)).exp - 1);
    let length = (n + BLOCK - 1u) / BLOCK;
    let first = min(thread * length, n);
    var of_run = vec2<f32>(0.0);
    for (var i = first; i < min(first + length, n); i++) {
        let w = weight_all(others, i) / unit;
        if others {
            relative_o[i] = w;
        } else {
            relative[i] = w;
        }
        of_run = vec2<f32>(of_run.x + w, fma(w, of_run.x, of_run.y));
    }
    workgroupBarrier(); // whoever still reads the runs before
    runs[thread] = of_run;
    workgroupBarrier();
    if thread < 16u {
        var sum = runs[16u * thread];
        for (var i = 1u; i < 16u; i++) {
            let next = runs[16u * thread + i];
            sum = vec2<f32>(sum.x + next.x, sum.y + next.y + sum.x * next.x);
        }
        runs[16u * thread] = sum;
    }
    workgroupBarrier();
    if thread == 0u {
        var sum = runs[0];
        for (var i = 1u; i < 16u; i++) {
            let next = runs[16u * i];
            sum = vec2<f32>(sum.x + next.x, sum.y + next.y + sum.x * next.x);
        }
        runs[0] = sum;
    }
    workgroupBarrier();
    return runs[0];
}

@compute @workgroup_size(256)
fn contrastive_hvp_share(@builtin(local_invocation_index) thread: u32) {
    let own = totals(false, thread);
    let other = totals(true, thread);
    let pairs = select(own.x * other.x, own.y, p.same != 0u);
    if thread == 0u {
        let none = !is_nan(pairs) && pairs == 0.0;
        share[0] = nan_if(cut_short(p.n + p.m + 1u), select(1.0 / select(pairs, 1.0, none), 0.0, none));
    }
}
