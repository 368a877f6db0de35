
// Reading rows of two sets four columns at a time; once for each name in place of `$`. rows_$(side) and element_$(side, at)
// are the includer's.

// Columns k to k + 3 of row i; 0 beyond both ends.
fn quad_$(side: u32, i: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if i < rows_$(side) && k < d {
        let at = i * d + k;
        v.x = element_$(side, at);
        if k + 1u < d {
            v.y = element_$(side, at + 1u);
        }
        if k + 2u < d {
            v.z = element_$(side, at + 2u);
        }
        if k + 3u < d {
            v.w = element_$(side, at + 3u);
        }
    }
    return v;
}

// 1 / norm of a row, for its eight threads; all threads must come here.
fn norm_$(side: u32, i: u32, thread: u32) -> f32 {
    var most = 0.0;
    for (var k = thread % QUADS * 4u; k < d; k += TILE) {
        let v = abs(quad_$(side, i, k));
        most = max(most, max(max(v.x, v.y), max(v.z, v.w)));
    }
    most = row_max(thread, most);
    var sum = 0.0;
    for (var k = thread % QUADS * 4u; k < d; k += TILE) {
        let v = quad_$(side, i, k) / max(most, 1.2e-38);
        sum += dot(v, v);
    }
    return inverse_norm(most, row_sum(thread, QUADS, sum));
}
