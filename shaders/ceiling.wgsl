// Multiply-adds on registers alone: what a device does at most, the ceiling of the roofline.
//
//   fma  y = sum of sixteen v_k, after 4 rounds times v_k = x v_k + 1/8, from v_k = k / 16
//
// Shapes: x, y have n elements; x is stored as `Stored`, f32 or f16, and so is the arithmetic, but for the last sum.
// Threads: each owns an element; a number depends on itself from one multiply-add to the next, not on the others.
// Cost: 128 rounds flops an element, in sixteen registers; memory weighs nothing.

struct CeilingParams {
    n: u32,
    rounds: u32,
}
@group(1) @binding(0) var<uniform> p: CeilingParams;

@group(0) @binding(0) var<storage, read> x: array<Stored>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

fn sum_of(v: vec4<Stored>) -> f32 {
    return f32(v.x) + f32(v.y) + f32(v.z) + f32(v.w);
}

@compute @workgroup_size(256)
fn ceiling_fma(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = group_of(group, groups) * WIDTH + thread;
    if i >= p.n {
        return;
    }
    let a = vec4<Stored>(x[i]);
    let b = vec4<Stored>(0.125);
    var v0 = vec4<Stored>(0.0, 0.0625, 0.125, 0.1875);
    var v1 = v0 + vec4<Stored>(0.25);
    var v2 = v0 + vec4<Stored>(0.5);
    var v3 = v0 + vec4<Stored>(0.75);
    for (var round = 0u; round < p.rounds; round++) {
        for (var step = 0u; step < 4u; step++) {
            v0 = fma(v0, a, b);
            v1 = fma(v1, a, b);
            v2 = fma(v2, a, b);
            v3 = fma(v3, a, b);
        }
    }
    y[i] = sum_of(v0) + sum_of(v1) + sum_of(v2) + sum_of(v3);
}
