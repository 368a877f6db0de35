// The gradients of the similarity matrix; once for rows of any length and once for those of whole quads in place of `$`.
// similarity.wgsl says how they are made.

// Leaves the squared distances of the thread's pairs in t. All threads must come here.
fn distances_$(side: u32, i0: u32, j0: u32, thread: u32, t: ptr<function, Pairs>) {
    let row = thread / STAGE;
    let quad = thread % STAGE;
    let at = quad * PITCH + row;
    for (var k = 0u; k < row_quads(); k += STAGE) {
        let column = 4u * (k + quad);
        workgroupBarrier();
        tile[at] = quad_$(side, i0 + row, column);
        tile[at + HALF] = quad_$(side, i0 + row + HALF, column);
        tile[SIDE_J + at] = quad_$(1u - side, j0 + row, column);
        tile[SIDE_J + at + HALF] = quad_$(1u - side, j0 + row + HALF, column);
        workgroupBarrier();
        squares(thread, min(STAGE, row_quads() - k), t);
    }
}

// Adds what the tile adds to columns k to k + 3 of the thread's rows.
fn pull_$(side: u32, i0: u32, j0: u32, k: u32, seat: Seat, acc: ptr<function, array<vec4<f32>, 8>>) {
    var rows: array<vec4<f32>, 8>;
    if kind != DOT {
        for (var r = 0u; r < 8u; r++) {
            rows[r] = quad_$(side, i0 + seat.own + 8u * r, k);
            if kind == COSINE {
                rows[r] *= inverse_i[seat.own + 8u * r];
            }
        }
    }
    for (var first = seat.turn; first < 8u; first += seat.turns) {
        let j = j0 + first;
        var b = Four(
            quad_$(1u - side, j, k),
            quad_$(1u - side, j + 8u, k),
            quad_$(1u - side, j + 16u, k),
            quad_$(1u - side, j + 24u, k),
        );
        if kind == COSINE {
            b.x *= inverse_j[first];
            b.y *= inverse_j[first + 8u];
            b.z *= inverse_j[first + 16u];
            b.w *= inverse_j[first + 24u];
        }
        pull_four(seat, first, &rows, b, acc);
    }
}

// Half a tile, from row j0 on, with the squared distances of the thread's pairs where they are wanted: leaves what it adds to
// the gradients. All threads must come here.
fn half_$(
    side: u32,
    i0: u32,
    j0: u32,
    k: u32,
    twice: bool,
    thread: u32,
    seat: Seat,
    t: array<vec4<f32>, 4>,
    acc: ptr<function, array<vec4<f32>, 8>>,
    acc_2: ptr<function, array<vec4<f32>, 8>>,
) {
    workgroupBarrier();
    if kind == COSINE {
        inverse_j[thread / STAGE] = norm_$(1u - side, j0 + thread / STAGE, thread, STAGE);
        workgroupBarrier();
    }
    if kind == EUCLIDEAN {
        leave_inverses(thread, t);
        workgroupBarrier();
    }
    derivatives(side, i0, j0, thread);
    workgroupBarrier();
    pull_$(side, i0, j0, k, seat, acc);
    if twice {
        pull_$(side, i0, j0, k + 64u, seat, acc_2);
    }
}

// Writes half of the thread's sums, four of its rows, or adds them to those that are there. All threads must come here.
fn keep_half_$(side: u32, i0: u32, k: u32, thread: u32, seat: Seat, begins: bool, sums: array<vec4<f32>, 4>) {
    hand_in(thread, sums);
    for (var e = thread; e < 4u * seat.width; e += THREADS) {
        let i = i0 + row_of(seat, e);
        let column = k + 4u * lane_of(seat, e);
        let sum = handed_in(seat, e);
        for (var c = 0u; c < 4u && i < rows_any(side) && column + c < d; c++) {
            let at = i * d + column + c;
            if begins {
                put_grad(side, at, sum[c]);
            } else {
                put_grad(side, at, grad(side, at) + sum[c]);
            }
        }
    }
}

fn keep_$(side: u32, i0: u32, k: u32, thread: u32, seat: Seat, begins: bool, acc: array<vec4<f32>, 8>) {
    keep_half_$(side, i0, k, thread, seat, begins, array<vec4<f32>, 4>(acc[0], acc[1], acc[2], acc[3]));
    keep_half_$(side, i0 + 32u, k, thread, seat, begins, array<vec4<f32>, 4>(acc[4], acc[5], acc[6], acc[7]));
}

// Projects the gradients by rows of norm 1 off these and goes on to the rows themselves, four threads a row; all threads must
// come here.
fn project_$(side: u32, i0: u32, thread: u32) {
    storageBarrier();
    let lane = thread % STAGE;
    for (var half = 0u; half < 2u; half++) {
        let row = thread / STAGE + HALF * half;
        let i = i0 + row;
        let there = i < rows_any(side);
        let inverse = inverse_i[row];
        var part = 0.0;
        for (var k = 4u * lane; there && k < d; k += 4u * STAGE) {
            let u = quad_$(side, i, k) * inverse;
            for (var c = 0u; c < 4u && k + c < d; c++) {
                part = fma(grad(side, i * d + k + c), u[c], part);
            }
        }
        let radial = row_sum(thread, STAGE, part);
        for (var k = 4u * lane; there && k < d; k += 4u * STAGE) {
            let u = quad_$(side, i, k) * inverse;
            for (var c = 0u; c < 4u && k + c < d; c++) {
                let at = i * d + k + c;
                put_grad(side, at, projected(grad(side, at), radial * u[c], inverse));
            }
        }
    }
}

// What a workgroup of 128 does; its number is uniform.
fn gradients_$(number: u32, thread: u32) {
    let tiles = tiles_of(p.n, OWN);
    let side = u32(number >= tiles);
    let i0 = (number - side * tiles) * OWN;
    let m = rows_any(1u - side);
    if i0 >= rows_any(side) {
        return;
    }
    let seat = seat_of(thread);
    let row = thread / STAGE;
    if kind == COSINE {
        inverse_i[row] = norm_$(side, i0 + row, thread, STAGE);
        inverse_i[row + HALF] = norm_$(side, i0 + row + HALF, thread, STAGE);
    }
    for (var first = 0u; first < d; first += 128u) {
        let k = first + 4u * seat.lane;
        let twice = d - first > 64u;
        for (var span = 0u; span < m; span += SPAN_J) {
            var acc: array<vec4<f32>, 8>;
            var acc_2: array<vec4<f32>, 8>;
            for (var j0 = span; j0 < min(m, span + SPAN_J); j0 += TILE) {
                var t: Pairs;
                if kind == EUCLIDEAN {
                    distances_$(side, i0, j0, thread, &t);
                }
                for (var half = 0u; half < 2u && j0 + HALF * half < m; half++) {
                    half_$(side, i0, j0 + HALF * half, k, twice, thread, seat, half_of(t, half), &acc, &acc_2);
                }
            }
            keep_$(side, i0, first, thread, seat, span == 0u, acc);
            if twice {
                keep_$(side, i0, first + 64u, thread, seat, span == 0u, acc_2);
            }
        }
    }
    if kind == COSINE {
        project_$(side, i0, thread);
    }
    if thread == 0u && cut_short(p.n + p.m) {
        put_grad(side, i0 * d, nan_if(true, 0.0));
    }
}
