// The network's layer, fused: Conv1d (no padding, no bias), batch normalisation, ReLU; and the mean over time.
// with: conv_block_bwd
//
//   fwd       y[c,t] = sum_{i,k} w[c,i,k] a[i, t stride + k],  part = number, mean and squares about it of each group of rows
//             a = x, or max(0, scale x + shift) where the input is another layer's y (affine)
//             stage two: merges part (Chan, Golub, LeVeque 1979) into norm, moves the running statistics; or, in
//             evaluation, norm from these
//   pool_fwd  embedding[b,c] = mean over valid t of max(0, scale y + shift)
//   pool_bwd  its gradient da, part = sum dz and sum dz (y - mean) of each block,  dz = da where scale y + shift > 0
//             stage two: dgamma, dbeta, back = norm and p, q of dy = scale dz + p (y - mean) + q
//   bwd       part = sum_{b,t} dy[c,t] a[i, t stride + k] of each chunk of rows, and in other workgroups
//             da_in[i,s] = sum_{c,k: t stride + k = s} w[c,i,k] dy[c,t] with the sums of the layer before in part
//             stage two: dw = sum over chunks, in order; dgamma, dbeta, back of the layer before
//   bwd_w     bwd without da_in
//
// Shapes: x, da_in [blocks, Cin, T, 16], y, da [blocks, Cout, Tout, 16], sixteen samples side by side; weight, dw
// [Cout, Cin, K]; norm [4, C] scale, shift, mean, 1/sigma; back [6, C] norm, p, q; part [groups of rows, 3, C], in
// pool_bwd [blocks, 2, C], in bwd [chunks, Cout, Cin, K] and then [groups of rows, 2, Cin]. Samples beyond the batch
// enter no sum and receive da = 0.
//
// Threads: 64 as 16 lanes (samples) x 4 rows, so that each load of 16 threads is a whole line. What is summed over the
// batch is summed over the threads by way of workgroup memory in two barriers, and over workgroups in stage two.
// - fwd, da_in: a row is 8 neighbouring positions (of one residue modulo the stride in da_in) of a block; rows are
//   counted over all blocks, so that lanes are full at any length. A thread makes its 8 positions of 4 channels: from one
//   tap to the next that the stride leads to, 7 of 8 operands are at hand. A term is a value and 4 weights loaded for 32
//   multiply-adds (da_in: two values). Weights pass through workgroup memory, 512 terms of 4 channels.
// - dw: a row is up to 24 neighbouring positions of a block, a chunk 4 rows or, beyond 128 chunks, more; a thread sums
//   4 output channels x up to 8 taps of an input channel, the taps' operands moving on by the stride.
// - pool: a workgroup owns a block and a channel. Second stages: a workgroup owns a channel, or a thread a weight.
// dy is made again by every workgroup that reads it: the maps are small enough for the cache, and a launch costs more than
// the arithmetic.
//
// Cost, with M = B Tout Cout Cin K: forward 2 M flops, backward 2 M for each gradient.

struct ConvBlockParams {
    batch: u32,
    cin: u32,
    t: u32,
    cout: u32,
    tout: u32,
    k: u32,
    stride: u32,
    affine: u32,
    train: u32,
    eps: f32,
    momentum: f32,
}
@group(1) @binding(0) var<uniform> p: ConvBlockParams;

// Each layer is a pipeline of its own, its loops over channels and taps of known length.
override cin: u32 = 1u;
override cout: u32 = 1u;
override k: u32 = 1u;
override stride: u32 = 1u;
override affine: u32 = 0u;
override train: u32 = 1u;

const LANES: u32 = 16u;
const ROWS: u32 = 4u;
const THREADS: u32 = 64u;
// Positions of a thread.
const SPOTS: u32 = 8u;
// Terms of the weights in workgroup memory.
const TERMS: u32 = 512u;

// Weights, then what threads have summed.
var<workgroup> staged: array<vec4<f32>, 520>;
var<workgroup> quads: array<vec4<f32>, 64>;

fn over(n: u32, by: u32) -> u32 {
    return (n + by - 1u) / by;
}

fn blocks_of_batch() -> u32 {
    return over(p.batch, LANES);
}

// Samples of a block.
fn lanes_of(block: u32) -> u32 {
    return min(LANES, p.batch - block * LANES);
}

// ---------------------------------------------------------------- forward

@group(0) @binding(0) var<storage, read> fwd_x: array<f32>;
@group(0) @binding(1) var<storage, read> fwd_norm_in: array<f32>;
@group(0) @binding(2) var<storage, read> fwd_weight: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(6) var<storage, read_write> running_var: array<f32>;
@group(0) @binding(7) var<storage, read_write> fwd_y: array<f32>;
@group(0) @binding(8) var<storage, read_write> fwd_part: array<f32>;
@group(0) @binding(9) var<storage, read_write> norm: array<f32>;

// How many values, their mean, and the squares about it.
struct Moments {
    n: f32,
    mean: f32,
    squares: f32,
}

// Chan, Golub, LeVeque 1979; either may be of no values.
fn merged(a: Moments, b: Moments) -> Moments {
    let n = a.n + b.n;
    let delta = b.mean - a.mean;
    let share = b.n / max(n, 1.0);
    return Moments(n, a.mean + delta * share, a.squares + b.squares + delta * delta * a.n * share);
}

fn moments_of(quad: vec4<f32>) -> Moments {
    return Moments(quad.x, quad.y, quad.z);
}

// Rows of a block in the forward.
fn octets() -> u32 {
    return over(p.tout, SPOTS);
}

fn fwd_load(at: u32, t: u32, scale: f32, shift: f32) -> f32 {
    let a = fwd_x[at + min(t, p.t - 1u) * LANES];
    if affine != 0u {
        return relu(scale * a + shift);
    }
    return a;
}

// Stages the weights of 4 output channels from `first` on for `ni` input channels and `nk` taps, from term `origin` on; all
// threads must come here.
fn fwd_stage(thread: u32, first: u32, origin: u32, ni: u32, nk: u32) {
    workgroupBarrier();
    for (var q = thread; q < ni * nk; q += THREADS) {
        let at = origin + q / nk * k + q % nk;
        // Channels beyond the last are it again, and go nowhere.
        let c = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(cout - 1u)) * cin * k + at;
        staged[q] = vec4<f32>(fwd_weight[c.x], fwd_weight[c.y], fwd_weight[c.z], fwd_weight[c.w]);
    }
    workgroupBarrier();
}

// Writes the first `n` of 8 positions of `count` channels.
fn fwd_put(at: u32, n: u32, count: u32, ys: array<vec4<f32>, 8>) {
    var y = ys;
    for (var j = 0u; j < SPOTS; j++) {
        if j < n {
            for (var e = 0u; e < 4u; e++) {
                if e < count {
                    fwd_y[at + (e * p.tout + j) * LANES] = y[j][e];
                }
            }
        }
    }
}

// Writes the moments of a workgroup of which each thread has the first `n` of 8 positions of 4 channels; all threads must
// come here.
fn fwd_moments(own: u32, first: u32, thread: u32, n: u32, values: array<vec4<f32>, 8>) {
    // 1. Those of each thread.
    var ys = values;
    var mean = vec4<f32>();
    for (var j = 0u; j < SPOTS; j++) {
        mean += select(vec4<f32>(), ys[j], j < n);
    }
    mean /= max(f32(n), 1.0);
    var squares = vec4<f32>();
    for (var j = 0u; j < SPOTS; j++) {
        let d = select(vec4<f32>(), ys[j] - mean, j < n);
        squares += d * d;
    }
    workgroupBarrier();
    staged[thread] = mean;
    staged[THREADS + thread] = squares;
    workgroupBarrier();
    // 2. Of the 16 lanes of a row and a channel.
    if thread < 4u * ROWS {
        let e = thread % 4u;
        let row = own * ROWS + thread / 4u;
        var all = Moments();
        if row < blocks_of_batch() * octets() {
            let each = f32(min(SPOTS, p.tout - row % octets() * SPOTS));
            for (var l = 0u; l < lanes_of(row / octets()); l++) {
                let other = thread / 4u * LANES + l;
                all = merged(all, Moments(each, staged[other][e], staged[THREADS + other][e]));
            }
        }
        quads[thread] = vec4<f32>(all.n, all.mean, all.squares, 0.0);
    }
    workgroupBarrier();
    // 3. Of the rows.
    if thread < min(4u, cout - first) {
        var all = moments_of(quads[thread]);
        for (var r = 1u; r < ROWS; r++) {
            all = merged(all, moments_of(quads[4u * r + thread]));
        }
        let at = own * 3u * cout + first + thread;
        fwd_part[at] = all.n;
        fwd_part[at + cout] = all.mean;
        fwd_part[at + 2u * cout] = all.squares;
    }
}

@compute @workgroup_size(64)
fn conv_block_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // 1. This workgroup's output channels and rows; this thread's block and positions.
    let number = group_of(group, groups);
    let tiles = over(cout, 4u);
    let own = number / tiles;
    if own * ROWS >= blocks_of_batch() * octets() {
        return;
    }
    let first = number % tiles * 4u;
    let count = min(4u, cout - first);
    let lane = thread % LANES;
    let row = own * ROWS + thread / LANES;
    let block = min(row / octets(), blocks_of_batch() - 1u);
    let t0 = row % octets() * SPOTS;
    let there = row < blocks_of_batch() * octets();
    let positions = select(0u, min(SPOTS, p.tout - t0), there);
    let source = block * cin * p.t * LANES + lane;
    // 2. The convolution; weights are staged by runs of input channels and of taps.
    let taps = min(max(k, 1u), TERMS);
    let channels = TERMS / taps;
    var y0 = vec4<f32>();
    var y1 = vec4<f32>();
    var y2 = vec4<f32>();
    var y3 = vec4<f32>();
    var y4 = vec4<f32>();
    var y5 = vec4<f32>();
    var y6 = vec4<f32>();
    var y7 = vec4<f32>();
    for (var i0 = 0u; i0 < cin; i0 += channels) {
        let ni = min(channels, cin - i0);
        for (var k0 = 0u; k0 < k; k0 += taps) {
            let nk = min(taps, k - k0);
            fwd_stage(thread, first, i0 * k + k0, ni, nk);
            for (var i = 0u; i < ni; i++) {
                var scale = 0.0;
                var shift = 0.0;
                if affine != 0u {
                    scale = fwd_norm_in[i0 + i];
                    shift = fwd_norm_in[cin + i0 + i];
                }
                let at = source + (i0 + i) * p.t * LANES;
                for (var offset = 0u; offset < min(stride, nk); offset++) {
                    var t = t0 * stride + k0 + offset;
                    var a = vec4<f32>();
                    var b = vec4<f32>();
                    a.y = fwd_load(at, t, scale, shift);
                    a.z = fwd_load(at, t + stride, scale, shift);
                    a.w = fwd_load(at, t + 2u * stride, scale, shift);
                    b.x = fwd_load(at, t + 3u * stride, scale, shift);
                    b.y = fwd_load(at, t + 4u * stride, scale, shift);
                    b.z = fwd_load(at, t + 5u * stride, scale, shift);
                    b.w = fwd_load(at, t + 6u * stride, scale, shift);
                    t += 7u * stride;
                    for (var tap = offset; tap < nk; tap += stride) {
                        a = vec4<f32>(a.yzw, b.x);
                        b = vec4<f32>(b.yzw, fwd_load(at, t, scale, shift));
                        t += stride;
                        let w = staged[i * nk + tap];
                        y0 += w * a.x;
                        y1 += w * a.y;
                        y2 += w * a.z;
                        y3 += w * a.w;
                        y4 += w * b.x;
                        y5 += w * b.y;
                        y6 += w * b.z;
                        y7 += w * b.w;
                    }
                }
            }
        }
    }
    // 3. Out, and the moments of what is there.
    let ys = array<vec4<f32>, 8>(y0, y1, y2, y3, y4, y5, y6, y7);
    fwd_put(((block * cout + first) * p.tout + t0) * LANES + lane, positions, count, ys);
    if train != 0u {
        fwd_moments(own, first, thread, select(0u, positions, lane < lanes_of(block)), ys);
    }
}

// A workgroup for each channel.
@compute @workgroup_size(64)
fn conv_block_fwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let c = group_of(group, groups);
    if c >= cout {
        return;
    }
    if train != 0u {
        var all = Moments();
        for (var own = thread; own * ROWS < blocks_of_batch() * octets(); own += THREADS) {
            let at = own * 3u * cout + c;
            all = merged(all, Moments(fwd_part[at], fwd_part[at + cout], fwd_part[at + 2u * cout]));
        }
        staged[thread] = vec4<f32>(all.n, all.mean, all.squares, 0.0);
        workgroupBarrier();
        if thread < 8u {
            all = moments_of(staged[8u * thread]);
            for (var i = 1u; i < 8u; i++) {
                all = merged(all, moments_of(staged[8u * thread + i]));
            }
            quads[thread] = vec4<f32>(all.n, all.mean, all.squares, 0.0);
        }
        workgroupBarrier();
    }
    if thread != 0u {
        return;
    }
    var mean = running_mean[c];
    var variance = running_var[c];
    if train != 0u {
        var all = moments_of(quads[0]);
        for (var i = 1u; i < 8u; i++) {
            all = merged(all, moments_of(quads[i]));
        }
        mean = all.mean;
        variance = all.squares / all.n;
        running_mean[c] = (1.0 - p.momentum) * running_mean[c] + p.momentum * mean;
        running_var[c] = (1.0 - p.momentum) * running_var[c] + p.momentum * all.squares / (all.n - 1.0);
    }
    let inv = 1.0 / sqrt(variance + p.eps);
    let scale = gamma[c] * inv;
    norm[c] = scale;
    norm[cout + c] = beta[c] - mean * scale;
    norm[2u * cout + c] = mean;
    norm[3u * cout + c] = inv;
}

// What 64 threads have in eight values a thread, summed: value v for thread v below 8. All threads must come here.
fn eight_sums(thread: u32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    workgroupBarrier();
    staged[thread] = a;
    staged[THREADS + thread] = b;
    workgroupBarrier();
    // Value thread % 8 of eight threads.
    let start = thread % 8u / 4u * THREADS + thread / 8u * 8u;
    var sum = 0.0;
    for (var i = 0u; i < 8u; i++) {
        sum += staged[start + i][thread % 4u];
    }
    quads[thread].x = sum;
    workgroupBarrier();
    sum = 0.0;
    if thread < 8u {
        for (var i = 0u; i < 8u; i++) {
            sum += quads[8u * i + thread].x;
        }
    }
    return sum;
}

// The same for two values.
fn two_sums(thread: u32, a: f32, b: f32) -> f32 {
    workgroupBarrier();
    staged[thread].x = a;
    staged[THREADS + thread].x = b;
    workgroupBarrier();
    if thread < 16u {
        let start = thread % 2u * THREADS + thread / 2u * 8u;
        var sum = 0.0;
        for (var i = 0u; i < 8u; i++) {
            sum += staged[start + i].x;
        }
        quads[thread].x = sum;
    }
    workgroupBarrier();
    var sum = 0.0;
    if thread < 2u {
        for (var i = 0u; i < 8u; i++) {
            sum += quads[2u * i + thread].x;
        }
    }
    return sum;
}

// ---------------------------------------------------------------- the mean over time

@group(0) @binding(0) var<storage, read> pool_y: array<f32>;
@group(0) @binding(1) var<storage, read> pool_norm: array<f32>;
@group(0) @binding(2) var<storage, read> pool_lengths: array<f32>;
@group(0) @binding(3) var<storage, read_write> embedding: array<f32>;

@compute @workgroup_size(64)
fn conv_block_pool_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let block = number / cout;
    let c = number % cout;
    if block >= blocks_of_batch() {
        return;
    }
    let lane = thread % LANES;
    let live = lane < lanes_of(block);
    var frames = p.tout;
    if affine != 0u && live {
        frames = u32(clamp(pool_lengths[block * LANES + lane], 1.0, f32(p.tout)));
    }
    let scale = pool_norm[c];
    let shift = pool_norm[cout + c];
    var sum = 0.0;
    for (var t = thread / LANES; t < frames; t += ROWS) {
        sum += relu(scale * pool_y[(number * p.tout + t) * LANES + lane] + shift);
    }
    parts[thread] = sum;
    workgroupBarrier();
    if thread < LANES && live {
        sum = (parts[thread] + parts[LANES + thread]) + (parts[2u * LANES + thread] + parts[3u * LANES + thread]);
        embedding[(block * LANES + lane) * cout + c] = sum / f32(frames);
    }
}

@group(0) @binding(0) var<storage, read> d_embedding: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> pool_bwd_norm: array<f32>;
@group(0) @binding(3) var<storage, read> lengths: array<f32>;
@group(0) @binding(4) var<storage, read_write> pool_da: array<f32>;
@group(0) @binding(5) var<storage, read_write> pool_part: array<f32>;
@group(0) @binding(6) var<storage, read_write> pool_dgamma: array<f32>;
@group(0) @binding(7) var<storage, read_write> pool_dbeta: array<f32>;
@group(0) @binding(8) var<storage, read_write> pool_back: array<f32>;

@compute @workgroup_size(64)
fn conv_block_pool_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let block = number / cout;
    let c = number % cout;
    if block >= blocks_of_batch() {
        return;
    }
    let lane = thread % LANES;
    var frames = 0u;
    var share = 0.0;
    if lane < lanes_of(block) {
        let b = block * LANES + lane;
        frames = p.tout;
        if affine != 0u {
            frames = u32(clamp(lengths[b], 1.0, f32(p.tout)));
        }
        share = d_embedding[b * cout + c] / f32(frames);
    }
    let scale = pool_bwd_norm[c];
    let shift = pool_bwd_norm[cout + c];
    let mean = pool_bwd_norm[2u * cout + c];
    var sums = vec2<f32>();
    for (var t = thread / LANES; t < p.tout; t += ROWS) {
        let at = (number * p.tout + t) * LANES + lane;
        let d = select(0.0, share, t < frames);
        pool_da[at] = d;
        // Beyond the batch y may be anything finite, and d is 0.
        let v = y[at];
        let dz = select(0.0, d, scale * v + shift > 0.0);
        sums += vec2<f32>(dz, dz * (v - mean));
    }
    let sum = two_sums(thread, sums.x, sums.y);
    if thread < 2u {
        pool_part[(block * 2u + thread) * cout + c] = sum;
    }
}

// p and q of back, for n values of a channel.
fn slopes(scale: f32, inv: f32, dz: f32, dzy: f32, n: f32) -> vec2<f32> {
    return vec2<f32>(-scale * inv * inv * dzy / n, -scale * dz / n);
}

// A workgroup for each channel.
@compute @workgroup_size(64)
fn conv_block_pool_bwd_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let c = group_of(group, groups);
    if c >= cout {
        return;
    }
    var sums = vec2<f32>();
    for (var block = thread; block < blocks_of_batch(); block += THREADS) {
        let at = block * 2u * cout + c;
        sums += vec2<f32>(pool_part[at], pool_part[at + cout]);
    }
    parts[thread] = two_sums(thread, sums.x, sums.y);
    workgroupBarrier();
    if thread != 0u {
        return;
    }
    let dz = parts[0];
    let dzy = parts[1];
    let inv = pool_bwd_norm[3u * cout + c];
    let pq = slopes(pool_bwd_norm[c], inv, dz, dzy, f32(p.batch) * f32(p.tout));
    pool_dgamma[c] = dzy * inv;
    pool_dbeta[c] = dz;
    for (var i = 0u; i < 4u; i++) {
        pool_back[i * cout + c] = pool_bwd_norm[i * cout + c];
    }
    pool_back[4u * cout + c] = pq.x;
    pool_back[5u * cout + c] = pq.y;
}
