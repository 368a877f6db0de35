// The label-distance-weighted contrastive loss, value and gradient in one pass over the pairs.
// with: pairs, pairs_tiles, pairs_quads(all), pairs_norms(all), sweep(all), pairs_quads(cross), pairs_norms(cross), sweep(cross)
//
//   w = |l_i - l_j|, d = |z_i - z_j| (Euclidean) or 1 - cos(z_i, z_j) (cosine; 1 where a row is zero)
//   positive (w <= tau)  d^2 / 2            negative  max(0, margin w - d)^2 / 2
//   loss = weight * mean over the pairs, sum s_i s_j l_ij / sum s_i s_j with the samples' weights s; its gradient is
//   0 where d = 0, and by a cosine pair with a zero row. A sample of weight 0 is never looked at; the loss is NaN where another
//   has a row that is not finite, or a label or weight that is NaN, infinite or negative: the hinge's max would count it as 0.
//
//   all     every pair i < j of z [n, d], labels and weights [n]                -> loss [1], dz [n, d]
//   cross   every pair of z [n, d] and others [m, d]                            -> loss [1], dz [n, d], dothers [m, d]
//   halves  pairing [m, 2], each row in one pair at most                        -> loss [1], dz [n, d]
//
// z and others are stored as `Stored`, f32 or f16; sums are f32. The matrix of pairs is never in memory.
//
// Stages of all and cross (sweep.wgsl): copies of the rows as the sweep reads them, in the order of their labels where sorting is
// cheap beside the pairs; bounds of the tiles of 64 of them; the sweep; sums. In the sweep a workgroup owns 64 rows i and 128
// columns of their gradients, and streams tiles of 64 rows j (pairs_tiles.wgsl). A tile whose pairs' labels all differ and whose
// rows are farther apart, by their centres and radii, than the margin of its labels is not opened: none of its pairs counts. Of
// another:
//
//   1. t_ij = |u_i - u_j|^2 by differences; u are the rows, of norm 1 for the cosine, whose distance is t / 2.
//   2. The pair's loss, and its coefficient g_ij = l'(d) / d (or l'(d) for the cosine) into workgroup memory.
//   3. acc_i += sum_j g_ij (u_i - u_j), unless all g of half the tile are 0.
//
// At the end the cosine's sums are projected off u_i and divided by the norm. This is FlashAttention (Dao et al.,
// 2022) without its softmax: there is no log-sum-exp, so one pass gives value and gradient. A pair is computed from both
// its ends: twice the flops of the triangle, no sums between workgroups. Where that makes fewer than 256 workgroups, the
// rows j are cut into slices (as FlashDecoding does), a workgroup each, and the last stage sums the slices. Of rows longer than
// 128 columns each 128 have workgroups of their own, which all compute the pairs.
//
// part is scratch between the stages, in quads (vec4): what the weights are divided by; label, weight, 1 / norm of each
// row (0 for a zero row, -1 where any of it is no number), and which of the given rows it is, below 2^24; bounds and centre of
// each tile; the loss of each workgroup of the sweep; the rows u, ending with zeros to whole quads, so that the sweep reads quads
// whatever d and the stored type are; the slices' unscaled sums of the gradients.
//
// Cost: 6 d + 15 flops a pair from each end where its tile is open, half of it where all g are 0; a comparison of labels a
// pair for their order; a workgroup reads its rows j twice.
//
// Accuracy: differences of f32 rows do not cancel, so Euclidean pairs keep all digits however near they are.
// Rows of norm 1 are rounded to 6e-8; for a cosine pair nearer than 3e-3 that counts, and it is taken from the
// given rows instead: |u_i - u_j|^2 from |z_i - z_j|^2 less the square of the norms' difference, and (z_i - z_j) / |z_j|
// in place of u_i - u_j, which differ by a multiple of u_i that the projection removes. Rows at a small angle but of
// unlike norms gain nothing from this and keep their 6e-8. Sums are taken over four rows j, over 512, then over all. Weights are
// divided by the largest, and the sum of s_i s_j over the pairs is one of products, not a difference of squares.

struct ContrastiveParams {
    n: u32,
    m: u32,
    d: u32,
    metric: u32,
    margin: f32,
    tau: f32,
    weight: f32,
    weighted: u32,
    grad_scale: f32,
}
@group(1) @binding(0) var<uniform> p: ContrastiveParams;

override d: u32 = 16u;
override metric: u32 = 0u;
override weighted: u32 = 0u;

const COSINE: u32 = 1u;
// Workgroups below which rows j are cut into slices.
const ENOUGH: u32 = 256u;
// Below so many columns, times the longer side over the shorter, rows are not sorted by label.
const SORT_COST: f32 = 8.0;
// Tiles of a slice from which on they have bounds.
const BOUNDED: u32 = 4u;
// Quads of the gradients that a workgroup owns; rows j after which sums go to memory.
const OWN_QUADS: u32 = 32u;
const SPAN_J: u32 = 512u;
const NOWHERE: u32 = 0xffffffffu;
// Cosine pairs whose t is below are computed from the given rows.
const NEAR: f32 = 1e-5;

// For each row i, and then again for the other half of the tile, a bit for each row j that is near.
var<workgroup> near: array<atomic<u32>, 128>;
var<workgroup> any_near: atomic<u32>;
// Which tiles of a span are to be opened, and how many.
var<workgroup> to_open: array<u32, 8>;
var<workgroup> opened: u32;
// For each half of a tile, whether a coefficient is not 0.
var<workgroup> open: array<atomic<u32>, 2>;

// One side of the pairs.
struct Side {
    side: u32,
    // Its first row among all, how many there are, and where they begin in part.
    first: u32,
    rows: u32,
    at: u32,
}

// A workgroup's place: its tile of rows i, its first quad, and where the sums of its side and slice begin in part.
struct Place {
    own: Side,
    i0: u32,
    q0: u32,
    sums: u32,
}

// What four pairs have: twice their losses, and their coefficients.
struct Terms {
    loss: vec4<f32>,
    g: vec4<f32>,
}

// Those at squared distances t and label distances w.
fn terms(t: vec4<f32>, w: vec4<f32>, real: vec4<bool>) -> Terms {
    let zero = vec4<f32>();
    let positive = w <= vec4<f32>(p.tau);
    if metric == COSINE {
        let dist = select(vec4<f32>(1.0), 0.5 * t, real);
        let slope = select(-max(p.margin * w - dist, zero), dist, positive);
        return Terms(slope * slope, select(zero, slope, real));
    }
    let dist = sqrt(t);
    let h = max(p.margin * w - dist, zero);
    let g = select(zero, -h / max(dist, vec4<f32>(1e-30)), t > zero);
    return Terms(select(h * h, t, positive), select(g, vec4<f32>(1.0), positive));
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

// How the sweep is cut: workgroups of a tile and a slice, for the columns of the gradients; slices of the rows j; workgroups.
fn blocks_of() -> u32 {
    return tiles_of(row_quads(), OWN_QUADS);
}

fn slices_of() -> u32 {
    let enough = ENOUGH / (own_tiles() * blocks_of());
    return clamp(enough, 1u, max(tiles_of(p.n, TILE), tiles_of(p.m, TILE)));
}

fn own_tiles() -> u32 {
    return tiles_of(p.n, OWN) + tiles_of(p.m, OWN);
}

fn sweepers() -> u32 {
    return own_tiles() * blocks_of() * slices_of();
}

// Where in part what is known of each row begins, the losses, the rows, and a slice's sums.
const FACTS: u32 = 1u;

fn bounds_from() -> u32 {
    return FACTS + p.n + p.m;
}

fn losses_from() -> u32 {
    return bounds_from() + own_tiles() * (row_quads() + 1u);
}

fn rows_from() -> u32 {
    return losses_from() + sweepers();
}

fn sums_from(slice: u32) -> u32 {
    return rows_from() + (1u + slice) * (p.n + p.m) * row_quads();
}

// Whether a label or a weight is one: neither NaN nor infinite nor negative, by its bits.
fn counted(v: f32) -> bool {
    let bits = bitcast<u32>(v);
    return (bits < 0x7f800000u) | (bits == 0x80000000u);
}

// Whether rows are copied in the order of their labels: not where the comparisons, each row of a side with each, would weigh
// beside the pairs.
fn sorted() -> bool {
    let fewest = select(min(p.n, p.m), p.n, p.m == 0u);
    return SORT_COST * f32(max(p.n, p.m)) <= f32(fewest) * f32(d);
}

// Whether tiles have bounds, which to look at takes four barriers: where a slice has tiles enough.
fn bounded() -> bool {
    return sorted() && tiles_of(tiles_of(max(p.n, p.m), TILE), slices_of()) >= BOUNDED;
}

// Whether a pair of a row of each of two tiles may count, whose bounds these are and whose centres are so far apart: where labels
// may be alike, or a distance may be below the margin of the labels farthest apart. Distances of centres, and of rows from them,
// are rounded d + 4 times at most, each by 2^-24 of itself; rows of norm 1 by 6e-8, and near ones are then taken from the
// given rows, which moves them by as much.
fn may_count(a: vec4<f32>, b: vec4<f32>, apart: f32) -> bool {
    let least = max(a.y - b.z, b.y - a.z);
    let most = max(a.z - b.y, b.z - a.y);
    let slack = 1.2e-7 * f32(d + 8u);
    var between = apart * (1.0 - slack) - (a.x + b.x) * (1.0 + slack);
    if metric == COSINE {
        between = max(between - 1e-6, 0.0);
        between *= 0.5 * between;
    }
    return !(least > p.tau && between > p.margin * most);
}

// A whole number for a label, in the same order.
fn order_of(label: f32) -> u32 {
    let bits = bitcast<u32>(label);
    return bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u);
}

// 1 / v; 0 for what is not positive: no pair counts.
fn inverted(v: f32) -> f32 {
    return select(0.0, 1.0 / v, v > 0.0);
}

// ---- All pairs.

@group(0) @binding(0) var<storage, read> z: array<Stored>;
@group(0) @binding(1) var<storage, read> labels: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss_all: array<f32>;
@group(0) @binding(4) var<storage, read_write> dz: array<f32>;
@group(0) @binding(5) var<storage, read_write> part_all: array<vec4<f32>>;

const ONE_SET_all: bool = true;
// The sweep's losses are twice a pair's, from both its ends.
const TIMES_all: f32 = 0.25;

fn other_all(side: u32) -> u32 {
    return 0u;
}

fn rows_all(side: u32) -> u32 {
    return p.n;
}

fn element_all(side: u32, at: u32) -> f32 {
    return f32(z[at]);
}

fn label_all(side: u32, i: u32) -> f32 {
    return labels[i];
}

fn weight_all(side: u32, i: u32) -> f32 {
    if weighted == 0u {
        return 1.0;
    }
    return weights[i];
}

fn put_all(side: u32, at: u32, v: f32) {
    dz[at] = v;
}

// 1 / the largest weight of each side, and 1 / the sum over all pairs of the products of weights so divided; all
// threads must come here. Each thread takes its share of the samples: pairs within a share, then of
// the share with all before it.
fn shares_all(thread: u32) -> vec3<f32> {
    if weighted == 0u {
        return vec3<f32>(1.0, 1.0, inverted(f32(p.n) * f32(p.n - 1u) * 0.5));
    }
    var most = 0.0;
    for (var i = thread; i < p.n; i += WIDTH) {
        most = max(most, weights[i]);
    }
    let share = inverted(group_max(thread, most));
    var sum = 0.0;
    var pairs = 0.0;
    for (var i = thread; i < p.n; i += WIDTH) {
        let w = share * weights[i];
        pairs += w * sum;
        sum += w;
    }
    workgroupBarrier();
    parts[thread] = sum;
    workgroupBarrier();
    var before = 0.0;
    for (var t = 0u; t < thread; t++) {
        before += parts[t];
    }
    return vec3<f32>(share, share, inverted(group_sum(thread, pairs + sum * before)));
}

// ---- Every row of one set with every row of another. First the workgroups that own rows of z, then those that
// own rows of the others: side 0 and 1.

@group(0) @binding(2) var<storage, read> weights_z: array<f32>;
@group(0) @binding(3) var<storage, read> others: array<Stored>;
@group(0) @binding(4) var<storage, read> labels_o: array<f32>;
@group(0) @binding(5) var<storage, read> weights_o: array<f32>;
@group(0) @binding(6) var<storage, read_write> loss_cross: array<f32>;
@group(0) @binding(7) var<storage, read_write> dz_cross: array<f32>;
@group(0) @binding(8) var<storage, read_write> dothers: array<f32>;
@group(0) @binding(9) var<storage, read_write> part_cross: array<vec4<f32>>;

const ONE_SET_cross: bool = false;
const TIMES_cross: f32 = 0.5;

fn other_cross(side: u32) -> u32 {
    return 1u - side;
}

fn rows_cross(side: u32) -> u32 {
    return select(p.m, p.n, side == 0u);
}

fn element_cross(side: u32, at: u32) -> f32 {
    if side == 0u {
        return f32(z[at]);
    }
    return f32(others[at]);
}

fn label_cross(side: u32, i: u32) -> f32 {
    if side == 0u {
        return labels[i];
    }
    return labels_o[i];
}

fn weight_cross(side: u32, i: u32) -> f32 {
    if (weighted & 1u) != 0u && side == 0u {
        return weights_z[i];
    }
    if (weighted & 2u) != 0u && side == 1u {
        return weights_o[i];
    }
    return 1.0;
}

fn put_cross(side: u32, at: u32, v: f32) {
    if side == 0u {
        dz_cross[at] = v;
    } else {
        dothers[at] = v;
    }
}

// As shares_all.
fn shares_cross(thread: u32) -> vec3<f32> {
    if weighted == 0u {
        return vec3<f32>(1.0, 1.0, inverted(f32(p.n) * f32(p.m)));
    }
    var shares = vec2<f32>();
    var total = 1.0;
    for (var side = 0u; side < 2u; side++) {
        var most = 0.0;
        for (var i = thread; i < rows_cross(side); i += WIDTH) {
            most = max(most, weight_cross(side, i));
        }
        shares[side] = inverted(group_max(thread, most));
        var sum = 0.0;
        for (var i = thread; i < rows_cross(side); i += WIDTH) {
            sum += shares[side] * weight_cross(side, i);
        }
        total *= group_sum(thread, sum);
    }
    return vec3<f32>(shares, inverted(total));
}

// ---- Disjoint pairs. A workgroup owns 32 rows, eight threads each: it looks for them in the pairing, and each
// row computes its pair's distance and its own gradient.

@group(0) @binding(3) var<storage, read> pairing: array<u32>;
@group(0) @binding(4) var<storage, read_write> halves_loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> halves_dz: array<f32>;
@group(0) @binding(6) var<storage, read_write> halves_part: array<f32>;

// How often each row is in the pairing, and where last; how many indices are no row.
var<workgroup> count: array<atomic<u32>, 33>;
var<workgroup> place: array<atomic<u32>, 32>;

// The product of the weights of a pair's rows, each divided by the largest.
fn share_of(i: u32, j: u32, share: f32) -> f32 {
    if weighted == 0u {
        return 1.0;
    }
    return share * weights[i] * (share * weights[j]);
}

// 1 / norm of a row, for its eight threads; those without a row say so.
fn norm_of(thread: u32, i: u32, there: bool) -> f32 {
    let lane = thread % LANES;
    var largest = 0.0;
    if there {
        for (var k = lane; k < d; k += LANES) {
            largest = max(largest, abs(f32(z[i * d + k])));
        }
    }
    largest = row_max(thread, LANES, largest);
    var sum = 0.0;
    if there {
        for (var k = lane; k < d; k += LANES) {
            let v = f32(z[i * d + k]) / max(largest, 1.2e-38);
            sum += v * v;
        }
    }
    return inverse_norm(largest, row_sum(thread, LANES, sum));
}

// Looks for the tile's rows in the pairing: counts and places them. Returns the thread's part of the sum of the pairs'
// weights. All threads must come here.
fn look_for_rows(thread: u32, first: u32, share: f32) -> f32 {
    if thread < 33u {
        atomicStore(&count[thread], 0u);
    }
    if thread < 32u {
        atomicStore(&place[thread], 0u);
    }
    workgroupBarrier();
    var shares = 0.0;
    for (var e = thread; e < 2u * p.m; e += WIDTH) {
        let i = pairing[e];
        if weighted != 0u && e % 2u == 0u && i < p.n && pairing[e + 1u] < p.n {
            shares += share_of(i, pairing[e + 1u], share);
        }
        if i >= p.n {
            atomicAdd(&count[ROWS], 1u);
        } else if i >= first && i - first < ROWS {
            atomicAdd(&count[i - first], 1u);
            atomicMax(&place[i - first], e);
        }
    }
    workgroupBarrier();
    return shares;
}

// A row's pair, and 1 / norm of both for the cosine; there where it counts.
struct Pair {
    i: u32,
    j: u32,
    there: bool,
    ri: f32,
    rj: f32,
}

// The square of u_i - u_j, and whether that is from the given rows.
struct Apart {
    t: f32,
    close: bool,
}

// For a row's eight threads; all threads must come here.
fn apart(thread: u32, pair: Pair, real: bool) -> Apart {
    let ri = pair.ri;
    let rj = pair.rj;
    var t = 0.0;
    var ee = 0.0;
    var q = 0.0;
    if pair.there {
        for (var k = thread % LANES; k < d; k += LANES) {
            let a = f32(z[pair.i * d + k]);
            let b = f32(z[pair.j * d + k]);
            let v = a * ri - b * rj;
            t += v * v;
            if metric == COSINE {
                let e = (a - b) * ri;
                ee += e * e;
                q += e * (a * ri + b * ri);
            }
        }
    }
    t = row_sum(thread, LANES, t);
    var close = false;
    if metric == COSINE {
        ee = row_sum(thread, LANES, ee);
        q = row_sum(thread, LANES, q);
        if real && t < NEAR {
            let better = refined(ee, q, ri / rj, t);
            close = better >= 0.0;
            t = select(t, better, close);
        }
    }
    return Apart(t, close);
}

// The product of u_i and u_i - u_j, for a row's eight threads; all threads must come here.
fn radial_of(thread: u32, pair: Pair, close: bool) -> f32 {
    var radial = 0.0;
    if pair.there {
        for (var k = thread % LANES; k < d; k += LANES) {
            let a = f32(z[pair.i * d + k]);
            let b = f32(z[pair.j * d + k]);
            radial += a * pair.ri * select(a * pair.ri - b * pair.rj, (a - b) * pair.rj, close);
        }
    }
    return row_sum(thread, LANES, radial);
}

// Whether the row of a pair or its label is no number, as far as one of its eight threads sees; or the row's weight, in a pair or
// not.
fn unsound(thread: u32, pair: Pair) -> bool {
    if pair.i >= p.n {
        return false;
    }
    var bad = (weighted != 0u) && !counted(weights[pair.i]);
    if pair.there {
        bad = bad || !counted(labels[pair.i]);
        for (var k = thread % LANES; k < d; k += LANES) {
            bad = bad || !is_finite(f32(z[pair.i * d + k]));
        }
    }
    return bad;
}

// Writes the gradient by the row, a row's eight threads together.
fn put_halves(thread: u32, pair: Pair, close: bool, radial: f32, scale: f32) {
    for (var k = thread % LANES; k < d; k += LANES) {
        var v = 0.0;
        if pair.there {
            let a = f32(z[pair.i * d + k]);
            let b = f32(z[pair.j * d + k]);
            v = a - b;
            if metric == COSINE {
                v = select(a * pair.ri - b * pair.rj, v * pair.rj, close);
                v = projected(v, radial * a * pair.ri, pair.ri);
            }
            v *= scale;
        }
        halves_dz[pair.i * d + k] = v;
    }
}

@compute @workgroup_size(256)
fn contrastive_halves(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = group_of(group, groups);
    let first = tile * ROWS;
    if first >= p.n {
        return;
    }
    var share = 1.0;
    if weighted != 0u {
        var most = 0.0;
        for (var i = thread; i < p.n; i += WIDTH) {
            most = max(most, weights[i]);
        }
        share = inverted(group_max(thread, most));
    }
    let shares = look_for_rows(thread, first, share);
    let row = thread / LANES;
    let e = atomicLoad(&place[row]);
    let times = atomicLoad(&count[row]);
    let bad = times > 1u || atomicLoad(&count[ROWS]) > 0u;
    var pair = Pair(first + row, 0u, false, 1.0, 1.0);
    var of_pair = 0.0;
    if times > 0u {
        pair.j = pairing[e ^ 1u];
        if pair.j < p.n {
            of_pair = share_of(pair.i, pair.j, share);
            pair.there = of_pair > 0.0;
        }
    }
    if metric == COSINE {
        pair.ri = norm_of(thread, pair.i, pair.there);
        pair.rj = norm_of(thread, pair.j, pair.there);
    }
    let real = metric != COSINE || (pair.ri > 0.0 && pair.rj > 0.0);
    let found = apart(thread, pair, real);
    var both = vec2<f32>();
    if pair.there {
        let w = vec4<f32>(abs(labels[pair.i] - labels[pair.j]));
        let four = terms(vec4<f32>(found.t), w, vec4<bool>(real));
        both = of_pair * vec2<f32>(four.loss.x, four.g.x);
    }
    var radial = 0.0;
    if metric == COSINE {
        radial = radial_of(thread, pair, found.close);
    }
    var total_share = f32(p.m);
    if weighted != 0u {
        total_share = group_sum(thread, shares);
    }
    let scale = p.weight * inverted(total_share);
    if pair.i < p.n {
        put_halves(thread, pair, found.close, radial, p.grad_scale * scale * both.y);
    }
    // A pair's loss counts for the row that is named first.
    let counts = thread % LANES == 0u && pair.there && e % 2u == 0u;
    let total = group_sum(thread, select(0.0, both.x, counts));
    // A pairing that is none makes it NaN, and so does what is no number.
    let loss = nan_if(group_any(thread, bad || unsound(thread, pair)), 0.5 * scale * total);
    if thread == 0u {
        halves_part[tile] = loss;
        if p.n <= ROWS {
            halves_loss[0] = loss;
        }
    }
}

@compute @workgroup_size(256)
fn contrastive_halves_2(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    var bad = false;
    for (var tile = thread; tile < (p.n + ROWS - 1u) / ROWS; tile += WIDTH) {
        sum += halves_part[tile];
        bad = bad || is_nan(halves_part[tile]);
    }
    let total = nan_if(group_any(thread, bad), group_sum(thread, sum));
    if thread == 0u {
        halves_loss[0] = total;
    }
}
