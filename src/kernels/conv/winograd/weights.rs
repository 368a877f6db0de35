//! The gradient of the weight.
//!
//! At every point it is a matrix product over tiles; blocks of them are summed in runs, and a second pass adds the runs in order
//! and brings the sums from points back to taps: the transpose of the kernel's transform.

use super::correlation::{planes, transform_source};
use super::plan::{Plan, panel, stride, vectors};
use super::planes::{Window, gather};
use super::points::{MOST, kernel_matrix};
use super::product::{Product, product};
use super::transform::{Walk, gradient};
use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::conv::scratch::split;
use crate::simd::{F32x16, LANES, Simd};
use std::ops::Range;

/// Tiles of a run at least: reading and adding its sums costs about as much as twenty.
const RUN: usize = 384;
/// Runs at most: their shares are all in memory until they are added.
const RUNS: usize = 16;
/// Floats of all shares, but for a single one: 64 MiB.
const SHARES: usize = 16 * 1024 * 1024;

/// The gradient of the weight.
pub fn bwd_w(args: Args<'_, f32>, plan: Plan) {
    let work = args.work;
    let [x, dy, _, dw] = args.bufs();
    Weights::new(plan).compute(x.input(), dy.input(), dw.output(), work);
}

/// The gradient of the weight, by the plan of the forward correlation.
pub struct Weights {
    plan: Plan,
    /// Blocks of a run.
    run: usize,
}

impl Weights {
    pub fn new(plan: Plan) -> Self {
        let share = plan.points() * plan.to * vectors(plan.from) * LANES;
        let runs = (SHARES / share).clamp(1, RUNS);
        let run = RUN.div_ceil(plan.block()).max(plan.blocks().div_ceil(runs));
        Self { plan, run }
    }

    fn runs(&self) -> usize {
        self.plan.blocks().div_ceil(self.run)
    }

    /// Scratch of a run: two buffers between transforms, the source and the gradient at every point.
    fn scratch(&self) -> [usize; 4] {
        let plan = &self.plan;
        let each = plan.points() * plan.block() * LANES;
        [plan.lines(), plan.lines(), each * stride(plan.from), each * stride(plan.to)]
    }

    /// Computes all of `dw`.
    pub fn compute(&self, x: &[f32], dy: &[f32], dw: &mut [f32], work: Work) {
        let plan = &self.plan;
        let share = plan.points() * plan.to * vectors(plan.from) * LANES;
        let len = self.scratch().iter().map(|len| len.next_multiple_of(LANES)).sum();
        with_scratch(share * self.runs(), |shares: &mut [f32]| {
            work.pieces(shares, share, &|run, sums| {
                with_scratch(len, |scratch| sum_run(work.simd, self, x, dy, work.simd, run, scratch, sums));
            });
            let shares = &*shares;
            work.pieces(dw, plan.from * plan.taps(), &|to, dw| {
                to_taps(work.simd, plan, shares, share, to, dw)
            });
        });
    }
}

dispatch! {
    fn sum_run(
        job: &Weights, x: &[f32], dy: &[f32], simd: Simd, run: usize, scratch: &mut [f32], sums: &mut [f32],
    ) = sum_run_body
}

/// The products of a run's tiles, `[point][result channel][source channel]`.
#[inline(always)]
unsafe fn sum_run_body<V: F32x16>(
    job: &Weights,
    x: &[f32],
    dy: &[f32],
    simd: Simd,
    run: usize,
    scratch: &mut [f32],
    sums: &mut [f32],
) {
    let plan = &job.plan;
    let [lines, half, source, other] = split(scratch, job.scratch());
    let columns = vectors(plan.from);
    for block in run * job.run..((run + 1) * job.run).min(plan.blocks()) {
        let runs = plan.runs(block);
        // SAFETY: the instruction set is there; scratch is as long as `Weights::scratch` says.
        unsafe {
            let tiles = transform_source::<V>(plan, x, simd, runs.clone(), [&mut *lines, &mut *half], source);
            transform_gradient::<V>(plan, dy, simd, runs, [&mut *lines, &mut *half], other);
            let s = Product {
                rows: plan.to,
                depth: tiles,
                a_row: 1,
                a_k: stride(plan.to) * LANES,
                b_k: stride(plan.from) * LANES,
                c_row: columns * LANES,
                add: block > run * job.run,
            };
            for point in 0..plan.points() {
                let a = other[point * plan.block() * s.a_k..].as_ptr();
                let b = source[point * plan.block() * s.b_k..].as_ptr();
                let c = sums[point * plan.to * s.c_row..][..plan.to * s.c_row].as_mut_ptr();
                for at in (0..columns).step_by(panel(plan.from)) {
                    let count = panel(plan.from).min(columns - at);
                    product::<V>(&s, count, a, b.add(at * LANES), c.add(at * LANES));
                }
            }
        }
    }
}

/// The tiles of `runs` of the output's gradient at every point, `[point][tile][channel]`.
///
/// # Safety
/// As [`transform_source`].
#[inline(always)]
unsafe fn transform_gradient<V: F32x16>(
    plan: &Plan,
    dy: &[f32],
    simd: Simd,
    runs: Range<usize>,
    [lines, half]: [&mut [f32]; 2],
    out: &mut [f32],
) {
    let [vertical, horizontal] = plan.sides;
    let plane = [vertical.result, horizontal.result];
    let (next, step) = (stride(plan.to), plan.block() * stride(plan.to));
    let schemes = plan.sides.map(|s| [s.points, s.outputs]);
    for number in 0..vectors(plan.to) {
        let mut tiles = 0;
        for run in runs.clone() {
            let run = plan.run(run);
            let columns = run.count * horizontal.outputs;
            let (start, channels) = planes(plane[0] * plane[1], plan.to, run.sample, number);
            let window = Window {
                plane,
                channels,
                start: [run.tile[0] * vertical.outputs, run.tile[1] * horizontal.outputs].map(|v| v as isize),
                size: [vertical.outputs, columns],
            };
            gather(simd, &dy[start..], &window, lines);
            let to = out[(tiles * next + number) * LANES..].as_mut_ptr();
            // SAFETY: the rectangle holds the run's tiles, `out` every tile.
            unsafe {
                let from = lines.as_ptr();
                let between = Walk { step: columns, next: 1 };
                let along = Walk { step: 1, next: horizontal.outputs };
                match (vertical.points, horizontal.points) {
                    (1, _) => gradient::<V>(schemes[1], run.count, from, along, to, Walk { step, next }),
                    (_, 1) => gradient::<V>(schemes[0], columns, from, between, to, Walk { step, next }),
                    (points, across) => {
                        gradient::<V>(schemes[0], columns, from, between, half.as_mut_ptr(), between);
                        for row in 0..points {
                            let from = half.as_ptr().add(row * columns * LANES);
                            let to = to.add(row * across * step * LANES);
                            gradient::<V>(schemes[1], run.count, from, along, to, Walk { step, next });
                        }
                    }
                }
            }
            tiles += run.count;
        }
    }
}

dispatch! {
    fn to_taps(plan: &Plan, shares: &[f32], share: usize, to: usize, dw: &mut [f32]) = to_taps_body
}

/// The gradient of an output channel's weights, `[source channel][tap]`: sums and transform in f64, rounded once.
#[expect(clippy::extra_unused_type_parameters, reason = "the set that plain loops are compiled for")]
#[inline(always)]
unsafe fn to_taps_body<V: F32x16>(plan: &Plan, shares: &[f32], share: usize, to: usize, dw: &mut [f32]) {
    let [vertical, horizontal] = &plan.sides;
    let rows = kernel_matrix(vertical.points, vertical.taps);
    let columns = kernel_matrix(horizontal.points, horizontal.taps);
    let (width, taps) = (vectors(plan.from) * LANES, plan.taps());
    // Columns of taps, and a row of points.
    let mut sums = [[[0.0f64; LANES]; MOST]; MOST];
    let mut row = [[0.0f64; LANES]; MOST];
    for at in (0..width).step_by(LANES) {
        for (p, factors_down) in rows.iter().enumerate().take(vertical.points) {
            for (q, row) in row.iter_mut().enumerate().take(horizontal.points) {
                let place = ((p * horizontal.points + q) * plan.to + to) * width + at;
                let mut sum = [0.0f64; LANES];
                for share in shares.chunks_exact(share) {
                    for (sum, &v) in sum.iter_mut().zip(&share[place..][..LANES]) {
                        *sum += f64::from(v);
                    }
                }
                *row = sum;
            }
            for x in 0..horizontal.taps {
                let mut sum = [0.0f64; LANES];
                for (row, factors) in row.iter().zip(&columns).take(horizontal.points) {
                    for (sum, row) in sum.iter_mut().zip(row) {
                        *sum += factors[x] * row;
                    }
                }
                for (sums, factor) in sums.iter_mut().zip(factors_down).take(vertical.taps) {
                    for (out, sum) in sums[x].iter_mut().zip(&sum) {
                        *out = factor * sum + if p == 0 { 0.0 } else { *out };
                    }
                }
            }
        }
        for (lane, dw) in dw[at * taps..].chunks_exact_mut(taps).take(LANES).enumerate() {
            for (tap, dw) in dw.iter_mut().enumerate() {
                *dw = sums[tap / horizontal.taps][tap % horizontal.taps][lane] as f32;
            }
        }
    }
}
