//! Multiply-adds on registers alone: what a device does at most, the ceiling of the roofline.
//!
//! Shapes: `x`, `y` have `n` elements. A thread owns one, and sixteen numbers, each of which depends on itself from one
//! multiply-add to the next: enough to hide a multiply-add's latency, few enough for registers.

use crate::kernel::{Args, Binding, Cost, Cuda, Elem, Kernel, PIECE, Real, Twin, params};

params! {
    /// Params of every kernel here.
    pub struct CeilingParams {
        /// Elements.
        pub n: u32,
        /// Rounds of four multiply-adds on each of the sixteen numbers.
        pub rounds: u32,
    }
}

/// Numbers of an element.
const NUMBERS: usize = 16;
/// Multiply-adds of a number in a round.
const UNROLLED: usize = 4;
/// Threads of a workgroup, of a block.
const THREADS: u32 = 256;

/// `y = Σ v_k` over sixteen numbers, after `4·rounds` times `v_k ← x·v_k + 1/8` from `v_k = k/16`.
pub static FMA: Kernel = fma("ceiling_fma", &bindings(Elem::Real));
/// [`FMA`] in half precision: here the arithmetic is f16 too, but for the last sum.
pub static FMA_F16: Kernel = fma("ceiling_fma_f16", &bindings(Elem::F16));

const fn bindings(stored: Elem) -> [Binding; 2] {
    [Binding::stored("x", stored), Binding::output("y")]
}

const fn fma(name: &'static str, bindings: &'static [Binding; 2]) -> Kernel {
    Kernel {
        name,
        bindings,
        params: CeilingParams::LAYOUT,
        cpu: Twin { f32: chains, f64: chains },
        workgroups: &[|p| [p.get::<CeilingParams>().n.div_ceil(THREADS), 1, 1]],
        cuda: Cuda::new(THREADS, |p| [p.get::<CeilingParams>().n.div_ceil(THREADS), 1, 1]),
        cost: |p| {
            let CeilingParams { n, rounds } = p.get();
            Cost::new(2 * NUMBERS * UNROLLED * rounds as usize * n as usize, 2 * n as usize)
        },
    }
}

fn chains<F: Real>(args: Args<'_, F>) {
    let p: CeilingParams = args.params();
    let work = args.work;
    let [x, y] = args.bufs();
    let y = y.output();
    x.widened(|x| {
        work.pieces(y, PIECE, &|i, y| {
            for (y, &x) in y.iter_mut().zip(&x[i * PIECE..]) {
                let mut v: [F; NUMBERS] = std::array::from_fn(|k| F::of(k as f64 / NUMBERS as f64));
                for _ in 0..UNROLLED * p.rounds as usize {
                    v = v.map(|v| x * v + F::of(0.125));
                }
                *y = v.into_iter().fold(F::zero(), |sum, v| sum + v);
            }
        });
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FMA, &FMA_F16];
