// Similarity matrices, every row of a against every row of b, and their gradients.
// with: pairs, pairs_quads(ab), pairs_quads(top)
//
//   dot                y_ij = a_i . b_j
//   cosine             y_ij = a_i . b_j / (|a_i| |b_j|); 0, with gradient 0, when a row is zero
//   squared Euclidean  y_ij = |a_i - b_j|^2
//   Euclidean          y_ij = |a_i - b_j|; gradient 0 where that is 0
//
// Shapes: a, da [n, d]; b, db [m, d]; y, dy [n, m]. a and b are stored as `Stored`, f32 or f16.
//
// fwd: a workgroup owns 64 x 64 entries and streams both sides' columns through workgroup memory, sixteen at a time; a
// thread owns 4 x 4 entries, sixteen rows and columns apart. Distances are sums of squared differences, which do not
// cancel. The cosine stages rows over their largest element and sums their squares as they pass.
//
// bwd: a workgroup owns 32 rows of da, or of db, and streams tiles of 32 rows of the other side, as the sweep of
// the contrastive loss does: for Euclidean first the distances again; then dy times the derivative by the squared
// distance as the tile's coefficients g_ij; then acc_i += sum_j g_ij (u_i - u_j) by differences (of rows of norm 1 for the
// cosine, projected off u_i at the end), or g_ij b_j alone for the dot product. A thread owns one row and four columns
// of every 32; where the rows are short the threads left over take every other j.
//
// topk: the k best of each row, values and indices [n, k], in falling order, of equal ones the lower index first. A workgroup
// owns 32 rows of a and streams tiles of 32 rows of b as bwd does; then a thread for each row of a takes the tile's
// entries that are beyond its least, which is few, into its list: the values so far, as keys of which larger is better.
//
// Cost: 2 d flops an entry forward, 3 d for distances; 3 d an entry and side backward, and 3 d more for Euclidean.
// Each entry of y is written once, each of dy read once a side.

struct SimilarityParams {
    n: u32,
    m: u32,
    d: u32,
    kind: u32,
}
@group(1) @binding(0) var<uniform> p: SimilarityParams;

override d: u32 = 16u;
override kind: u32 = 0u;

const DOT: u32 = 0u;
const COSINE: u32 = 1u;
const SQUARED: u32 = 2u;
const EUCLIDEAN: u32 = 3u;

@group(0) @binding(0) var<storage, read> a: array<Stored>;
@group(0) @binding(1) var<storage, read> b: array<Stored>;

// Side 0 is a, side 1 is b.
fn rows_ab(side: u32) -> u32 {
    return select(p.m, p.n, side == 0u);
}

fn element_ab(side: u32, at: u32) -> f32 {
    if side == 0u {
        return f32(a[at]);
    }
    return f32(b[at]);
}

// ---- The matrix.

@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// Rows of a tile; quads of a row staged, and from one row to the next.
const BLOCK: u32 = 64u;
const WAY: u32 = 4u;
const STRIDE: u32 = 5u;

var<workgroup> block_a: array<vec4<f32>, 320>;
var<workgroup> block_b: array<vec4<f32>, 320>;
var<workgroup> scale_a: array<f32, 64>;
var<workgroup> scale_b: array<f32, 64>;

// The largest size of an element of a row, for its four threads; all threads must come here.
fn largest_of(side: u32, i: u32, thread: u32) -> f32 {
    var most = 0.0;
    for (var k = thread % WAY * 4u; k < d; k += 4u * WAY) {
        let v = abs(quad_ab(side, i, k));
        most = max(most, max(max(v.x, v.y), max(v.z, v.w)));
    }
    workgroupBarrier();
    parts[thread] = most;
    workgroupBarrier();
    let first = thread / WAY * WAY;
    return max(max(parts[first], parts[first + 1u]), max(parts[first + 2u], parts[first + 3u]));
}

// The sum of four threads' parts; all threads must come here.
fn four(thread: u32, part: f32) -> f32 {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    let first = thread / WAY * WAY;
    return parts[first] + parts[first + 1u] + parts[first + 2u] + parts[first + 3u];
}

@compute @workgroup_size(256)
fn similarity_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let across = (p.m + BLOCK - 1u) / BLOCK;
    let i0 = number / across * BLOCK;
    let j0 = number % across * BLOCK;
    if i0 >= p.n {
        return;
    }
    let row = thread / WAY;
    let quad = thread % WAY;
    var most_a = 1.0;
    var most_b = 1.0;
    if kind == COSINE {
        most_a = largest_of(0u, i0 + row, thread);
        most_b = largest_of(1u, j0 + row, thread);
    }
    var squares_a = 0.0;
    var squares_b = 0.0;
    var acc: array<vec4<f32>, 4>;
    for (var k = 0u; k < d; k += 4u * WAY) {
        var va = quad_ab(0u, i0 + row, k + 4u * quad);
        var vb = quad_ab(1u, j0 + row, k + 4u * quad);
        if kind == COSINE {
            va /= max(most_a, 1.2e-38);
            vb /= max(most_b, 1.2e-38);
            squares_a += dot(va, va);
            squares_b += dot(vb, vb);
        }
        workgroupBarrier();
        block_a[row * STRIDE + quad] = va;
        block_b[row * STRIDE + quad] = vb;
        workgroupBarrier();
        for (var q = 0u; q < WAY; q++) {
            let at = thread % 16u * STRIDE + q;
            let b0 = block_b[at];
            let b1 = block_b[at + 16u * STRIDE];
            let b2 = block_b[at + 32u * STRIDE];
            let b3 = block_b[at + 48u * STRIDE];
            for (var r = 0u; r < 4u; r++) {
                let v = block_a[(thread / 16u + 16u * r) * STRIDE + q];
                if kind == DOT || kind == COSINE {
                    acc[r] += vec4<f32>(dot(v, b0), dot(v, b1), dot(v, b2), dot(v, b3));
                } else {
                    acc[r] += vec4<f32>(
                        dot(v - b0, v - b0),
                        dot(v - b1, v - b1),
                        dot(v - b2, v - b2),
                        dot(v - b3, v - b3),
                    );
                }
            }
        }
    }
    if kind == COSINE {
        squares_a = four(thread, squares_a);
        squares_b = four(thread, squares_b);
        if quad == 0u {
            // The staged rows' own, 0 for a zero row.
            scale_a[row] = select(0.0, inverse_norm(1.0, squares_a), squares_a > 0.0);
            scale_b[row] = select(0.0, inverse_norm(1.0, squares_b), squares_b > 0.0);
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        let ri = thread / 16u + 16u * r;
        for (var c = 0u; c < 4u; c++) {
            let cj = thread % 16u + 16u * c;
            var v = acc[r][c];
            if kind == COSINE {
                v *= scale_a[ri] * scale_b[cj];
            }
            if kind == EUCLIDEAN {
                v = sqrt(v);
            }
            if i0 + ri < p.n && j0 + cj < p.m {
                y[(i0 + ri) * p.m + j0 + cj] = v;
            }
        }
    }
}

// ---- The gradients. First the workgroups that own rows of a, then those that own rows of b.

@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> da: array<f32>;
@group(0) @binding(4) var<storage, read_write> db: array<f32>;

fn grad(side: u32, at: u32) -> f32 {
    if side == 0u {
        return da[at];
    }
    return db[at];
}

fn put_grad(side: u32, at: u32, v: f32) {
    if side == 0u {
        da[at] = v;
    } else {
        db[at] = v;
    }
}

// The row that differences are taken of.
fn unit_of_side(side: u32, i: u32, k: u32, inverse: f32) -> vec4<f32> {
    let v = quad_ab(side, i, k);
    if kind == COSINE {
        return v * inverse;
    }
    return v;
}

// Leaves 1 / distance of every pair of a tile, 0 where that is 0, in the coefficients; all threads must come here.
fn inverse_distances(side: u32, i0: u32, j0: u32, thread: u32) {
    let seat = seat_of(thread);
    var t = vec4<f32>();
    for (var k = 0u; k < d; k += TILE) {
        if k > 0u {
            workgroupBarrier();
        }
        tile_a[seat.staged] = quad_ab(side, i0 + seat.row, k + seat.column);
        tile_b[seat.staged] = quad_ab(1u - side, j0 + seat.row, k + seat.column);
        workgroupBarrier();
        t += squares(thread, min(QUADS, (d - k + 3u) / 4u));
    }
    for (var e = 0u; e < 4u; e++) {
        let r = thread / 16u + e / 2u * 16u;
        let c = thread % 16u + e % 2u * 16u;
        coefficients[r * 33u + c] = select(0.0, 1.0 / max(sqrt(t[e]), 1e-30), t[e] > 0.0);
    }
    workgroupBarrier();
}

// Leaves dy times the derivative by the squared distance in the coefficients of a tile, which for Euclidean hold
// 1 / distance.
fn derivatives(side: u32, i0: u32, j0: u32, thread: u32) {
    // Neighbours read neighbours of dy on either side.
    for (var e = thread; e < TILE * TILE; e += WIDTH) {
        let r = select(e % TILE, e / TILE, side == 0u);
        let c = select(e / TILE, e % TILE, side == 0u);
        var g = 0.0;
        if i0 + r < rows_ab(side) && j0 + c < rows_ab(1u - side) {
            let i = select(j0 + c, i0 + r, side == 0u);
            let j = select(i0 + r, j0 + c, side == 0u);
            g = dy[i * p.m + j];
            switch kind {
                case DOT: {
                    g = -g;
                }
                case COSINE: {
                    g = select(0.0, -g, inverse_a[r] > 0.0 && inverse_b[c] > 0.0);
                }
                case SQUARED: {
                    g *= 2.0;
                }
                default: {
                    g *= coefficients[r * 33u + c];
                }
            }
        }
        coefficients[r * 33u + c] = g;
    }
}

// Projects the thread's columns of the gradient off its row, whose product with it is `radial`.
fn project(side: u32, i: u32, seat: Seat, radial: f32) {
    let inverse = inverse_a[seat.own];
    for (var k = 4u * seat.lane; k < d; k += TILE) {
        let u = unit_of_side(side, i, k, inverse);
        for (var c = 0u; c < 4u && k + c < d; c++) {
            let at = i * d + k + c;
            put_grad(side, at, projected(grad(side, at), radial * u[c], inverse));
        }
    }
}

@compute @workgroup_size(256)
fn similarity_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles = tiles_of(p.n);
    let tile = group_of(group, groups);
    let side = u32(tile >= tiles);
    let i0 = (tile - side * tiles) * TILE;
    let n = rows_ab(side);
    let m = rows_ab(1u - side);
    if i0 >= n {
        return;
    }
    let seat = seat_of(thread);
    let own = i0 + seat.own;
    let writes = seat.turn == 0u && own < n;
    if kind == COSINE {
        let inverse = norm_ab(side, i0 + seat.row, thread);
        if seat.column == 0u {
            inverse_a[seat.row] = inverse;
        }
    }
    var radial = 0.0;
    // One turn up to 512 columns; beyond, each turn meets all pairs again for 512 more columns.
    for (var first = 0u; first < d; first += MOST) {
        let last = min(d, first + MOST);
        var acc: array<vec4<f32>, 16>;
        for (var j0 = 0u; j0 < m; j0 += TILE) {
            if kind == COSINE {
                let inverse = norm_ab(1u - side, j0 + seat.row, thread);
                if seat.column == 0u {
                    inverse_b[seat.row] = inverse;
                }
            }
            workgroupBarrier();
            if kind == EUCLIDEAN {
                inverse_distances(side, i0, j0, thread);
            }
            derivatives(side, i0, j0, thread);
            for (var s = 0u; s < STEPS && first + s * TILE < last; s++) {
                let k = first + s * TILE;
                if s > 0u {
                    workgroupBarrier();
                }
                tile_b[seat.staged] = unit_of_side(1u - side, j0 + seat.row, k + seat.column, inverse_b[seat.row]);
                workgroupBarrier();
                var v = vec4<f32>();
                if kind != DOT {
                    v = unit_of_side(side, own, k + 4u * seat.lane, inverse_a[seat.own]);
                }
                acc[s] += weigh(seat, v);
            }
            workgroupBarrier();
        }
        acc[0] = shared_sum(thread, seat, acc[0]);
        for (var s = 0u; s < STEPS && first + s * TILE < last; s++) {
            let k = first + s * TILE + 4u * seat.lane;
            if kind == COSINE {
                radial += dot(acc[s], unit_of_side(side, own, k, inverse_a[seat.own]));
            }
            if writes {
                for (var c = 0u; c < 4u && k + c < d; c++) {
                    put_grad(side, own * d + k + c, acc[s][c]);
                }
            }
        }
    }
    if kind == COSINE {
        radial = row_sum(thread, lanes_of(), radial);
        if writes {
            project(side, own, seat, radial);
        }
    }
    if thread == 0u && cut_short(p.n + p.m) {
        put_grad(side, i0 * d, nan_if(true, 0.0));
    }
}

// ---- The best of each row.

struct TopKParams {
    n: u32,
    m: u32,
    d: u32,
    kind: u32,
    k: u32,
}
@group(1) @binding(0) var<uniform> top: TopKParams;

@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;

const NOBODY: u32 = 0xffffffffu;

fn rows_top(side: u32) -> u32 {
    return select(top.m, top.n, side == 0u);
}

fn element_top(side: u32, at: u32) -> f32 {
    return element_ab(side, at);
}

// A NaN, and what is infinitely bad, is beyond nothing.
fn ranks(key: f32) -> bool {
    return !is_nan(key) && bitcast<u32>(key) != 0xff800000u;
}

// What the thread's 2 x 2 pairs gain from the staged columns.
fn products(thread: u32, quads: u32) -> vec4<f32> {
    let a = thread / 16u * PITCH;
    let b = thread % 16u * PITCH;
    var t = vec4<f32>();
    for (var q = 0u; q < quads; q++) {
        let a0 = tile_a[a + q];
        let a1 = tile_a[a + 16u * PITCH + q];
        let b0 = tile_b[b + q];
        let b1 = tile_b[b + 16u * PITCH + q];
        t += vec4<f32>(dot(a0, b0), dot(a0, b1), dot(a1, b0), dot(a1, b1));
    }
    return t;
}

@compute @workgroup_size(256)
fn similarity_topk(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i0 = group_of(group, groups) * TILE;
    if i0 >= top.n {
        return;
    }
    let row = thread / QUADS;
    let quad = thread % QUADS * 4u;
    let staged = row * PITCH + thread % QUADS;
    // The thread whose row this is: its list, how many it holds, its least key.
    let mine = thread < TILE && i0 + thread < top.n;
    let list = (i0 + thread) * top.k;
    var held = 0u;
    var least = 0.0;
    var inverse = 1.0;
    if kind == COSINE {
        inverse = norm_top(0u, i0 + row, thread);
    }
    for (var j0 = 0u; j0 < top.m; j0 += TILE) {
        var other = 1.0;
        if kind == COSINE {
            other = norm_top(1u, j0 + row, thread);
        }
        var t = vec4<f32>();
        for (var k = 0u; k < d; k += TILE) {
            workgroupBarrier();
            tile_a[staged] = quad_top(0u, i0 + row, k + quad) * inverse;
            tile_b[staged] = quad_top(1u, j0 + row, k + quad) * other;
            workgroupBarrier();
            let quads = min(QUADS, (d - k + 3u) / 4u);
            if kind == DOT || kind == COSINE {
                t += products(thread, quads);
            } else {
                t += squares(thread, quads);
            }
        }
        workgroupBarrier();
        for (var e = 0u; e < 4u; e++) {
            var key = t[e];
            if kind == EUCLIDEAN {
                key = sqrt(key);
            }
            if kind == SQUARED || kind == EUCLIDEAN {
                key = -key;
            }
            coefficients[(thread / 16u + e / 2u * 16u) * 33u + thread % 16u + e % 2u * 16u] = key;
        }
        workgroupBarrier();
        if mine {
            for (var c = 0u; c < min(TILE, top.m - j0); c++) {
                let key = coefficients[thread * 33u + c];
                if ranks(key) && (held < top.k || key > least) {
                    held = min(held + 1u, top.k);
                    var at = held - 1u;
                    while at > 0u && values[list + at - 1u] < key {
                        values[list + at] = values[list + at - 1u];
                        indices[list + at] = indices[list + at - 1u];
                        at -= 1u;
                    }
                    values[list + at] = key;
                    indices[list + at] = j0 + c;
                    least = values[list + held - 1u];
                }
            }
        }
    }
    if mine {
        for (var at = 0u; at < top.k; at++) {
            if at >= held {
                values[list + at] = nan_if(true, 0.0);
                indices[list + at] = NOBODY;
            } else if kind == SQUARED || kind == EUCLIDEAN {
                values[list + at] = -values[list + at];
            }
        }
        if cut_short(top.n + top.m) {
            values[list] = nan_if(true, 0.0);
        }
    }
}
