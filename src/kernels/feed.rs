//! From one step to the next without the host: the step's loss is kept, and the inputs of the step after it are laid out.
//!
//! Shapes: `loss [1]`, `real_table [steps, reals]`, `word_table [steps, words]`, `step [1]`, `losses [steps]`, `reals`, `words`.
//!
//! ```text
//! losses[step] = loss        step ← (step + 1) mod steps        reals = real_table[step]        words = word_table[step]
//! ```
//!
//! It is the last launch of a training step: whoever reads `reals` and `words` came before. A whole epoch is then uploaded at
//! once and runs without a word from the host, and its losses are read at its end. After the last step the first one's inputs
//! lie ready again.
//!
//! Threads: one block, or workgroup, does all, since every thread must have read `step` before it changes. Cost: no flops, some
//! kilobytes copied.

use crate::kernel::{Access, Args, Binding, Cost, Cuda, Elem, Kernel, Params, Real, Twin, params};

/// Threads of the CUDA twin.
const BLOCK: u32 = 1024;

params! {
    /// Params of the kernel.
    pub struct FeedParams {
        /// Rows of both tables.
        pub steps: u32,
        /// Elements of a row of `real_table`.
        pub reals: u32,
        /// Elements of a row of `word_table`.
        pub words: u32,
    }
}

/// Keeps a loss and lays out the next step.
pub static NEXT: Kernel = Kernel {
    name: "feed_next",
    bindings: &[
        Binding::input("loss"),
        Binding::input("real_table"),
        Binding::index("word_table"),
        Binding { name: "step", access: Access::InOut, elem: Elem::Index },
        Binding::inout("losses"),
        Binding::output("reals"),
        Binding { name: "words", access: Access::Out, elem: Elem::Index },
    ],
    params: FeedParams::LAYOUT,
    cpu: Twin { f32: next, f64: next },
    workgroups: &[|_| [1, 1, 1]],
    cuda: Cuda::new(BLOCK, |_| [1, 1, 1]),
    cost: |p: &Params| {
        let p: FeedParams = p.get();
        Cost::new(0, 2 * (p.reals as usize + p.words as usize + 2))
    },
};

fn next<F: Real>(args: Args<'_, F>) {
    let p: FeedParams = args.params();
    let [steps, wide_reals, wide_words] = [p.steps, p.reals, p.words].map(|n| n as usize);
    let [loss, real_table, word_table, step, losses, reals, words] = args.bufs();
    let step = step.index_output();
    let at = step[0] as usize % steps;
    losses.output()[at] = loss.input()[0];
    let next = (at + 1) % steps;
    step[0] = next as u32;
    reals.output().copy_from_slice(&real_table.input()[next * wide_reals..][..wide_reals]);
    words.index_output().copy_from_slice(&word_table.index()[next * wide_words..][..wide_words]);
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&NEXT];
