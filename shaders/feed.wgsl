// From one step to the next without the host: the step's loss is kept, and the inputs of the step after it are laid out.
//
//   losses[step] = loss    step <- (step + 1) mod steps    reals = real_table[step]    words = word_table[step]
//
// Shapes: loss [1], real_table [steps, reals], word_table [steps, words], step [1], losses [steps], reals, words.
// Threads: one workgroup does all, since every thread must have read `step` before it changes.
// Cost: no flops, some kilobytes copied.

struct FeedParams {
    steps: u32,
    reals: u32,
    words: u32,
}
@group(1) @binding(0) var<uniform> p: FeedParams;

@group(0) @binding(0) var<storage, read> loss: array<f32>;
@group(0) @binding(1) var<storage, read> real_table: array<f32>;
@group(0) @binding(2) var<storage, read> word_table: array<u32>;
@group(0) @binding(3) var<storage, read_write> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> losses: array<f32>;
@group(0) @binding(5) var<storage, read_write> reals: array<f32>;
@group(0) @binding(6) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(256)
fn feed_next(@builtin(local_invocation_index) thread: u32) {
    let at = step[0] % p.steps;
    let next = (at + 1u) % p.steps;
    storageBarrier();
    if thread == 0u {
        losses[at] = loss[0];
        step[0] = next;
    }
    for (var i = thread; i < p.reals; i += WIDTH) {
        reals[i] = real_table[next * p.reals + i];
    }
    for (var i = thread; i < p.words; i += WIDTH) {
        words[i] = word_table[next * p.words + i];
    }
}
