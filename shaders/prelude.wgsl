// What every shader may use; appended to each source, so that line numbers in messages stay right.

// Elements that a workgroup of an elementwise kernel owns, and its threads.
const SPAN: u32 = 1024u;
const WIDTH: u32 = 256u;

// The number of a workgroup in a linear grid, which the device folds over x and y when it is long.
// The fold may add workgroups beyond the end: they must find nothing to do.
fn group_of(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

var<workgroup> parts: array<f32, 256>;

// The sum of every thread's `part`, for every thread of a workgroup of 256; neighbours first, in a
// fixed order. All threads must come here.
fn group_sum(thread: u32, part: f32) -> f32 {
    workgroupBarrier(); // whoever still reads the sum before
    parts[thread] = part;
    for (var left = WIDTH / 2u; left > 0u; left /= 2u) {
        workgroupBarrier();
        if thread < left {
            parts[thread] += parts[thread + left];
        }
    }
    workgroupBarrier();
    return parts[0];
}

// The logistic function; the exponential is only taken of what is not positive, so it never overflows.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    let tail = e / (1.0 + e);
    return select(tail, 1.0 - tail, x >= 0.0);
}

// ln(1 + x) for x > -1. Up to 1 by the series of 2 artanh(x / (2 + x)), because log() is only good
// to 2^-21 around 1; nine terms leave 1e-9.
fn ln_1p(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let q = s * s;
    let series = 2.0 * s * (1.0 + q * (0.33333334 + q * (0.2 + q * (0.14285715 + q * (0.11111111
        + q * (0.09090909 + q * (0.07692308 + q * (0.06666667 + q * 0.05882353))))))));
    return select(log(1.0 + x), series, x > -0.5 && x <= 1.0);
}

// ln(x) for x > 0, relatively accurate near 1 too.
fn ln(x: f32) -> f32 {
    return select(log(x), ln_1p(x - 1.0), x > 0.5 && x <= 2.0);
}
