// Means over time.
//
//   mean_fwd    y[b, c] = sum_t x[b, c, t] / T                   mean_bwd    dx[b, c, t] = dy[b, c] / T
//   masked_fwd  y[b, c] = sum_{t < n} x[b, c, t] / n             masked_bwd  dx[b, c, t] = dy[b, c] / n where t < n, else 0
//               n = min(lengths[b], T); a row of length 0 has mean 0 and gradient 0
//
// Shapes: x, dx [B, C, T], y, dy [B, C], lengths [B].
// Threads: forward, 32 threads own one y, so that short rows keep a workgroup busy; each sums every
// 32nd frame, then the 32 sums in a tree. Backward, a workgroup owns SPAN elements of dx.
// Cost: one flop and one read an element forward, one flop and one write backward.

struct PoolParams {
    batch: u32,
    channels: u32,
    frames: u32,
}
@group(1) @binding(0) var<uniform> p: PoolParams;

// Threads of a row, and rows of a workgroup.
const LANES: u32 = 32u;
const ROWS: u32 = 8u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> mean_y: array<f32>;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read_write> masked_y: array<f32>;

// The mean of the first n frames of a row, for its first thread; all threads must come here.
fn row_mean(row: u32, n: u32, thread: u32) -> f32 {
    let lane = thread % LANES;
    var part = 0.0;
    for (var t = lane; t < n; t += LANES) {
        part += x[row * p.frames + t];
    }
    parts[thread] = part;
    workgroupBarrier();
    var sum = part;
    if lane == 0u {
        for (var l = 1u; l < LANES; l++) {
            sum += parts[thread + l];
        }
    }
    return sum / f32(max(n, 1u));
}

@compute @workgroup_size(256)
fn pool_mean_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = group_of(group, groups) * ROWS + thread / LANES;
    let inside = row < p.batch * p.channels;
    let mean = row_mean(row, select(0u, p.frames, inside), thread);
    if inside && thread % LANES == 0u {
        mean_y[row] = mean;
    }
}

@compute @workgroup_size(256)
fn pool_masked_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = group_of(group, groups) * ROWS + thread / LANES;
    let inside = row < p.batch * p.channels;
    var n = 0u;
    if inside {
        n = min(lengths[row / p.channels], p.frames);
    }
    let mean = row_mean(row, n, thread);
    if inside && thread % LANES == 0u {
        masked_y[row] = mean;
    }
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn pool_mean_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    let end = min(first + SPAN, p.batch * p.channels * p.frames);
    for (var i = first + thread; i < end; i += WIDTH) {
        dx[i] = dy[i / p.frames] / f32(p.frames);
    }
}

@group(0) @binding(0) var<storage, read> bwd_lengths: array<u32>;
@group(0) @binding(1) var<storage, read> masked_dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> masked_dx: array<f32>;

@compute @workgroup_size(256)
fn pool_masked_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    let end = min(first + SPAN, p.batch * p.channels * p.frames);
    for (var i = first + thread; i < end; i += WIDTH) {
        let row = i / p.frames;
        let n = min(bwd_lengths[row / p.channels], p.frames);
        let d = masked_dy[row] / f32(max(n, 1u));
        masked_dx[i] = select(0.0, d, i - row * p.frames < n);
    }
}
