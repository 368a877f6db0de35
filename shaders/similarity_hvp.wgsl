// What the second derivatives of similarities are made of, beside their own kernels.
//
// Rows a_i, b_j move by da_i, db_j; u is a row of norm 1, P x = x - u (u . x) what of x is across it, dy an upstream gradient.
//
//   moves   ds_ij = 2 (a_i - b_j) . (da_i - db_j)       how squared distances move
//   slopes  of_y = ds / 2 y, p = dy / y, q = -p of_y / y: how Euclidean distances y move, and the two factors of how their
//           gradients do; all 0 where y is
//   rows    sum_j p_ij (da_i - db_j) + q_ij (a_i - b_j): how the gradient by a_i moves; with `side` that by b_j, alike
//   unit    u = a / |a|, du = P da / |a|; both 0 of a row that is 0
//   bent    (P (dg - ((u . da) g + (u . g) da) / |a|) - (g . du) u) / |a|: how the gradient by a row moves, where that by its u
//           is g, which moves by dg; 0 where both are
//
// Shapes: a, da [n, d]; b, db [m, d]; matrices [n, m]; units = (u, du) and of_units = (g, dg) [2, n, d]; bent [n, d].
//
// moves: a workgroup owns 16 x 16 entries, a thread one, neighbours reading rows together; 4 flops an entry and column, of
// differences, which do not cancel. rows: a workgroup owns 16 rows and streams the others 16 at a time; thread (r, c) owns
// columns c, c + 16, ... of row r; 6 flops a pair and column. The rest: a workgroup a row, a thread every 256th column; memory
// binds them.

struct SimilarityHvpParams {
    n: u32,
    m: u32,
    d: u32,
    side: u32,
}
@group(1) @binding(0) var<uniform> sizes: SimilarityHvpParams;

const BLOCK: u32 = 256u;
const TILE: u32 = 16u;
// More than any number that a card may flush to zero.
const TINY: f32 = 1.2e-38;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> da: array<f32>;
@group(0) @binding(3) var<storage, read> db: array<f32>;
@group(0) @binding(4) var<storage, read_write> moves: array<f32>;

@compute @workgroup_size(256)
fn similarity_hvp_moves(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let across = (sizes.m + TILE - 1u) / TILE;
    let block = group_of(group, groups);
    let i = block / across * TILE + thread / TILE;
    let j = block % across * TILE + thread % TILE;
    if i >= sizes.n || j >= sizes.m {
        return;
    }
    let of_a = i * sizes.d;
    let of_b = j * sizes.d;
    var sum = 0.0;
    for (var k = 0u; k < sizes.d; k++) {
        sum = fma(a[of_a + k] - b[of_b + k], da[of_a + k] - db[of_b + k], sum);
    }
    moves[i * sizes.m + j] = nan_if(cut_short(sizes.d + 1u), 2.0 * sum);
}

// ---- Euclidean distances.

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> moved: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> of_y: array<f32>;
@group(0) @binding(4) var<storage, read_write> p: array<f32>;
@group(0) @binding(5) var<storage, read_write> q: array<f32>;

@compute @workgroup_size(256)
fn similarity_hvp_slopes(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = group_of(group, groups);
    if i >= sizes.n {
        return;
    }
    for (var j = thread; j < sizes.m; j += BLOCK) {
        let at = i * sizes.m + j;
        let apart = is_nan(y[at]) || y[at] >= TINY;
        let far = select(1.0, y[at], apart);
        let moves_by = 0.5 * moved[at] / far;
        let slope = dy[at] / far;
        of_y[at] = select(0.0, moves_by, apart);
        p[at] = select(0.0, slope, apart);
        q[at] = select(0.0, -slope * (moves_by / far), apart);
    }
}

@group(0) @binding(4) var<storage, read> of_moves: array<f32>;
@group(0) @binding(5) var<storage, read> of_rows: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;

// Both factors of the pairs of a tile, row by row; 0 beyond the ends.
var<workgroup> factors: array<vec2<f32>, 256>;

// Element k of row i of the side whose gradient moves, or of the other, and how it moves.
fn element(side: u32, i: u32, k: u32) -> vec2<f32> {
    let at = i * sizes.d + k;
    if side == 0u {
        return vec2<f32>(a[at], da[at]);
    }
    return vec2<f32>(b[at], db[at]);
}

@compute @workgroup_size(256)
fn similarity_hvp_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let side = min(sizes.side, 1u);
    let own = select(sizes.n, sizes.m, side == 1u);
    let others = select(sizes.m, sizes.n, side == 1u);
    let i0 = group_of(group, groups) * TILE;
    if i0 >= own {
        return;
    }
    let row = thread / TILE;
    let column = thread % TILE;
    let i = i0 + row;
    for (var k = column; i < own && k < sizes.d; k += TILE) {
        sums[i * sizes.d + k] = 0.0;
    }
    for (var j0 = 0u; j0 < others; j0 += TILE) {
        workgroupBarrier(); // whoever still reads the factors before
        let j = j0 + column;
        var pair = vec2<f32>(0.0);
        if i < own && j < others {
            let at = select(i * sizes.m + j, j * sizes.m + i, side == 1u);
            pair = vec2<f32>(of_moves[at], of_rows[at]);
        }
        factors[thread] = pair;
        workgroupBarrier();
        if i < own {
            for (var k = column; k < sizes.d; k += TILE) {
                let x = element(side, i, k);
                var sum = 0.0;
                for (var c = 0u; c < min(TILE, others - j0); c++) {
                    let apart = x - element(1u - side, j0 + c, k);
                    let pair_of = factors[row * TILE + c];
                    sum = fma(pair_of.x, apart.y, fma(pair_of.y, apart.x, sum));
                }
                sums[i * sizes.d + k] += sum;
            }
        }
    }
    if cut_short(sizes.n + sizes.m) && i < own {
        for (var k = column; k < sizes.d; k += TILE) {
            sums[i * sizes.d + k] = nan_if(true, 0.0);
        }
    }
}

// ---- Rows of norm 1.

// What row i is divided by to be of norm 1, in two steps, so that no square overflows: its largest element, and the norm of what
// that leaves, which is 0 of a row that is 0.
fn length_of(i: u32, thread: u32) -> vec2<f32> {
    var most = 0.0;
    for (var k = thread; k < sizes.d; k += BLOCK) {
        let v = abs(a[i * sizes.d + k]);
        most = select(most, v, v > most);
    }
    most = group_max(thread, most);
    let largest = select(1.0, most, most > 0.0);
    var squares = 0.0;
    var bad = false;
    for (var k = thread; k < sizes.d; k += BLOCK) {
        let v = a[i * sizes.d + k] / largest;
        squares = fma(v, v, squares);
        bad = bad || !is_finite(a[i * sizes.d + k]);
    }
    squares = group_sum(thread, squares);
    // What a NaN's largest is, nobody says.
    return vec2<f32>(largest, nan_if(group_any(thread, bad), sqrt(squares)));
}

@group(0) @binding(1) var<storage, read> da_1: array<f32>;
@group(0) @binding(2) var<storage, read_write> units: array<f32>;

@compute @workgroup_size(256)
fn similarity_hvp_unit(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = group_of(group, groups);
    if i >= sizes.n {
        return;
    }
    let row = i * sizes.d;
    let moves_at = sizes.n * sizes.d + row;
    let length = length_of(i, thread);
    let flat = !is_nan(length.y) && length.y == 0.0;
    let norm = select(length.y, 1.0, flat);
    var along = 0.0;
    for (var k = thread; k < sizes.d; k += BLOCK) {
        along = fma(a[row + k] / length.x / norm, da_1[row + k], along);
    }
    along = group_sum(thread, along);
    for (var k = thread; k < sizes.d; k += BLOCK) {
        let u = a[row + k] / length.x / norm;
        units[row + k] = select(u, 0.0, flat);
        units[moves_at + k] = select((da_1[row + k] - u * along) / norm / length.x, 0.0, flat);
    }
}

@group(0) @binding(2) var<storage, read> of_units: array<f32>;
@group(0) @binding(3) var<storage, read_write> bent: array<f32>;

@compute @workgroup_size(256)
fn similarity_hvp_bent(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = group_of(group, groups);
    if i >= sizes.n {
        return;
    }
    let row = i * sizes.d;
    let moved_at = sizes.n * sizes.d + row;
    let length = length_of(i, thread);
    let flat = !is_nan(length.y) && length.y == 0.0;
    let norm = select(length.y, 1.0, flat);
    var of_a = 0.0;
    var of_g = 0.0;
    var of_dg = 0.0;
    var both = 0.0;
    var any = false;
    for (var k = thread; k < sizes.d; k += BLOCK) {
        let u = a[row + k] / length.x / norm;
        let g = of_units[row + k];
        let dg = of_units[moved_at + k];
        of_a = fma(u, da_1[row + k], of_a);
        of_g = fma(u, g, of_g);
        of_dg = fma(u, dg, of_dg);
        both = fma(g, da_1[row + k], both);
        any = any || is_nan(g) || is_nan(dg) || g != 0.0 || dg != 0.0;
    }
    of_a = group_sum(thread, of_a);
    of_g = group_sum(thread, of_g);
    of_dg = group_sum(thread, of_dg);
    both = group_sum(thread, both);
    // A row that is masked may hold anything, and nothing comes to it.
    let comes = group_any(thread, any);
    let none = flat || !comes;
    let inverse = 1.0 / norm / length.x;
    let back = of_dg + inverse * (both - 3.0 * of_a * of_g);
    for (var k = thread; k < sizes.d; k += BLOCK) {
        let u = a[row + k] / length.x / norm;
        let turned = of_a * of_units[row + k] + of_g * da_1[row + k];
        bent[row + k] = select(inverse * (of_units[moved_at + k] - inverse * turned - back * u), 0.0, none);
    }
}
