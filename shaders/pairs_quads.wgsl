
// Reading rows of two sets four columns at a time; once for each name in place of `$`. rows_$(side) and element_$(side, at)
// are the includer's.

// Columns k to k + 3 of row i; 0 beyond both ends.
fn quad_$(side: u32, i: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if i < rows_$(side) && k < d {
        let at = i * d + k;
        v.x = element_$(side, at);
        if (d % 4u == 0u) || (k + 1u < d) {
            v.y = element_$(side, at + 1u);
        }
        if (d % 4u == 0u) || (k + 2u < d) {
            v.z = element_$(side, at + 2u);
        }
        if (d % 4u == 0u) || (k + 3u < d) {
            v.w = element_$(side, at + 3u);
        }
    }
    return v;
}
