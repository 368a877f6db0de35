// The products of a convolution, `fwd` or `bwd_x` in place of `$`; conv.wgsl has what they read and where they write.
//
// Up to 8 rows, the network's few channels: 8 by 256 a workgroup. A thread owns 4 places, 64 apart so that neighbours read
// and write neighbours, and gathers their values itself: 4 for up to 32 multiply-adds; weights pass through workgroup memory,
// 256 terms at a time.
// Beyond: 16 by 256, 32 by 128 or 64 by 64. Both sides pass through workgroup memory, four terms side by side, in slices of 4
// or 8 terms: a thread gathers 4 or 8 weights and 8 or 16 values for them while it multiplies the slice before: a barrier a
// slice. It owns 8 x 8 sums: 16 loads of quads for 256 multiply-adds.

// A weight, or 0 beyond the rows and terms.
fn own_weight_$(tile: Tile, row: u32, term: u32) -> f32 {
    let there = row < rows_$() && term < tile.terms;
    return select(0.0, weight_$(tile, select(0u, row, there), select(0u, term, there)), there);
}

// What a workgroup of 64 does; its number is uniform.
fn product_$(workgroup: u32, thread: u32) {
    if rows_$() <= NARROW {
        narrow_$(tile_$(workgroup, NARROW, NARROW_SPAN), thread);
    } else {
        let height = height_of(rows_$());
        wide_$(tile_$(workgroup, height, width_of(height)), thread, height);
    }
}

fn narrow_$(tile: Tile, thread: u32) {
    if tile.first >= tile.places {
        return;
    }
    let place = tile.first + thread;
    let seat0 = seat_$(tile, place);
    let seat1 = seat_$(tile, place + 64u);
    let seat2 = seat_$(tile, place + 128u);
    let seat3 = seat_$(tile, place + 192u);
    // Of each row the four places.
    var sums: array<vec4<f32>, 8>;
    let quads = select(1u, 2u, rows_$() > 4u);
    for (var begin = 0u; begin < tile.terms; begin += NARROW_TERMS) {
        let count = min(NARROW_TERMS, tile.terms - begin);
        workgroupBarrier();
        for (var q = thread; q < count * quads; q += THREADS) {
            let term = begin + q / quads;
            let row = tile.row + q % quads * 4u;
            staged[q] = vec4<f32>(
                own_weight_$(tile, row, term),
                own_weight_$(tile, row + 1u, term),
                own_weight_$(tile, row + 2u, term),
                own_weight_$(tile, row + 3u, term),
            );
        }
        workgroupBarrier();
        for (var e = 0u; e < count; e++) {
            let term = begin + e;
            let v = vec4<f32>(
                value_$(tile, seat0, term),
                value_$(tile, seat1, term),
                value_$(tile, seat2, term),
                value_$(tile, seat3, term),
            );
            let a = staged[e * quads];
            sums[0] = fma(vec4<f32>(a.x), v, sums[0]);
            sums[1] = fma(vec4<f32>(a.y), v, sums[1]);
            sums[2] = fma(vec4<f32>(a.z), v, sums[2]);
            sums[3] = fma(vec4<f32>(a.w), v, sums[3]);
            if quads == 2u {
                let b = staged[e * quads + 1u];
                sums[4] = fma(vec4<f32>(b.x), v, sums[4]);
                sums[5] = fma(vec4<f32>(b.y), v, sums[5]);
                sums[6] = fma(vec4<f32>(b.z), v, sums[6]);
                sums[7] = fma(vec4<f32>(b.w), v, sums[7]);
            }
        }
    }
    let cut = cut_short(p.batch + 2u);
    let homes = vec4<u32>(
        home_$(tile, place),
        home_$(tile, place + 64u),
        home_$(tile, place + 128u),
        home_$(tile, place + 192u),
    );
    for (var r = 0u; r < min(NARROW, rows_$()); r++) {
        let row = tile.row + r;
        let sum = sums[r] + bias_$(tile, row);
        put_$(homes.x, row, nan_if(cut, sum.x));
        put_$(homes.y, row, nan_if(cut, sum.y));
        put_$(homes.z, row, nan_if(cut, sum.z));
        put_$(homes.w, row, nan_if(cut, sum.w));
    }
}

// The thread's quads of the slice from `term` on: of rows by turns, so that neighbours read neighbouring weights; of columns
// those of its seats.
fn gather_$(tile: Tile, thread: u32, height: u32, term: u32, seats: ptr<function, array<Seat, 4>>) -> Ahead {
    let depth = depth_of(height);
    var ahead: Ahead;
    for (var s = 0u; s < (height * depth + THREADS - 1u) / THREADS; s++) {
        let at = thread + s * THREADS;
        let row = tile.row + at / depth;
        let e = term + at % depth * 4u;
        ahead.rows[s] = vec4<f32>(
            own_weight_$(tile, row, e),
            own_weight_$(tile, row, e + 1u),
            own_weight_$(tile, row, e + 2u),
            own_weight_$(tile, row, e + 3u),
        );
    }
    for (var s = 0u; s < width_of(height) / THREADS; s++) {
        let seat = (*seats)[s];
        for (var q = 0u; q < depth; q++) {
            let e = term + 4u * q;
            ahead.columns[s * depth + q] = vec4<f32>(
                value_$(tile, seat, e),
                value_$(tile, seat, e + 1u),
                value_$(tile, seat, e + 2u),
                value_$(tile, seat, e + 3u),
            );
        }
    }
    return ahead;
}

fn wide_$(tile: Tile, thread: u32, height: u32) {
    if tile.first >= tile.places {
        return;
    }
    let width = width_of(height);
    let lanes = width / 8u;
    let depth = depth_of(height);
    let terms = 4u * depth;
    var seats: array<Seat, 4>;
    for (var s = 0u; s < width / THREADS; s++) {
        seats[s] = seat_$(tile, tile.first + s * THREADS + thread);
    }
    var sums: Sums;
    var ahead: Ahead;
    var slice = 0u;
    // A slice is gathered in one turn, and multiplied in the next: one gather in the source, of which a driver makes much.
    for (var term = 0u; term < tile.terms + terms; term += terms) {
        if term > 0u {
            stage_rows(thread, height, slice, ahead.rows);
            for (var s = 0u; s < width / THREADS; s++) {
                for (var q = 0u; q < depth; q++) {
                    staged[slice + depth * height + q * width + s * THREADS + thread] = ahead.columns[s * depth + q];
                }
            }
            // Whoever still multiplies has the other slice.
            workgroupBarrier();
        }
        if term < tile.terms {
            ahead = gather_$(tile, thread, height, term, &seats);
        }
        if term > 0u {
            multiply(thread, height, slice, &sums);
            slice = slice_of(height) - slice;
        }
    }
    let cut = cut_short(p.batch + 2u);
    var homes: array<u32, 8>;
    for (var s = 0u; s < 8u; s++) {
        homes[s] = home_$(tile, tile.first + thread % lanes + s * lanes);
    }
    for (var r = 0u; r < 8u; r++) {
        let row = tile.row + thread / lanes + r * height / 8u;
        let bias = bias_$(tile, row);
        let left = sums.left[r] + bias;
        let right = sums.right[r] + bias;
        for (var s = 0u; s < 4u; s++) {
            put_$(homes[s], row, nan_if(cut, left[s]));
            put_$(homes[s + 4u], row, nan_if(cut, right[s]));
        }
    }
}
