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
// how far a tap lies from the first; area(size), number_of(position, size), position_of(number, size) and after(position,
// size), the next of a size, beyond(position, size) whether that is none; and Phase, what is known of the taps that reach the
// input positions of one phase of the stride: phase_of(start), reaching(phase), tap_of(phase, e).
//
// All but bwd_b are products of matrices that are gathered as they are read, summed over terms:
//
//            rows              columns                   terms
//   fwd      output channels   output positions          input channel, tap
//   bwd_x    input channels    input positions           tap, output channel
//   bwd_w    output channels   input channel, tap        positions of the batch
//
// A workgroup is 64 threads and owns a tile of rows by columns in one group of channels.
// conv_product.wgsl has fwd and bwd_x, conv_weight.wgsl bwd_w; this file what they read and where they write.
// bwd_x: a workgroup's positions are all of one phase of the stride, so it meets just the taps that reach them, instead
// of testing all and dropping all but one in `stride` (the sub-pixel view of a transposed convolution, Shi et al. 2016).
// bwd_b: a workgroup of 256 owns a channel.
//
// Cost: 2 flops a term. Each value is read once for every tile of rows and tap, by neighbours from the cache.

override cin: u32 = 1u;
override cout: u32 = 1u;
override groups: u32 = 1u;

const THREADS: u32 = 64u;
const NOWHERE: u32 = 0xffffffffu;

fn inputs() -> u32 {
    return area(input_size());
}

fn outputs() -> u32 {
    return area(output_size());
}

fn cin_group() -> u32 {
    return cin / groups;
}

fn cout_group() -> u32 {
    return cout / groups;
}

// What a workgroup of fwd or bwd_x owns: rows from `row` on in a group of channels, places from `first` on of so many;
// of bwd_x the phase of these positions and where it starts.
struct Tile {
    bundle: u32,
    row: u32,
    first: u32,
    places: u32,
    terms: u32,
    start: Position,
    phase: Phase,
}

// A place that values are gathered for: where its first channel begins, and its position as taps count.
struct Seat {
    channels: u32,
    at: Position,
    there: bool,
}

// ---- fwd: what it reads, and where it writes.

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn rows_fwd() -> u32 {
    return cout_group();
}

fn tile_fwd(workgroup: u32, rows: u32, columns: u32) -> Tile {
    let tiles = (rows_fwd() + rows - 1u) / rows;
    var tile: Tile;
    tile.row = workgroup % tiles * rows;
    tile.bundle = workgroup / tiles % groups;
    tile.first = workgroup / tiles / groups * columns;
    tile.places = p.batch * outputs();
    tile.terms = cin_group() * taps();
    return tile;
}

fn weight_fwd(tile: Tile, row: u32, term: u32) -> f32 {
    return w[(tile.bundle * cout_group() + row) * tile.terms + term];
}

fn seat_fwd(tile: Tile, place: u32) -> Seat {
    let channels = (place / outputs() * cin + tile.bundle * cin_group()) * inputs();
    return Seat(channels, position_of(place % outputs(), output_size()) * strides() - padding(), place < tile.places);
}

// What lies under a tap, 0 where that is padding. Positions before the first wrap around and are large.
fn value_fwd(tile: Tile, seat: Seat, term: u32) -> f32 {
    let at = seat.at + steps(term % taps());
    let inside = seat.there && term < tile.terms && all(at < input_size());
    let index = seat.channels + term / taps() * inputs() + number_of(at, input_size());
    return select(0.0, x[select(0u, index, inside)], inside);
}

// Where the place of the first row is written.
fn home_fwd(tile: Tile, place: u32) -> u32 {
    let at = (place / outputs() * cout + tile.bundle * cout_group()) * outputs() + place % outputs();
    return select(NOWHERE, at, place < tile.places);
}

fn bias_fwd(tile: Tile, row: u32) -> f32 {
    if p.bias != 0u && row < rows_fwd() {
        return b[tile.bundle * cout_group() + row];
    }
    return 0.0;
}

fn put_fwd(home: u32, row: u32, v: f32) {
    if home != NOWHERE && row < rows_fwd() {
        y[home + row * outputs()] = v;
    }
}

@compute @workgroup_size(64)
fn $_fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    product_fwd(group_of(group, grid), thread);
}

// ---- bwd_x: the same.

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

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

// Phases along each axis, and the most input positions of a phase.
fn phases() -> Position {
    return min(strides(), input_size());
}

fn turns() -> Position {
    return (input_size() + strides() - 1u) / strides();
}

fn rows_bwd_x() -> u32 {
    return cin_group();
}

fn tile_bwd_x(workgroup: u32, rows: u32, columns: u32) -> Tile {
    let tiles = (rows_bwd_x() + rows - 1u) / rows;
    let run = workgroup / tiles / groups;
    var tile: Tile;
    tile.row = workgroup % tiles * rows;
    tile.bundle = workgroup / tiles % groups;
    tile.first = run / area(phases()) * columns;
    tile.places = p.batch * area(turns());
    tile.start = position_of(run % area(phases()), phases());
    tile.phase = phase_of(tile.start);
    tile.terms = reaching(tile.phase) * cout_group();
    return tile;
}

// The input position of a place.
fn target_of(tile: Tile, place: u32) -> Position {
    return tile.start + position_of(place % area(turns()), turns()) * strides();
}

fn weight_bwd_x(tile: Tile, row: u32, term: u32) -> f32 {
    let c = tile.bundle * cout_group() + term % cout_group();
    return w[(c * cin_group() + row) * taps() + tap_of(tile.phase, term / cout_group())];
}

fn seat_bwd_x(tile: Tile, place: u32) -> Seat {
    let channels = (place / area(turns()) * cout + tile.bundle * cout_group()) * outputs();
    return Seat(channels, target_of(tile, place) + padding(), place < tile.places);
}

// The gradient that reaches a position by a tap of its phase; before the first output as above.
fn value_bwd_x(tile: Tile, seat: Seat, term: u32) -> f32 {
    let back = steps(tap_of(tile.phase, term / cout_group()));
    let at = (seat.at - back) / strides();
    let inside = seat.there && term < tile.terms && all(back <= seat.at) && all(at < output_size());
    let index = seat.channels + term % cout_group() * outputs() + number_of(at, output_size());
    return select(0.0, dy[select(0u, index, inside)], inside);
}

fn home_bwd_x(tile: Tile, place: u32) -> u32 {
    let at = target_of(tile, place);
    let channel = place / area(turns()) * cin + tile.bundle * cin_group();
    let there = place < tile.places && all(at < input_size());
    return select(NOWHERE, channel * inputs() + number_of(at, input_size()), there);
}

fn bias_bwd_x(tile: Tile, row: u32) -> f32 {
    return 0.0;
}

fn put_bwd_x(home: u32, row: u32, v: f32) {
    if home != NOWHERE && row < rows_bwd_x() {
        dx[home + row * inputs()] = v;
    }
}

@compute @workgroup_size(64)
fn $_bwd_x(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    product_bwd_x(group_of(group, grid), thread);
}

// ---- bwd_b

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
        db[c] = nan_if(cut_short(p.batch + 2u), total);
    }
}

// ---- Tiles of few rows: how many, their places, and the terms that are staged at a time.

const NARROW: u32 = 8u;
const NARROW_SPAN: u32 = 256u;
const NARROW_TERMS: u32 = 256u;

// ---- Tiles of 4,096 sums, 8 x 8 a thread.

// Rows of a tile, by the rows that there are in a group of channels.
fn height_of(rows: u32) -> u32 {
    return select(select(64u, 32u, rows <= 32u), 16u, rows <= 16u);
}

// Columns of it.
fn width_of(height: u32) -> u32 {
    return 4096u / height;
}

// Quads of terms of a slice.
fn depth_of(height: u32) -> u32 {
    return select(2u, 1u, height == 16u);
}

// Two slices: of each first the rows' quads of terms, then the columns', those of all rows or columns in turn.
var<workgroup> staged: array<vec4<f32>, 640>;

fn slice_of(height: u32) -> u32 {
    return depth_of(height) * (height + width_of(height));
}

// Of a thread's row i + r height / 8 the columns j + s width / 8: s below 4, and the others.
struct Sums {
    left: array<vec4<f32>, 8>,
    right: array<vec4<f32>, 8>,
}

// The four quads staged at `at` and every `step` on.
fn four_at(at: u32, step: u32) -> Four {
    return Four(staged[at], staged[at + step], staged[at + 2u * step], staged[at + 3u * step]);
}

// A slice on its way: what a thread gathers of it.
struct Ahead {
    rows: array<vec4<f32>, 2>,
    columns: array<vec4<f32>, 4>,
}

// Stages the rows of a slice: of a row's quads each is another thread's.
fn stage_rows(thread: u32, height: u32, slice: u32, rows: array<vec4<f32>, 2>) {
    var quads = rows;
    for (var s = 0u; s < (height * depth_of(height) + THREADS - 1u) / THREADS; s++) {
        let at = thread + s * THREADS;
        if at < height * depth_of(height) {
            staged[slice + at % depth_of(height) * height + at / depth_of(height)] = quads[s];
        }
    }
}

// Adds what the sums gain from the slice staged at `slice`.
fn multiply(thread: u32, height: u32, slice: u32, sums: ptr<function, Sums>) {
    let width = width_of(height);
    let lanes = width / 8u;
    for (var q = 0u; q < depth_of(height); q++) {
        let column = slice + depth_of(height) * height + q * width + thread % lanes;
        let left = four_at(column, lanes);
        let right = four_at(column + 4u * lanes, lanes);
        for (var r = 0u; r < 8u; r++) {
            let a = staged[slice + q * height + thread / lanes + r * height / 8u];
            (*sums).left[r] = plus_products(a, left, (*sums).left[r]);
            (*sums).right[r] = plus_products(a, right, (*sums).right[r]);
        }
    }
}
