
// The sweep over the pairs, what is before it and what is after; once for `all` and once for `cross` in place of `$`.
// contrastive.wgsl says how it works.

// A row a thread: 1 / norm for the cosine, and for `cross` the weights.
@compute @workgroup_size(64)
fn contrastive_$(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = group_of(group, groups) * 64u + thread;
    if row >= p.n + p.m {
        return;
    }
    let side = u32(row >= p.n);
    let i = row - side * p.n;
    if metric == COSINE {
        var largest = 0.0;
        for (var k = 0u; k < d; k++) {
            largest = max(largest, abs(element_$(side, i * d + k)));
        }
        var sum = 0.0;
        for (var k = 0u; k < d; k++) {
            let v = element_$(side, i * d + k) / max(largest, 1.2e-38);
            sum += v * v;
        }
        part_$[inverses() + row] = inverse_norm(largest, sum);
    }
    keep_weight_$(side, i);
}

// The row that distances are taken of; 0 where it is masked, for what it holds then may be anything.
fn unit_$(side: u32, i: u32, k: u32, inverse: f32, weight: f32) -> vec4<f32> {
    if weighted != 0u && weight == 0.0 {
        return vec4<f32>();
    }
    let v = quad_$(side, i, k);
    if metric == COSINE {
        return v * inverse;
    }
    return v;
}

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

// What is known of the tile's rows j but their elements; `share` is 1 / their largest weight. All threads must come here.
fn meet_$(other: u32, j0: u32, share: f32, thread: u32) {
    workgroupBarrier();
    if thread < TILE {
        let j = min(j0 + thread, rows_$(other) - 1u);
        label_b[thread] = label_$(other, j);
        weight_b[thread] = share * weight_$(other, j);
        if metric == COSINE {
            inverse_b[thread] = part_$[inverses() + other * p.n + j];
            atomicStore(&near[thread], 0u);
        }
    }
    workgroupBarrier();
}

// The squared distances of the thread's 2 x 2 pairs; rows i are staged where they are not there yet. All threads must
// come here.
fn distances_$(side: u32, i0: u32, other: u32, j0: u32, there: bool, thread: u32) -> vec4<f32> {
    let seat = seat_of(thread);
    var t = vec4<f32>();
    for (var k = 0u; k < d; k += TILE) {
        if k > 0u {
            workgroupBarrier();
        }
        if d > TILE || !there {
            let row = seat.row;
            tile_a[seat.staged] = unit_$(side, i0 + row, k + seat.column, inverse_a[row], weight_a[row]);
        }
        tile_b[seat.staged] = unit_$(other, j0 + seat.row, k + seat.column, inverse_b[seat.row], weight_b[seat.row]);
        workgroupBarrier();
        t += squares(thread, min(QUADS, (d - k + 3u) / 4u));
    }
    return t;
}

// Leaves the coefficients of the thread's pairs, at squared distances t, and adds their losses to `losses`.
fn terms_$(side: u32, i0: u32, other: u32, j0: u32, thread: u32, t: vec4<f32>, losses: f32) -> f32 {
    var sum = losses;
    for (var e = 0u; e < 4u; e++) {
        let r = thread / 16u + e / 2u * 16u;
        let c = thread % 16u + e % 2u * 16u;
        let i = i0 + r;
        let j = j0 + c;
        var both = vec2<f32>();
        var counts = i < rows_$(side) && j < rows_$(other) && (!ONE_SET_$ || i != j);
        var share = 1.0;
        if weighted != 0u {
            share = weight_a[r] * weight_b[c];
            // Also where the product underflows: the loss may be infinite.
            counts = counts && share > 0.0;
        }
        if counts {
            var te = t[e];
            let real = metric != COSINE || (inverse_a[r] > 0.0 && inverse_b[c] > 0.0);
            if metric == COSINE && real && te < NEAR {
                let better = refined_$(side, i, other, j, inverse_a[r], inverse_b[c], te);
                if better >= 0.0 {
                    te = better;
                    atomicOr(&near[r], 1u << c);
                }
            }
            both = share * term(te, abs(label_a[r] - label_b[c]), real);
        }
        sum += both.x;
        coefficients[r * 33u + c] = both.y;
    }
    return sum;
}

// What the tile adds to the gradient of the thread's row, in its quad of the 32 columns from k on; all threads must
// come here.
fn pull_$(side: u32, i0: u32, other: u32, j0: u32, k: u32, seat: Seat) -> vec4<f32> {
    if d > TILE {
        let row = seat.row;
        workgroupBarrier();
        tile_b[seat.staged] = unit_$(other, j0 + row, k + seat.column, inverse_b[row], weight_b[row]);
        workgroupBarrier();
    }
    let i = i0 + seat.own;
    let column = k + 4u * seat.lane;
    let a = unit_$(side, i, column, inverse_a[seat.own], weight_a[seat.own]);
    var sum = weigh(seat, a);
    if metric == COSINE && seat.turn == 0u {
        var bits = atomicLoad(&near[seat.own]);
        while bits != 0u {
            let c = countTrailingZeros(bits);
            bits &= bits - 1u;
            let e = quad_$(side, i, column) - quad_$(other, j0 + c, column);
            sum += coefficients[seat.own * 33u + c] * (inverse_b[c] * e - (a - tile_b[c * PITCH + seat.lane]));
        }
    }
    return sum;
}

// Writes a row's columns from k on; one of several slices sets its unscaled sum aside.
fn put_sum_$(side: u32, i: u32, k: u32, slice: u32, scale: f32, sum: vec4<f32>) {
    let at = i * d + k;
    let aside = partials(slice) + side * p.n * d + at;
    for (var c = 0u; c < 4u && k + c < d; c++) {
        if slices_of() == 1u {
            put_$(side, at + c, scale * sum[c]);
        } else {
            part_$[aside + c] = sum[c];
        }
    }
}

// Projects the thread's columns of the gradient off its row, whose product with it is `radial`.
fn project_$(side: u32, i: u32, seat: Seat, radial: f32) {
    let inverse = inverse_a[seat.own];
    let weight = weight_a[seat.own];
    for (var k = 4u * seat.lane; k < d; k += TILE) {
        let u = unit_$(side, i, k, inverse, weight);
        for (var c = 0u; c < 4u && k + c < d; c++) {
            let at = i * d + k + c;
            put_$(side, at, turned(grad_$(side, at), radial * u[c], inverse, weight));
        }
    }
}

@compute @workgroup_size(256)
fn contrastive_$_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let slices = slices_of();
    let tiles = tiles_of(p.n);
    let slice = number % slices;
    let side = u32(number / slices >= tiles);
    let tile = number / slices - side * tiles;
    let i0 = tile * TILE;
    let n = rows_$(side);
    if i0 >= n {
        return;
    }
    let other = other_$(side);
    let m = rows_$(other);
    let per_slice = (tiles_of(m) + slices - 1u) / slices;
    let start = slice * per_slice * TILE;
    let end = min(m, start + per_slice * TILE);
    let seat = seat_of(thread);
    let own = i0 + seat.own;
    let writes = seat.turn == 0u && own < n;
    let shares = shares_$(thread);
    var losses = 0.0;
    var radial = 0.0;
    if thread < TILE {
        let i = min(i0 + thread, n - 1u);
        label_a[thread] = label_$(side, i);
        weight_a[thread] = shares[side] * weight_$(side, i);
        if metric == COSINE {
            inverse_a[thread] = part_$[inverses() + side * p.n + i];
        }
    }
    let scale = p.grad_scale * p.weight * shares.z;
    // One turn up to 512 columns; beyond, each turn meets all pairs again for 512 more columns of the gradient.
    for (var first = 0u; first < d; first += MOST) {
        let last = min(d, first + MOST);
        var acc: array<vec4<f32>, 16>;
        var recent = 0.0;
        losses = 0.0;
        for (var j0 = start; j0 < end; j0 += TILE) {
            meet_$(other, j0, shares[other], thread);
            let t = distances_$(side, i0, other, j0, j0 != start, thread);
            recent = terms_$(side, i0, other, j0, thread, t, recent);
            if j0 / TILE % 64u == 63u {
                losses += recent;
                recent = 0.0;
            }
            workgroupBarrier();
            for (var s = 0u; s < STEPS && first + s * TILE < last; s++) {
                acc[s] += pull_$(side, i0, other, j0, first + s * TILE, seat);
            }
        }
        losses += recent;
        acc[0] = shared_sum(thread, seat, acc[0]);
        for (var s = 0u; s < STEPS && first + s * TILE < last; s++) {
            let k = first + s * TILE + 4u * seat.lane;
            if metric == COSINE {
                radial += dot(acc[s], unit_$(side, own, k, inverse_a[seat.own], weight_a[seat.own]));
            }
            if writes {
                put_sum_$(side, own, k, slice, scale, acc[s]);
            }
        }
    }
    let total = group_sum(thread, losses);
    let cut = cut_short(p.n + p.m);
    if thread == 0u && side == 0u {
        part_$[number] = nan_if(cut, total);
    }
    if metric == COSINE && slices == 1u {
        radial = scale * row_sum(thread, lanes_of(), radial);
        if writes {
            project_$(side, own, seat, radial);
        }
    }
    if cut && thread == 0u {
        if slices == 1u {
            put_$(side, i0 * d, nan_if(cut, total));
        } else {
            part_$[partials(slice) + side * p.n * d + i0 * d] = nan_if(cut, total);
        }
    }
}

// One workgroup sums the losses. With more than one slice there is another for each tile of rows before it, which
// sums the slices' gradients, eight threads a row.
@compute @workgroup_size(256)
fn contrastive_$_3(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group_of(group, groups);
    let slices = slices_of();
    let tiles = tiles_of(p.n);
    let all_tiles = tiles + tiles_of(p.m);
    let shares = shares_$(thread);
    if slices == 1u || number == all_tiles {
        var sum = 0.0;
        var bad = false;
        for (var at = thread; at < tiles * slices; at += WIDTH) {
            sum += part_$[at];
            bad = bad || is_nan(part_$[at]);
        }
        let total = group_sum(thread, sum);
        let loss = nan_if(group_any(thread, bad), TIMES_$ * p.weight * shares.z * total);
        if thread == 0u {
            loss_$[0] = loss;
        }
        return;
    }
    if number > all_tiles {
        return;
    }
    let side = u32(number >= tiles);
    let i = (number - side * tiles) * TILE + thread / QUADS;
    let there = i < rows_$(side);
    let scale = p.grad_scale * p.weight * shares.z;
    var inverse = 1.0;
    var weight = 1.0;
    if there {
        weight = weight_$(side, i);
        if metric == COSINE {
            inverse = part_$[inverses() + side * p.n + i];
        }
    }
    var radial = 0.0;
    if there {
        for (var k = thread % QUADS; k < d; k += QUADS) {
            let at = i * d + k;
            var sum = 0.0;
            var bad = false;
            for (var slice = 0u; slice < slices; slice++) {
                let of_slice = part_$[partials(slice) + side * p.n * d + at];
                sum += of_slice;
                bad = bad || is_nan(of_slice);
            }
            put_$(side, at, nan_if(bad, scale * sum));
            if metric == COSINE && (weighted == 0u || weight > 0.0) {
                radial += sum * element_$(side, at) * inverse;
            }
        }
    }
    if metric == COSINE {
        radial = scale * row_sum(thread, QUADS, radial);
        if there {
            for (var k = thread % QUADS; k < d; k += QUADS) {
                let at = i * d + k;
                let u = element_$(side, at) * inverse;
                let v = grad_$(side, at);
                put_$(side, at, nan_if(is_nan(v), turned(v, radial * u, inverse, weight)));
            }
        }
    }
}
