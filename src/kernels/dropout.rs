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

use super::elementwise::PIECE;
use super::{Binding, Cost, Kernel, Params};
use crate::device::cpu::{Args, CpuTwin, Real};
use bytemuck::{Pod, Zeroable};

/// Params of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct P {
    /// Elements.
    pub n: u32,
    /// ⌊p·2³²⌋ for the probability p to drop.
    pub threshold: u32,
    /// 1/(1 − p).
    pub scale: f32,
    /// Which of a step's masks this is.
    pub stream: u32,
}

/// Ten rounds of Philox4x32: four random words for a counter under a key.
///
/// J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
pub fn philox4x32([mut a, mut b, mut c, mut d]: [u32; 4], [mut key0, mut key1]: [u32; 2]) -> [u32; 4] {
    let multiply = |x: u32, by: u32| {
        let wide = u64::from(x) * u64::from(by);
        ((wide >> 32) as u32, wide as u32)
    };
    for _ in 0..10 {
        let (high0, low0) = multiply(a, 0xD251_1F53);
        let (high1, low1) = multiply(c, 0xCD9E_8D57);
        (a, b, c, d) = (high1 ^ b ^ key0, low1, high0 ^ d ^ key1, low0);
        // Weyl sequences: the golden ratio and √3 − 1.
        key0 = key0.wrapping_add(0x9E37_79B9);
        key1 = key1.wrapping_add(0xBB67_AE85);
    }
    [a, b, c, d]
}

/// `y = mask·scale·x`; forward and backward alike.
pub static APPLY: Kernel = Kernel {
    name: "dropout_apply",
    bindings: &[Binding::index("state"), Binding::input("x"), Binding::output("y")],
    cpu: CpuTwin { f32: apply, f64: apply },
    cost: |p: &Params| {
        let n = p.get::<P>().n as usize;
        Cost::new(n, 2 * n + 3)
    },
};

fn apply<F: Real>(args: Args<'_, F>) {
    let p: P = args.params();
    let scale = F::of(f64::from(p.scale));
    let work = args.work;
    let [state, x, y] = args.bufs();
    let (state, x) = (state.index(), x.input());
    work.pieces(y.output(), PIECE, |i, y| {
        for (quad, y) in y.chunks_mut(4).enumerate() {
            let at = i * PIECE + 4 * quad;
            let words = philox4x32([(at / 4) as u32, state[2], p.stream, 0], [state[0], state[1]]);
            for ((y, &x), word) in y.iter_mut().zip(&x[at..]).zip(words) {
                *y = if word >= p.threshold { scale * x } else { F::zero() };
            }
        }
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&APPLY];
