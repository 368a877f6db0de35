// The similarity matrix; once for rows of any length and once for those of whole quads in place of `$`. similarity.wgsl says
// how it works.

// Stages quads k to k + 3 of both sides.
fn stage_$(i0: u32, j0: u32, k: u32, thread: u32) {
    let quad = thread % STAGE;
    for (var s = 0u; s < 4u; s++) {
        let row = thread / STAGE + 16u * s;
        var a = quad_$(0u, i0 + row, 4u * (k + quad));
        var b = quad_$(1u, j0 + row, 4u * (k + quad));
        if kind == COSINE {
            a *= inverse_i[row];
            b *= inverse_j[row];
        }
        tile[quad * PITCH + row] = a;
        tile[SIDE_J + quad * PITCH + row] = b;
    }
}

// What a workgroup of 64 does; its number is uniform.
fn matrix_$(number: u32, thread: u32) {
    let across = tiles_of(p.m, OWN);
    let i0 = number / across * OWN;
    let j0 = number % across * OWN;
    if i0 >= p.n {
        return;
    }
    if kind == COSINE {
        for (var s = 0u; s < 4u; s++) {
            let row = thread / STAGE + 16u * s;
            inverse_i[row] = norm_$(0u, i0 + row, thread, STAGE);
            inverse_j[row] = norm_$(1u, j0 + row, thread, STAGE);
        }
    }
    let i = thread / 8u;
    let j = thread % 8u;
    // Of row i + 8 r the columns j + 8 s: s below 4, and the others.
    var t: array<vec4<f32>, 8>;
    var u: array<vec4<f32>, 8>;
    for (var k = 0u; k < row_quads(); k += STAGE) {
        workgroupBarrier();
        stage_$(i0, j0, k, thread);
        workgroupBarrier();
        for (var q = 0u; q < min(STAGE, row_quads() - k); q++) {
            let left = four_at(SIDE_J + q * PITCH + j);
            let right = four_at(SIDE_J + q * PITCH + j + HALF);
            for (var r = 0u; r < 8u; r++) {
                let a = tile[q * PITCH + i + 8u * r];
                t[r] = plus_entries(a, left, t[r]);
                u[r] = plus_entries(a, right, u[r]);
            }
        }
    }
    for (var r = 0u; r < 8u; r++) {
        var left = t[r];
        var right = u[r];
        if kind == EUCLIDEAN {
            left = sqrt(left);
            right = sqrt(right);
        }
        for (var s = 0u; s < 4u; s++) {
            let row = i0 + i + 8u * r;
            let column = j0 + j + 8u * s;
            if row < p.n && column < p.m {
                y[row * p.m + column] = left[s];
            }
            if row < p.n && column + HALF < p.m {
                y[row * p.m + column + HALF] = right[s];
            }
        }
    }
}
