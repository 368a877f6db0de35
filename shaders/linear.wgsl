// Fully connected layer with the dropout of its input, its bias and activation, y = f(m(x) w^T + b).
//
//   fwd  y = f(m(x) w^T + b)
//   bwd  dz = dy * f'(y), from the output; dx = m(dz w), dw = dz^T m(x), db = sum_b dz: one dispatch for all three
//
// m is the mask of dropout.wgsl over the elements of x, made again where x is read and dx written; none where the
// threshold is 0.
// Shapes: x [B, I], w [O, I], b [O], y [B, O]; gradients as what they belong to. f is the identity, relu
// or sigmoid. Without a bias b is bound to any buffer and not read. An output that `wanted` leaves out is one
// element, set to 0.
//
// Threads: a workgroup owns a tile of 32 x 32 outputs, a thread 2 x 2 of them, 16 apart; both factors pass
// through workgroup memory 32 terms at a time, and rows there are 33 apart, so that neither loads nor reads
// conflict. Sums are two-level: 32 terms, then over the tiles in order. A small dw is cut into patches of 8 x 8 instead, of
// which a thread owns one element over a quarter of the batch, 128 rows in workgroup memory at once: few tiles would leave
// the device idle while they walk through the batch. In bwd the grid is three ranges: tiles of dx, tiles of dw, and 32
// elements of db for a workgroup, which 8 threads each sum.
//
// Cost: 2 B I O flops forward and as many for each of dx and dw.

struct LinearParams {
    batch: u32,
    inputs: u32,
    outputs: u32,
    activation: u32,
    bias: u32,
    wanted: u32,
    threshold: u32,
    scale: f32,
    stream: u32,
}
@group(1) @binding(0) var<uniform> p: LinearParams;

// Each activation, with a bias and without, with dropout and without, is a pipeline of its own.
override activation: u32 = 0u;
override bias: u32 = 0u;
override threshold: u32 = 0u;

const RELU: u32 = 1u;
const SIGMOID: u32 = 2u;
const WANT_X: u32 = 1u;
const WANT_W: u32 = 2u;
const WANT_B: u32 = 4u;

// Most elements of a dw that is cut into patches of 8 x 8 (as in src/kernels/linear/rows.rs).
const NARROW: u32 = 4096u;
const PATCH: u32 = 8u;
// Rows of the batch that a patch takes at once.
const ROWS: u32 = 128u;

const TILE: u32 = 32u;
const PITCH: u32 = 33u;

var<workgroup> left: array<f32, 1056>; // [row][term]
var<workgroup> right: array<f32, 1056>; // [column][term]

@group(0) @binding(0) var<storage, read> state: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

// The value of element `at` of x or dx behind the mask.
fn masked(v: f32, at: u32) -> f32 {
    if threshold == 0u {
        return v;
    }
    let words = philox4x32(vec4<u32>(at / 4u, state[2], p.stream, 0u), vec2<u32>(state[0], state[1]));
    return select(0.0, p.scale * v, words[at % 4u] >= threshold);
}

// Adds `terms` products of the tile to a thread's sums (row 0 column 0, row 0 column 16, row 16 column 0, ...).
fn multiply(sums: vec4<f32>, terms: u32, thread: u32) -> vec4<f32> {
    let row = thread / 16u * PITCH;
    let column = thread % 16u * PITCH;
    var tile = vec4<f32>();
    for (var k = 0u; k < terms; k++) {
        let l = vec2<f32>(left[row + k], left[row + 16u * PITCH + k]);
        let r = vec2<f32>(right[column + k], right[column + 16u * PITCH + k]);
        tile += l.xxyy * r.xyxy;
    }
    return sums + tile;
}

fn activate(z: f32) -> f32 {
    if activation == RELU {
        return relu(z);
    }
    if activation == SIGMOID {
        return sigmoid(z);
    }
    return z;
}

@compute @workgroup_size(256)
fn linear_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // 1. This workgroup's tile.
    let tile = group_of(group, groups);
    let across = (p.outputs + TILE - 1u) / TILE;
    let row = tile / across * TILE;
    let column = tile % across * TILE;
    if row >= p.batch {
        return;
    }
    var sums = vec4<f32>();
    for (var start = 0u; start < p.inputs; start += TILE) {
        // 2. 32 inputs of 32 rows and of 32 outputs; a run of threads reads a row.
        workgroupBarrier();
        let k = thread % TILE;
        for (var i = thread / TILE; i < TILE; i += 8u) {
            var l = 0.0;
            var r = 0.0;
            if start + k < p.inputs {
                if row + i < p.batch {
                    let at = (row + i) * p.inputs + start + k;
                    l = masked(x[at], at);
                }
                if column + i < p.outputs {
                    r = w[(column + i) * p.inputs + start + k];
                }
            }
            left[i * PITCH + k] = l;
            right[i * PITCH + k] = r;
        }
        workgroupBarrier();
        // 3. Their products.
        sums = multiply(sums, min(TILE, p.inputs - start), thread);
    }
    // 4. Bias, activation, out.
    for (var i = 0u; i < 4u; i++) {
        let at_row = row + thread / 16u + 16u * (i / 2u);
        let at = column + thread % 16u + 16u * (i % 2u);
        if at_row < p.batch && at < p.outputs {
            var z = sums[i];
            if bias != 0u {
                z += b[at];
            }
            y[at_row * p.outputs + at] = activate(z);
        }
    }
}

@group(0) @binding(3) var<storage, read> bwd_y: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<storage, read_write> dw: array<f32>;
@group(0) @binding(7) var<storage, read_write> db: array<f32>;

fn dz(row: u32, output: u32) -> f32 {
    let at = row * p.outputs + output;
    let d = dy[at];
    if activation == RELU {
        return select(0.0, d, bwd_y[at] > 0.0);
    }
    if activation == SIGMOID {
        let v = bwd_y[at];
        return d * v * (1.0 - v);
    }
    return d;
}

// A tile of dx: rows of the batch, columns of inputs, terms over outputs.
fn tile_of_dx(row: u32, column: u32, thread: u32) {
    var sums = vec4<f32>();
    for (var start = 0u; start < p.outputs; start += TILE) {
        workgroupBarrier();
        let j = thread % TILE;
        for (var i = thread / TILE; i < TILE; i += 8u) {
            var l = 0.0;
            var r = 0.0;
            if row + i < p.batch && start + j < p.outputs {
                l = dz(row + i, start + j);
            }
            if start + i < p.outputs && column + j < p.inputs {
                r = w[(start + i) * p.inputs + column + j];
            }
            left[i * PITCH + j] = l;
            right[j * PITCH + i] = r;
        }
        workgroupBarrier();
        sums = multiply(sums, min(TILE, p.outputs - start), thread);
    }
    for (var i = 0u; i < 4u; i++) {
        let at_row = row + thread / 16u + 16u * (i / 2u);
        let at = column + thread % 16u + 16u * (i % 2u);
        if at_row < p.batch && at < p.inputs {
            dx[at_row * p.inputs + at] = masked(sums[i], at_row * p.inputs + at);
        }
    }
}

// A tile of dw: rows of outputs, columns of inputs, terms over the batch.
fn tile_of_dw(row: u32, column: u32, thread: u32) {
    var sums = vec4<f32>();
    for (var start = 0u; start < p.batch; start += TILE) {
        workgroupBarrier();
        let j = thread % TILE;
        for (var i = thread / TILE; i < TILE; i += 8u) {
            var l = 0.0;
            var r = 0.0;
            if start + i < p.batch {
                if row + j < p.outputs {
                    l = dz(start + i, row + j);
                }
                if column + j < p.inputs {
                    let at = (start + i) * p.inputs + column + j;
                    r = masked(x[at], at);
                }
            }
            left[j * PITCH + i] = l;
            right[j * PITCH + i] = r;
        }
        workgroupBarrier();
        sums = multiply(sums, min(TILE, p.batch - start), thread);
    }
    for (var i = 0u; i < 4u; i++) {
        let at_row = row + thread / 16u + 16u * (i / 2u);
        let at = column + thread % 16u + 16u * (i % 2u);
        if at_row < p.outputs && at < p.inputs {
            dw[at_row * p.inputs + at] = sums[i];
        }
    }
}

// A patch of dw: rows of outputs, columns of inputs, terms over the batch, which four threads share.
fn patch_of_dw(row: u32, column: u32, thread: u32) {
    let share = thread / (PATCH * PATCH);
    let i = thread / PATCH % PATCH;
    let j = thread % PATCH;
    var sum = 0.0;
    for (var start = 0u; start < p.batch; start += ROWS) {
        workgroupBarrier();
        for (var k = thread / PATCH; k < ROWS; k += WIDTH / PATCH) {
            var l = 0.0;
            var r = 0.0;
            if start + k < p.batch {
                if row + j < p.outputs {
                    l = dz(start + k, row + j);
                }
                if column + j < p.inputs {
                    let at = (start + k) * p.inputs + column + j;
                    r = masked(x[at], at);
                }
            }
            left[k * PATCH + j] = l;
            right[k * PATCH + j] = r;
        }
        workgroupBarrier();
        var part = 0.0;
        for (var k = share; k < min(ROWS, p.batch - start); k += 4u) {
            part += left[k * PATCH + i] * right[k * PATCH + j];
        }
        sum += part;
    }
    workgroupBarrier();
    left[thread] = sum;
    workgroupBarrier();
    if share == 0u && row + i < p.outputs && column + j < p.inputs {
        dw[(row + i) * p.inputs + column + j] = left[thread] + left[thread + 64u] + left[thread + 128u] + left[thread + 192u];
    }
}

// 32 elements of db: eight threads each, every 8th row, then the eight sums in order.
fn run_of_db(start: u32, thread: u32) {
    let output = start + thread % TILE;
    var part = 0.0;
    if output < p.outputs {
        for (var row = thread / TILE; row < p.batch; row += 8u) {
            part += dz(row, output);
        }
    }
    left[thread] = part;
    workgroupBarrier();
    if thread < TILE && output < p.outputs {
        var sum = 0.0;
        for (var i = thread; i < 256u; i += TILE) {
            sum += left[i];
        }
        db[output] = sum;
    }
}

@compute @workgroup_size(256)
fn linear_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let tall = (p.batch + TILE - 1u) / TILE;
    let across = (p.inputs + TILE - 1u) / TILE;
    let out = (p.outputs + TILE - 1u) / TILE;
    let x_tiles = select(0u, tall * across, (p.wanted & WANT_X) != 0u);
    let narrow = p.outputs * p.inputs <= NARROW;
    let w_across = select(across, (p.inputs + PATCH - 1u) / PATCH, narrow);
    let w_tall = select(out, (p.outputs + PATCH - 1u) / PATCH, narrow);
    let w_tiles = select(0u, w_tall * w_across, (p.wanted & WANT_W) != 0u);
    let b_runs = select(0u, out, (p.wanted & WANT_B) != 0u);
    if number == 0u && thread == 0u {
        if x_tiles == 0u {
            dx[0] = 0.0;
        }
        if w_tiles == 0u {
            dw[0] = 0.0;
        }
        if b_runs == 0u {
            db[0] = 0.0;
        }
    }
    if number < x_tiles {
        tile_of_dx(number / across * TILE, number % across * TILE, thread);
    } else if number - x_tiles < w_tiles {
        let tile = number - x_tiles;
        if narrow {
            patch_of_dw(tile / w_across * PATCH, tile % w_across * PATCH, thread);
        } else {
            tile_of_dw(tile / w_across * TILE, tile % w_across * TILE, thread);
        }
    } else if number - x_tiles - w_tiles < b_runs {
        run_of_db((number - x_tiles - w_tiles) * TILE, thread);
    }
}
