// The label-distance-weighted contrastive loss, value and gradient in one pass over the pairs.
//
//   w = |l_i - l_j|, d = |z_i - z_j| (Euclidean) or 1 - cos(z_i, z_j) (cosine; 1 where a row is zero)
//   positive (w <= tau)  d^2 / 2            negative  max(0, margin w - d)^2 / 2
//   loss = weight * mean over the pairs; its gradient is 0 where d = 0, and by a cosine pair with a zero row
//
//   all     every pair i < j of z [n, d], labels [n]                 -> loss [1], dz [n, d]
//   cross   every pair of z [n, d] and others [m, d]                 -> loss [1], dz [n, d], dothers [m, d]
//   halves  pairing [m, 2], each row in one pair at most             -> loss [1], dz [n, d]
//
// part is scratch between the stages: a loss for each workgroup of the sweep, then for the cosine 1 / norm of
// each row (0 for a zero row). The matrix of pairs is never in memory.
//
// Stages of all and cross: inverse norms (cosine alone), the sweep, the sum of the losses (where there is more
// than one). In the sweep a workgroup owns 32 rows i and streams tiles of 32 rows j through workgroup memory:
//
//   1. t_ij = |u_i - u_j|^2 by differences, 32 columns at a time; u are the rows, of norm 1 for the cosine, whose
//      distance is t / 2. A thread owns 2 x 2 pairs.
//   2. The pair's loss, and its coefficient g_ij = l'(d) / d (or l'(d) for the cosine) into workgroup memory.
//   3. acc_i += sum_j g_ij (u_i - u_j). A thread owns one row and four columns of every 32; where the rows are
//      short the threads left over take every other j.
//
// At the end the cosine's sums are projected off u_i and divided by the norm. This is FlashAttention (Dao et al.,
// 2022) without its softmax: there is no log-sum-exp, so one pass gives value and gradient. Each workgroup sees
// all j, so a pair is computed from both its ends: twice the flops of the triangle, no sums between workgroups.
//
// Cost: 6 d + 15 flops a pair from each end; each workgroup reads all rows j, twice where d > 32.
//
// Accuracy: differences of f32 rows do not cancel, so Euclidean pairs keep all digits however near they are.
// Rows of norm 1 are rounded to 6e-8; for a cosine pair nearer than 3e-3 that counts, and it is taken from the
// given rows instead: |u_i - u_j|^2 from |z_i - z_j|^2 less the square of the norms' difference, and (z_i - z_j) / |z_j|
// in place of u_i - u_j, which differ by a multiple of u_i that the projection removes. Rows at a small angle but of
// unlike norms gain nothing from this and keep their 6e-8. Sums are taken tile by tile.

struct P {
    n: u32,
    m: u32,
    d: u32,
    metric: u32,
    margin: f32,
    tau: f32,
    weight: f32,
}
@group(1) @binding(0) var<uniform> p: P;

override d: u32 = 16u;
override metric: u32 = 0u;

const COSINE: u32 = 1u;
// Rows and columns of a tile.
const TILE: u32 = 32u;
// Four columns make a quad; quads of a row in workgroup memory, and from one row to the next.
const QUADS: u32 = 8u;
const PITCH: u32 = 9u;
// Steps of 32 columns that a thread's registers hold, and their columns.
const STEPS: u32 = 16u;
const MOST: u32 = 512u;
// Cosine pairs whose t is below are computed from the given rows.
const NEAR: f32 = 1e-5;

var<workgroup> tile_a: array<vec4<f32>, 288>;
var<workgroup> tile_b: array<vec4<f32>, 288>;
var<workgroup> coefficients: array<f32, 1056>;
var<workgroup> label_a: array<f32, 32>;
var<workgroup> label_b: array<f32, 32>;
var<workgroup> inverse_a: array<f32, 32>;
var<workgroup> inverse_b: array<f32, 32>;
// A bit for each j that is near.
var<workgroup> near: array<atomic<u32>, 32>;

// Step 1: what the thread's 2 x 2 pairs gain from `quads` quads of the staged columns.
fn squares(thread: u32, quads: u32) -> vec4<f32> {
    let a = thread / 16u * PITCH;
    let b = thread % 16u * PITCH;
    var t = vec4<f32>();
    for (var q = 0u; q < quads; q++) {
        let a0 = tile_a[a + q];
        let a1 = tile_a[a + 16u * PITCH + q];
        let b0 = tile_b[b + q];
        let b1 = tile_b[b + 16u * PITCH + q];
        t += vec4<f32>(dot(a0 - b0, a0 - b0), dot(a0 - b1, a0 - b1), dot(a1 - b0, a1 - b0), dot(a1 - b1, a1 - b1));
    }
    return t;
}

// Twice the loss of a pair at squared distance t and label distance w, and its coefficient.
fn term(t: f32, w: f32, real: bool) -> vec2<f32> {
    if metric == COSINE {
        let dist = select(1.0, 0.5 * t, real);
        let h = max(p.margin * w - dist, 0.0);
        let slope = select(-h, dist, w <= p.tau);
        return vec2<f32>(slope * slope, select(0.0, slope, real));
    }
    if w <= p.tau {
        return vec2<f32>(t, 1.0);
    }
    let dist = sqrt(t);
    let h = max(p.margin * w - dist, 0.0);
    return vec2<f32>(h * h, select(0.0, -h / max(dist, 1e-30), t > 0.0));
}

// A near cosine pair from the given rows, all over the norm of a: e = a - b, q = e . (a + b), and the ratio of b's
// norm to a's. Returns |u_a - u_b|^2, or -1 where the norms are so unlike that it is no better than t.
fn refined(ee: f32, q: f32, ratio: f32, t: f32) -> f32 {
    if ee <= 2.0 * sqrt(t) + 1e-7 {
        let radial = q / (1.0 + ratio);
        return max(ee - radial * radial, 0.0) / ratio;
    }
    return -1.0;
}

// Step 3: the staged columns' part of acc for a row whose quad is `a`, over every `split`-th j.
fn weigh(own: u32, lane: u32, turn: u32, split: u32, a: vec4<f32>) -> vec4<f32> {
    var sum = vec4<f32>();
    for (var j = turn; j < TILE; j += split) {
        sum += coefficients[own * 33u + j] * (a - tile_b[j * PITCH + lane]);
    }
    return sum;
}

// How step 3 is dealt out: quads of a row that have a thread, threads that share them.
fn lanes_of() -> u32 {
    if d <= 4u {
        return 1u;
    }
    if d <= 8u {
        return 2u;
    }
    return select(8u, 4u, d <= 16u);
}

// Sums what the threads that share a quad have; all threads must come here.
fn shared_sum(thread: u32, own: u32, lane: u32, lanes: u32, acc: vec4<f32>) -> vec4<f32> {
    if lanes == QUADS {
        return acc;
    }
    workgroupBarrier();
    tile_a[thread] = acc;
    workgroupBarrier();
    var sum = vec4<f32>();
    for (var s = 0u; s < QUADS / lanes; s++) {
        sum += tile_a[s * TILE * lanes + own * lanes + lane];
    }
    return sum;
}

// The sum of `part` over the threads of a row; all threads must come here.
fn row_sum(thread: u32, lanes: u32, part: f32) -> f32 {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    let first = thread / lanes * lanes;
    var sum = 0.0;
    for (var l = 0u; l < lanes; l++) {
        sum += parts[first + l];
    }
    return sum;
}

// The gradient by a row from that by its unit vector.
fn projected(v: f32, radial: f32, inverse: f32) -> f32 {
    // On a line the angle is 0 or pi whatever the lengths.
    return select((v - radial) * inverse, 0.0, d == 1u);
}

// 1 / norm from the largest size of an element and the sum of squares over it; 0 for a zero row.
fn inverse_norm(largest: f32, squares: f32) -> f32 {
    return select(0.0, 1.0 / sqrt(squares) / max(largest, 1e-38), largest >= 1e-38);
}

// ---- All pairs.

@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> dz: array<f32>;
@group(0) @binding(4) var<storage, read_write> part: array<f32>;

// Columns k to k + 3 of row i; 0 beyond both ends.
fn quad_of_z(i: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if i < p.n && k < d {
        let at = i * d + k;
        v.x = z[at];
        if k + 1u < d {
            v.y = z[at + 1u];
        }
        if k + 2u < d {
            v.z = z[at + 2u];
        }
        if k + 3u < d {
            v.w = z[at + 3u];
        }
    }
    return v;
}

// A row a thread.
@compute @workgroup_size(64)
fn contrastive_all(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = group_of(group, groups) * 64u + thread;
    if i < p.n {
        var largest = 0.0;
        for (var k = 0u; k < d; k++) {
            largest = max(largest, abs(z[i * d + k]));
        }
        var sum = 0.0;
        for (var k = 0u; k < d; k++) {
            let v = z[i * d + k] / max(largest, 1e-38);
            sum += v * v;
        }
        part[(p.n + TILE - 1u) / TILE + i] = inverse_norm(largest, sum);
    }
}

// The same of the row that distances are taken of.
fn unit_of_z(i: u32, k: u32, inverse: f32) -> vec4<f32> {
    let v = quad_of_z(i, k);
    if metric == COSINE {
        return v * inverse;
    }
    return v;
}

fn refined_all(i: u32, j: u32, ri: f32, rj: f32, t: f32) -> f32 {
    var ee = 0.0;
    var q = 0.0;
    for (var k = 0u; k < d; k += 4u) {
        let a = quad_of_z(i, k);
        let b = quad_of_z(j, k);
        let e = (a - b) * ri;
        ee += dot(e, e);
        q += dot(e, a * ri + b * ri);
    }
    return refined(ee, q, ri / rj, t);
}

@compute @workgroup_size(256)
fn contrastive_all_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles = (p.n + TILE - 1u) / TILE;
    let tile = group_of(group, groups);
    if tile >= tiles {
        return;
    }
    let i0 = tile * TILE;
    let row = thread / QUADS;
    let quad = thread % QUADS * 4u;
    let staged = row * PITCH + thread % QUADS;
    let lanes = lanes_of();
    let split = QUADS / lanes;
    let lane = thread % lanes;
    let own = thread / lanes % TILE;
    let turn = thread / lanes / TILE;
    var losses = 0.0;
    var radial = 0.0;
    if thread < TILE {
        let i = min(i0 + thread, p.n - 1u);
        label_a[thread] = labels[i];
        if metric == COSINE {
            inverse_a[thread] = part[tiles + i];
        }
    }
    let scale = p.weight / (f32(p.n) * f32(p.n - 1u) * 0.5);
    // One turn up to 512 columns; beyond, each turn meets all pairs again for 512 more columns of the gradient.
    for (var first = 0u; first < d; first += MOST) {
        let last = min(d, first + MOST);
        var acc: array<vec4<f32>, 16>;
        var recent = 0.0;
        losses = 0.0;
        for (var j0 = 0u; j0 < p.n; j0 += TILE) {
            workgroupBarrier();
            if thread < TILE {
                let j = min(j0 + thread, p.n - 1u);
                label_b[thread] = labels[j];
                if metric == COSINE {
                    inverse_b[thread] = part[tiles + j];
                    atomicStore(&near[thread], 0u);
                }
            }
            var t = vec4<f32>();
            for (var k = 0u; k < d; k += TILE) {
                workgroupBarrier();
                if d > TILE || j0 == 0u {
                    tile_a[staged] = unit_of_z(i0 + row, k + quad, inverse_a[row]);
                }
                tile_b[staged] = unit_of_z(j0 + row, k + quad, inverse_b[row]);
                workgroupBarrier();
                t += squares(thread, min(QUADS, (d - k + 3u) / 4u));
            }
            for (var e = 0u; e < 4u; e++) {
                let r = thread / 16u + e / 2u * 16u;
                let c = thread % 16u + e % 2u * 16u;
                var both = vec2<f32>();
                if i0 + r < p.n && j0 + c < p.n && i0 + r != j0 + c {
                    var te = t[e];
                    let real = metric != COSINE || inverse_a[r] > 0.0 && inverse_b[c] > 0.0;
                    if metric == COSINE && real && te < NEAR {
                        let better = refined_all(i0 + r, j0 + c, inverse_a[r], inverse_b[c], te);
                        if better >= 0.0 {
                            te = better;
                            atomicOr(&near[r], 1u << c);
                        }
                    }
                    both = term(te, abs(label_a[r] - label_b[c]), real);
                }
                recent += both.x;
                coefficients[r * 33u + c] = both.y;
            }
            if j0 / TILE % 64u == 63u {
                losses += recent;
                recent = 0.0;
            }
            workgroupBarrier();
            for (var s = 0u; s < STEPS && first + s * TILE < last; s++) {
                let k = first + s * TILE;
                if d > TILE {
                    workgroupBarrier();
                    tile_b[staged] = unit_of_z(j0 + row, k + quad, inverse_b[row]);
                    workgroupBarrier();
                }
                let a = unit_of_z(i0 + own, k + 4u * lane, inverse_a[own]);
                var sum = weigh(own, lane, turn, split, a);
                if metric == COSINE && turn == 0u {
                    var bits = atomicLoad(&near[own]);
                    while bits != 0u {
                        let c = countTrailingZeros(bits);
                        bits &= bits - 1u;
                        let e = quad_of_z(i0 + own, k + 4u * lane)
                            - quad_of_z(j0 + c, k + 4u * lane);
                        sum += coefficients[own * 33u + c] * (inverse_b[c] * e - (a - tile_b[c * PITCH + lane]));
                    }
                }
                acc[s] += sum;
            }
        }
        losses += recent;
        acc[0] = shared_sum(thread, own, lane, lanes, acc[0]);
        for (var s = 0u; s < STEPS && first + s * TILE < last; s++) {
            let k = first + s * TILE + 4u * lane;
            if metric == COSINE {
                radial += dot(acc[s], unit_of_z(i0 + own, k, inverse_a[own]));
            }
            if turn == 0u && i0 + own < p.n {
                for (var c = 0u; c < 4u && k + c < d; c++) {
                    dz[(i0 + own) * d + k + c] = scale * acc[s][c];
                }
            }
        }
    }
    let total = group_sum(thread, losses);
    if thread == 0u {
        part[tile] = total;
        if tiles == 1u {
            loss[0] = 0.25 * scale * total;
        }
    }
    if metric == COSINE {
        radial = scale * row_sum(thread, lanes, radial);
        if turn == 0u && i0 + own < p.n {
            for (var k = 4u * lane; k < d; k += TILE) {
                let u = unit_of_z(i0 + own, k, inverse_a[own]);
                for (var c = 0u; c < 4u && k + c < d; c++) {
                    let at = (i0 + own) * d + k + c;
                    dz[at] = projected(dz[at], radial * u[c], inverse_a[own]);
                }
            }
        }
    }
}

@compute @workgroup_size(256)
fn contrastive_all_3(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var tile = thread; tile < (p.n + TILE - 1u) / TILE; tile += WIDTH) {
        sum += part[tile];
    }
    let total = group_sum(thread, sum);
    if thread == 0u {
        loss[0] = 0.25 * p.weight / (f32(p.n) * f32(p.n - 1u) * 0.5) * total;
    }
}

// ---- Every row of one set with every row of another. First the workgroups that own rows of z, then those that
// own rows of the others: side 0 and 1.

@group(0) @binding(2) var<storage, read> others: array<f32>;
@group(0) @binding(3) var<storage, read> labels_o: array<f32>;
@group(0) @binding(4) var<storage, read_write> cross_loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> cross_dz: array<f32>;
@group(0) @binding(6) var<storage, read_write> dothers: array<f32>;
@group(0) @binding(7) var<storage, read_write> cross_part: array<f32>;

fn grad(side: u32, at: u32) -> f32 {
    if side == 0u {
        return cross_dz[at];
    }
    return dothers[at];
}

fn put_grad(side: u32, at: u32, v: f32) {
    if side == 0u {
        cross_dz[at] = v;
    } else {
        dothers[at] = v;
    }
}

fn rows_of(side: u32) -> u32 {
    return select(p.m, p.n, side == 0u);
}

fn element(side: u32, at: u32) -> f32 {
    if side == 0u {
        return z[at];
    }
    return others[at];
}

fn label(side: u32, i: u32) -> f32 {
    if side == 0u {
        return labels[i];
    }
    return labels_o[i];
}

fn quad_of_side(side: u32, i: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if i < rows_of(side) && k < d {
        let at = i * d + k;
        v.x = element(side, at);
        if k + 1u < d {
            v.y = element(side, at + 1u);
        }
        if k + 2u < d {
            v.z = element(side, at + 2u);
        }
        if k + 3u < d {
            v.w = element(side, at + 3u);
        }
    }
    return v;
}

// Where the inverse norm of row i is.
fn inverse_at(side: u32, i: u32) -> u32 {
    return (p.n + TILE - 1u) / TILE + side * p.n + i;
}

// A row a thread.
@compute @workgroup_size(64)
fn contrastive_cross(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = group_of(group, groups) * 64u + thread;
    let side = u32(row >= p.n);
    let i = row - side * p.n;
    if i < rows_of(side) {
        var largest = 0.0;
        for (var k = 0u; k < d; k++) {
            largest = max(largest, abs(element(side, i * d + k)));
        }
        var sum = 0.0;
        for (var k = 0u; k < d; k++) {
            let v = element(side, i * d + k) / max(largest, 1e-38);
            sum += v * v;
        }
        cross_part[inverse_at(side, i)] = inverse_norm(largest, sum);
    }
}

// The same of the row that distances are taken of.
fn unit_of_side(side: u32, i: u32, k: u32, inverse: f32) -> vec4<f32> {
    let v = quad_of_side(side, i, k);
    if metric == COSINE {
        return v * inverse;
    }
    return v;
}

fn refined_cross(side: u32, i: u32, j: u32, ri: f32, rj: f32, t: f32) -> f32 {
    var ee = 0.0;
    var q = 0.0;
    for (var k = 0u; k < d; k += 4u) {
        let a = quad_of_side(side, i, k);
        let b = quad_of_side(1u - side, j, k);
        let e = (a - b) * ri;
        ee += dot(e, e);
        q += dot(e, a * ri + b * ri);
    }
    return refined(ee, q, ri / rj, t);
}

@compute @workgroup_size(256)
fn contrastive_cross_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles = (p.n + TILE - 1u) / TILE;
    let tile = group_of(group, groups);
    let side = u32(tile >= tiles);
    let i0 = (tile - side * tiles) * TILE;
    let n = rows_of(side);
    let m = rows_of(1u - side);
    if i0 >= n {
        return;
    }
    let row = thread / QUADS;
    let quad = thread % QUADS * 4u;
    let staged = row * PITCH + thread % QUADS;
    let lanes = lanes_of();
    let split = QUADS / lanes;
    let lane = thread % lanes;
    let own = thread / lanes % TILE;
    let turn = thread / lanes / TILE;
    var losses = 0.0;
    var radial = 0.0;
    if thread < TILE {
        let i = min(i0 + thread, n - 1u);
        label_a[thread] = label(side, i);
        if metric == COSINE {
            inverse_a[thread] = cross_part[inverse_at(side, i)];
        }
    }
    let scale = p.weight / (f32(p.n) * f32(p.m));
    // One turn up to 512 columns; beyond, each turn meets all pairs again for 512 more columns of the gradient.
    for (var first = 0u; first < d; first += MOST) {
        let last = min(d, first + MOST);
        var acc: array<vec4<f32>, 16>;
        var recent = 0.0;
        losses = 0.0;
        for (var j0 = 0u; j0 < m; j0 += TILE) {
            workgroupBarrier();
            if thread < TILE {
                let j = min(j0 + thread, m - 1u);
                label_b[thread] = label(1u - side, j);
                if metric == COSINE {
                    inverse_b[thread] = cross_part[inverse_at(1u - side, j)];
                    atomicStore(&near[thread], 0u);
                }
            }
            var t = vec4<f32>();
            for (var k = 0u; k < d; k += TILE) {
                workgroupBarrier();
                if d > TILE || j0 == 0u {
                    tile_a[staged] = unit_of_side(side, i0 + row, k + quad, inverse_a[row]);
                }
                tile_b[staged] = unit_of_side(1u - side, j0 + row, k + quad, inverse_b[row]);
                workgroupBarrier();
                t += squares(thread, min(QUADS, (d - k + 3u) / 4u));
            }
            for (var e = 0u; e < 4u; e++) {
                let r = thread / 16u + e / 2u * 16u;
                let c = thread % 16u + e % 2u * 16u;
                var both = vec2<f32>();
                if i0 + r < n && j0 + c < m {
                    var te = t[e];
                    let real = metric != COSINE || inverse_a[r] > 0.0 && inverse_b[c] > 0.0;
                    if metric == COSINE && real && te < NEAR {
                        let better = refined_cross(side, i0 + r, j0 + c, inverse_a[r], inverse_b[c], te);
                        if better >= 0.0 {
                            te = better;
                            atomicOr(&near[r], 1u << c);
                        }
                    }
                    both = term(te, abs(label_a[r] - label_b[c]), real);
                }
                recent += both.x;
                coefficients[r * 33u + c] = both.y;
            }
            if j0 / TILE % 64u == 63u {
                losses += recent;
                recent = 0.0;
            }
            workgroupBarrier();
            for (var s = 0u; s < STEPS && first + s * TILE < last; s++) {
                let k = first + s * TILE;
                if d > TILE {
                    workgroupBarrier();
                    tile_b[staged] = unit_of_side(1u - side, j0 + row, k + quad, inverse_b[row]);
                    workgroupBarrier();
                }
                let a = unit_of_side(side, i0 + own, k + 4u * lane, inverse_a[own]);
                var sum = weigh(own, lane, turn, split, a);
                if metric == COSINE && turn == 0u {
                    var bits = atomicLoad(&near[own]);
                    while bits != 0u {
                        let c = countTrailingZeros(bits);
                        bits &= bits - 1u;
                        let e = quad_of_side(side, i0 + own, k + 4u * lane)
                            - quad_of_side(1u - side, j0 + c, k + 4u * lane);
                        sum += coefficients[own * 33u + c] * (inverse_b[c] * e - (a - tile_b[c * PITCH + lane]));
                    }
                }
                acc[s] += sum;
            }
        }
        losses += recent;
        acc[0] = shared_sum(thread, own, lane, lanes, acc[0]);
        for (var s = 0u; s < STEPS && first + s * TILE < last; s++) {
            let k = first + s * TILE + 4u * lane;
            if metric == COSINE {
                radial += dot(acc[s], unit_of_side(side, i0 + own, k, inverse_a[own]));
            }
            if turn == 0u && i0 + own < n {
                for (var c = 0u; c < 4u && k + c < d; c++) {
                    put_grad(side, (i0 + own) * d + k + c, scale * acc[s][c]);
                }
            }
        }
    }
    let total = group_sum(thread, losses);
    if thread == 0u && side == 0u {
        cross_part[tile] = total;
        if tiles == 1u {
            cross_loss[0] = 0.5 * scale * total;
        }
    }
    if metric == COSINE {
        radial = scale * row_sum(thread, lanes, radial);
        if turn == 0u && i0 + own < n {
            for (var k = 4u * lane; k < d; k += TILE) {
                let u = unit_of_side(side, i0 + own, k, inverse_a[own]);
                for (var c = 0u; c < 4u && k + c < d; c++) {
                    let at = (i0 + own) * d + k + c;
                    put_grad(side, at, projected(grad(side, at), radial * u[c], inverse_a[own]));
                }
            }
        }
    }
}

@compute @workgroup_size(256)
fn contrastive_cross_3(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var tile = thread; tile < (p.n + TILE - 1u) / TILE; tile += WIDTH) {
        sum += cross_part[tile];
    }
    let total = group_sum(thread, sum);
    if thread == 0u {
        cross_loss[0] = 0.5 * p.weight / (f32(p.n) * f32(p.m)) * total;
    }
}

// ---- Disjoint pairs. A workgroup owns 32 rows, eight threads each: it looks for them in the pairing, and each
// row computes its pair's distance and its own gradient.

@group(0) @binding(2) var<storage, read> pairing: array<u32>;
@group(0) @binding(3) var<storage, read_write> halves_loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> halves_dz: array<f32>;
@group(0) @binding(5) var<storage, read_write> halves_part: array<f32>;

// How often each row is in the pairing, and where last; how many indices are no row.
var<workgroup> count: array<atomic<u32>, 33>;
var<workgroup> place: array<atomic<u32>, 32>;

// Eight threads' largest.
fn row_max(thread: u32, part: f32) -> f32 {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    let first = thread / QUADS * QUADS;
    var most = 0.0;
    for (var l = 0u; l < QUADS; l++) {
        most = max(most, parts[first + l]);
    }
    return most;
}

// 1 / norm of a row, for its eight threads; those without a row say so.
fn norm_of(thread: u32, i: u32, there: bool) -> f32 {
    let lane = thread % QUADS;
    var largest = 0.0;
    if there {
        for (var k = lane; k < d; k += QUADS) {
            largest = max(largest, abs(z[i * d + k]));
        }
    }
    largest = row_max(thread, largest);
    var sum = 0.0;
    if there {
        for (var k = lane; k < d; k += QUADS) {
            let v = z[i * d + k] / max(largest, 1e-38);
            sum += v * v;
        }
    }
    return inverse_norm(largest, row_sum(thread, QUADS, sum));
}

@compute @workgroup_size(256)
fn contrastive_halves(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = group_of(group, groups);
    let first = tile * TILE;
    if first >= p.n {
        return;
    }
    if thread < 33u {
        atomicStore(&count[thread], 0u);
    }
    if thread < 32u {
        atomicStore(&place[thread], 0u);
    }
    workgroupBarrier();
    for (var e = thread; e < 2u * p.m; e += WIDTH) {
        let i = pairing[e];
        if i >= p.n {
            atomicAdd(&count[TILE], 1u);
        } else if i >= first && i - first < TILE {
            atomicAdd(&count[i - first], 1u);
            atomicMax(&place[i - first], e);
        }
    }
    workgroupBarrier();
    let row = thread / QUADS;
    let lane = thread % QUADS;
    let i = first + row;
    let e = atomicLoad(&place[row]);
    let times = atomicLoad(&count[row]);
    var bad = times > 1u || atomicLoad(&count[TILE]) > 0u;
    var j = 0u;
    if times > 0u {
        j = pairing[e ^ 1u];
    }
    let there = times > 0u && j < p.n;
    // The row's vector v is u_i - u_j; t is its square.
    var ri = 1.0;
    var rj = 1.0;
    if metric == COSINE {
        ri = norm_of(thread, i, there);
        rj = norm_of(thread, j, there);
    }
    var t = 0.0;
    var ee = 0.0;
    var q = 0.0;
    if there {
        for (var k = lane; k < d; k += QUADS) {
            let a = z[i * d + k];
            let b = z[j * d + k];
            let v = a * ri - b * rj;
            t += v * v;
            if metric == COSINE {
                let e = (a - b) * ri;
                ee += e * e;
                q += e * (a * ri + b * ri);
            }
        }
    }
    t = row_sum(thread, QUADS, t);
    let real = metric != COSINE || ri > 0.0 && rj > 0.0;
    var close = false;
    if metric == COSINE {
        ee = row_sum(thread, QUADS, ee);
        q = row_sum(thread, QUADS, q);
        if real && t < NEAR {
            let better = refined(ee, q, ri / rj, t);
            close = better >= 0.0;
            t = select(t, better, close);
        }
    }
    var both = vec2<f32>();
    if there {
        both = term(t, abs(labels[i] - labels[j]), real);
    }
    var radial = 0.0;
    if metric == COSINE {
        if there {
            for (var k = lane; k < d; k += QUADS) {
                let a = z[i * d + k];
                let b = z[j * d + k];
                radial += a * ri * select(a * ri - b * rj, (a - b) * rj, close);
            }
        }
        radial = row_sum(thread, QUADS, radial);
    }
    let scale = p.weight / f32(p.m);
    if i < p.n {
        for (var k = lane; k < d; k += QUADS) {
            var v = 0.0;
            if there {
                let a = z[i * d + k];
                let b = z[j * d + k];
                v = a - b;
                if metric == COSINE {
                    v = projected(select(a * ri - b * rj, v * rj, close), radial * a * ri, ri);
                }
                v *= scale * both.y;
            }
            halves_dz[i * d + k] = v;
        }
    }
    // A pair's loss counts for the row that is named first.
    let counts = lane == 0u && there && e % 2u == 0u;
    var total = group_sum(thread, select(0.0, both.x, counts));
    // How many threads saw a pairing that is none.
    if group_sum(thread, f32(u32(bad))) > 0.0 {
        total = bitcast<f32>(0x7fc00000u);
    }
    if thread == 0u {
        halves_part[tile] = total;
        if p.n <= TILE {
            halves_loss[0] = 0.5 * scale * total;
        }
    }
}

@compute @workgroup_size(256)
fn contrastive_halves_2(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var tile = thread; tile < (p.n + TILE - 1u) / TILE; tile += WIDTH) {
        sum += halves_part[tile];
    }
    let total = group_sum(thread, sum);
    if thread == 0u {
        halves_loss[0] = 0.5 * p.weight / f32(p.m) * total;
    }
}
