// Tiles of pairs: what the sweep of the contrastive loss and the gradients of the similarity matrices share;
// appended to both. A module that uses this has an override d: the columns of a row.

// Rows and columns of a tile.
const TILE: u32 = 32u;
// Four columns make a quad; quads of a row in workgroup memory, and from one row to the next.
const QUADS: u32 = 8u;
const PITCH: u32 = 9u;
// Steps of 32 columns that a thread's registers hold, and their columns.
const STEPS: u32 = 16u;
const MOST: u32 = 512u;

var<workgroup> tile_a: array<vec4<f32>, 288>;
var<workgroup> tile_b: array<vec4<f32>, 288>;
var<workgroup> coefficients: array<f32, 1056>;
var<workgroup> inverse_a: array<f32, 32>;
var<workgroup> inverse_b: array<f32, 32>;

// How many tiles n rows are.
fn tiles_of(n: u32) -> u32 {
    return (n + TILE - 1u) / TILE;
}

// What the thread's 2 x 2 pairs gain from `quads` quads of the staged columns.
fn squares(thread: u32, quads: u32) -> vec4<f32> {
    let a = thread / 16u * PITCH;
    let b = thread % 16u * PITCH;
    var t = vec4<f32>();
    for (var q = 0u; q < quads; q++) {
        let a0 = tile_a[a + q];
        let a1 = tile_a[a + 16u * PITCH + q];
        let b0 = tile_b[b + q];
        let b1 = tile_b[b + 16u * PITCH + q];
        t += vec4<f32>(dot(a0 - b0, a0 - b0), dot(a0 - b1, a0 - b1), dot(a1 - b0, a1 - b0), dot(a1 - b1, a1 - b1));
    }
    return t;
}

// How the sums are dealt out: quads of a row that have a thread, threads that share them.
fn lanes_of() -> u32 {
    if d <= 4u {
        return 1u;
    }
    if d <= 8u {
        return 2u;
    }
    return select(8u, 4u, d <= 16u);
}

// A thread's part in a tile: the row and the columns it stages, and where; then the row and the quad it sums, which it
// shares with the threads of the other turns.
struct Seat {
    row: u32,
    column: u32,
    staged: u32,
    own: u32,
    lane: u32,
    turn: u32,
}

fn seat_of(thread: u32) -> Seat {
    let row = thread / QUADS;
    let quad = thread % QUADS;
    let lanes = lanes_of();
    let own = thread / lanes % TILE;
    return Seat(row, 4u * quad, row * PITCH + quad, own, thread % lanes, thread / lanes / TILE);
}

// The staged columns' part of the thread's sum for a row whose quad is `a`.
fn weigh(seat: Seat, a: vec4<f32>) -> vec4<f32> {
    let split = QUADS / lanes_of();
    var sum = vec4<f32>();
    for (var j = seat.turn; j < TILE; j += split) {
        sum += coefficients[seat.own * 33u + j] * (a - tile_b[j * PITCH + seat.lane]);
    }
    return sum;
}

// Sums what the threads that share a quad have; all threads must come here.
fn shared_sum(thread: u32, seat: Seat, acc: vec4<f32>) -> vec4<f32> {
    let lanes = lanes_of();
    if lanes == QUADS {
        return acc;
    }
    workgroupBarrier();
    tile_a[thread] = acc;
    workgroupBarrier();
    var sum = vec4<f32>();
    for (var s = 0u; s < QUADS / lanes; s++) {
        sum += tile_a[s * TILE * lanes + seat.own * lanes + seat.lane];
    }
    return sum;
}

// Whether the driver has ended loops before their time: Mesa's llvmpipe, a software driver, lets an invocation take
// 65,535 turns of all its loops together and goes on behind them. A kernel whose loops grow with the rows asks at its end, and
// leaves NaN rather than half a sum. `two` is any number from the params that is 2 or more.
fn cut_short(two: u32) -> bool {
    var turns = 0u;
    for (var i = 0u; i < min(two, 2u); i++) {
        turns++;
    }
    return turns < 2u;
}

// The sum of `part` over the threads of a row; all threads must come here.
fn row_sum(thread: u32, lanes: u32, part: f32) -> f32 {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    let first = thread / lanes * lanes;
    var sum = 0.0;
    for (var l = 0u; l < lanes; l++) {
        sum += parts[first + l];
    }
    return sum;
}

// The largest of the eight threads of a row; all threads must come here.
fn row_max(thread: u32, part: f32) -> f32 {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    let first = thread / QUADS * QUADS;
    var most = parts[first];
    for (var l = 1u; l < QUADS; l++) {
        most = max(most, parts[first + l]);
    }
    return most;
}

// The gradient by a row from that by its unit vector.
fn projected(v: f32, radial: f32, inverse: f32) -> f32 {
    // On a line the angle is 0 or pi whatever the lengths.
    return select((v - radial) * inverse, 0.0, d == 1u);
}

// 1 / norm from the largest size of an element and the sum of squares over it; 0 for a zero row.
fn inverse_norm(largest: f32, squares: f32) -> f32 {
    return select(0.0, 1.0 / sqrt(squares) / max(largest, 1.2e-38), largest >= 1.2e-38);
}
