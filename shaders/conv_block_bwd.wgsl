// Backward of the network's layer, appended to conv_block.wgsl, whose header has the formulas, the shapes and the threads.

// Taps of a workgroup of the weight gradient.
const RUN: u32 = 8u;
// Most positions of a row of it, and most chunks that are not made longer instead.
const STRETCH: u32 = 24u;
const CHUNKS: u32 = 128u;

@group(0) @binding(0) var<storage, read> da: array<f32>;
@group(0) @binding(2) var<storage, read> back: array<f32>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read> norm_in: array<f32>;
@group(0) @binding(5) var<storage, read> weight: array<f32>;
@group(0) @binding(6) var<storage, read_write> da_in: array<f32>;
@group(0) @binding(7) var<storage, read_write> part: array<f32>;
@group(0) @binding(8) var<storage, read_write> dw: array<f32>;
@group(0) @binding(9) var<storage, read_write> dgamma_in: array<f32>;
@group(0) @binding(10) var<storage, read_write> dbeta_in: array<f32>;
@group(0) @binding(11) var<storage, read_write> back_in: array<f32>;

// What makes dy of a channel.
struct Channel {
    scale: f32,
    shift: f32,
    mean: f32,
    p: f32,
    q: f32,
}

fn channel(c: u32) -> Channel {
    return Channel(back[c], back[cout + c], back[2u * cout + c], back[4u * cout + c], back[5u * cout + c]);
}

fn dy(ch: Channel, at: u32) -> f32 {
    let v = y[at];
    let dz = select(0.0, da[at], ch.scale * v + ch.shift > 0.0);
    return ch.scale * dz + (ch.p * (v - ch.mean) + ch.q);
}

// dy of position t of the channel that lies from `base` on; 0 beyond its ends, where a difference below 0 wraps to.
fn dy_at(ch: Channel, base: u32, t: u32) -> f32 {
    let there = t < p.tout;
    return select(0.0, dy(ch, base + select(0u, t, there) * LANES), there);
}

// What a workgroup of the weight gradient owns.
struct Share {
    chunk: u32,
    first: u32,
    i: u32,
    k0: u32,
}

// Rows of a block in the weight gradient.
fn stretches() -> u32 {
    return over(p.tout, STRETCH);
}

// Rows of a thread.
fn turns() -> u32 {
    return over(blocks_of_batch() * stretches(), ROWS * CHUNKS);
}

fn chunks() -> u32 {
    return over(blocks_of_batch() * stretches(), ROWS * turns());
}

// Workgroups of the weight gradient.
fn shares() -> u32 {
    return chunks() * over(cout, 4u) * cin * over(max(k, 1u), RUN);
}

fn share_of(number: u32) -> Share {
    let runs = over(max(k, 1u), RUN);
    let rest = number / (runs * max(cin, 1u));
    let tiles = over(cout, 4u);
    return Share(rest / tiles, rest % tiles * 4u, number / runs % max(cin, 1u), number % runs * RUN);
}

fn load(at: u32, t: u32, scale: f32, shift: f32) -> f32 {
    let a = x[at + min(t, p.t - 1u) * LANES];
    if affine != 0u {
        return relu(scale * a + shift);
    }
    return a;
}

// Leaves sums of eight threads each in `quads`: 8 x 8 taps.
fn weight_gradient(own: Share, thread: u32) {
    let lane = thread % LANES;
    // Channels beyond the last are it again, and go nowhere.
    let c = min(own.first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(cout - 1u));
    let of0 = channel(c.x);
    let of1 = channel(c.y);
    let of2 = channel(c.z);
    let of3 = channel(c.w);
    var scale = 0.0;
    var shift = 0.0;
    if affine != 0u {
        scale = norm_in[own.i];
        shift = norm_in[cin + own.i];
    }
    let wide = min(k, RUN);
    let length = over(p.tout, stretches());
    var sums = array<vec4<f32>, 8>();
    var a = array<f32, 8>();
    for (var turn = 0u; turn < turns(); turn++) {
        let row = (own.chunk * turns() + turn) * ROWS + thread / LANES;
        let block = min(row / stretches(), blocks_of_batch() - 1u);
        var t = row % stretches() * length;
        var end = t;
        if row < blocks_of_batch() * stretches() && lane < lanes_of(block) {
            end = min(t + length, p.tout);
        }
        let source = (block * cin + own.i) * p.t * LANES + lane;
        let at = block * cout * p.tout * LANES + lane;
        // What the positions before would have left.
        for (var u = 0u; u < RUN; u++) {
            if u + stride < wide {
                a[u + stride] = load(source, t * stride + own.k0 + u, scale, shift);
            }
        }
        for (; t < end; t++) {
            for (var u = 0u; u < RUN; u++) {
                if u < wide {
                    if u + stride < wide {
                        a[u] = a[u + stride];
                    } else {
                        a[u] = load(source, t * stride + own.k0 + u, scale, shift);
                    }
                }
            }
            let spot = at + (c * p.tout + t) * LANES;
            let g = vec4<f32>(dy(of0, spot.x), dy(of1, spot.y), dy(of2, spot.z), dy(of3, spot.w));
            for (var u = 0u; u < RUN; u++) {
                if u < wide {
                    sums[u] += g * a[u];
                }
            }
        }
    }
    // All taps in one pass; rows of 65 lie in banks of their own.
    for (var u = 0u; u < RUN; u++) {
        staged[u * (THREADS + 1u) + thread] = sums[u];
    }
    workgroupBarrier();
    let start = thread % RUN * (THREADS + 1u) + thread / RUN * 8u;
    var sum = vec4<f32>();
    for (var i = 0u; i < 8u; i++) {
        sum += staged[start + i];
    }
    quads[thread] = sum;
    workgroupBarrier();
}

// The sum that is thread's, of the 4 x 8 of a workgroup.
fn weight_sum(thread: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < 8u; i++) {
        sum += quads[i * RUN + thread % RUN][thread / RUN % 4u];
    }
    return sum;
}

// Where a thread's weight goes, of the 4 x 8 of a workgroup; beyond the buffer for none.
fn place_of(own: Share, thread: u32) -> u32 {
    let e = thread / RUN;
    let tap = own.k0 + thread % RUN;
    let at = ((own.chunk * cout + own.first + e) * cin + own.i) * k + tap;
    return select(0xffffffffu, at, e < 4u && own.first + e < cout && tap < k);
}

// Rows of a block for each residue modulo the stride, in the gradient of the input.
fn runs_in() -> u32 {
    return over(over(p.t, stride), SPOTS);
}

fn groups_in() -> u32 {
    return over(blocks_of_batch() * runs_in(), ROWS);
}

// The sums of the layer before, of up to four channels.
struct Sums {
    dz: vec4<f32>,
    dzy: vec4<f32>,
}

// Writes `n` positions of `count` input channels, a stride apart; their sums.
fn put(at: u32, n: u32, first: u32, count: u32, ds: array<vec4<f32>, 8>) -> Sums {
    var d = ds;
    var sums = Sums();
    for (var e = 0u; e < 4u; e++) {
        if e < count {
            let c = first + e;
            var scale = 0.0;
            var shift = 0.0;
            var mean = 0.0;
            if affine != 0u {
                scale = norm_in[c];
                shift = norm_in[cin + c];
                mean = norm_in[2u * cin + c];
            }
            for (var j = 0u; j < SPOTS; j++) {
                if j < n {
                    let place = at + (e * p.t + j * stride) * LANES;
                    da_in[place] = d[j][e];
                    if affine != 0u {
                        let value = x[place];
                        let dz = select(0.0, d[j][e], scale * value + shift > 0.0);
                        sums.dz[e] += dz;
                        sums.dzy[e] += dz * (value - mean);
                    }
                }
            }
        }
    }
    return sums;
}

// The gradient of the input by workgroup `number` of these, and its sums.
fn input_gradient(number: u32, thread: u32) {
    // 1. This workgroup's input channels, residue and rows: positions s = stride j + residue are a plain convolution with
    //    the residue's own taps, flipped.
    let tiles = over(cin, 4u);
    let residues = min(stride, p.t);
    let residue = number / tiles % residues;
    let own = number / tiles / residues;
    if own >= groups_in() {
        return;
    }
    let first = number % tiles * 4u;
    let count = min(4u, cin - first);
    let lane = thread % LANES;
    let row = own * ROWS + thread / LANES;
    let block = min(row / runs_in(), blocks_of_batch() - 1u);
    let j = row % runs_in() * SPOTS;
    let source = block * cout * p.tout * LANES + lane;
    let mine = over(k - min(residue, k), stride);
    let taps = min(max(mine, 1u), TERMS);
    let channels = TERMS / taps;
    var d0 = vec4<f32>();
    var d1 = vec4<f32>();
    var d2 = vec4<f32>();
    var d3 = vec4<f32>();
    var d4 = vec4<f32>();
    var d5 = vec4<f32>();
    var d6 = vec4<f32>();
    var d7 = vec4<f32>();
    for (var c0 = 0u; c0 < cout; c0 += channels) {
        let nc = min(channels, cout - c0);
        for (var m0 = 0u; m0 < mine; m0 += taps) {
            let nm = min(taps, mine - m0);
            workgroupBarrier();
            for (var q = thread; q < nc * nm; q += THREADS) {
                let at = (c0 + q / nm) * cin * k + (m0 + q % nm) * stride + residue;
                let i = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(cin - 1u)) * k + at;
                staged[q] = vec4<f32>(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
            }
            workgroupBarrier();
            for (var c = 0u; c < nc; c++) {
                let ch = channel(c0 + c);
                let base = source + (c0 + c) * p.tout * LANES;
                // From one tap to the next, dy moves on by one position: seven of eight are at hand.
                var t = j - m0;
                var g = vec4<f32>(dy_at(ch, base, t + 1u), dy_at(ch, base, t + 2u), dy_at(ch, base, t + 3u),
                    dy_at(ch, base, t + 4u));
                var h = vec4<f32>(dy_at(ch, base, t + 5u), dy_at(ch, base, t + 6u), dy_at(ch, base, t + 7u), 0.0);
                for (var m = 0u; m < nm; m++) {
                    h = vec4<f32>(g.w, h.xyz);
                    g = vec4<f32>(dy_at(ch, base, t), g.xyz);
                    t -= 1u;
                    let w = staged[c * nm + m];
                    d0 += w * g.x;
                    d1 += w * g.y;
                    d2 += w * g.z;
                    d3 += w * g.w;
                    d4 += w * h.x;
                    d5 += w * h.y;
                    d6 += w * h.z;
                    d7 += w * h.w;
                }
            }
        }
    }
    // 2. Out; nothing flows to lanes beyond the batch.
    let positions = over(p.t - residue, stride);
    var n = 0u;
    if row < blocks_of_batch() * runs_in() && j < positions {
        n = min(SPOTS, positions - j);
    }
    var ds = array<vec4<f32>, 8>(d0, d1, d2, d3, d4, d5, d6, d7);
    if lane >= lanes_of(block) {
        ds = array<vec4<f32>, 8>();
    }
    let at = ((block * cin + first) * p.t + j * stride + residue) * LANES + lane;
    let sums = put(at, n, first, count, ds);
    if affine == 0u {
        return;
    }
    let sum = eight_sums(thread, sums.dz, sums.dzy);
    if thread < 8u && thread % 4u < count {
        let to = chunks() * cout * cin * k + ((own * residues + residue) * 2u + thread / 4u) * cin;
        part[to + first + thread % 4u] = sum;
    }
}

@compute @workgroup_size(64)
fn conv_block_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    if number >= shares() {
        input_gradient(number - shares(), thread);
        return;
    }
    let own = share_of(number);
    weight_gradient(own, thread);
    let at = place_of(own, thread);
    if at != 0xffffffffu {
        part[at] = weight_sum(thread);
    }
}

// A thread for each weight, then a workgroup for each channel of the layer before.
@compute @workgroup_size(64)
fn conv_block_bwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let weights = cout * cin * k;
    let runs = over(weights, THREADS);
    if number < runs {
        let at = number * THREADS + thread;
        if at < weights {
            var sum = 0.0;
            for (var chunk = 0u; chunk < chunks(); chunk++) {
                sum += part[chunk * weights + at];
            }
            dw[at] = sum;
        }
        return;
    }
    let c = number - runs;
    if affine == 0u {
        if c == 0u && thread == 0u {
            dgamma_in[0] = 0.0;
            dbeta_in[0] = 0.0;
            back_in[0] = 0.0;
        }
        return;
    }
    if c >= cin {
        return;
    }
    var sums = vec2<f32>();
    for (var own = thread; own < groups_in() * min(stride, p.t); own += THREADS) {
        let at = chunks() * weights + own * 2u * cin + c;
        sums += vec2<f32>(part[at], part[at + cin]);
    }
    parts[thread] = two_sums(thread, sums.x, sums.y);
    workgroupBarrier();
    if thread != 0u {
        return;
    }
    let dz = parts[0];
    let dzy = parts[1];
    let inv = norm_in[3u * cin + c];
    let pq = slopes(norm_in[c], inv, dz, dzy, f32(p.batch) * f32(p.t));
    dgamma_in[c] = dzy * inv;
    dbeta_in[c] = dz;
    for (var i = 0u; i < 4u; i++) {
        back_in[i * cin + c] = norm_in[i * cin + c];
    }
    back_in[4u * cin + c] = pq.x;
    back_in[5u * cin + c] = pq.y;
}

// ---------------------------------------------------------------- the weight gradient alone

@group(0) @binding(5) var<storage, read_write> w_part: array<f32>;
@group(0) @binding(6) var<storage, read_write> w_dw: array<f32>;

@compute @workgroup_size(64)
fn conv_block_bwd_w(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    if number >= shares() {
        return;
    }
    let own = share_of(number);
    weight_gradient(own, thread);
    let at = place_of(own, thread);
    if at != 0xffffffffu {
        w_part[at] = weight_sum(thread);
    }
}

@compute @workgroup_size(64)
fn conv_block_bwd_w_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = group_of(group, groups) * THREADS + thread;
    let weights = cout * cin * k;
    if at >= weights {
        return;
    }
    var sum = 0.0;
    for (var chunk = 0u; chunk < chunks(); chunk++) {
        sum += w_part[chunk * weights + at];
    }
    w_dw[at] = sum;
}
