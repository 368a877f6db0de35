//! Means over time.
//!
//! Shapes: `x [B, C, T]`, `y [B, C]`, `lengths [B]`: of a masked row only frames before
//! `min(length, T)` count, and a row of length 0 has mean 0 and gradient 0.
//!
//! Threads: forward, one warp, less for short rows, owns one `y`, its lanes striding over time (in WGSL
//! 32 threads do); backward, one thread owns four neighbours of `dx`. Sums are two-level in a fixed order: sixteen strided
//! partial sums in each block of [`BLOCK`] frames, then the blocks in order (in f64 on the CPU).
//!
//! Cost: one flop and one read an element forward, one flop and one write backward.

use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, PIECE, Params, Real, SPAN, Twin, params, spans};

params! {
    /// Params of every kernel here.
    pub struct PoolParams {
        /// Rows of the batch, B.
        pub batch: u32,
        /// Channels, C.
        pub channels: u32,
        /// Frames, T.
        pub frames: u32,
    }
}

/// Terms that are added in the device's own precision.
pub const BLOCK: usize = 256;

/// `Σ f(i)` over `0..n`, in f64 over blocks; `block(from, to)` adds up one of them.
fn blocks<F: Real>(n: usize, block: impl Fn(usize, usize) -> F) -> f64 {
    (0..n).step_by(BLOCK).fold(0.0, |sum, from| sum + block(from, n.min(from + BLOCK)).get())
}

/// Adds sixteen partial sums, halves onto each other.
fn fold<F: Real>(mut acc: [F; 16]) -> F {
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            let other = acc[l + half];
            acc[l] += other;
        }
    }
    acc[0]
}

/// `Σ f(x)`.
pub(super) fn sum<F: Real>(x: &[F], f: impl Fn(F) -> F) -> f64 {
    blocks(x.len(), |from, to| {
        let (lanes, rest) = x[from..to].as_chunks::<16>();
        let tail = rest.iter().fold(F::zero(), |s, &x| s + f(x));
        if lanes.is_empty() {
            return tail;
        }
        let mut acc = [F::zero(); 16];
        for x in lanes {
            for l in 0..16 {
                acc[l] += f(x[l]);
            }
        }
        fold(acc) + tail
    })
}

/// `Σ f(a, b)` over two slices of one length.
pub(super) fn sum2<F: Real>(a: &[F], b: &[F], f: impl Fn(F, F) -> F) -> f64 {
    blocks(a.len().min(b.len()), |from, to| {
        let ((a, a_rest), (b, b_rest)) = (a[from..to].as_chunks::<16>(), b[from..to].as_chunks::<16>());
        let tail = a_rest.iter().zip(b_rest).fold(F::zero(), |s, (&a, &b)| s + f(a, b));
        if a.is_empty() {
            return tail;
        }
        let mut acc = [F::zero(); 16];
        for (a, b) in a.iter().zip(b) {
            for l in 0..16 {
                acc[l] += f(a[l], b[l]);
            }
        }
        fold(acc) + tail
    })
}

impl PoolParams {
    fn elements(&self) -> u32 {
        self.batch * self.channels * self.frames
    }
}

/// Workgroups of eight rows.
fn row_groups(p: &Params) -> [u32; 3] {
    let p: PoolParams = p.get();
    [(p.batch * p.channels).div_ceil(8), 1, 1]
}

/// Threads of a CUDA block.
const THREADS: u32 = 256;

/// Longest row that a warp sums alone; longer ones get a block.
const WARP_FRAMES: u32 = 4096;

/// Threads of a CUDA block that share a row: each reads four elements or more.
fn lanes(frames: u32) -> u32 {
    if frames > WARP_FRAMES { THREADS } else { 1 << (frames / 4).clamp(1, 32).ilog2() }
}

const CUDA_FWD: Cuda = Cuda::new(THREADS, |p| {
    let p: PoolParams = p.get();
    [(p.batch * p.channels).div_ceil(THREADS / lanes(p.frames)), 1, 1]
});

const CUDA_BWD: Cuda = Cuda::new(SPAN / 4, |p| spans(p.get::<PoolParams>().elements()));

fn cost(p: &Params) -> Cost {
    let p: PoolParams = p.get();
    let rows = p.batch as usize * p.channels as usize;
    Cost::new(rows * p.frames as usize, rows * (p.frames as usize + 1))
}

/// `y[b, c] = Σ_t x[b, c, t] / T`.
pub static MEAN_FWD: Kernel = Kernel {
    name: "pool_mean_fwd",
    bindings: &[Binding::input("x"), Binding::output("y")],
    params: PoolParams::LAYOUT,
    cpu: Twin { f32: mean_fwd, f64: mean_fwd },
    workgroups: &[row_groups],
    cuda: CUDA_FWD,
    cost,
};

fn mean_fwd<F: Real>(args: Args<'_, F>) {
    let p: PoolParams = args.params();
    let work = args.work;
    let [x, y] = args.bufs();
    fwd(work, p, x.input(), y.output(), |_| p.frames as usize);
}

/// `y[b, c] = Σ_{t < n} x[b, c, t] / n` with `n = min(lengths[b], T)`.
pub static MASKED_FWD: Kernel = Kernel {
    name: "pool_masked_fwd",
    bindings: &[Binding::input("x"), Binding::index("lengths"), Binding::output("y")],
    params: PoolParams::LAYOUT,
    cpu: Twin { f32: masked_fwd, f64: masked_fwd },
    workgroups: &[row_groups],
    cuda: CUDA_FWD,
    cost,
};

fn masked_fwd<F: Real>(args: Args<'_, F>) {
    let p: PoolParams = args.params();
    let work = args.work;
    let [x, lengths, y] = args.bufs();
    let lengths = lengths.index();
    fwd(work, p, x.input(), y.output(), |b| lengths[b].min(p.frames) as usize);
}

/// Rows of `frames` elements that a thread takes at once.
fn rows(p: PoolParams) -> usize {
    (PIECE / (p.frames as usize).max(1)).max(1)
}

fn fwd<F: Real>(
    work: crate::kernel::Work,
    p: PoolParams,
    x: &[F],
    y: &mut [F],
    length: impl Fn(usize) -> usize + Sync + Send,
) {
    work.pieces(y, rows(p), |piece, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let row = piece * rows(p) + i;
            let n = length(row / p.channels as usize);
            let total = sum(&x[row * p.frames as usize..][..n], |x| x);
            *y = F::of(total / n.max(1) as f64);
        }
    });
}

/// `dx[b, c, t] = dy[b, c] / T`.
pub static MEAN_BWD: Kernel = Kernel {
    name: "pool_mean_bwd",
    bindings: &[Binding::input("dy"), Binding::output("dx")],
    params: PoolParams::LAYOUT,
    cpu: Twin { f32: mean_bwd, f64: mean_bwd },
    workgroups: &[|p| spans(p.get::<PoolParams>().elements())],
    cuda: CUDA_BWD,
    cost,
};

fn mean_bwd<F: Real>(args: Args<'_, F>) {
    let p: PoolParams = args.params();
    let work = args.work;
    let [dy, dx] = args.bufs();
    bwd(work, p, dy.input(), dx.output(), |_| p.frames as usize);
}

/// `dx[b, c, t] = dy[b, c] / n` where `t < n = min(lengths[b], T)`, else 0.
pub static MASKED_BWD: Kernel = Kernel {
    name: "pool_masked_bwd",
    bindings: &[Binding::index("lengths"), Binding::input("dy"), Binding::output("dx")],
    params: PoolParams::LAYOUT,
    cpu: Twin { f32: masked_bwd, f64: masked_bwd },
    workgroups: &[|p| spans(p.get::<PoolParams>().elements())],
    cuda: CUDA_BWD,
    cost,
};

fn masked_bwd<F: Real>(args: Args<'_, F>) {
    let p: PoolParams = args.params();
    let work = args.work;
    let [lengths, dy, dx] = args.bufs();
    let lengths = lengths.index();
    bwd(work, p, dy.input(), dx.output(), |b| lengths[b].min(p.frames) as usize);
}

fn bwd<F: Real>(
    work: crate::kernel::Work,
    p: PoolParams,
    dy: &[F],
    dx: &mut [F],
    length: impl Fn(usize) -> usize + Sync + Send,
) {
    let frames = p.frames as usize;
    work.pieces(dx, rows(p) * frames, |piece, dx| {
        for (i, dx) in dx.chunks_exact_mut(frames).enumerate() {
            let row = piece * rows(p) + i;
            let n = length(row / p.channels as usize);
            dx[..n].fill(dy[row] / F::of(n.max(1) as f64));
            dx[n..].fill(F::zero());
        }
    });
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&MEAN_FWD, &MEAN_BWD, &MASKED_FWD, &MASKED_BWD];
