// Dropout (Srivastava et al. 2014) by a counter-based generator: the mask is the same on every device,
// bit for bit, and is never stored. Forward and backward are the same kernel.
//
//   y[i] = x[i] * scale where word i mod 4 of Philox4x32-10(counter (i / 4, step, stream, 0)) >= threshold, else 0
//
// Shapes: state [3] = (seed low, seed high, step), x and y of n elements.
// Threads: one owns four elements in a row, one call of the generator. Cost: about 30 integer operations an
// element (WGSL has no 32 x 32 -> 64 bit product); one read, one write.
//
// J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).

struct P {
    n: u32,
    threshold: u32,
    scale: f32,
    stream: u32,
}
@group(1) @binding(0) var<uniform> p: P;

@group(0) @binding(0) var<storage, read> state: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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

@compute @workgroup_size(256)
fn dropout_apply(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let quad = group_of(group, groups) * WIDTH + thread;
    let first = 4u * quad;
    if first >= p.n {
        return;
    }
    let words = philox4x32(vec4<u32>(quad, state[2], p.stream, 0u), vec2<u32>(state[0], state[1]));
    for (var k = 0u; k < min(4u, p.n - first); k++) {
        y[first + k] = select(0.0, p.scale * x[first + k], words[k] >= p.threshold);
    }
}
