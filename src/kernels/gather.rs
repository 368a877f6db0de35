//! Batches cut out of data that stays on the device; a step uploads nothing but indices.
//!
//! `gather_window`: `data [total]`, `rows [B, 4]` = (offset, length L, start, window), `shift [B]`, `x`:
//!
//! ```text
//! s = start + ⌊(2t + 1)·window / 2T⌋          nearest of `window` frames at T columns; a copy where they are equal
//! x[b, c, t] = data[offset + c·L + s]          0 where s ≥ L or beyond `total`
//!            + shift[b]                        where that is not 0 and c < shift_channels
//! ```
//!
//! `x` is `[B, C, T]`, or lane-blocked `[⌈B/16⌉, C, T, 16]` with lanes beyond B 0 (see [`GatherWindowParams::blocked`]).
//! With window = q·2T + r the quotient is (2t + 1)·q + ⌊(2t + 1)·r / 2T⌋, which stays within u32 as
//! T ≤ [`MAX_COLUMNS`]; `start` and `offset + c·L` must be compared without wrapping.
//!
//! `gather_rows`: `table [S, width]`, `indices [B]`, `y [B, width]`; a row beyond the table reads as 0.
//!
//! Threads: a block owns some columns of sixteen samples, or elements in a row. Cost: no flops worth counting; output written
//! once, as much read.

use crate::kernel::{Args, Binding, Cost, Cuda, Kernel, Params, Real, SPAN, Twin, params, spans};

params! {
    /// Params of `gather_window`.
    pub struct GatherWindowParams {
        /// Rows of the batch, B.
        pub batch: u32,
        /// Channels, C.
        pub channels: u32,
        /// Columns, T.
        pub columns: u32,
        /// Elements of `data`.
        pub total: u32,
        /// Channels that `shift` is added to.
        pub shift_channels: u32,
        /// 1 for `[⌈B/16⌉, C, T, 16]` with element (b, c, t) at `((⌊b/16⌋·C + c)·T + t)·16 + b mod 16`,
        /// 0 for `[B, C, T]`.
        pub blocked: u32,
    }
}

impl GatherWindowParams {
    /// Samples of the output, those that fill up its last block too.
    fn lanes(&self) -> u32 {
        if self.blocked != 0 { self.batch.next_multiple_of(LANES as u32) } else { self.batch }
    }
}

/// Most columns: (2T − 1)² fits a u32.
pub const MAX_COLUMNS: usize = 1 << 15;

/// Samples of a lane block.
pub const LANES: usize = 16;

/// Columns that a CUDA block cuts out of [`LANES`] samples, and its threads.
const COLUMNS: u32 = 64;
const BLOCK: u32 = 256;

/// Windows of rows, resampled, shifted and laid out.
pub static WINDOW: Kernel = Kernel {
    name: "gather_window",
    bindings: &[
        Binding::input("data"),
        Binding::index("rows"),
        Binding::input("shift"),
        Binding::output("x"),
    ],
    params: GatherWindowParams::LAYOUT,
    cpu: Twin { f32: |args| window(args, turn_f32), f64: |args| window(args, turn) },
    workgroups: &[|p| {
        let p: GatherWindowParams = p.get();
        spans(p.lanes() * p.channels * p.columns)
    }],
    cuda: Cuda::new(BLOCK, |p| {
        let p: GatherWindowParams = p.get();
        [p.batch.div_ceil(LANES as u32) * p.channels * p.columns.div_ceil(COLUMNS), 1, 1]
    }),
    cost: |p: &Params| {
        let p: GatherWindowParams = p.get();
        let lanes = p.lanes();
        let column = p.channels as usize * p.columns as usize;
        Cost::new(p.batch as usize * column, (p.batch + lanes) as usize * column)
    },
};

/// Walks one channel of one row column by column.
#[derive(Clone, Copy)]
struct Cursor<'a, F> {
    /// The channel, as much of it as there is.
    frames: &'a [F],
    start: usize,
    window: u64,
    /// Next column.
    t: u64,
    columns: u64,
    /// ⌈2⁶⁴ / 2T⌉, to divide by 2T: exact below 2⁴⁸, as 2T ≤ 2¹⁶.
    reciprocal: u64,
    shift: F,
}

impl<'a, F: Real> Cursor<'a, F> {
    fn new(data: &'a [F], row: &[u32], shift: F, channel: usize, columns: usize) -> Self {
        let [offset, len, start, window] = [0, 1, 2, 3].map(|i| row[i] as usize);
        let from = channel.saturating_mul(len).saturating_add(offset).min(data.len());
        let to = from.saturating_add(len).min(data.len());
        let (columns, window) = (columns as u64, window as u64);
        let reciprocal = u64::MAX / (2 * columns) + 1;
        Self { frames: &data[from..to], start, window, t: 0, columns, reciprocal, shift }
    }

    /// A lane with nothing in it.
    fn empty() -> Self {
        Self { frames: &[], start: 0, window: 1, t: 0, columns: 1, reciprocal: 0, shift: F::zero() }
    }

    /// The next columns.
    fn take(&mut self, out: &mut [F]) {
        let at = self.start.saturating_add(self.t as usize);
        if self.window != self.columns {
            let mut scaled = (2 * self.t + 1) * self.window;
            for out in out.iter_mut() {
                let nearest = (u128::from(scaled) * u128::from(self.reciprocal)) >> 64;
                let at = self.start.saturating_add(nearest as usize);
                *out = self.frames.get(at).copied().unwrap_or(F::zero());
                scaled += 2 * self.window;
            }
        } else {
            let frames = self.frames.get(at..).unwrap_or(&[]);
            if let (Some(from), Ok(to)) = (frames.first_chunk(), <&mut [F; LANES]>::try_from(&mut *out)) {
                // A move of known size, not a call.
                *to = *from;
            } else {
                let n = frames.len().min(out.len());
                out[..n].copy_from_slice(&frames[..n]);
                out[n..].fill(F::zero());
            }
        }
        self.t += out.len() as u64;
        if self.shift != F::zero() {
            let shifted = |v| if v == F::zero() { v } else { v + self.shift };
            match <&mut [F; LANES]>::try_from(&mut *out) {
                Ok(out) => *out = out.map(shifted),
                Err(_) => out.iter_mut().for_each(|v| *v = shifted(*v)),
            }
        }
    }
}

/// Writes the columns of `tile` one after another: a transpose, by blocks of 4 × 4 that fit registers.
fn turn<F: Real>(tile: &[[F; LANES]; LANES], x: &mut [F; LANES * LANES]) {
    for t in (0..LANES).step_by(4) {
        for l in (0..LANES).step_by(4) {
            let row = |i: usize| -> [F; 4] { std::array::from_fn(|j| tile[l + i][t + j]) };
            let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
            for j in 0..4 {
                x[(t + j) * LANES + l..][..4].copy_from_slice(&[a[j], b[j], c[j], d[j]]);
            }
        }
    }
}

/// Writes one channel of a lane block: sixteen columns of each lane, row by row, then turned.
fn write_lanes<F: Real>(lanes: &mut [Cursor<'_, F>; LANES], x: &mut [F], turn: Turn<F>) {
    let mut tile = [[F::zero(); LANES]; LANES];
    for x in x.chunks_mut(LANES * LANES) {
        let width = x.len() / LANES;
        for (lane, row) in lanes.iter_mut().zip(&mut tile) {
            lane.take(&mut row[..width]);
        }
        if let Ok(x) = x.try_into() {
            turn(&tile, x);
            continue;
        }
        for (t, x) in x.chunks_exact_mut(LANES).enumerate() {
            for (x, row) in x.iter_mut().zip(&tile) {
                *x = row[t];
            }
        }
    }
}

/// As [`turn`]; the compiler does not find these shuffles by itself.
#[cfg(target_arch = "x86_64")]
fn turn_f32(tile: &[[f32; LANES]; LANES], x: &mut [f32; LANES * LANES]) {
    use std::arch::x86_64::{_MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_storeu_ps};
    for t in (0..LANES).step_by(4) {
        for l in (0..LANES).step_by(4) {
            // SAFETY: every x86-64 has SSE; rows and columns l..l+4, t..t+4 are below 16.
            unsafe {
                let row = |i: usize| _mm_loadu_ps(tile.as_ptr().add(l + i).cast::<f32>().add(t));
                let [mut a, mut b, mut c, mut d] = [row(0), row(1), row(2), row(3)];
                _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
                for (j, v) in [a, b, c, d].into_iter().enumerate() {
                    _mm_storeu_ps(x.as_mut_ptr().add((t + j) * LANES + l), v);
                }
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
use turn as turn_f32;

/// Sixteen columns of sixteen lanes, turned.
type Turn<F> = fn(&[[F; LANES]; LANES], &mut [F; LANES * LANES]);

fn window<F: Real>(args: Args<'_, F>, turn: Turn<F>) {
    let p: GatherWindowParams = args.params();
    let [batch, channels, columns] = [p.batch, p.channels, p.columns].map(|n| n as usize);
    let work = args.work;
    let [data, rows, shift, x] = args.bufs();
    let (data, rows, shift) = (data.input(), rows.index(), shift.input());
    let cursor = |b: usize, c: usize| {
        if b >= batch {
            return Cursor::empty();
        }
        let shift = if c < p.shift_channels as usize { shift[b] } else { F::zero() };
        Cursor::new(data, &rows[4 * b..], shift, c, columns)
    };
    if p.blocked == 0 {
        work.pieces(x.output(), channels * columns, &|b, x| {
            for (c, x) in x.chunks_exact_mut(columns).enumerate() {
                cursor(b, c).take(x);
            }
        });
        return;
    }
    work.pieces(x.output(), channels * columns * LANES, &|block, x| {
        for (c, x) in x.chunks_exact_mut(columns * LANES).enumerate() {
            let mut lanes = std::array::from_fn(|l| cursor(block * LANES + l, c));
            write_lanes(&mut lanes, x, turn);
        }
    });
}

params! {
    /// Params of `gather_rows`.
    pub struct GatherRowsParams {
        /// Rows of the batch, B.
        pub batch: u32,
        /// Elements of a row.
        pub width: u32,
        /// Rows of the table, S.
        pub table: u32,
    }
}

/// `y[b] = table[indices[b]]`.
pub static ROWS: Kernel = Kernel {
    name: "gather_rows",
    bindings: &[Binding::input("table"), Binding::index("indices"), Binding::output("y")],
    params: GatherRowsParams::LAYOUT,
    cpu: Twin { f32: rows, f64: rows },
    workgroups: &[|p| {
        let p: GatherRowsParams = p.get();
        spans(p.batch * p.width)
    }],
    cuda: Cuda::new(SPAN / 4, |p| {
        let p: GatherRowsParams = p.get();
        spans(p.batch * p.width)
    }),
    cost: |p: &Params| {
        let p: GatherRowsParams = p.get();
        Cost::new(0, (2 * p.width as usize + 1) * p.batch as usize)
    },
};

fn rows<F: Real>(args: Args<'_, F>) {
    let p: GatherRowsParams = args.params();
    let width = p.width as usize;
    let [table, indices, y] = args.bufs();
    let table = table.input();
    for (y, &row) in y.output().chunks_exact_mut(width).zip(indices.index()) {
        if row < p.table {
            y.copy_from_slice(&table[row as usize * width..][..width]);
        } else {
            y.fill(F::zero());
        }
    }
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&WINDOW, &ROWS];
