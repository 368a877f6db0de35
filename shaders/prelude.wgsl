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

// The sum of every thread's `part`, for every thread of a workgroup of 256, in a fixed order: sixteen threads sum sixteen parts
// each, one sums theirs. Four barriers, where a tree of pairs takes ten; the loads between them do not wait for one another.
// All threads must come here.
fn group_sum(thread: u32, part: f32) -> f32 {
    workgroupBarrier(); // whoever still reads the sum before
    parts[thread] = part;
    for (var step = 1u; step < WIDTH; step *= 16u) {
        workgroupBarrier();
        if thread < WIDTH / 16u / step {
            let first = 16u * step * thread;
            var sum = parts[first];
            for (var i = 1u; i < 16u; i++) {
                sum += parts[first + i * step];
            }
            parts[first] = sum;
        }
    }
    workgroupBarrier();
    return parts[0];
}

// A NaN that is meant to be seen goes by its bits: a compiler may take it that no sum and no comparison meets one.
fn is_nan(v: f32) -> bool {
    return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u;
}

// v, or NaN where it is no result.
fn nan_if(bad: bool, v: f32) -> f32 {
    return bitcast<f32>(select(bitcast<u32>(v), 0x7fc00000u, bad));
}

// Whether it is so for any thread of a workgroup of 256. All threads must come here.
fn group_any(thread: u32, so: bool) -> bool {
    return group_sum(thread, f32(u32(so))) > 0.0;
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

// The upper half of a 64-bit product, from 16-bit halves.
fn multiply_high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u); // at most (2^16 - 1) * 2^16: fits
    let low = a0 * b1 + (middle & 0xffffu);
    return a1 * b1 + (middle >> 16u) + (low >> 16u);
}

// Ten rounds of Philox4x32: four random words for a counter under a key.
// J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
fn philox4x32(counter: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        c = vec4<u32>(
            multiply_high(c.z, 0xCD9E8D57u) ^ c.y ^ key.x,
            c.z * 0xCD9E8D57u,
            multiply_high(c.x, 0xD2511F53u) ^ c.w ^ key.y,
            c.x * 0xD2511F53u,
        );
        key += vec2<u32>(0x9E3779B9u, 0xBB67AE85u); // Weyl sequences: the golden ratio and sqrt(3) - 1
    }
    return c;
}
