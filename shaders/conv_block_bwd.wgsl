// Backward of the network's layer, appended to conv_block.wgsl, whose header has the formulas, the shapes and the threads.

// Positions of a thread in the gradient of the input.
const SPOTS: u32 = 4u;
// Taps of a workgroup of the weight gradient.
const RUN: u32 = 8u;
// Partial weight gradients at most.
const CHUNKS: u32 = 16u;

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
    count: u32,
    i: u32,
    k0: u32,
}

fn blocks_of_chunk() -> u32 {
    return over(blocks_of_batch(), CHUNKS);
}

fn chunks_of_batch() -> u32 {
    return over(blocks_of_batch(), blocks_of_chunk());
}

// Workgroups of the weight gradient.
fn shares() -> u32 {
    let others = chunks_of_batch() * cin * over(max(k, 1u), RUN);
    return over(cout, tile_of(cout, others)) * others;
}

fn share_of(number: u32) -> Share {
    let runs = over(max(k, 1u), RUN);
    let tile = tile_of(cout, chunks_of_batch() * cin * runs);
    let tiles = over(cout, tile);
    let run = number % runs;
    let i = number / runs % max(cin, 1u);
    let rest = number / (runs * max(cin, 1u));
    let first = rest % tiles * tile;
    return Share(rest / tiles, first, min(tile, cout - first), i, run * RUN);
}

// Leaves the sums of a workgroup's taps in `staged`.
fn weight_gradient(own: Share, thread: u32) {
    let lane = thread % LANES;
    let c1 = own.first + select(0u, 1u, own.count > 1u);
    let c2 = own.first + select(0u, 2u, own.count > 2u);
    let c3 = own.first + select(0u, 3u, own.count > 3u);
    let of0 = channel(own.first);
    let of1 = channel(c1);
    let of2 = channel(c2);
    let of3 = channel(c3);
    var scale = 0.0;
    var shift = 0.0;
    if affine != 0u {
        scale = norm_in[own.i];
        shift = norm_in[cin + own.i];
    }
    var sums = array<vec4<f32>, 8>();
    let end = min((own.chunk + 1u) * blocks_of_chunk(), blocks_of_batch());
    for (var block = own.chunk * blocks_of_chunk(); block < end; block++) {
        if lane >= lanes_of(block) {
            continue;
        }
        let source = ((block * cin + own.i) * p.t + own.k0) * LANES + lane;
        let at = block * cout * p.tout * LANES + lane;
        for (var t = thread / LANES; t < p.tout; t += ROWS) {
            var g = vec4<f32>(dy(of0, at + (own.first * p.tout + t) * LANES), 0.0, 0.0, 0.0);
            if own.count > 1u {
                g.y = dy(of1, at + (c1 * p.tout + t) * LANES);
            }
            if own.count > 2u {
                g.z = dy(of2, at + (c2 * p.tout + t) * LANES);
            }
            if own.count > 3u {
                g.w = dy(of3, at + (c3 * p.tout + t) * LANES);
            }
            for (var tap = 0u; tap < RUN; tap++) {
                if own.k0 + tap < k {
                    var a = x[source + (t * stride + tap) * LANES];
                    if affine != 0u {
                        a = max(scale * a + shift, 0.0);
                    }
                    sums[tap] += g * a;
                }
            }
        }
    }
    for (var tap = 0u; tap < RUN; tap++) {
        let total = quad_sum(thread, sums[tap]);
        if thread == 0u {
            staged[tap] = total;
        }
    }
    workgroupBarrier();
}

// Where a thread's weight goes, of the 8 x 4 of a workgroup; beyond the buffer for none.
fn place_of(own: Share, thread: u32) -> u32 {
    let e = thread / RUN;
    let tap = own.k0 + thread % RUN;
    let at = ((own.chunk * cout + own.first + e) * cin + own.i) * k + tap;
    return select(0xffffffffu, at, e < own.count && tap < k);
}

// The sums of the layer before, of up to four channels.
struct Sums {
    dz: vec4<f32>,
    dzy: vec4<f32>,
}

// Writes a position of `count` input channels and adds it to the sums.
fn put(before: Sums, at: u32, first: u32, count: u32, v: vec4<f32>) -> Sums {
    var sums = before;
    for (var e = 0u; e < 4u; e++) {
        if e < count {
            let place = at + e * p.t * LANES;
            da_in[place] = v[e];
            if affine != 0u {
                let value = x[place];
                let c = first + e;
                let dz = select(0.0, v[e], norm_in[c] * value + norm_in[cin + c] > 0.0);
                sums.dz[e] += dz;
                sums.dzy[e] += dz * (value - norm_in[2u * cin + c]);
            }
        }
    }
    return sums;
}

// The gradient of the input by workgroup `number` of these, and its sums.
fn input_gradient(number: u32, thread: u32) {
    // 1. This workgroup's block and input channels.
    let tile = tile_of(cin, blocks_of_batch());
    let tiles = over(cin, tile);
    let block = number / tiles;
    if block >= blocks_of_batch() {
        return;
    }
    let first = number % tiles * tile;
    let count = min(tile, cin - first);
    let lane = thread % LANES;
    let row = thread / LANES;
    let live = lane < lanes_of(block);
    let source = block * cout * p.tout * LANES + lane;
    let to = (block * cin + first) * p.t * LANES + lane;
    let taps = min(max(k, 1u), TERMS);
    let channels = TERMS / taps;
    let once = cout <= channels && k <= TERMS;
    var sums = Sums();
    // 2. Positions s = stride j + residue: for each residue a plain convolution with its own taps, flipped.
    for (var residue = 0u; residue < min(stride, p.t); residue++) {
        let positions = (p.t - residue + stride - 1u) / stride;
        for (var start = 0u; start < positions; start += REACH) {
            let j = start + SPOTS * row + vec4<u32>(0u, 1u, 2u, 3u);
            var d0 = vec4<f32>();
            var d1 = vec4<f32>();
            var d2 = vec4<f32>();
            var d3 = vec4<f32>();
            for (var c0 = 0u; c0 < cout; c0 += channels) {
                let nc = min(channels, cout - c0);
                for (var k0 = 0u; k0 < k; k0 += taps) {
                    let nk = min(taps, k - k0);
                    if (residue == 0u && start == 0u) || !once {
                        workgroupBarrier();
                        for (var q = thread; q < nc * nk; q += WIDTH) {
                            let at = ((c0 + q / nk) * cin + first) * k + k0 + q % nk;
                            var w = vec4<f32>();
                            for (var e = 0u; e < 4u; e++) {
                                if e < count {
                                    w[e] = weight[at + e * k];
                                }
                            }
                            staged[q] = w;
                        }
                        workgroupBarrier();
                    }
                    // The first tap from k0 on that belongs to the residue.
                    let skip = (residue + stride - k0 % stride) % stride;
                    for (var c = 0u; c < nc; c++) {
                        let ch = channel(c0 + c);
                        let base = source + (c0 + c) * p.tout * LANES;
                        // From one tap to the next, dy moves on by one position: three of four are at hand.
                        let t = j.x - (k0 + skip) / stride;
                        var g = vec4<f32>(dy_at(ch, base, t + 1u), dy_at(ch, base, t + 2u), dy_at(ch, base, t + 3u), 0.0);
                        for (var tap = skip; tap < nk; tap += stride) {
                            g = vec4<f32>(dy_at(ch, base, j.x - (k0 + tap) / stride), g.xyz);
                            let w = staged[c * nk + tap];
                            d0 += w * g.x;
                            d1 += w * g.y;
                            d2 += w * g.z;
                            d3 += w * g.w;
                        }
                    }
                }
            }
            // 3. Out; nothing flows to lanes beyond the batch.
            let at = to + (j * stride + residue) * LANES;
            if j.x < positions {
                sums = put(sums, at.x, first, count, select(vec4<f32>(), d0, live));
            }
            if j.y < positions {
                sums = put(sums, at.y, first, count, select(vec4<f32>(), d1, live));
            }
            if j.z < positions {
                sums = put(sums, at.z, first, count, select(vec4<f32>(), d2, live));
            }
            if j.w < positions {
                sums = put(sums, at.w, first, count, select(vec4<f32>(), d3, live));
            }
        }
    }
    let dz = quad_sum(thread, sums.dz);
    let dzy = quad_sum(thread, sums.dzy);
    if thread < count {
        let at = chunks_of_batch() * cout * cin * k + block * 2u * cin + first + thread;
        part[at] = dz[thread];
        part[at + cin] = dzy[thread];
    }
}

@compute @workgroup_size(256)
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
        part[at] = staged[thread % RUN][thread / RUN];
    }
}

// A thread for each weight, then for each channel of the layer before.
@compute @workgroup_size(256)
fn conv_block_bwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let weights = cout * cin * k;
    let runs = over(weights, WIDTH);
    if number < runs {
        let at = number * WIDTH + thread;
        if at < weights {
            var sum = 0.0;
            for (var chunk = 0u; chunk < chunks_of_batch(); chunk++) {
                sum += part[chunk * weights + at];
            }
            dw[at] = sum;
        }
        return;
    }
    let c = (number - runs) * WIDTH + thread;
    if affine == 0u {
        if c == 0u {
            dgamma_in[0] = 0.0;
            dbeta_in[0] = 0.0;
            back_in[0] = 0.0;
        }
        return;
    }
    if c >= cin {
        return;
    }
    var dz = 0.0;
    var dzy = 0.0;
    for (var block = 0u; block < blocks_of_batch(); block++) {
        let at = chunks_of_batch() * weights + block * 2u * cin + c;
        dz += part[at];
        dzy += part[at + cin];
    }
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

@compute @workgroup_size(256)
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
        w_part[at] = staged[thread % RUN][thread / RUN];
    }
}

@compute @workgroup_size(256)
fn conv_block_bwd_w_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = group_of(group, groups) * WIDTH + thread;
    let weights = cout * cin * k;
    if at >= weights {
        return;
    }
    var sum = 0.0;
    for (var chunk = 0u; chunk < chunks_of_batch(); chunk++) {
        sum += w_part[chunk * weights + at];
    }
    w_dw[at] = sum;
}
