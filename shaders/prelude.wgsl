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

// Sixteen parts from `first` on, `step` apart.
fn sixteen_of(first: u32, step: u32) -> f32 {
    var sum = parts[first];
    for (var i = 1u; i < 16u; i++) {
        sum += parts[first + i * step];
    }
    return sum;
}

// The sum of every thread's `part`, for every thread of a workgroup of 256, in a fixed order: sixteen threads sum sixteen parts
// each, one sums theirs. Four barriers, where a tree of pairs takes ten, and none in a loop, which on llvmpipe makes
// a sum 2.5 times as fast; the loads between them do not wait for one another. All threads must come here.
fn group_sum(thread: u32, part: f32) -> f32 {
    workgroupBarrier(); // whoever still reads the sum before
    parts[thread] = part;
    workgroupBarrier();
    if thread < 16u {
        parts[16u * thread] = sixteen_of(16u * thread, 1u);
    }
    workgroupBarrier();
    if thread == 0u {
        parts[0] = sixteen_of(0u, 16u);
    }
    workgroupBarrier();
    return parts[0];
}

// The largest of sixteen parts from `first` on, `step` apart.
fn largest_of(first: u32, step: u32) -> f32 {
    var most = parts[first];
    for (var i = 1u; i < 16u; i++) {
        most = max(most, parts[first + i * step]);
    }
    return most;
}

// The largest of every thread's `part`, as group_sum goes about it; all threads must come here.
fn group_max(thread: u32, part: f32) -> f32 {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    if thread < 16u {
        parts[16u * thread] = largest_of(16u * thread, 1u);
    }
    workgroupBarrier();
    if thread == 0u {
        parts[0] = largest_of(0u, 16u);
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

// Neither NaN nor infinite.
fn is_finite(v: f32) -> bool {
    return (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u;
}

// max(0, v), and NaN where v is: what has a sign and is at most infinite, by its bits, is 0.
fn relu(v: f32) -> f32 {
    let bits = bitcast<u32>(v);
    return select(v, 0.0, (bits >= 0x80000000u) & (bits <= 0xff800000u));
}

// Whether it is so for any thread of a workgroup of 256. All threads must come here.
fn group_any(thread: u32, so: bool) -> bool {
    return group_sum(thread, f32(u32(so))) > 0.0;
}

// Whether the driver has ended loops before their time: Mesa's llvmpipe, a software driver, lets an invocation take
// 65,535 turns of all its loops together and goes on behind them. A kernel whose loops may grow so long asks at its end,
// and leaves NaN rather than half a sum. `two` is any number from the params that is 2 or more.
fn cut_short(two: u32) -> bool {
    var turns = 0u;
    for (var i = 0u; i < min(two, 2u); i++) {
        turns++;
    }
    return turns < 2u;
}

// sum + a . b
fn plus_product(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, sum))));
}

// Four quads, each with a sum of its own: what tiles in registers are made of.
struct Four {
    x: vec4<f32>,
    y: vec4<f32>,
    z: vec4<f32>,
    w: vec4<f32>,
}

fn plus_products(a: vec4<f32>, b: Four, sum: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(
        plus_product(a, b.x, sum.x),
        plus_product(a, b.y, sum.y),
        plus_product(a, b.z, sum.z),
        plus_product(a, b.w, sum.w),
    );
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
