// Similarity matrices, every row of a against every row of b, and their gradients.
// with: pairs, pairs_tiles, pairs_quads(any), pairs_norms(any), similarity_matrix(any), similarity_gradients(any)
// with: pairs_norms(whole), similarity_matrix(whole), similarity_gradients(whole), pairs_quads(top), pairs_norms(top)
//
//   dot                y_ij = a_i . b_j
//   cosine             y_ij = a_i . b_j / (|a_i| |b_j|); 0, with gradient 0, when a row is zero
//   squared Euclidean  y_ij = |a_i - b_j|^2
//   Euclidean          y_ij = |a_i - b_j|; gradient 0 where that is 0
//
// Shapes: a, da [n, d]; b, db [m, d]; y, dy [n, m]. a and b are stored as `Stored`, f32 or f16.
//
// fwd (similarity_matrix.wgsl): a workgroup of 64 threads owns 64 x 64 entries and streams both sides' columns through
// workgroup memory, sixteen at a time; a thread owns 8 x 8 entries, eight rows and columns apart: sixteen loads of quads for
// 256 products. Distances are sums of squared differences, which do not cancel. The cosine stages rows of norm 1.
//
// bwd (similarity_gradients.wgsl): a workgroup owns 64 rows of da, or of db, and streams tiles of 64 rows of the other side,
// as the sweep of the contrastive loss does (pairs_tiles.wgsl): for Euclidean first the distances again; then dy times the
// derivative by the squared distance as the tile's coefficients g_ij; then acc_i += sum_j g_ij (u_i - u_j) by differences (of
// rows of norm 1 for the cosine, projected off u_i at the end), or g_ij b_j alone for the dot product. Of rows longer than 128
// columns all this is done for each 128.
//
// Both have a second stage, and one of the two runs: the first takes rows of any length, the second rows of whole quads, which
// it reads as such.
//
// topk: the k best of each row, values and indices [n, k], in falling order, of equal ones the lower index first. A workgroup
// owns 64 rows of a and streams tiles of 64 rows of b as bwd does; then a thread for each row of a takes the tile's
// entries that are beyond its least, which is few, into its list: the values so far, as keys of which larger is better.
//
// Cost: 2 d flops an entry forward, 3 d for distances; 3 d an entry and side backward, and 3 d more for Euclidean.
// Each entry of y is written once, each of dy read once a side and 128 columns.

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
fn rows_any(side: u32) -> u32 {
    return select(p.m, p.n, side == 0u);
}

fn element_any(side: u32, at: u32) -> f32 {
    if side == 0u {
        return f32(a[at]);
    }
    return f32(b[at]);
}

// The rows as quads, where they are whole ones.
@group(0) @binding(0) var<storage, read> a_quads: array<vec4<Stored>>;
@group(0) @binding(1) var<storage, read> b_quads: array<vec4<Stored>>;

// Columns k to k + 3 of a row; of rows beyond the end those of the last one.
fn quad_whole(side: u32, i: u32, k: u32) -> vec4<f32> {
    let at = min(i, rows_any(side) - 1u) * row_quads() + k / 4u;
    if side == 0u {
        return vec4<f32>(a_quads[at]);
    }
    return vec4<f32>(b_quads[at]);
}

var<workgroup> inverse_i: array<f32, 64>;
var<workgroup> inverse_j: array<f32, 64>;

// ---- The matrix.

@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const MATRIX_THREADS: u32 = 64u;

// Adds what four entries of a row gain from a quad.
fn plus_entries(a: vec4<f32>, b: Four, t: vec4<f32>) -> vec4<f32> {
    if kind == DOT || kind == COSINE {
        return plus_products(a, b, t);
    }
    return plus_squares(a, b, t);
}

@compute @workgroup_size(64)
fn similarity_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    matrix_any(group_of(group, groups), thread);
}

@compute @workgroup_size(64)
fn similarity_fwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    matrix_whole(group_of(group, groups), thread);
}

// ---- The gradients. First the workgroups that own rows of a, then those that own rows of b.

@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> da: array<f32>;
@group(0) @binding(4) var<storage, read_write> db: array<f32>;

// Sums go to memory after so many rows j.
const SPAN_J: u32 = 512u;

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

// Leaves 1 / distance of the thread's pairs in half a tile, 0 where that is 0, in the coefficients.
fn leave_inverses(thread: u32, t: array<vec4<f32>, 4>) {
    for (var r = 0u; r < 4u; r++) {
        let inverse = 1.0 / max(sqrt(t[r]), vec4<f32>(1e-30));
        tile[thread % 8u * PITCH + thread / 8u + 16u * r] = select(vec4<f32>(), inverse, t[r] > vec4<f32>());
    }
}

// Leaves dy times the derivative by the squared distance in the coefficients of a tile, which for Euclidean hold
// 1 / distance.
fn derivatives(side: u32, i0: u32, j0: u32, thread: u32) {
    let n = rows_any(side);
    let m = rows_any(1u - side);
    // Neighbours read neighbours of dy on either side.
    for (var e = 0u; e < 4u; e++) {
        let row = select(thread % OWN, thread / 8u + 16u * e, side == 0u);
        let column = select(thread / OWN + 2u * e, thread % 8u, side == 0u);
        let i = i0 + row;
        let j = vec4<u32>(j0 + column) + vec4<u32>(0u, 8u, 16u, 24u);
        let there = (j < vec4<u32>(m)) & vec4<bool>(i < n);
        let at = min(select(j * p.m + i, i * p.m + j, side == 0u), vec4<u32>(p.n * p.m - 1u));
        var g = select(vec4<f32>(), vec4<f32>(dy[at.x], dy[at.y], dy[at.z], dy[at.w]), there);
        switch kind {
            case DOT: {
                g = -g;
            }
            case COSINE: {
                let inverse = vec4<f32>(
                    inverse_j[column],
                    inverse_j[column + 8u],
                    inverse_j[column + 16u],
                    inverse_j[column + 24u],
                );
                g = select(vec4<f32>(), -g, (inverse > vec4<f32>()) & vec4<bool>(inverse_i[row] > 0.0));
            }
            case SQUARED: {
                g *= 2.0;
            }
            default: {
                g *= tile[column * PITCH + row];
            }
        }
        tile[column * PITCH + row] = g;
    }
}

@compute @workgroup_size(128)
fn similarity_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    gradients_any(group_of(group, groups), thread);
}

@compute @workgroup_size(128)
fn similarity_bwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    gradients_whole(group_of(group, groups), thread);
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
    return element_any(side, at);
}

// A NaN, and what is infinitely bad, is beyond nothing.
fn ranks(key: f32) -> bool {
    return !is_nan(key) && bitcast<u32>(key) != 0xff800000u;
}

// Leaves the keys of the thread's pairs in half a tile.
fn leave_keys(thread: u32, t: array<vec4<f32>, 4>) {
    for (var r = 0u; r < 4u; r++) {
        var key = t[r];
        if kind == EUCLIDEAN {
            key = sqrt(key);
        }
        if kind == SQUARED || kind == EUCLIDEAN {
            key = -key;
        }
        tile[thread % 8u * PITCH + thread / 8u + 16u * r] = key;
    }
}

// Takes the best of the thread's row in half a tile, from row j0 on, into its list, which holds so many; returns how many it
// holds then.
fn take_best(thread: u32, list: u32, holds: u32, j0: u32) -> u32 {
    var held = holds;
    var least = 0.0;
    if held > 0u {
        least = values[list + held - 1u];
    }
    for (var c = 0u; c < HALF && j0 + c < top.m; c++) {
        let keys = tile[c % 8u * PITCH + thread];
        let key = keys[c / 8u];
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
    return held;
}

@compute @workgroup_size(128)
fn similarity_topk(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i0 = group_of(group, groups) * OWN;
    if i0 >= top.n {
        return;
    }
    let row = thread / STAGE;
    let quad = thread % STAGE;
    let at = quad * PITCH + row;
    // The thread whose row this is: its list, and how many it holds.
    let mine = thread < OWN && i0 + thread < top.n;
    let list = (i0 + thread) * top.k;
    var held = 0u;
    var inverse = vec2<f32>(1.0);
    if kind == COSINE {
        inverse.x = norm_top(0u, i0 + row, thread, STAGE);
        inverse.y = norm_top(0u, i0 + row + HALF, thread, STAGE);
    }
    for (var j0 = 0u; j0 < top.m; j0 += TILE) {
        var other = vec2<f32>(1.0);
        if kind == COSINE {
            other.x = norm_top(1u, j0 + row, thread, STAGE);
            other.y = norm_top(1u, j0 + row + HALF, thread, STAGE);
        }
        var t: Pairs;
        for (var k = 0u; k < row_quads(); k += STAGE) {
            let column = 4u * (k + quad);
            workgroupBarrier();
            tile[at] = quad_top(0u, i0 + row, column) * inverse.x;
            tile[at + HALF] = quad_top(0u, i0 + row + HALF, column) * inverse.y;
            tile[SIDE_J + at] = quad_top(1u, j0 + row, column) * other.x;
            tile[SIDE_J + at + HALF] = quad_top(1u, j0 + row + HALF, column) * other.y;
            workgroupBarrier();
            let quads = min(STAGE, row_quads() - k);
            if kind == DOT || kind == COSINE {
                products(thread, quads, &t);
            } else {
                squares(thread, quads, &t);
            }
        }
        workgroupBarrier();
        leave_keys(thread, t.left);
        workgroupBarrier();
        if mine {
            held = take_best(thread, list, held, j0);
        }
        workgroupBarrier();
        leave_keys(thread, t.right);
        workgroupBarrier();
        if mine {
            held = take_best(thread, list, held, j0 + HALF);
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
