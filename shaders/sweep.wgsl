// The sweep over the pairs, what is before it and what is after; once for `all` and once for `cross` in place of `$`.
// contrastive.wgsl says how it works.

// Whether the label of row j comes before that of row i, which is `mine`.
fn before_$(side: u32, mine: u32, i: u32, j: u32) -> u32 {
    let its = order_of(label_$(side, min(j, rows_$(side) - 1u)));
    return u32((j < rows_$(side)) & ((its < mine) | ((its == mine) & (j < i))));
}

// How many labels of a side come before that of row i, those of rows before it among equals; by all of a row's eight threads. All
// threads must come here. No label is left out: what is no number has its place by its bits.
fn place_$(side: u32, i: u32, thread: u32, there: bool) -> u32 {
    let row = thread / LANES;
    if thread < ROWS {
        atomicStore(&count[thread], 0u);
    }
    workgroupBarrier();
    if there {
        let mine = order_of(label_$(side, i));
        let rows = rows_$(side);
        var before = 0u;
        for (var j = thread % LANES; j < rows; j += 4u * LANES) {
            before += before_$(side, mine, i, j) + before_$(side, mine, i, j + LANES);
            before += before_$(side, mine, i, j + 2u * LANES) + before_$(side, mine, i, j + 3u * LANES);
        }
        atomicAdd(&count[row], before);
    }
    workgroupBarrier();
    return atomicLoad(&count[row]);
}

// Copies the rows as the sweep reads them, in the order of their labels, eight threads a row; one more workgroup sums the
// weights.
@compute @workgroup_size(256)
fn contrastive_$(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let copiers = tiles_of(p.n + p.m, ROWS);
    if number > copiers {
        return;
    }
    if number == copiers {
        let shares = shares_$(thread);
        if thread == 0u {
            part_$[0] = vec4<f32>(shares, 0.0);
        }
        return;
    }
    let row = number * ROWS + thread / LANES;
    let side = u32(row >= p.n);
    let i = row - side * p.n;
    var inverse = 1.0;
    if metric == COSINE {
        inverse = norm_$(side, i, thread, LANES);
    }
    let there = row < p.n + p.m;
    var place = row;
    if sorted() {
        place = side * p.n + place_$(side, i, thread, there);
    }
    var weight = 1.0;
    // A masked row may hold anything.
    var masked = false;
    var bad = false;
    if there {
        weight = weight_$(side, i);
        masked = weighted != 0u && weight == 0.0;
        bad = !(counted(weight) && counted(label_$(side, i)));
        for (var q = thread % LANES; q < row_quads(); q += LANES) {
            let given = quad_$(side, i, 4u * q);
            bad = bad || !(is_finite(given.x) && is_finite(given.y) && is_finite(given.z) && is_finite(given.w));
            part_$[rows_from() + place * row_quads() + q] = select(given * inverse, vec4<f32>(), masked);
        }
    }
    // Were the labels not all compared, the places would be none, of masked rows too.
    let cut = cut_short(p.n + p.m);
    let unsound = row_sum(thread, LANES, f32(u32(cut || (bad && !masked))));
    if there && thread % LANES == 0u {
        let known = select(select(inverse, 0.0, masked), -1.0, unsound > 0.0);
        part_$[FACTS + place] = vec4<f32>(label_$(side, i), weight, known, f32(i));
    }
}

fn side_$(side: u32) -> Side {
    let first = side * p.n;
    return Side(side, first, rows_$(side), rows_from() + first * row_quads());
}

// Label and weight of a row; 1 / norm, or -1 where any of it is no number; and which of the given rows it is. Of rows beyond the
// end the last one stands.
fn fact_$(whose: Side, i: u32) -> vec4<f32> {
    return part_$[FACTS + whose.first + min(i, whose.rows - 1u)];
}

// Quad q of a row, of rows beyond the end that of the last one.
fn copied_$(whose: Side, i: u32, q: u32) -> vec4<f32> {
    return part_$[whose.at + min(i, whose.rows - 1u) * row_quads() + q];
}

// Where the bounds of the tile of rows from i0 on are.
fn bounds_at_$(whose: Side, i0: u32) -> u32 {
    return bounds_from() + (whose.side * tiles_of(p.n, TILE) + i0 / TILE) * (row_quads() + 1u);
}

// Bounds of each tile: how far from its centre its farthest row is, its least and its largest label; then the centre. Masked rows
// are none of it.
@compute @workgroup_size(256)
fn contrastive_$_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    if number >= own_tiles() {
        return;
    }
    let whose = side_$(u32(number >= tiles_of(p.n, TILE)));
    let first = (number - whose.side * tiles_of(p.n, TILE)) * TILE;
    let rows = min(TILE, whose.rows - first);
    let at = bounds_at_$(whose, first);
    var least = 0.0;
    var largest = 0.0;
    for (var q = thread; q < row_quads(); q += WIDTH) {
        var sum = vec4<f32>();
        var looked = 0.0;
        for (var r = 0u; r < rows; r++) {
            let fact = fact_$(whose, first + r);
            if fact.y > 0.0 {
                least = select(least, fact.x, looked == 0.0);
                largest = fact.x;
                sum += copied_$(whose, first + r, q);
                looked += 1.0;
            }
        }
        part_$[at + 1u + q] = sum * inverted(looked);
    }
    storageBarrier();
    workgroupBarrier();
    // Four threads a row.
    let row = thread / 4u;
    var squares = 0.0;
    if row < rows && fact_$(whose, first + row).y > 0.0 {
        for (var q = thread % 4u; q < row_quads(); q += 4u) {
            squares = plus_square(copied_$(whose, first + row, q) - part_$[at + 1u + q], squares);
        }
    }
    let farthest = sqrt(group_max(thread, row_sum(thread, 4u, squares)));
    if thread == 0u {
        part_$[at] = vec4<f32>(farthest, least, largest, 0.0);
    }
}

// Leaves in `to_open` which of a span's tiles of rows j, its first at j0, may have a pair that counts with the tile of rows i,
// and returns how many: the same for all threads, who must come here. Sixteen threads a tile.
fn open_tiles_$(own: Side, i0: u32, other: Side, j0: u32, tiles: u32, thread: u32) -> u32 {
    let mine = bounds_at_$(own, i0);
    let its = bounds_at_$(other, j0);
    let k = thread / 16u;
    var squares = 0.0;
    if k < tiles {
        for (var q = 1u + thread % 16u; q <= row_quads(); q += 16u) {
            squares = plus_square(part_$[its + k * (row_quads() + 1u) + q] - part_$[mine + q], squares);
        }
    }
    workgroupBarrier();
    parts[thread] = squares;
    workgroupBarrier();
    if thread == 0u {
        var count = 0u;
        for (var tile = 0u; tile < tiles; tile++) {
            let apart = sqrt(sixteen_of(16u * tile, 1u));
            if may_count(part_$[mine], part_$[its + tile * (row_quads() + 1u)], apart) {
                to_open[count] = tile;
                count++;
            }
        }
        opened = count;
    }
    return workgroupUniformLoad(&opened);
}

// Leaves the squared distances of the thread's pairs in t. All threads must come here.
fn distances_$(own: Side, i0: u32, other: Side, j0: u32, thread: u32, t: ptr<function, Pairs>) {
    let row = thread / STAGE;
    let quad = thread % STAGE;
    let at = quad * PITCH + row;
    for (var k = 0u; k < row_quads(); k += STAGE) {
        workgroupBarrier();
        tile[at] = copied_$(own, i0 + row, k + quad);
        tile[at + HALF] = copied_$(own, i0 + row + HALF, k + quad);
        tile[SIDE_J + at] = copied_$(other, j0 + row, k + quad);
        tile[SIDE_J + at + HALF] = copied_$(other, j0 + row + HALF, k + quad);
        workgroupBarrier();
        squares(thread, min(STAGE, row_quads() - k), t);
    }
}

// Of given rows i and j.
fn refined_$(side: u32, i: u32, other: u32, j: u32, ri: f32, rj: f32, t: f32) -> f32 {
    var ee = 0.0;
    var q = 0.0;
    for (var k = 0u; k < d; k += 4u) {
        let a = quad_$(side, i, k);
        let b = quad_$(other, j, k);
        let e = (a - b) * ri;
        ee += dot(e, e);
        q += dot(e, a * ri + b * ri);
    }
    return refined(ee, q, ri / rj, t);
}

// Leaves the coefficients of the thread's pairs in half a tile, from row j0 on, at squared distances t, and returns their
// losses. Of a near pair it leaves t, and a bit in `close`. Where all coefficients of the half are 0 nobody opens it.
fn meet_$(
    own: Side,
    i0: u32,
    other: Side,
    j0: u32,
    mine: array<vec4<f32>, 4>,
    share_j: f32,
    half: u32,
    thread: u32,
    t: array<vec4<f32>, 4>,
    close: ptr<function, u32>,
) -> vec4<f32> {
    let b = thread % 8u;
    let j = vec4<u32>(j0 + b) + vec4<u32>(0u, 8u, 16u, 24u);
    let f0 = fact_$(other, j.x);
    let f1 = fact_$(other, j.y);
    let f2 = fact_$(other, j.z);
    let f3 = fact_$(other, j.w);
    let label = vec4<f32>(f0.x, f1.x, f2.x, f3.x);
    let weight = share_j * vec4<f32>(f0.y, f1.y, f2.y, f3.y);
    let there = vec4<f32>(f0.z, f1.z, f2.z, f3.z) > vec4<f32>();
    var losses = vec4<f32>();
    var pulls = vec4<bool>();
    for (var r = 0u; r < 4u; r++) {
        let i = i0 + thread / 8u + 16u * r;
        let share = mine[r].y * weight;
        var counts = (j < vec4<u32>(other.rows)) & vec4<bool>(i < own.rows);
        if ONE_SET_$ {
            counts = counts & (j != vec4<u32>(i));
        }
        if weighted != 0u {
            // Also where the product underflows: the loss may be infinite.
            counts = counts & (share > vec4<f32>());
        }
        let real = there & vec4<bool>(mine[r].z > 0.0);
        let found = terms(t[r], abs(vec4<f32>(mine[r].x) - label), real);
        var g = share * found.g;
        if metric == COSINE {
            let near = counts & real & (t[r] < vec4<f32>(NEAR));
            let bits = select(vec4<u32>(), vec4<u32>(1u, 2u, 4u, 8u), near);
            *close |= (bits.x | bits.y | bits.z | bits.w) << (4u * r);
            losses += select(vec4<f32>(), share * found.loss, counts & !near);
            g = select(g, t[r], near);
        } else {
            losses += select(vec4<f32>(), share * found.loss, counts);
        }
        g = select(vec4<f32>(), g, counts);
        pulls = pulls | (g != vec4<f32>());
        tile[b * PITCH + thread / 8u + 16u * r] = g;
    }
    if any(pulls) || *close != 0u {
        atomicStore(&open[half], 1u);
    }
    if thread == 0u {
        // The other half's: read before the last barrier, set after the next.
        atomicStore(&open[1u - half], 0u);
    }
    return losses;
}

// The near ones among the thread's pairs, from the given rows: leaves their coefficients in place of their squared distances,
// and a bit in `near` where pull_near_$ is to look. Returns their losses.
fn meet_near_$(own: Side, i0: u32, other: Side, j0: u32, half: u32, shares: vec4<f32>, thread: u32, close: u32) -> f32 {
    var losses = 0.0;
    for (var bits = close; bits != 0u; bits &= bits - 1u) {
        let e = countTrailingZeros(bits);
        let row = thread / 8u + e / 4u * 16u;
        let i = i0 + row;
        let column = thread % 8u + e % 4u * 8u;
        let j = j0 + column;
        let a = fact_$(own, i);
        let b = fact_$(other, j);
        var g = tile[thread % 8u * PITCH + row];
        var t = g[e % 4u];
        let better = refined_$(own.side, u32(a.w), other.side, u32(b.w), a.z, b.z, t);
        if better >= 0.0 {
            t = better;
            atomicOr(&near[half * OWN + row], 1u << column);
            atomicOr(&any_near, 1u);
        }
        let found = terms(vec4<f32>(t), vec4<f32>(abs(a.x - b.x)), vec4<bool>(true));
        let share = shares[own.side] * a.y * (shares[other.side] * b.y);
        losses += share * found.loss.x;
        g[e % 4u] = share * found.g.x;
        tile[thread % 8u * PITCH + row] = g;
    }
    return losses;
}

// Adds what the tile adds to quad q of the thread's rows.
fn pull_$(own: Side, i0: u32, other: Side, j0: u32, q: u32, seat: Seat, acc: ptr<function, array<vec4<f32>, 8>>) {
    var rows: array<vec4<f32>, 8>;
    for (var r = 0u; r < 8u; r++) {
        rows[r] = copied_$(own, i0 + seat.own + 8u * r, q);
    }
    for (var first = seat.turn; first < 8u; first += seat.turns) {
        let j = j0 + first;
        let b = Four(
            copied_$(other, j, q),
            copied_$(other, j + 8u, q),
            copied_$(other, j + 16u, q),
            copied_$(other, j + 24u, q),
        );
        pull_four(seat, first, &rows, b, acc);
    }
}

// Where the sum of a row's quad is, among those of a slice; or NOWHERE.
fn sum_at_$(place: Place, row: u32, lane: u32) -> u32 {
    let i = place.i0 + row;
    let q = place.q0 + lane;
    if i >= place.own.rows || q >= row_quads() {
        return NOWHERE;
    }
    return place.sums + i * row_quads() + q;
}

// Adds half of the thread's sums, four of its rows, to those in memory, or begins these. All threads must come here.
fn keep_half_$(place: Place, thread: u32, seat: Seat, lane: u32, half: u32, begins: bool, sums: array<vec4<f32>, 4>) {
    hand_in(thread, sums);
    // The places that it clears.
    for (var e = (thread + 4u * seat.width * half) % THREADS; e < 4u * seat.width; e += THREADS) {
        let at = sum_at_$(place, 32u * half + row_of(seat, e), lane + lane_of(seat, e));
        if at != NOWHERE {
            var sum = handed_in(seat, e);
            if !begins {
                sum += part_$[at];
            }
            part_$[at] = sum;
        }
    }
}

fn keep_$(place: Place, thread: u32, seat: Seat, lane: u32, begins: bool, acc: array<vec4<f32>, 8>) {
    keep_half_$(place, thread, seat, lane, 0u, begins, array<vec4<f32>, 4>(acc[0], acc[1], acc[2], acc[3]));
    keep_half_$(place, thread, seat, lane, 1u, begins, array<vec4<f32>, 4>(acc[4], acc[5], acc[6], acc[7]));
}

// Begins the sums in memory that the thread keeps. It alone touches them.
fn clear_$(place: Place, thread: u32, seat: Seat, lane: u32) {
    for (var e = thread; e < 8u * seat.width; e += THREADS) {
        let at = sum_at_$(place, row_of(seat, e), lane + lane_of(seat, e));
        if at != NOWHERE {
            part_$[at] = vec4<f32>();
        }
    }
}

// Takes near pairs from the given rows, in the sums in memory: what pull_$ adds of them is taken back.
fn pull_near_$(place: Place, thread: u32, seat: Seat, lane: u32, other: Side, j0: u32, half: u32) {
    let own = place.own;
    for (var e = thread; e < 8u * seat.width; e += THREADS) {
        let row = row_of(seat, e);
        let at = sum_at_$(place, row, lane + lane_of(seat, e));
        var bits = select(atomicLoad(&near[half * OWN + row]), 0u, at == NOWHERE);
        while bits != 0u {
            let c = countTrailingZeros(bits);
            bits &= bits - 1u;
            let i = place.i0 + row;
            let j = j0 + c;
            let q = place.q0 + lane + lane_of(seat, e);
            let its = fact_$(other, j);
            let given = quad_$(own.side, u32(fact_$(own, i).w), 4u * q) - quad_$(other.side, u32(its.w), 4u * q);
            let copied = copied_$(own, i, q) - copied_$(other, j, q);
            let g = tile[c % 8u * PITCH + row];
            part_$[at] += g[c / 8u] * (its.z * given - copied);
        }
    }
}

// Half a tile, from row j0 on: leaves what it adds to the gradients and returns its losses. All threads must come here.
fn half_$(
    place: Place,
    other: Side,
    j0: u32,
    half: u32,
    mine: array<vec4<f32>, 4>,
    shares: vec4<f32>,
    thread: u32,
    seat: Seat,
    t: array<vec4<f32>, 4>,
    acc: ptr<function, array<vec4<f32>, 8>>,
    acc_2: ptr<function, array<vec4<f32>, 8>>,
) -> vec4<f32> {
    let own = place.own;
    var close = 0u;
    var losses = meet_$(own, place.i0, other, j0, mine, shares[other.side], half, thread, t, &close);
    if metric == COSINE {
        losses.x += meet_near_$(own, place.i0, other, j0, half, shares, thread, close);
    }
    workgroupBarrier();
    if atomicLoad(&open[half]) == 0u {
        return losses;
    }
    pull_$(own, place.i0, other, j0, place.q0 + seat.lane, seat, acc);
    if row_quads() > 16u {
        pull_$(own, place.i0, other, j0, place.q0 + 16u + seat.lane, seat, acc_2);
    }
    if metric == COSINE && atomicLoad(&any_near) != 0u {
        pull_near_$(place, thread, seat, 0u, other, j0, half);
        if row_quads() > 16u {
            pull_near_$(place, thread, seat, 16u, other, j0, half);
        }
    }
    return losses;
}

@compute @workgroup_size(128)
fn contrastive_$_3(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    if number >= sweepers() {
        return;
    }
    let slices = slices_of();
    let slice = number % slices;
    let block = number / slices % blocks_of();
    let tile = number / slices / blocks_of();
    let side = u32(tile >= tiles_of(p.n, OWN));
    let own = side_$(side);
    let sums = sums_from(slice) + own.first * row_quads();
    let place = Place(own, (tile - side * tiles_of(p.n, OWN)) * OWN, block * OWN_QUADS, sums);
    let i0 = place.i0;
    let other = side_$(other_$(side));
    let per_slice = tiles_of(tiles_of(other.rows, TILE), slices) * TILE;
    let start = slice * per_slice;
    let end = min(other.rows, start + per_slice);
    let seat = seat_of(thread);
    let shares = part_$[0];
    var mine: array<vec4<f32>, 4>;
    for (var r = 0u; r < 4u; r++) {
        mine[r] = fact_$(own, i0 + thread / 8u + 16u * r) * vec4<f32>(1.0, shares[side], 1.0, 1.0);
    }
    let twice = row_quads() > 16u;
    let halves = select(1u, 2u, other.rows > HALF);
    let with_bounds = bounded();
    var losses = vec4<f32>();
    // Near pairs go to memory before the first sums do; and a slice beyond the end has none.
    let cleared = metric == COSINE || start >= end;
    if cleared {
        clear_$(place, thread, seat, 0u);
        if twice {
            clear_$(place, thread, seat, 16u);
        }
    }
    for (var span = start; span < end; span += SPAN_J) {
        let tiles = tiles_of(min(end - span, SPAN_J), TILE);
        var count = tiles;
        if with_bounds {
            count = open_tiles_$(own, i0, other, span, tiles, thread);
        }
        let begins = !cleared && span == start;
        if count == 0u && !begins {
            continue;
        }
        var acc: array<vec4<f32>, 8>;
        var acc_2: array<vec4<f32>, 8>;
        var recent = vec4<f32>();
        for (var k = 0u; k < count; k++) {
            let j0 = span + TILE * select(k, to_open[k], with_bounds);
            if metric == COSINE {
                workgroupBarrier();
                atomicStore(&near[thread], 0u);
                if thread == 0u {
                    atomicStore(&any_near, 0u);
                }
            }
            var t: Pairs;
            distances_$(own, i0, other, j0, thread, &t);
            for (var half = 0u; half < halves; half++) {
                workgroupBarrier();
                let t_half = half_of(t, half);
                recent += half_$(place, other, j0 + HALF * half, half, mine, shares, thread, seat, t_half, &acc, &acc_2);
            }
        }
        losses += recent;
        keep_$(place, thread, seat, 0u, begins, acc);
        if twice {
            keep_$(place, thread, seat, 16u, begins, acc_2);
        }
    }
    let total = tile_sum(thread, losses.x + losses.y + losses.z + losses.w);
    let cut = cut_short(p.n + p.m);
    if thread == 0u {
        // A pair's loss is the same in every block, and for cross from either side.
        let counts = side == 0u && block == 0u;
        part_$[losses_from() + number] = vec4<f32>(select(0.0, total, counts), f32(u32(cut)), 0.0, 0.0);
    }
}

// Sums the slices' gradients, eight threads a row; one more workgroup sums the losses.
@compute @workgroup_size(256)
fn contrastive_$_4(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let summers = tiles_of(p.n + p.m, ROWS);
    if number > summers {
        return;
    }
    let shares = part_$[0];
    if number == summers {
        var sum = 0.0;
        var bad = false;
        for (var at = thread; at < sweepers(); at += WIDTH) {
            let ended = part_$[losses_from() + at];
            sum += ended.x;
            bad = bad || ended.y > 0.0;
        }
        for (var row = thread; row < p.n + p.m; row += WIDTH) {
            bad = bad || part_$[FACTS + row].z < 0.0;
        }
        let total = group_sum(thread, sum);
        let loss = nan_if(group_any(thread, bad), TIMES_$ * p.weight * shares.z * total);
        if thread == 0u {
            loss_$[0] = loss;
        }
        return;
    }
    let row = number * ROWS + thread / LANES;
    let there = row < p.n + p.m;
    let side = u32(row >= p.n);
    let i = row - side * p.n;
    let lane = thread % LANES;
    let quads = row_quads();
    let slices = slices_of();
    // Whether a workgroup that met the row was cut short, and the product of its sum and the row.
    var cut = 0.0;
    var radial = 0.0;
    if there {
        let sweeps = blocks_of() * slices;
        let first = losses_from() + (side * tiles_of(p.n, OWN) + i / OWN) * sweeps;
        for (var at = lane; at < sweeps; at += LANES) {
            cut += part_$[first + at].y;
        }
        for (var q = lane; q < quads; q += LANES) {
            let at = row * quads + q;
            var sum = vec4<f32>();
            for (var slice = 0u; slice < slices; slice++) {
                sum += part_$[sums_from(slice) + at];
            }
            part_$[sums_from(0u) + at] = sum;
            radial += dot(sum, part_$[rows_from() + at]);
        }
    }
    cut = row_sum(thread, LANES, cut);
    if metric == COSINE {
        radial = row_sum(thread, LANES, radial);
    }
    if !there {
        return;
    }
    let fact = part_$[FACTS + row];
    let scale = p.grad_scale * p.weight * shares.z;
    for (var q = lane; q < quads; q += LANES) {
        let at = row * quads + q;
        var v = scale * part_$[sums_from(0u) + at];
        if metric == COSINE {
            let radial_part = scale * radial * part_$[rows_from() + at];
            v = vec4<f32>(
                projected(v.x, radial_part.x, fact.z),
                projected(v.y, radial_part.y, fact.z),
                projected(v.z, radial_part.z, fact.z),
                projected(v.w, radial_part.w, fact.z),
            );
        }
        for (var c = 0u; c < 4u && 4u * q + c < d; c++) {
            put_$(side, u32(fact.w) * d + 4u * q + c, nan_if(cut > 0.0, v[c]));
        }
    }
}
