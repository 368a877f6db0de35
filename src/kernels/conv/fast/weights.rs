//! The gradient of the weight.
//!
//! It keeps sixteen sums of each weight, one a lane, over a run of tiles; a second pass adds the runs in order.

use super::lanes::{Window, gather};
use super::pass::Pass;
use super::tiling::Tiling;
use crate::dispatch;
use crate::kernel::{Args, with_scratch};
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::conv::microkernel::{BLOCK, WeightRows, sum_lanes, weight_rows};
use crate::kernels::conv::oracle;
use crate::kernels::conv::scratch::{apart, scratch_len, split};
use crate::simd::{F32x16, LANES, Simd};

/// Floats of lane sums of a block of output channels: 1.5 MiB.
const SUMS: usize = 384 * 1024;
/// Positions of a run at least: folding lanes costs about as much as ten positions.
const RUN: usize = 256;
/// Runs at most: their shares are all in memory until they are added.
const RUNS: usize = 16;

/// The gradient of the weight, cut into runs of tiles and blocks of output channels.
struct Weights<'a> {
    geometry: &'a Geometry,
    passes: [Pass; 2],
    tiling: Tiling,
    /// Batches of tiles in a run.
    run: usize,
    /// Output channels in a block.
    block: usize,
}

impl<'a> Weights<'a> {
    fn new(geometry: &'a Geometry) -> Self {
        let passes = geometry.axes.map(Pass::forward);
        let terms = geometry.terms();
        // Every sixteen tiles read and write all sums once: as much as ten positions' work.
        let fixed = 10 * geometry.cout * terms;
        let tiling = Tiling::best(geometry.batch, &passes, geometry.cin, geometry.cout, fixed);
        let batch_positions = tiling.units[0] * tiling.units[1];
        let run = RUN.div_ceil(batch_positions).max(tiling.batches().div_ceil(RUNS));
        // Whole register tiles of sums that are still near: more blocks would transpose `x` more often.
        let block = (SUMS / terms.saturating_mul(LANES).max(1) / BLOCK).max(1) * BLOCK;
        Self { geometry, passes, tiling, run, block: block.min(geometry.cout) }
    }

    fn runs(&self) -> usize {
        self.tiling.batches().div_ceil(self.run)
    }
    fn blocks(&self) -> usize {
        self.geometry.cout.div_ceil(self.block)
    }
    /// Scratch of a task: a row of zeros, `x`, `dy` and the sums.
    fn scratch(&self) -> [usize; 4] {
        let [rows, columns] = self.tiling.units;
        let dy = apart(rows.saturating_mul(columns)).saturating_mul(self.block * LANES);
        let sums = (self.block * LANES).saturating_mul(self.geometry.terms());
        [self.tiling.span[1].max(columns), self.tiling.source_len(self.geometry.cin), dy, sums]
    }

    /// Where the lanes' tiles lie in `x`, all channels of `group`.
    fn source_window(&self, group: usize) -> Window {
        let Geometry { groups, cin, .. } = *self.geometry;
        let [y, x] = &self.passes;
        Window {
            plane: self.geometry.planes()[0],
            channels: groups * cin,
            first: group * cin,
            count: cin,
            size: self.tiling.span,
            step: [y.from_step, x.from_step],
            start: [y.from_start, x.from_start],
        }
    }

    /// Where they lie in `dy`, `count` channels from `first` on.
    fn gradient_window(&self, first: usize, count: usize) -> Window {
        Window {
            plane: self.geometry.planes()[1],
            channels: self.geometry.channels(),
            first,
            count,
            size: self.tiling.units,
            step: [1, 1],
            start: [0, 0],
        }
    }
}

dispatch! {
    fn weights(
        job: &Weights<'_>, x: &[f32], dy: &[f32], instructions: Simd, task: usize, scratch: &mut [f32], out: &mut [f32],
    ) = weights_body
}

/// Computes one run's share of the gradients of a block of output channels: `out` `[block, terms]`.
#[inline(always)]
unsafe fn weights_body<V: F32x16>(
    job: &Weights<'_>,
    x: &[f32],
    dy: &[f32],
    instructions: Simd,
    task: usize,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let Geometry { cin, cout, axes: [vertical, horizontal], .. } = *job.geometry;
    let (group, task) = (task / (job.blocks() * job.runs()), task % (job.blocks() * job.runs()));
    let (first, run) = (task / job.runs() * job.block, task % job.runs());
    let count = (cout - first).min(job.block);
    let terms = job.geometry.terms();
    let [zeros, source, gradient, sums] = split(scratch, job.scratch());
    let sums = &mut sums[..count * terms * LANES];
    zeros.fill(0.0);
    sums.fill(0.0);

    let [rows, columns] = job.tiling.units;
    let plane = apart(rows * columns) * LANES;
    let line = apart(job.tiling.span[1]) * LANES;
    let row_at = |row: usize| row * cin * line;
    let (from, to) = (job.source_window(group), job.gradient_window(group * cout + first, count));
    let share = cin * horizontal.kernel;
    let each = WeightRows {
        channels: cin,
        taps: horizontal.kernel,
        in_c: line,
        in_k: horizontal.dilation * LANES,
        in_t: horizontal.stride * LANES,
        out_channels: count,
        dy_c: plane,
        dy_t: LANES,
        positions: columns,
        rows,
        in_row: row_at(vertical.stride),
        dy_row: columns * LANES,
    };
    for batch in run * job.run..((run + 1) * job.run).min(job.tiling.batches()) {
        let lanes = job.tiling.lanes(batch);
        gather(instructions, x, &from, &lanes, zeros, source, |row, c| row_at(row) + c * line);
        gather(instructions, dy, &to, &lanes, zeros, gradient, |row, c| c * plane + row * columns * LANES);
        // Rows of the kernel have sums of their own: any dilation is an address.
        for (tap, sums) in sums.chunks_exact_mut(count * share * LANES).enumerate() {
            let x = &source[row_at(tap * vertical.dilation)..];
            debug_assert!(
                (rows - 1) * each.in_row
                    + (cin - 1) * line
                    + (each.taps - 1) * each.in_k
                    + (columns - 1) * each.in_t
                    + LANES
                    <= x.len()
            );
            // SAFETY: `span` holds every position that every tap sees.
            unsafe { weight_rows::<V>(&each, x.as_ptr(), gradient.as_ptr(), sums) };
        }
    }
    for (tap, sums) in sums.chunks_exact(count * share * LANES).enumerate() {
        // SAFETY: the instruction set is there.
        unsafe {
            sum_lanes::<V>(sums, count, share, |c, term, sum| {
                let (channel, column) = (term / horizontal.kernel, term % horizontal.kernel);
                out[c * terms + (channel * vertical.kernel + tap) * horizontal.kernel + column] = sum;
            });
        }
    }
}

/// The gradient of the weight; the plain loops where tiles do not fit.
pub fn bwd_w(args: Args<'_, f32>, geometry: &Geometry) {
    let job = Weights::new(geometry);
    let Some(len) = scratch_len(&job.scratch()) else { return oracle::bwd_w(args, geometry) };
    let work = args.work;
    let [x, dy, _, dw] = args.bufs();
    let (x, dy, dw) = (x.input(), dy.input(), dw.output());
    let terms = geometry.terms();
    // Each task's share has a place of its own, as long as a full block's.
    let share = job.block * terms;
    let tasks = geometry.groups * job.blocks() * job.runs();
    with_scratch(share * tasks, |shares: &mut [f32]| {
        work.pieces(shares, share, &|task, out| {
            with_scratch(len, |scratch| weights(work.simd, &job, x, dy, work.simd, task, scratch, out));
        });
        let shares = &*shares;
        work.pieces(dw, terms, &|channel, dw| {
            let (group, channel) = (channel / geometry.cout, channel % geometry.cout);
            let block = (group * job.blocks() + channel / job.block) * job.runs();
            let place = |run: usize| (block + run) * share + channel % job.block * terms;
            dw.copy_from_slice(&shares[place(0)..][..terms]);
            for run in 1..job.runs() {
                for (dw, &v) in dw.iter_mut().zip(&shares[place(run)..]) {
                    *dw += v;
                }
            }
        });
    });
}
