// A convolution along one or two axes in the sense of PyTorch, a cross-correlation, and its gradients: a template, appended
// to conv1d.wgsl and conv2d.wgsl with the stem in place of `$`.
//
//   fwd    y[n,c,o] = b[c] + sum_i sum_k w[c,i,k] x[n, i, o stride + k dilation - padding]
//   bwd_x  dx[n,i,t] = sum_c sum_k w[c,i,k] dy[n, c, (t + padding - k dilation) / stride]    where that is whole
//   bwd_w  dw[c,i,k] = sum_n sum_o dy[n,c,o] x[n, i, o stride + k dilation - padding]
//   bwd_b  db[c] = sum_n sum_o dy[n,c,o]
// over the channels i of output channel c's group; x and dy are 0 beyond their edges. Along two axes o, k and t are pairs
// (row, column), and every product and sum with them goes by its axis.
//
// Shapes: x, dx [batch, cin, input_size]; w, dw [cout, cin / groups, taps]; b, db [cout]; y, dy [batch, cout, output_size];
// part [splits, weights], or one element where splits is 1. Without a bias another buffer is bound in its place and not read.
//
// The stem's file has the params p and the type Position; input_size(), output_size(), strides(), padding(), and steps(tap),
// how far a tap lies from the first; area(size), number_of(position, size) and position_of(number, size); and Phase, what
// is known of the taps that reach the input positions of one phase of the stride: phase_of(start), reaching(phase),
// tap_of(phase, e).
//
// fwd and bwd_x are matrix products whose right side is gathered as it is staged: channels of the result by
// positions of the result, summed over channel and tap. A workgroup owns a tile of both in one group of channels:
// 4 x 256, 16 x 128 or 64 x 64, whichever fits the channels of a group, so that the network's few channels leave no
// threads idle. It stages 8 or 16 terms of weights and values at a time; a thread owns four channels at one, two or
// four positions, far apart so that reads and writes coalesce.
// bwd_x: a workgroup's positions are all of one phase of the stride, so it meets just the taps that reach them, instead
// of testing all and dropping all but one in `stride` (the sub-pixel view of a transposed convolution, Shi et al. 2016).
// bwd_w: a workgroup owns output channels by (channel, tap) columns on one of `splits` runs of the batch's
// positions; the second stage adds the runs. Beyond 16 output channels that is 64 x 64, 16 positions staged at a time, a
// thread four channels at four columns. Up to 16 it is 4 x 8: the threads share out the positions, each keeps 32 sums in
// registers, and the 256 threads' sums are added in two fixed steps: few weights and many positions, the sum is what needs
// the threads.
// bwd_b: a workgroup owns a channel.
//
// Cost: 2 flops a term. fwd and bwd_x read each input once for every tile of channels and tap, staged by
// neighbours from the cache; bwd_w reads 128 values for 4,096 terms, or 12 for 32.

override cin: u32 = 1u;
override cout: u32 = 1u;
override groups: u32 = 1u;

var<workgroup> weights: array<vec4<f32>, 272>;
var<workgroup> values: array<f32, 2048>;

// Threads side by side over the channels of a tile, four channels each.
fn quads_of(channels: u32) -> u32 {
    if channels <= 4u {
        return 1u;
    }
    return select(16u, 4u, channels <= 16u);
}

// Positions of a tile.
fn span_of(quads: u32) -> u32 {
    return select(128u, 256u, quads == 1u);
}

// Terms that are staged at a time.
fn depth_of(quads: u32) -> u32 {
    return select(16u, 8u, quads == 1u);
}

// Quads of channels of a thread.
fn own_of(quads: u32) -> u32 {
    return select(1u, 2u, quads == 16u);
}

// The staged terms' part of the thread's sums.
fn multiply(thread: u32, quads: u32, span: u32, acc: ptr<function, array<vec4<f32>, 8>>) {
    let own = own_of(quads);
    let lanes = WIDTH / quads * own;
    let quad = thread / lanes * own;
    let lane = thread % lanes;
    for (var e = 0u; e < depth_of(quads); e++) {
        for (var r = 0u; r < span / lanes; r++) {
            let v = values[e * span + lane + r * lanes];
            for (var q = 0u; q < own; q++) {
                (*acc)[r * own + q] += weights[e * quads + quad + q] * v;
            }
        }
    }
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn inputs() -> u32 {
    return area(input_size());
}

fn outputs() -> u32 {
    return area(output_size());
}

// What lies under a tap at output position o.
fn input(n: u32, channel: u32, o: u32, tap: u32) -> f32 {
    let padded = position_of(o, output_size()) * strides() + steps(tap);
    let at = padded - padding();
    if any(padded < padding()) || any(at >= input_size()) {
        return 0.0;
    }
    return x[(n * cin + channel) * inputs() + number_of(at, input_size())];
}

@compute @workgroup_size(256)
fn $_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let workgroup = group_of(group, grid);
    let cin_group = cin / groups;
    let cout_group = cout / groups;
    let quads = quads_of(cout_group);
    let span = span_of(quads);
    let depth = depth_of(quads);
    let tiles = (cout_group + 4u * quads - 1u) / (4u * quads);
    let channel = workgroup % tiles * 4u * quads;
    let bundle = workgroup / tiles % groups;
    let first = workgroup / tiles / groups * span;
    let out = outputs();
    let positions = p.batch * out;
    if first >= positions {
        return;
    }
    let place = first + thread % span;
    let terms = cin_group * taps();
    var acc: array<vec4<f32>, 8>;
    for (var term = 0u; term < terms; term += depth) {
        workgroupBarrier();
        if thread < depth * quads {
            let e = term + thread % depth;
            let c = channel + thread / depth * 4u;
            var v = vec4<f32>();
            if e < terms {
                for (var l = 0u; l < 4u; l++) {
                    if c + l < cout_group {
                        v[l] = w[(bundle * cout_group + c + l) * terms + e];
                    }
                }
            }
            weights[thread % depth * quads + thread / depth] = v;
        }
        for (var s = thread / span; s < depth; s += WIDTH / span) {
            let e = term + s;
            var v = 0.0;
            if e < terms && place < positions {
                v = input(place / out, bundle * cin_group + e / taps(), place % out, e % taps());
            }
            values[s * span + thread % span] = v;
        }
        workgroupBarrier();
        multiply(thread, quads, span, &acc);
    }
    let own = own_of(quads);
    let lanes = WIDTH / quads * own;
    for (var q = 0u; q < own; q++) {
        let c = channel + (thread / lanes * own + q) * 4u;
        var bias = vec4<f32>();
        if p.bias != 0u {
            for (var l = 0u; l < 4u; l++) {
                if c + l < cout_group {
                    bias[l] = b[bundle * cout_group + c + l];
                }
            }
        }
        for (var r = 0u; r < span / lanes; r++) {
            let at = first + thread % lanes + r * lanes;
            let v = acc[r * own + q] + bias;
            for (var l = 0u; l < 4u; l++) {
                if at < positions && c + l < cout_group {
                    y[(at / out * cout + bundle * cout_group + c + l) * out + at % out] = v[l];
                }
            }
        }
    }
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

// Phases along each axis, and the input positions of a phase.
fn phases() -> Position {
    return min(strides(), input_size());
}

fn turns() -> Position {
    return (input_size() + strides() - 1u) / strides();
}

// The gradient that reaches input position t by a tap of its phase.
fn upstream(n: u32, channel: u32, t: Position, tap: u32) -> f32 {
    let padded = t + padding();
    let back = steps(tap);
    if any(padded < back) {
        return 0.0;
    }
    let o = (padded - back) / strides();
    if any(o >= output_size()) {
        return 0.0;
    }
    return dy[(n * cout + channel) * outputs() + number_of(o, output_size())];
}

// The taps that reach a phase along an axis: the first, from one to the next, how many.
struct Taps {
    first: u32,
    step: u32,
    count: u32,
}

fn taps_along(phase: u32, taps: u32, stride: u32, padding: u32, dilation: u32) -> Taps {
    let wanted = (phase + padding) % stride;
    // Taps a stride apart, less where it shares a factor with the dilation, land alike.
    var a = stride;
    var b = dilation % stride;
    while b != 0u {
        let rest = a % b;
        a = b;
        b = rest;
    }
    let step = stride / a;
    for (var tap = 0u; tap < min(step, taps); tap++) {
        if tap * dilation % stride == wanted {
            return Taps(tap, step, (taps - 1u - tap) / step + 1u);
        }
    }
    return Taps(0u, 1u, 0u);
}

@compute @workgroup_size(256)
fn $_bwd_x(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let workgroup = group_of(group, grid);
    let cin_group = cin / groups;
    let cout_group = cout / groups;
    let quads = quads_of(cin_group);
    let span = span_of(quads);
    let depth = depth_of(quads);
    let tiles = (cin_group + 4u * quads - 1u) / (4u * quads);
    let channel = workgroup % tiles * 4u * quads;
    let bundle = workgroup / tiles % groups;
    let start = position_of(workgroup / tiles / groups % area(phases()), phases());
    let first = workgroup / tiles / groups / area(phases()) * span;
    let turn = area(turns());
    let positions = p.batch * turn;
    if first >= positions {
        return;
    }
    let phase = phase_of(start);
    let reach = reaching(phase);
    let terms = cout_group * reach;
    let place = first + thread % span;
    let to = start + position_of(place % turn, turns()) * strides();
    var acc: array<vec4<f32>, 8>;
    for (var term = 0u; term < terms; term += depth) {
        workgroupBarrier();
        if thread < depth * quads {
            let e = term + thread % depth;
            let c = channel + thread / depth * 4u;
            var v = vec4<f32>();
            if e < terms {
                let row = bundle * cout_group + e / reach;
                let tap = tap_of(phase, e % reach);
                for (var l = 0u; l < 4u; l++) {
                    if c + l < cin_group {
                        v[l] = w[(row * cin_group + c + l) * taps() + tap];
                    }
                }
            }
            weights[thread % depth * quads + thread / depth] = v;
        }
        for (var s = thread / span; s < depth; s += WIDTH / span) {
            let e = term + s;
            var v = 0.0;
            if e < terms && place < positions {
                v = upstream(place / turn, bundle * cout_group + e / reach, to, tap_of(phase, e % reach));
            }
            values[s * span + thread % span] = v;
        }
        workgroupBarrier();
        multiply(thread, quads, span, &acc);
    }
    let own = own_of(quads);
    let lanes = WIDTH / quads * own;
    for (var q = 0u; q < own; q++) {
        let c = channel + (thread / lanes * own + q) * 4u;
        for (var r = 0u; r < span / lanes; r++) {
            let at = first + thread % lanes + r * lanes;
            let to = start + position_of(at % turn, turns()) * strides();
            let v = acc[r * own + q];
            for (var l = 0u; l < 4u; l++) {
                if at < positions && all(to < input_size()) && c + l < cin_group {
                    let image = at / turn * cin + bundle * cin_group + c + l;
                    dx[image * inputs() + number_of(to, input_size())] = v[l];
                }
            }
        }
    }
}

@group(0) @binding(1) var<storage, read> dy_of_w: array<f32>;
@group(0) @binding(2) var<storage, read_write> part: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

// Columns and positions that are staged at a time; between one position and the next in workgroup memory one more.
const COLUMNS: u32 = 64u;
const PLACES: u32 = 16u;
const CHANNELS_PITCH: u32 = 17u;
const COLUMNS_PITCH: u32 = 65u;

fn put_weight(split: u32, weight: u32, sum: f32) {
    if p.splits == 1u {
        dw[weight] = sum;
    } else {
        part[split * (cout * (cin / groups) * taps()) + weight] = sum;
    }
}

@compute @workgroup_size(256)
fn $_bwd_w(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let workgroup = group_of(group, grid);
    if p.splits == 1u && workgroup == 0u && thread == 0u {
        part[0] = 0.0;
    }
    if cout / groups > 16u {
        bwd_w_of_many(workgroup, thread);
    } else {
        bwd_w_of_few(workgroup, thread);
    }
}

fn bwd_w_of_many(workgroup: u32, thread: u32) {
    let cin_group = cin / groups;
    let cout_group = cout / groups;
    let terms = cin_group * taps();
    let blocks = (terms + COLUMNS - 1u) / COLUMNS;
    let tiles = (cout_group + 63u) / 64u;
    let column = workgroup % blocks * COLUMNS;
    let channel = workgroup / blocks % tiles * 64u;
    let bundle = workgroup / blocks / tiles % groups;
    let split = workgroup / blocks / tiles / groups;
    if split >= p.splits {
        return;
    }
    let out = outputs();
    let positions = p.batch * out;
    let run = (positions + p.splits - 1u) / p.splits;
    let last = min(split * run + run, positions);
    // Staging, a thread owns a position; four channels, and every 16th column.
    let place = thread % PLACES;
    let quad = thread / PLACES;
    var acc: array<vec4<f32>, 4>;
    for (var first = split * run; first < last; first += PLACES) {
        let at = first + place;
        let n = at / out;
        let o = at % out;
        var up = vec4<f32>();
        var under = vec4<f32>();
        for (var l = 0u; l < 4u; l++) {
            let c = channel + quad * 4u + l;
            if at < last && c < cout_group {
                up[l] = dy_of_w[(n * cout + bundle * cout_group + c) * out + o];
            }
            let e = column + quad + l * 16u;
            if at < last && e < terms {
                under[l] = input(n, bundle * cin_group + e / taps(), o, e % taps());
            }
        }
        workgroupBarrier();
        weights[place * CHANNELS_PITCH + quad] = up;
        for (var l = 0u; l < 4u; l++) {
            values[place * COLUMNS_PITCH + quad + l * 16u] = under[l];
        }
        workgroupBarrier();
        for (var s = 0u; s < PLACES; s++) {
            let w = weights[s * CHANNELS_PITCH + quad];
            for (var r = 0u; r < 4u; r++) {
                acc[r] += w * values[s * COLUMNS_PITCH + place + r * 16u];
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        let at = column + place + r * 16u;
        for (var l = 0u; l < 4u; l++) {
            let c = channel + quad * 4u + l;
            if c < cout_group && at < terms {
                put_weight(split, (bundle * cout_group + c) * terms + at, acc[r][l]);
            }
        }
    }
}

fn bwd_w_of_few(workgroup: u32, thread: u32) {
    let cin_group = cin / groups;
    let cout_group = cout / groups;
    let terms = cin_group * taps();
    let blocks = (terms + 7u) / 8u;
    let tiles = (cout_group + 3u) / 4u;
    let column = workgroup % blocks * 8u;
    let channel = workgroup / blocks % tiles * 4u;
    let bundle = workgroup / blocks / tiles % groups;
    let split = workgroup / blocks / tiles / groups;
    if split >= p.splits {
        return;
    }
    let positions = p.batch * outputs();
    let run = (positions + p.splits - 1u) / p.splits;
    let last = min(split * run + run, positions);
    let out = outputs();
    var acc: array<vec4<f32>, 8>;
    for (var at = split * run + thread; at < last; at += WIDTH) {
        let n = at / out;
        let o = at % out;
        var up = vec4<f32>();
        for (var l = 0u; l < 4u; l++) {
            if channel + l < cout_group {
                up[l] = dy_of_w[(n * cout + bundle * cout_group + channel + l) * out + o];
            }
        }
        for (var e = 0u; e < 8u; e++) {
            if column + e < terms {
                acc[e] += up * input(n, bundle * cin_group + (column + e) / taps(), o, (column + e) % taps());
            }
        }
    }
    // Eight of the 32 sums at a time: 256 threads' into workgroup memory, 32 threads add eight each, then one
    // adds the 32.
    for (var e = 0u; e < 8u; e += 2u) {
        workgroupBarrier();
        for (var l = 0u; l < 4u; l++) {
            values[l * WIDTH + thread] = acc[e][l];
            values[(4u + l) * WIDTH + thread] = acc[e + 1u][l];
        }
        workgroupBarrier();
        var sum = 0.0;
        for (var s = 0u; s < 8u; s++) {
            sum += values[thread / 32u * WIDTH + s * 32u + thread % 32u];
        }
        workgroupBarrier();
        values[thread] = sum;
        workgroupBarrier();
        if thread < 8u {
            sum = 0.0;
            for (var s = 0u; s < 32u; s++) {
                sum += values[thread * 32u + s];
            }
            let c = channel + thread % 4u;
            let at = column + e + thread / 4u;
            if c < cout_group && at < terms {
                put_weight(split, (bundle * cout_group + c) * terms + at, sum);
            }
        }
    }
}

@compute @workgroup_size(256)
fn $_bwd_w_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let workgroup = group_of(group, grid);
    let count = cout * (cin / groups) * taps();
    let weight = workgroup * WIDTH + thread;
    if weight >= count {
        return;
    }
    var sum = 0.0;
    for (var split = 0u; split < p.splits; split++) {
        sum += part[split * count + weight];
    }
    dw[weight] = sum;
}

@group(0) @binding(1) var<storage, read_write> db: array<f32>;

@compute @workgroup_size(256)
fn $_bwd_b(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let workgroup = group_of(group, grid);
    let c = workgroup;
    let out = outputs();
    var sum = 0.0;
    if c < cout {
        for (var at = thread; at < p.batch * out; at += WIDTH) {
            sum += dy[(at / out * cout + c) * out + at % out];
        }
    }
    let total = group_sum(thread, sum);
    if thread == 0u && c < cout {
        db[c] = total;
    }
}
