// Batches cut out of data that stays on the device; a step uploads nothing but indices.
//
//   window  s = start + floor((2t + 1) * window / 2T)          nearest of `window` frames at T columns
//           x[b, c, t] = data[offset + c * L + s]              0 where s >= L or beyond `total`
//                      + shift[b]                              where that is not 0 and c < shift_channels
//   rows    y[b] = table[indices[b]]                           0 where the row is beyond the table
//
// Shapes: data [total], rows [B, 4] = (offset, length L, start, window), shift [B], x [B, C, T] or, blocked,
// [ceil(B / 16), C, T, 16] with lanes beyond B 0; table [S, width], indices [B], y [B, width].
// With window = q * 2T + r the quotient is (2t + 1) * q + floor((2t + 1) * r / 2T): all within u32 as T <= 2^15.
// Threads: a workgroup owns SPAN elements of the output; blocked, its 256 threads cover 16 columns of 16
// samples, so that reads come in runs of 64 bytes. Cost: output written once, as much read.

struct GatherWindowParams {
    batch: u32,
    channels: u32,
    columns: u32,
    total: u32,
    shift_channels: u32,
    blocked: u32,
}
@group(1) @binding(0) var<uniform> p: GatherWindowParams;

@group(0) @binding(0) var<storage, read> data: array<f32>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> shift: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

// One element; no sum may wrap, whatever the rows hold.
fn element(b: u32, c: u32, t: u32) -> f32 {
    if b >= p.batch {
        return 0.0;
    }
    let offset = rows[4u * b];
    let len = rows[4u * b + 1u];
    let start = rows[4u * b + 2u];
    let window = rows[4u * b + 3u];
    let divisor = 2u * p.columns;
    let at = (2u * t + 1u) * (window / divisor) + (2u * t + 1u) * (window % divisor) / divisor;
    if start >= len || at >= len - start || c > p.total / len {
        return 0.0;
    }
    let s = start + at;
    let rest = p.total - c * len;
    if offset >= rest || s >= rest - offset {
        return 0.0;
    }
    let value = data[c * len + offset + s];
    if value == 0.0 || c >= p.shift_channels {
        return value;
    }
    return value + shift[b];
}

@compute @workgroup_size(256)
fn gather_window(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lanes = select(1u, 16u, p.blocked != 0u);
    let n = (p.batch + lanes - 1u) / lanes * lanes * p.channels * p.columns;
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, n); i += WIDTH) {
        let column = i / lanes;
        let channel = column / p.columns;
        let block = channel / p.channels;
        let b = block * lanes + i % lanes;
        x[i] = element(b, channel - block * p.channels, column - channel * p.columns);
    }
}

struct GatherRowsParams {
    batch: u32,
    width: u32,
    table: u32,
}
@group(1) @binding(0) var<uniform> r: GatherRowsParams;

@group(0) @binding(0) var<storage, read> table: array<f32>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn gather_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group_of(group, groups) * SPAN;
    for (var i = first + thread; i < min(first + SPAN, r.batch * r.width); i += WIDTH) {
        let b = i / r.width;
        let row = indices[b];
        if row < r.table {
            y[i] = table[row * r.width + i - b * r.width];
        } else {
            y[i] = 0.0;
        }
    }
}
