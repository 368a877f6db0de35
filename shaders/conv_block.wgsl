// The network's layer, fused: Conv1d (no padding, no bias), batch normalisation, ReLU; and the mean over time.
// with: conv_block_bwd
//
//   fwd       y[c,t] = sum_{i,k} w[c,i,k] a[i, t stride + k],  part = sum y and sum (y - block's mean)^2 of each block
//             a = x, or max(0, scale x + shift) where the input is another layer's y (affine)
//             stage two: merges part (Chan, Golub, LeVeque 1979) into norm, moves the running statistics; or, in
//             evaluation, norm from these
//   pool_fwd  embedding[b,c] = mean over valid t of max(0, scale y + shift)
//   pool_bwd  its gradient da, part = sum dz and sum dz (y - mean) of each block,  dz = da where scale y + shift > 0
//             stage two: dgamma, dbeta, back = norm and p, q of dy = scale dz + p (y - mean) + q
//   bwd       part = sum_{b,t} dy[c,t] a[i, t stride + k] of each chunk of blocks, and in other workgroups
//             da_in[i,s] = sum_{c,k: t stride + k = s} w[c,i,k] dy[c,t] with the sums of the layer before in part
//             stage two: dw = sum over chunks, in order; dgamma, dbeta, back of the layer before
//   bwd_w     bwd without da_in
//
// Shapes: x, da_in [blocks, Cin, T, 16], y, da [blocks, Cout, Tout, 16], sixteen samples side by side; weight, dw
// [Cout, Cin, K]; norm [4, C] scale, shift, mean, 1/sigma; back [6, C] norm, p, q; part [blocks, 2, C], in bwd
// [chunks, Cout, Cin, K] and then [blocks, 2, Cin]. Samples beyond the batch enter no sum and receive da = 0.
//
// Threads: 256 as 16 lanes (samples) x 16 rows (positions), so that each load of 32 threads is two whole lines.
// - fwd, da_in: a workgroup owns a block and up to 4 channels of the output, so that it has the sums of
//   their values to itself; a thread makes 4 positions of the 4 channels at a time. Weights pass through workgroup
//   memory, 512 terms of 4 channels; there is one such pass where they fit.
// - dw: a workgroup owns a chunk, up to 4 output channels, an input channel and up to 8 taps; a thread sums every
//   16th position of its lane, then the 256 sums are added in a tree.
// - pool: a workgroup owns a block and a channel. Second stages: a thread owns a channel or a weight.
// Fewer than 4 channels a workgroup where the launch would else have less than 128 of these (tile_of, as in
// src/kernels/conv_block/grid.rs). dy is made again by every workgroup that reads it: the maps are small enough for the
// cache, and a launch costs more than the arithmetic.
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
const ROWS: u32 = 16u;
// Positions of a workgroup, four a thread.
const REACH: u32 = 64u;
// Terms of the weights in workgroup memory.
const TERMS: u32 = 512u;
// Workgroups that a launch should have.
const ENOUGH: u32 = 128u;

var<workgroup> staged: array<vec4<f32>, 512>;
var<workgroup> quads: array<vec4<f32>, 256>;

// As group_sum, four sums at once.
fn quad_sum(thread: u32, quad: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    quads[thread] = quad;
    for (var left = WIDTH / 2u; left > 0u; left /= 2u) {
        workgroupBarrier();
        if thread < left {
            quads[thread] += quads[thread + left];
        }
    }
    workgroupBarrier();
    return quads[0];
}

fn over(n: u32, by: u32) -> u32 {
    return (n + by - 1u) / by;
}

// Channels of a workgroup, when each tile of them takes `others` workgroups.
fn tile_of(channels: u32, others: u32) -> u32 {
    if over(channels, 4u) * others >= ENOUGH {
        return 4u;
    }
    return select(1u, 2u, over(channels, 2u) * others >= ENOUGH);
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

// Stages the weights of `count` output channels for `ni` input channels and `nk` taps, from `origin` on; all threads must
// here.
fn fwd_stage(thread: u32, origin: u32, count: u32, ni: u32, nk: u32) {
    workgroupBarrier();
    for (var q = thread; q < ni * nk; q += WIDTH) {
        let at = origin + q / nk * k + q % nk;
        var w = vec4<f32>();
        for (var e = 0u; e < 4u; e++) {
            if e < count {
                w[e] = fwd_weight[at + e * cin * k];
            }
        }
        staged[q] = w;
    }
    workgroupBarrier();
}

// The squares about the block's mean of what the thread wrote itself, from `at` on.
fn fwd_squares(at: u32, row: u32, count: u32, mean: vec4<f32>) -> vec4<f32> {
    var squares = vec4<f32>();
    for (var t = row; t < p.tout; t += ROWS) {
        for (var e = 0u; e < 4u; e++) {
            if e < count {
                let d = fwd_y[at + (e * p.tout + t) * LANES] - mean[e];
                squares[e] += d * d;
            }
        }
    }
    return squares;
}

fn fwd_put(at: u32, count: u32, v: vec4<f32>) {
    for (var e = 0u; e < 4u; e++) {
        if e < count {
            fwd_y[at + e * p.tout * LANES] = v[e];
        }
    }
}

@compute @workgroup_size(256)
fn conv_block_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // 1. This workgroup's block and output channels.
    let number = group_of(group, groups);
    let tile = tile_of(cout, blocks_of_batch());
    let tiles = over(cout, tile);
    let block = number / tiles;
    if block >= blocks_of_batch() {
        return;
    }
    let first = number % tiles * tile;
    let count = min(tile, cout - first);
    let lane = thread % LANES;
    let row = thread / LANES;
    let live = lane < lanes_of(block);
    let source = block * cin * p.t * LANES + lane;
    let to = (block * cout + first) * p.tout * LANES + lane;
    // 2. The convolution, 64 positions at a time; staged by runs of input channels and of taps.
    let taps = min(max(k, 1u), TERMS);
    let channels = TERMS / taps;
    let once = cin <= channels && k <= TERMS;
    var sum = vec4<f32>();
    for (var start = 0u; start < p.tout; start += REACH) {
        let t = start + row + vec4<u32>(0u, ROWS, 2u * ROWS, 3u * ROWS);
        let spots = min(t, vec4<u32>(p.tout - 1u)) * stride * LANES + source;
        var y0 = vec4<f32>();
        var y1 = vec4<f32>();
        var y2 = vec4<f32>();
        var y3 = vec4<f32>();
        for (var i0 = 0u; i0 < cin; i0 += channels) {
            let ni = min(channels, cin - i0);
            for (var k0 = 0u; k0 < k; k0 += taps) {
                let nk = min(taps, k - k0);
                if start == 0u || !once {
                    fwd_stage(thread, (first * cin + i0) * k + k0, count, ni, nk);
                }
                for (var i = 0u; i < ni; i++) {
                    var scale = 0.0;
                    var shift = 0.0;
                    if affine != 0u {
                        scale = fwd_norm_in[i0 + i];
                        shift = fwd_norm_in[cin + i0 + i];
                    }
                    let base = spots + ((i0 + i) * p.t + k0) * LANES;
                    for (var tap = 0u; tap < nk; tap++) {
                        let at = base + tap * LANES;
                        var a = vec4<f32>(fwd_x[at.x], fwd_x[at.y], fwd_x[at.z], fwd_x[at.w]);
                        if affine != 0u {
                            a = max(scale * a + shift, vec4<f32>());
                        }
                        let w = staged[i * nk + tap];
                        y0 += w * a.x;
                        y1 += w * a.y;
                        y2 += w * a.z;
                        y3 += w * a.w;
                    }
                }
            }
        }
        // 3. Out, and the sums of what is there.
        if t.x < p.tout {
            fwd_put(to + t.x * LANES, count, y0);
            sum += y0;
        }
        if t.y < p.tout {
            fwd_put(to + t.y * LANES, count, y1);
            sum += y1;
        }
        if t.z < p.tout {
            fwd_put(to + t.z * LANES, count, y2);
            sum += y2;
        }
        if t.w < p.tout {
            fwd_put(to + t.w * LANES, count, y3);
            sum += y3;
        }
    }
    if train == 0u {
        return;
    }
    let total = quad_sum(thread, select(vec4<f32>(), sum, live));
    // 4. Squares about the block's mean.
    let mean = total / f32(lanes_of(block) * p.tout);
    var squares = vec4<f32>();
    if live {
        squares = fwd_squares(to, row, count, mean);
    }
    squares = quad_sum(thread, squares);
    if thread < count {
        fwd_part[block * 2u * cout + first + thread] = total[thread];
        fwd_part[block * 2u * cout + cout + first + thread] = squares[thread];
    }
}

// A thread for each channel.
@compute @workgroup_size(64)
fn conv_block_fwd_2(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= cout {
        return;
    }
    var mean = running_mean[c];
    var variance = running_var[c];
    if train != 0u {
        mean = 0.0;
        var n = 0.0;
        var squares = 0.0;
        for (var block = 0u; block < blocks_of_batch(); block++) {
            let nb = f32(lanes_of(block) * p.tout);
            let delta = fwd_part[block * 2u * cout + c] / nb - mean;
            let share = nb / (n + nb);
            mean += delta * share;
            squares += fwd_part[block * 2u * cout + cout + c] + delta * delta * n * share;
            n += nb;
        }
        variance = squares / n;
        running_mean[c] = (1.0 - p.momentum) * running_mean[c] + p.momentum * mean;
        running_var[c] = (1.0 - p.momentum) * running_var[c] + p.momentum * squares / (n - 1.0);
    }
    let inv = 1.0 / sqrt(variance + p.eps);
    let scale = gamma[c] * inv;
    norm[c] = scale;
    norm[cout + c] = beta[c] - mean * scale;
    norm[2u * cout + c] = mean;
    norm[3u * cout + c] = inv;
}

// ---------------------------------------------------------------- the mean over time

@group(0) @binding(0) var<storage, read> pool_y: array<f32>;
@group(0) @binding(1) var<storage, read> pool_norm: array<f32>;
@group(0) @binding(2) var<storage, read> pool_lengths: array<f32>;
@group(0) @binding(3) var<storage, read_write> embedding: array<f32>;

@compute @workgroup_size(256)
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
        sum += max(scale * pool_y[(number * p.tout + t) * LANES + lane] + shift, 0.0);
    }
    // Rows in a tree, down to one for each lane.
    parts[thread] = sum;
    for (var left = WIDTH / 2u; left >= LANES; left /= 2u) {
        workgroupBarrier();
        if thread < left {
            parts[thread] += parts[thread + left];
        }
    }
    if thread < LANES && live {
        embedding[(block * LANES + lane) * cout + c] = parts[thread] / f32(frames);
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

@compute @workgroup_size(256)
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
    var sums = vec4<f32>();
    for (var t = thread / LANES; t < p.tout; t += ROWS) {
        let at = (number * p.tout + t) * LANES + lane;
        let d = select(0.0, share, t < frames);
        pool_da[at] = d;
        // Beyond the batch y may be anything finite, and d is 0.
        let v = y[at];
        let dz = select(0.0, d, scale * v + shift > 0.0);
        sums += vec4<f32>(dz, dz * (v - mean), 0.0, 0.0);
    }
    sums = quad_sum(thread, sums);
    if thread < 2u {
        pool_part[(block * 2u + thread) * cout + c] = sums[thread];
    }
}

// p and q of back, for n values of a channel.
fn slopes(scale: f32, inv: f32, dz: f32, dzy: f32, n: f32) -> vec2<f32> {
    return vec2<f32>(-scale * inv * inv * dzy / n, -scale * dz / n);
}

// A thread for each channel.
@compute @workgroup_size(64)
fn conv_block_pool_bwd_2(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= cout {
        return;
    }
    var dz = 0.0;
    var dzy = 0.0;
    for (var block = 0u; block < blocks_of_batch(); block++) {
        dz += pool_part[block * 2u * cout + c];
        dzy += pool_part[block * 2u * cout + cout + c];
    }
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
