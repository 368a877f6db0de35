// Tiles of pairs: what the sweep of the contrastive loss and the similarity matrices share; appended to both. A module that
// uses this has an override d: the columns of a row.
//
// A workgroup of 128 threads owns 64 rows i and meets tiles of 64 rows j. Four columns make a quad. Two products take turns:
//
//   pairs      a thread has rows i = thread / 8 + 16 r and j = thread % 8 + 8 s, r below 4 and s below 8. Both sides' columns
//              pass through workgroup memory, four quads at a time: twelve loads for 128 differences and their squares.
//   gradients  a thread has rows i = own + 8 r, r below 8, and one quad, and goes through half of the rows j, then the other,
//              four at a time, as the coefficients lie: twelve loads for 128 differences and their products. Where rows are
//              short, threads left over share the rows j out (turns).
//
// In registers: 32 sums of pairs; 32 of gradients a quad, and as much of the rows i.

// Rows i of a workgroup, rows j of a tile, and of half of one.
const OWN: u32 = 64u;
const TILE: u32 = 64u;
const HALF: u32 = 32u;
const THREADS: u32 = 128u;
// Quads staged at a time.
const STAGE: u32 = 4u;
// From one staged quad of all rows to the next, and from the coefficients by four rows j to the next: odd, so that
// neighbours meet other banks.
const PITCH: u32 = 65u;
// Where the staged rows j begin.
const SIDE_J: u32 = 260u;

// The staged quads; then, in their place, the coefficients of half a tile: those of row i with j, j + 8, j + 16 and j + 24
// at PITCH j + i.
var<workgroup> tile: array<vec4<f32>, 520>;

// How many tiles of so many rows n rows are.
fn tiles_of(n: u32, rows: u32) -> u32 {
    return (n + rows - 1u) / rows;
}

// Quads of a row.
fn row_quads() -> u32 {
    return (d + 3u) / 4u;
}

// sum + |e|^2
fn plus_square(e: vec4<f32>, sum: f32) -> f32 {
    return fma(e.x, e.x, fma(e.y, e.y, fma(e.z, e.z, fma(e.w, e.w, sum))));
}

// The quads of four rows j staged at `at` and every eight rows on.
fn four_at(at: u32) -> Four {
    return Four(tile[at], tile[at + 8u], tile[at + 16u], tile[at + 24u]);
}

fn plus_squares(a: vec4<f32>, b: Four, sum: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(
        plus_square(a - b.x, sum.x),
        plus_square(a - b.y, sum.y),
        plus_square(a - b.z, sum.z),
        plus_square(a - b.w, sum.w),
    );
}

// The squared distances, or products, of the thread's rows i with its rows j of either half.
struct Pairs {
    left: array<vec4<f32>, 4>,
    right: array<vec4<f32>, 4>,
}

// Those of a half.
fn half_of(t: Pairs, half: u32) -> array<vec4<f32>, 4> {
    return array<vec4<f32>, 4>(
        select(t.left[0], t.right[0], half == 1u),
        select(t.left[1], t.right[1], half == 1u),
        select(t.left[2], t.right[2], half == 1u),
        select(t.left[3], t.right[3], half == 1u),
    );
}

// Adds what they gain from `quads` staged quads.
fn squares(thread: u32, quads: u32, t: ptr<function, Pairs>) {
    for (var q = 0u; q < quads; q++) {
        let left = four_at(SIDE_J + q * PITCH + thread % 8u);
        let right = four_at(SIDE_J + q * PITCH + thread % 8u + HALF);
        for (var r = 0u; r < 4u; r++) {
            let a = tile[q * PITCH + thread / 8u + 16u * r];
            (*t).left[r] = plus_squares(a, left, (*t).left[r]);
            (*t).right[r] = plus_squares(a, right, (*t).right[r]);
        }
    }
}

fn products(thread: u32, quads: u32, t: ptr<function, Pairs>) {
    for (var q = 0u; q < quads; q++) {
        let left = four_at(SIDE_J + q * PITCH + thread % 8u);
        let right = four_at(SIDE_J + q * PITCH + thread % 8u + HALF);
        for (var r = 0u; r < 4u; r++) {
            let a = tile[q * PITCH + thread / 8u + 16u * r];
            (*t).left[r] = plus_products(a, left, (*t).left[r]);
            (*t).right[r] = plus_products(a, right, (*t).right[r]);
        }
    }
}

// A thread's part in the gradients: rows own + 8 r, the quad `lane` of as many as there are lanes, and every how many
// rows j.
struct Seat {
    own: u32,
    lane: u32,
    lanes: u32,
    turn: u32,
    turns: u32,
    // Threads of a turn.
    width: u32,
}

fn seat_of(thread: u32) -> Seat {
    let quads = row_quads();
    let lanes = select(select(select(2u, 4u, quads > 2u), 8u, quads > 4u), 16u, quads > 8u);
    return Seat(thread / lanes % 8u, thread % lanes, lanes, thread / lanes / 8u, 16u / lanes, 8u * lanes);
}

// Adds the coefficients of four rows j, at `first`, times the differences of the thread's rows from theirs.
fn pull_four(
    seat: Seat,
    first: u32,
    rows: ptr<function, array<vec4<f32>, 8>>,
    b: Four,
    acc: ptr<function, array<vec4<f32>, 8>>,
) {
    for (var r = 0u; r < 8u; r++) {
        let g = tile[first * PITCH + seat.own + 8u * r];
        let a = (*rows)[r];
        // The four first: the sum so far is rounded once.
        let four = fma(vec4<f32>(g.x), a - b.x, fma(vec4<f32>(g.y), a - b.y, fma(vec4<f32>(g.z), a - b.z, g.w * (a - b.w))));
        (*acc)[r] += four;
    }
}

// Lays out four rows of every thread's sums; all threads must come here. Then handed_in gives those of a place e below
// 4 width, summed over the turns: of row row_of and quad lane_of.
fn hand_in(thread: u32, sums: array<vec4<f32>, 4>) {
    workgroupBarrier();
    tile[thread] = sums[0];
    tile[THREADS + thread] = sums[1];
    tile[2u * THREADS + thread] = sums[2];
    tile[3u * THREADS + thread] = sums[3];
    workgroupBarrier();
}

fn handed_in(seat: Seat, e: u32) -> vec4<f32> {
    var sum = vec4<f32>();
    for (var turn = 0u; turn < seat.turns; turn++) {
        sum += tile[e / seat.width * THREADS + turn * seat.width + e % seat.width];
    }
    return sum;
}

fn row_of(seat: Seat, e: u32) -> u32 {
    return e / seat.width * 8u + e % seat.width / seat.lanes;
}

fn lane_of(seat: Seat, e: u32) -> u32 {
    return e % seat.lanes;
}

// The sum of the 128 threads' parts, in a fixed order; all threads must come here.
fn tile_sum(thread: u32, part: f32) -> f32 {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    if thread < 8u {
        parts[16u * thread] = sixteen_of(16u * thread, 1u);
    }
    workgroupBarrier();
    var sum = parts[0];
    for (var i = 1u; i < 8u; i++) {
        sum += parts[16u * i];
    }
    return sum;
}
