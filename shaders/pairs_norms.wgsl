// Norms of rows of two sets; once for each name in place of `$`. quad_$(side, i, k), columns k to k + 3 of a row, is the
// includer's or that of pairs_quads.

// 1 / norm of a row, for the threads that share it; all threads must come here.
fn norm_$(side: u32, i: u32, thread: u32, lanes: u32) -> f32 {
    let lane = thread % lanes;
    var most = vec4<f32>();
    for (var k = 4u * lane; k < d; k += 4u * lanes) {
        most = max(most, abs(quad_$(side, i, k)));
    }
    let largest = row_max(thread, lanes, max(max(most.x, most.y), max(most.z, most.w)));
    var sum = 0.0;
    for (var k = 4u * lane; k < d; k += 4u * lanes) {
        sum = plus_square(quad_$(side, i, k) / max(largest, 1.2e-38), sum);
    }
    return inverse_norm(largest, row_sum(thread, lanes, sum));
}
