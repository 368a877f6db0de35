// Dropout (Srivastava et al. 2014) by a counter-based generator: the mask is the same on every device,
// bit for bit, and is never stored. Forward and backward are the same kernel.
//
//   y[i] = x[i] * scale where word i mod 4 of Philox4x32-10(counter (i / 4, step, stream, 0)) >= threshold, else 0
//
// Shapes: state [3] = (seed low, seed high, step), x and y of n elements.
// Threads: one owns four elements in a row, one call of the generator. Cost: about 30 integer operations an
// element (WGSL has no 32 x 32 -> 64 bit product); one read, one write.

struct DropoutParams {
    n: u32,
    threshold: u32,
    scale: f32,
    stream: u32,
}
@group(1) @binding(0) var<uniform> p: DropoutParams;

@group(0) @binding(0) var<storage, read> state: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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
