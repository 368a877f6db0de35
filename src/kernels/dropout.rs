//! Dropout (Srivastava et al. 2014) by a counter-based generator, so that the mask is the same on every
//! device and is never stored: backward is the forward kernel applied to the upstream gradient.
//!
//! `y = x·scale` where the element's random number is at least `threshold`, else 0.
//!
//! Shapes: `state [3]` = (seed low, seed high, step), `x`, `y` of `n` elements. Element i takes word
//! i mod 4 of Philox4x32-10 (Salmon et al. 2011) with key (seed low, seed high) and counter
//! (⌊i/4⌋, step, stream, 0).
//!
//! Threads: one owns four elements in a row, one call of the generator. Cost: about 12 integer operations
//! an element; one read, one write.

use crate::dispatch;
use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, PIECE, Params, Real, SPAN, Twin, params, spans};
use crate::simd::{F32x16, Simd};

params! {
    /// Params of the kernel.
    pub struct DropoutParams {
        /// Elements.
        pub n: u32,
        /// ⌊p·2³²⌋ for the probability p to drop.
        pub threshold: u32,
        /// 1/(1 − p).
        pub scale: f32,
        /// Which of a step's masks this is.
        pub stream: u32,
    }
}

/// Ten rounds of Philox4x32: four random words for a counter under a key.
///
/// J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox(counter.map(|word| [word]), key).map(|[word]| word)
}

/// As [`philox4x32`] for `L` counters side by side, which the compiler makes vectors of.
#[inline(always)]
fn philox<const L: usize>(mut counter: [[u32; L]; 4], [mut key0, mut key1]: [u32; 2]) -> [[u32; L]; 4] {
    for _ in 0..10 {
        let [a, b, c, d] = counter;
        for l in 0..L {
            let (wide0, wide1) = (u64::from(a[l]) * 0xD251_1F53, u64::from(c[l]) * 0xCD9E_8D57);
            counter[0][l] = (wide1 >> 32) as u32 ^ b[l] ^ key0;
            counter[1][l] = wide1 as u32;
            counter[2][l] = (wide0 >> 32) as u32 ^ d[l] ^ key1;
            counter[3][l] = wide0 as u32;
        }
        // Weyl sequences: the golden ratio and √3 − 1.
        key0 = key0.wrapping_add(0x9E37_79B9);
        key1 = key1.wrapping_add(0xBB67_AE85);
    }
    counter
}

/// `y = mask·scale·x`; forward and backward alike.
pub static APPLY: Kernel = Kernel {
    name: "dropout_apply",
    bindings: &[Binding::index("state"), Binding::input("x"), Binding::output("y")],
    params: DropoutParams::LAYOUT,
    cpu: Twin {
        f32: |args| apply(args, drop_dispatched),
        f64: |args| apply(args, |_, p, state, at, v| drop(p, state, at, v)),
    },
    workgroups: &[|p| spans(p.get::<DropoutParams>().n)],
    cuda: Cuda::new(SPAN / 4, |p| spans(p.get::<DropoutParams>().n)),
    cost: |p: &Params| {
        let n = p.get::<DropoutParams>().n as usize;
        Cost::new(n, 2 * n + 3)
    },
};

/// Drops from `v`, the elements from `at`, a multiple of 4.
#[inline(always)]
fn drop<F: Real>(p: &DropoutParams, state: &[u32], at: usize, v: &mut [F]) {
    const L: usize = 16;
    let scale = F::of(f64::from(p.scale));
    for (group, v) in v.chunks_mut(4 * L).enumerate() {
        let first = (at / 4 + L * group) as u32;
        let counter =
            [std::array::from_fn(|l| first.wrapping_add(l as u32)), [state[2]; L], [p.stream; L], [0; L]];
        let words = philox::<L>(counter, [state[0], state[1]]);
        for (l, v) in v.chunks_mut(4).enumerate() {
            for (v, word) in v.iter_mut().zip(&words) {
                *v = if word[l] >= p.threshold { scale * *v } else { F::zero() };
            }
        }
    }
}

/// Plain Rust, compiled once for each instruction set.
#[expect(clippy::extra_unused_type_parameters, reason = "the set, for `dispatch!`")]
#[inline(always)]
unsafe fn drop_body<V: F32x16>(p: &DropoutParams, state: &[u32], at: usize, v: &mut [f32]) {
    drop(p, state, at, v);
}

dispatch! { pub(super) fn drop_dispatched(p: &DropoutParams, state: &[u32], at: usize, v: &mut [f32]) = drop_body }

/// Drops from a slice, whose first element's place is a multiple of 4.
type Drop<F> = fn(Simd, &DropoutParams, &[u32], usize, &mut [F]);

fn apply<F: Real>(args: Args<'_, F>, drop: Drop<F>) {
    let p: DropoutParams = args.params();
    let work = args.work;
    let [state, x, y] = args.bufs();
    let (state, x) = (state.index(), x.input());
    work.pieces(y.output(), PIECE, &|i, y| {
        y.copy_from_slice(&x[i * PIECE..i * PIECE + y.len()]);
        drop(work.simd, &p, state, i * PIECE, y);
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&APPLY];
