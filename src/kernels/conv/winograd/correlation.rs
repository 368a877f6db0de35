//! The convolution and the gradient of its input.

use super::plan::{Plan, Run, Side, panel, stride, vectors};
use super::planes::{Window, gather, scatter};
use super::points::{MOST, kernel_matrix};
use super::product::{DEPTH, PANEL, Product, product};
use super::transform::{Walk, input, output};
use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::conv::scratch::split;
use crate::kernels::conv::shared::Shared;
use crate::simd::{F32x16, LANES, Simd, fetch_to_write};
use std::ops::Range;

/// Terms of a product that take long enough for lines to be fetched meanwhile.
const FETCH: usize = 32;

/// A convolution or the gradient of its input.
pub struct Correlation {
    pub plan: Plan,
    /// Whether the kernel is turned around, and its channels exchanged.
    pub backward: bool,
}

/// What it reads and writes.
pub struct Data<'a> {
    pub source: &'a [f32],
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub out: Shared,
}

impl Correlation {
    /// Computes all of `data.out`.
    pub fn run(&self, data: &Data<'_>, work: Work) {
        let plan = &self.plan;
        let columns = panel(plan.to) * LANES;
        let len = vectors(plan.to) * LANES * plan.from * plan.points();
        with_scratch(len, |weights: &mut [f32]| {
            work.pieces(weights, columns * plan.from * plan.points(), &|panel, out| {
                transform_weights(work.simd, self, data.weight, panel, out);
            });
            let weights = &*weights;
            let lengths = self.scratch();
            let len = lengths.iter().map(|len| len.next_multiple_of(LANES)).sum();
            work.each(plan.blocks(), &|block| {
                with_scratch(len, |scratch| {
                    correlate(work.simd, self, data, work.simd, weights, block, scratch);
                });
            });
        });
    }

    /// Scratch of a block: two buffers between transforms, the source and a panel of results at every point.
    fn scratch(&self) -> [usize; 4] {
        let plan = &self.plan;
        let each = plan.points() * plan.block() * LANES;
        [plan.lines(), plan.lines(), each * stride(plan.from), each * PANEL]
    }
}

/// The convolution.
pub fn fwd(args: Args<'_, f32>, geometry: &Geometry, plan: Plan) {
    let work = args.work;
    let [x, w, b, y] = args.bufs();
    let bias = geometry.bias.then(|| b.input());
    let out = Shared(y.output().as_mut_ptr());
    let job = Correlation { plan, backward: false };
    job.run(&Data { source: x.input(), weight: w.input(), bias, out }, work);
}

/// The gradient of the input.
pub fn bwd_x(args: Args<'_, f32>, plan: Plan) {
    let work = args.work;
    let [dy, w, dx] = args.bufs();
    let out = Shared(dx.output().as_mut_ptr());
    let job = Correlation { plan, backward: true };
    job.run(&Data { source: dy.input(), weight: w.input(), bias: None, out }, work);
}

dispatch! {
    fn transform_weights(job: &Correlation, weight: &[f32], panel: usize, out: &mut [f32]) = transform_weights_body
}

/// A panel of weights at every point, `[point][source channel][result channel]`: computed in f64 and rounded once.
#[expect(clippy::extra_unused_type_parameters, reason = "the set that plain loops are compiled for")]
#[inline(always)]
unsafe fn transform_weights_body<V: F32x16>(
    job: &Correlation,
    weight: &[f32],
    number: usize,
    out: &mut [f32],
) {
    let plan = &job.plan;
    let [vertical, horizontal] = &plan.sides;
    let (rows, columns) =
        (kernel_matrix(vertical.points, vertical.taps), kernel_matrix(horizontal.points, horizontal.taps));
    let (first, taps) = (number * panel(plan.to) * LANES, plan.taps());
    let width = out.len() / (plan.points() * plan.from);
    // Rows of the kernel at the points of a row.
    let mut half = [[[0.0f64; LANES]; MOST]; MOST];
    for from in 0..plan.from {
        for at in (0..width).step_by(LANES) {
            let count = (plan.to - first - at).min(LANES);
            for (y, half) in half.iter_mut().enumerate().take(vertical.taps) {
                for x in 0..horizontal.taps {
                    let tap = y * horizontal.taps + x;
                    let mut g = [0.0f64; LANES];
                    for (lane, g) in g.iter_mut().enumerate().take(count) {
                        let to = first + at + lane;
                        let place = if job.backward {
                            (from * plan.to + to) * taps + taps - 1 - tap
                        } else {
                            (to * plan.from + from) * taps + tap
                        };
                        *g = f64::from(weight[place]);
                    }
                    for (half, factors) in half.iter_mut().zip(&columns).take(horizontal.points) {
                        for (half, g) in half.iter_mut().zip(&g) {
                            *half = factors[x] * g + if x == 0 { 0.0 } else { *half };
                        }
                    }
                }
            }
            for (p, factors) in rows.iter().enumerate().take(vertical.points) {
                for q in 0..horizontal.points {
                    let mut sum = [0.0f64; LANES];
                    for (half, factor) in half.iter().zip(factors).take(vertical.taps) {
                        for (sum, half) in sum.iter_mut().zip(&half[q]) {
                            *sum += factor * half;
                        }
                    }
                    let point = p * horizontal.points + q;
                    let out = &mut out[(point * plan.from + from) * width + at..][..LANES];
                    for (out, sum) in out.iter_mut().zip(&sum) {
                        *out = *sum as f32;
                    }
                }
            }
        }
    }
}

dispatch! {
    fn correlate(
        job: &Correlation, data: &Data<'_>, simd: Simd, weights: &[f32], block: usize, scratch: &mut [f32],
    ) = correlate_body
}

/// Computes the results of a block of tiles.
#[inline(always)]
unsafe fn correlate_body<V: F32x16>(
    job: &Correlation,
    data: &Data<'_>,
    simd: Simd,
    weights: &[f32],
    block: usize,
    scratch: &mut [f32],
) {
    let plan = &job.plan;
    let runs = plan.runs(block);
    let [lines, half, source, sums] = split(scratch, job.scratch());
    // SAFETY: the instruction set is there; scratch is as long as `Correlation::scratch` says.
    unsafe {
        // 1. The source at every point.
        let rows = transform_source::<V>(plan, data.source, simd, runs.clone(), [lines, half], source);
        for panel_first in (0..vectors(plan.to)).step_by(panel(plan.to)) {
            let columns = panel(plan.to).min(vectors(plan.to) - panel_first);
            // 2. A product for every point.
            let s = Product {
                rows,
                depth: plan.from,
                a_row: stride(plan.from) * LANES,
                a_k: 1,
                b_k: columns * LANES,
                c_row: PANEL * LANES,
                add: false,
            };
            let weights = &weights[panel_first * LANES * plan.from * plan.points()..];
            for point in 0..plan.points() {
                let from = &source[point * plan.block() * stride(plan.from) * LANES..];
                let weights = &weights[point * plan.from * columns * LANES..][..plan.from * columns * LANES];
                let to = &mut sums[point * plan.block() * PANEL * LANES..][..s.rows * PANEL * LANES];
                for k in (0..plan.from).step_by(DEPTH) {
                    let s = Product { depth: (plan.from - k).min(DEPTH), add: k > 0, ..s };
                    let weights = weights[k * s.b_k..].as_ptr();
                    product::<V>(&s, columns, from[k..].as_ptr(), weights, to.as_mut_ptr());
                }
                if plan.from >= FETCH {
                    fetch_results(job, data, runs.clone(), panel_first, columns, point);
                }
            }
            // 3. Back to positions.
            for column in 0..columns {
                let channels = panel_first + column;
                transform_back::<V>(
                    job,
                    data,
                    simd,
                    runs.clone(),
                    channels,
                    &sums[column * LANES..],
                    [lines, half],
                );
            }
        }
    }
}

/// Asks for a share of the lines that the results of a block's panel are going to be written to: they are far away, and the
/// products of a point leave memory idle.
#[inline(always)]
fn fetch_results(
    job: &Correlation,
    data: &Data<'_>,
    runs: Range<usize>,
    first: usize,
    columns: usize,
    point: usize,
) {
    let plan = &job.plan;
    let [vertical, horizontal] = plan.sides;
    let plane = vertical.result * horizontal.result;
    let channels = (plan.to - first * LANES).min(columns * LANES);
    let share = [point, point + 1].map(|p| first * LANES + channels * p / plan.points());
    for run in runs {
        let run = plan.run(run);
        let [row, column] = [run.tile[0] * vertical.outputs, run.tile[1] * horizontal.outputs];
        let rows = vertical.outputs.min(vertical.result - row);
        let width = (run.count * horizontal.outputs).min(horizontal.result - column);
        for channel in share[0]..share[1] {
            for row in row..row + rows {
                let at = (run.sample * plan.to + channel) * plane + row * horizontal.result + column;
                for i in (0..width + LANES - 1).step_by(LANES) {
                    fetch_to_write(data.out.0.wrapping_add(at + i.min(width - 1)));
                }
            }
        }
    }
}

/// Channels `[16 · number ..]` of a sample of `[batch, channels, …]`: where they start, and how many there are.
pub fn planes(plane: usize, channels: usize, sample: usize, number: usize) -> (usize, usize) {
    let first = number * LANES;
    ((sample * channels + first) * plane, (channels - first).min(LANES))
}

/// The tiles of `runs` of `source` at every point, `[point][tile][channel]`; how many there are.
///
/// # Safety
/// The instruction set is there; buffers are as long as [`Plan::lines`] and the block say.
#[inline(always)]
pub unsafe fn transform_source<V: F32x16>(
    plan: &Plan,
    source: &[f32],
    simd: Simd,
    runs: Range<usize>,
    [lines, half]: [&mut [f32]; 2],
    out: &mut [f32],
) -> usize {
    let mut tiles = 0;
    let [vertical, horizontal] = plan.sides;
    let plane = [vertical.source, horizontal.source];
    let (next, step) = (stride(plan.from), plan.block() * stride(plan.from));
    for number in 0..vectors(plan.from) {
        tiles = 0;
        for run in runs.clone() {
            let run = plan.run(run);
            let at = |side: &Side, i: usize| (run.tile[i] * side.outputs) as isize + side.start;
            let columns = horizontal.span(run.count);
            let (start, channels) = planes(plane[0] * plane[1], plan.from, run.sample, number);
            let window = Window {
                plane,
                channels,
                start: [at(&vertical, 0), at(&horizontal, 1)],
                size: [vertical.points, columns],
            };
            gather(simd, &source[start..], &window, lines);
            let to = out[(tiles * next + number) * LANES..].as_mut_ptr();
            // SAFETY: the rectangle holds every position that the run's tiles see, `out` every tile.
            unsafe {
                let (from, to_rows) = (lines.as_ptr(), Walk { step: step * horizontal.points, next });
                let between = Walk { step: columns, next: 1 };
                match (vertical.points, horizontal.points) {
                    (1, points) => {
                        rows_of::<V>(points, &run, horizontal.outputs, from, to, Walk { step, next })
                    }
                    (points, 1) => input::<V>(points, columns, from, between, to, to_rows),
                    (points, across) => {
                        input::<V>(points, columns, from, between, half.as_mut_ptr(), between);
                        for row in 0..points {
                            let from = half.as_ptr().add(row * columns * LANES);
                            let to = to.add(row * across * step * LANES);
                            rows_of::<V>(across, &run, horizontal.outputs, from, to, Walk { step, next });
                        }
                    }
                }
            }
            tiles += run.count;
        }
    }
    tiles
}

/// A row of a run's tiles at every point.
///
/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn rows_of<V: F32x16>(
    points: usize,
    run: &Run,
    outputs: usize,
    from: *const f32,
    to: *mut f32,
    write: Walk,
) {
    // SAFETY: the caller's promise.
    unsafe { input::<V>(points, run.count, from, Walk { step: 1, next: outputs }, to, write) }
}

/// The results of sixteen channels on the tiles of `runs`, and the bias, from `sums` `[point][tile][panel]`.
///
/// # Safety
/// As [`transform_source`].
#[inline(always)]
unsafe fn transform_back<V: F32x16>(
    job: &Correlation,
    data: &Data<'_>,
    simd: Simd,
    runs: Range<usize>,
    number: usize,
    sums: &[f32],
    [lines, half]: [&mut [f32]; 2],
) {
    let plan = &job.plan;
    let [vertical, horizontal] = plan.sides;
    let plane = [vertical.result, horizontal.result];
    let (read, next) = (plan.block() * PANEL, PANEL);
    let mut tiles = 0;
    for run in runs {
        let run = plan.run(run);
        let columns = run.count * horizontal.outputs;
        let from = sums[tiles * next * LANES..].as_ptr();
        let to = lines.as_mut_ptr();
        let schemes = plan.sides.map(|s| [s.points, s.outputs]);
        let between = Walk { step: columns, next: 1 };
        let (across, along) = (Walk { step: read, next }, Walk { step: 1, next: horizontal.outputs });
        // SAFETY: `sums` holds every tile's products, `lines` and `half` the run's results.
        unsafe {
            match (vertical.points, horizontal.points) {
                (1, _) => output::<V>(schemes[1], run.count, from, across, to, along),
                (_, 1) => output::<V>(schemes[0], columns, from, across, to, between),
                (points, across_points) => {
                    for row in 0..points {
                        let from = from.add(row * across_points * read * LANES);
                        let to = half.as_mut_ptr().add(row * columns * LANES);
                        output::<V>(schemes[1], run.count, from, across, to, along);
                    }
                    output::<V>(schemes[0], columns, half.as_ptr(), between, to, between);
                }
            }
            let (start, channels) = planes(plane[0] * plane[1], plan.to, run.sample, number);
            if let Some(bias) = data.bias {
                let mut padded = [0.0; LANES];
                padded[..channels].copy_from_slice(&bias[number * LANES..][..channels]);
                let bias = V::load(padded.as_ptr());
                for v in lines[..vertical.outputs * columns * LANES].chunks_exact_mut(LANES) {
                    V::load(v.as_ptr()).add(bias).store(v.as_mut_ptr());
                }
            }
            let window = Window {
                plane,
                channels,
                start: [run.tile[0] * vertical.outputs, run.tile[1] * horizontal.outputs].map(|v| v as isize),
                size: [vertical.outputs, columns],
            };
            scatter(simd, lines, &window, data.out.0.wrapping_add(start));
        }
        tiles += run.count;
    }
}
