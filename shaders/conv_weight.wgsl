// The gradient of the weight of a convolution; conv.wgsl has the formulas. A template, the stem in place of `$`.
//
// A workgroup owns output channels by columns, which are pairs of input channel and tap, on one of `splits` runs of the batch's
// positions; the second stage adds the runs, a weight a thread.
// Up to 16 channels: 8 by 8. The threads share out the positions, 16 loads for 64 multiply-adds, each keeps 64 sums, and the
// threads' are added in two fixed steps: few weights and many positions, the sum is what needs the threads.
// Beyond: 32 by 128 or 64 by 64, 8 x 8 a thread, 8 positions staged at a time, a barrier a slice, as in conv_product.wgsl.

const FEW: u32 = 16u;

@group(0) @binding(1) var<storage, read> dy_of_w: array<f32>;
@group(0) @binding(2) var<storage, read_write> part: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

// Weights of an output channel.
fn columns_of_w() -> u32 {
    return cin_group() * taps();
}

// What a workgroup owns: output channels from `row` on in a group of channels, columns from `column` on, and of the runs of
// positions number `split`, from `first` on below `last`.
struct WeightTile {
    bundle: u32,
    row: u32,
    column: u32,
    split: u32,
    first: u32,
    last: u32,
}

fn weight_tile(workgroup: u32, rows: u32, columns: u32) -> WeightTile {
    let across = (columns_of_w() + columns - 1u) / columns;
    let down = (cout_group() + rows - 1u) / rows;
    let split = workgroup / across / down / groups;
    let positions = p.batch * outputs();
    let run = (positions + p.splits - 1u) / p.splits;
    return WeightTile(
        workgroup / across / down % groups,
        workgroup / across % down * rows,
        workgroup % across * columns,
        split,
        split * run,
        min(split * run + run, positions),
    );
}

fn put_weight(tile: WeightTile, row: u32, column: u32, sum: f32) {
    if row < cout_group() && column < columns_of_w() {
        let at = (tile.bundle * cout_group() + row) * columns_of_w() + column;
        if p.splits == 1u {
            dw[at] = sum;
        } else {
            part[tile.split * (cout * columns_of_w()) + at] = sum;
        }
    }
}

// Four neighbouring positions of the batch: where each is in the first channel of the group, of dy; where that of x begins, and
// its window there; and whether it is one.
struct Places {
    ups: vec4<u32>,
    channels: array<u32, 4>,
    at: array<Position, 4>,
    there: vec4<bool>,
}

fn places_of(tile: WeightTile, first: u32) -> Places {
    var places: Places;
    var n = first / outputs();
    var o = position_of(first % outputs(), output_size());
    for (var l = 0u; l < 4u; l++) {
        places.there[l] = first + l < tile.last;
        places.ups[l] = (n * cout + tile.bundle * cout_group()) * outputs() + number_of(o, output_size());
        places.channels[l] = (n * cin + tile.bundle * cin_group()) * inputs();
        places.at[l] = o * strides() - padding();
        o = after(o, output_size());
        if beyond(o, output_size()) {
            o = Position();
            n++;
        }
    }
    return places;
}

fn up_at(index: u32, there: bool) -> f32 {
    return select(0.0, dy_of_w[select(0u, index, there)], there);
}

fn ups_of(tile: WeightTile, places: Places, row: u32) -> vec4<f32> {
    let there = places.there & vec4<bool>(row < cout_group());
    let at = places.ups + row * outputs();
    return vec4<f32>(
        up_at(at.x, there.x),
        up_at(at.y, there.y),
        up_at(at.z, there.z),
        up_at(at.w, there.w),
    );
}

// What lies under a column.
fn under_of(places: Places, l: u32, channel: u32, steps: Position, there: bool) -> f32 {
    let at = places.at[l] + steps;
    let inside = there && places.there[l] && all(at < input_size());
    let index = places.channels[l] + channel + number_of(at, input_size());
    return select(0.0, x[select(0u, index, inside)], inside);
}

fn unders_of(places: Places, column: u32) -> vec4<f32> {
    let there = column < columns_of_w();
    let channel = column / taps() * inputs();
    let steps = steps(column % taps());
    return vec4<f32>(
        under_of(places, 0u, channel, steps, there),
        under_of(places, 1u, channel, steps, there),
        under_of(places, 2u, channel, steps, there),
        under_of(places, 3u, channel, steps, there),
    );
}

@compute @workgroup_size(64)
fn $_bwd_w(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let workgroup = group_of(group, grid);
    if p.splits == 1u && workgroup == 0u && thread == 0u {
        part[0] = 0.0;
    }
    if cout_group() > FEW {
        let height = height_of(cout_group());
        bwd_w_of_many(weight_tile(workgroup, height, width_of(height)), thread, height);
    } else {
        bwd_w_of_few(weight_tile(workgroup, 8u, 8u), thread);
    }
}

// The thread's quads of the slice from position `first` on: two threads have a row, or a column, and half of its positions each.
fn gather_weight(tile: WeightTile, thread: u32, height: u32, first: u32) -> Ahead {
    let places = places_of(tile, first + thread % 2u * 4u);
    var ahead: Ahead;
    for (var s = 0u; s < height / 32u; s++) {
        ahead.rows[s] = ups_of(tile, places, tile.row + thread / 2u + 32u * s);
    }
    for (var s = 0u; s < width_of(height) / 32u; s++) {
        ahead.columns[s] = unders_of(places, tile.column + thread / 2u + 32u * s);
    }
    return ahead;
}

fn bwd_w_of_many(tile: WeightTile, thread: u32, height: u32) {
    if tile.split >= p.splits {
        return;
    }
    let width = width_of(height);
    let lanes = width / 8u;
    var sums: Sums;
    var ahead: Ahead;
    var slice = 0u;
    // As in conv_product.wgsl.
    for (var first = tile.first; first < tile.last + 8u; first += 8u) {
        if first > tile.first {
            stage_rows(thread, height, slice, ahead.rows);
            let column = slice + 2u * height + thread % 2u * width + thread / 2u;
            for (var s = 0u; s < width_of(height) / 32u; s++) {
                staged[column + 32u * s] = ahead.columns[s];
            }
            workgroupBarrier();
        }
        if first < tile.last {
            ahead = gather_weight(tile, thread, height, first);
        }
        if first > tile.first {
            multiply(thread, height, slice, &sums);
            slice = slice_of(height) - slice;
        }
    }
    let cut = cut_short(p.batch + 2u);
    for (var r = 0u; r < 8u; r++) {
        let row = tile.row + thread / lanes + r * height / 8u;
        for (var s = 0u; s < 4u; s++) {
            let column = tile.column + thread % lanes + s * lanes;
            put_weight(tile, row, column, nan_if(cut, sums.left[r][s]));
            put_weight(tile, row, column + 4u * lanes, nan_if(cut, sums.right[r][s]));
        }
    }
}

fn bwd_w_of_few(tile: WeightTile, thread: u32) {
    if tile.split >= p.splits {
        return;
    }
    // Of each column the eight rows.
    var low: array<vec4<f32>, 8>;
    var high: array<vec4<f32>, 8>;
    for (var at = tile.first + thread; at < tile.last; at += THREADS) {
        let n = at / outputs();
        let o = at % outputs();
        let up = (n * cout + tile.bundle * cout_group() + tile.row) * outputs() + o;
        let rows = cout_group() - tile.row;
        let a = vec4<f32>(
            up_at(up, true),
            up_at(up + outputs(), rows > 1u),
            up_at(up + 2u * outputs(), rows > 2u),
            up_at(up + 3u * outputs(), rows > 3u),
        );
        var b = vec4<f32>();
        if rows > 4u {
            b = vec4<f32>(
                up_at(up + 4u * outputs(), true),
                up_at(up + 5u * outputs(), rows > 5u),
                up_at(up + 6u * outputs(), rows > 6u),
                up_at(up + 7u * outputs(), rows > 7u),
            );
        }
        let seat = position_of(o, output_size()) * strides() - padding();
        for (var e = 0u; e < 8u; e++) {
            let column = tile.column + e;
            if column < columns_of_w() {
                let place = seat + steps(column % taps());
                let inside = all(place < input_size());
                let channel = n * cin + tile.bundle * cin_group() + column / taps();
                let index = channel * inputs() + number_of(place, input_size());
                let v = vec4<f32>(select(0.0, x[select(0u, index, inside)], inside));
                low[e] = fma(a, v, low[e]);
                high[e] = fma(b, v, high[e]);
            }
        }
    }
    add_up(tile, thread, 0u, &low);
    add_up(tile, thread, 4u, &high);
}

// Adds the threads' sums of four rows: eight threads add eight threads' of a column each, then one theirs. All threads must
// come here.
fn add_up(tile: WeightTile, thread: u32, row: u32, sums: ptr<function, array<vec4<f32>, 8>>) {
    workgroupBarrier();
    for (var e = 0u; e < 8u; e++) {
        staged[e * THREADS + thread] = (*sums)[e];
    }
    workgroupBarrier();
    let first = thread / 8u * THREADS + thread % 8u * 8u;
    var sum = staged[first];
    for (var s = 1u; s < 8u; s++) {
        sum += staged[first + s];
    }
    // Behind the others, which are still read.
    staged[8u * THREADS + thread] = sum;
    workgroupBarrier();
    if thread < 8u {
        sum = staged[8u * THREADS + thread * 8u];
        for (var s = 1u; s < 8u; s++) {
            sum += staged[8u * THREADS + thread * 8u + s];
        }
        let cut = cut_short(p.batch + 2u);
        for (var l = 0u; l < 4u; l++) {
            put_weight(tile, tile.row + row + l, tile.column + thread, nan_if(cut, sum[l]));
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
    let count = cout * columns_of_w();
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
