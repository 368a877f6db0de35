//! The convolution and the gradient of its input: the same [`Correlation`], [`Pass`] by pass.

use super::lanes::{Window, gather, scatter};
use super::pass::{Pass, Phase};
use super::tiling::Tiling;
use crate::dispatch;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::conv::microkernel::{BLOCK, Rows, conv_rows, pack_weights};
use crate::kernels::conv::oracle;
use crate::kernels::conv::scratch::{apart, scratch_len, split};
use crate::kernels::conv::shared::Shared;
use crate::simd::{F32x16, LANES, Simd};

/// A convolution or the gradient of its input, cut into tiles.
struct Correlation<'a> {
    geometry: &'a Geometry,
    passes: [Pass; 2],
    /// Whether the passes are [`Pass::backward`].
    backward: bool,
    tiling: Tiling,
    /// Source and destination channels of a group.
    from: usize,
    to: usize,
    /// Rows and columns of a channel of either.
    planes: [[usize; 2]; 2],
}

/// What a [`Correlation`] reads and writes.
struct Data<'a> {
    source: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    out: Shared,
}

impl<'a> Correlation<'a> {
    fn forward(geometry: &'a Geometry) -> Self {
        let (from, to) = (geometry.cin, geometry.cout);
        let passes = geometry.axes.map(Pass::forward);
        let tiling = Tiling::best(geometry.batch, &passes, from, to, 0);
        Self { geometry, passes, backward: false, tiling, from, to, planes: geometry.planes() }
    }

    fn backward(geometry: &'a Geometry) -> Self {
        let (from, to) = (geometry.cout, geometry.cin);
        let passes = geometry.axes.map(Pass::backward);
        let tiling = Tiling::best(geometry.batch, &passes, from, to, 0);
        let [input, output] = geometry.planes();
        Self { geometry, passes, backward: true, tiling, from, to, planes: [output, input] }
    }

    fn phase(&self, axis: usize, residue: usize) -> Phase {
        let pass = &self.passes[axis];
        if self.backward { pass.backward_phase(residue) } else { pass.forward_phase() }
    }

    /// Every pair of phases, vertical and horizontal: residues and taps.
    fn phases(&self) -> impl Iterator<Item = ([usize; 2], [Phase; 2])> {
        let [rows, columns] = [self.passes[0].to_step, self.passes[1].to_step];
        (0..rows).flat_map(move |y| {
            let vertical = self.phase(0, y);
            (0..columns).map(move |x| ([y, x], [vertical, self.phase(1, x)]))
        })
    }

    /// Weights of a group, in all its phases.
    fn weights(&self) -> usize {
        self.geometry.cout * self.geometry.terms()
    }

    /// Orders `w` `[cout, cin/groups, kh, kw]` by group, phase and, in it, as [`pack_weights`].
    fn pack(&self, w: &[f32], packed: &mut [f32]) {
        let [height, width] = self.geometry.axes.map(|a| a.kernel);
        for (group, packed) in packed.chunks_exact_mut(self.weights()).enumerate() {
            let w = &w[group * self.weights()..];
            let mut at = 0;
            for (_, [vertical, horizontal]) in self.phases() {
                let terms = vertical.taps * self.from * horizontal.taps;
                pack_weights(&mut packed[at..at + self.to * terms], self.to, terms, |to, term| {
                    let (line, tap) = (term / horizontal.taps, term % horizontal.taps);
                    let (tap_y, from) = (line / self.from, line % self.from);
                    let (co, ci) = if self.backward { (from, to) } else { (to, from) };
                    let line = (co * self.geometry.cin + ci) * height + vertical.kernel(tap_y);
                    w[line * width + horizontal.kernel(tap)]
                });
                at += self.to * terms;
            }
        }
    }

    /// Scratch of a task: a row of zeros, a row nobody reads, the source and a block of results.
    fn scratch(&self) -> [usize; 4] {
        let row = self.tiling.span[1].max(self.result()[1]);
        let [rows, columns] = self.result();
        let block = apart(rows.saturating_mul(columns)).saturating_mul(self.to.min(BLOCK) * LANES);
        [row, row, self.tiling.source_len(self.from), block]
    }

    /// Rows and columns of a tile's destination.
    fn result(&self) -> [usize; 2] {
        [0, 1].map(|a| self.tiling.units[a] * self.passes[a].to_step)
    }

    /// How the source lies in scratch.
    fn order(&self) -> Order {
        let (rows, tap_step) = (self.tiling.span[0], self.passes[0].tap_step);
        let line = apart(self.tiling.span[1]) * LANES;
        Order {
            line,
            row: self.from * line,
            tap_step,
            per_residue: rows.div_ceil(tap_step),
            full: rows % tap_step,
        }
    }

    /// Where the lanes' tiles lie in the source, all channels of `group`.
    fn source_window(&self, group: usize) -> Window {
        let [y, x] = &self.passes;
        Window {
            plane: self.planes[0],
            channels: self.geometry.groups * self.from,
            first: group * self.from,
            count: self.from,
            size: self.tiling.span,
            step: [y.from_step, x.from_step],
            start: [y.from_start, x.from_start],
        }
    }

    /// Where they lie in the destination, `count` channels from `first` on.
    fn result_window(&self, first: usize, count: usize) -> Window {
        let [y, x] = &self.passes;
        Window {
            plane: self.planes[1],
            channels: self.geometry.groups * self.to,
            first,
            count,
            size: self.result(),
            step: [y.to_step, x.to_step],
            start: [y.to_start, x.to_start],
        }
    }
}

/// How rows of the source lie in scratch: those that are a tap apart next to each other, so that vertical taps and channels
/// are one sequence of equal steps.
struct Order {
    /// Floats from one channel to the next, and from one row to the next.
    line: usize,
    row: usize,
    tap_step: usize,
    /// Rows of a residue modulo `tap_step`, and how many residues have as many; 0 when all have.
    per_residue: usize,
    full: usize,
}

impl Order {
    /// Where a row starts.
    #[inline(always)]
    fn at(&self, row: usize) -> usize {
        let (residue, nth) = (row % self.tap_step, row / self.tap_step);
        // The last residues may lack their last row: without gaps, rows before them are counted.
        let lacking = if self.full == 0 { 0 } else { residue.saturating_sub(self.full) };
        (residue * self.per_residue - lacking + nth) * self.row
    }
}

dispatch! {
    fn correlate(
        job: &Correlation<'_>, data: &Data<'_>, instructions: Simd, packed: &[f32], task: usize, scratch: &mut [f32],
    ) = correlate_body
}

/// Computes the destination of sixteen tiles of one group.
#[inline(always)]
unsafe fn correlate_body<V: F32x16>(
    job: &Correlation<'_>,
    data: &Data<'_>,
    instructions: Simd,
    packed: &[f32],
    task: usize,
    scratch: &mut [f32],
) {
    let (group, batch) = (task / job.tiling.batches(), task % job.tiling.batches());
    let lanes = job.tiling.lanes(batch);
    let packed = &packed[group * job.weights()..][..job.weights()];
    let [zeros, unread, source, tile] = split(scratch, job.scratch());
    zeros.fill(0.0);
    // 1. Transpose the source.
    let (window, order) = (job.source_window(group), job.order());
    gather(instructions, data.source, &window, &lanes, zeros, source, |row, c| {
        order.at(row) + c * order.line
    });
    let [rows, columns] = job.result();
    let plane = apart(rows * columns) * LANES;
    // A register tile of channels is computed before it is written back.
    for first in (0..job.to).step_by(BLOCK) {
        let count = (job.to - first).min(BLOCK);
        // SAFETY: the instruction set is there; scratch is as long as `Correlation::scratch` says.
        unsafe {
            // 2. Multiply.
            multiply::<V>(job, &order, packed, [first, count], source, tile, plane);
            // 3. Add the bias and transpose back.
            let first = group * job.to + first;
            if let Some(bias) = data.bias {
                add_bias::<V>(&bias[first..][..count], tile, plane);
            }
            let window = job.result_window(first, count);
            scatter(instructions, tile, plane, &window, &lanes, unread, &data.out);
        }
    }
}

/// Multiplies phase by phase and row by row: `count` channels of the results, from `first` of the group on.
///
/// # Safety
/// The instruction set is there; `source` and `tile` are as long as [`Correlation::scratch`] says.
#[inline(always)]
unsafe fn multiply<V: F32x16>(
    job: &Correlation<'_>,
    order: &Order,
    packed: &[f32],
    [first, count]: [usize; 2],
    source: &[f32],
    tile: &mut [f32],
    plane: usize,
) {
    let [y, x] = &job.passes;
    let columns = job.result()[1];
    let mut at = 0;
    for (residue, [vertical, horizontal]) in job.phases() {
        let terms = vertical.taps * job.from * horizontal.taps;
        let weights = &packed[at + first * terms..][..count * terms];
        at += job.to * terms;
        let rows = Rows {
            channels: vertical.taps * job.from,
            taps: horizontal.taps,
            in_c: order.line,
            in_k: (x.tap_step * LANES) as isize,
            in_t: x.from_step * LANES,
            out_channels: count,
            out_c: plane,
            out_t: x.to_step * LANES,
            positions: job.tiling.units[1],
        };
        for unit in 0..job.tiling.units[0] {
            let from = &source[order.at(unit * y.from_step + vertical.first) + horizontal.first * LANES..];
            let row = unit * y.to_step + residue[0];
            let to = &mut tile[(row * columns + residue[1]) * LANES..];
            debug_assert!(
                terms == 0
                    || (rows.channels - 1) * rows.in_c
                        + (horizontal.taps - 1) * x.tap_step * LANES
                        + (rows.positions - 1) * rows.in_t
                        + LANES
                        <= from.len()
            );
            // SAFETY: `span` holds every position that every phase sees, `tile` every result.
            unsafe { conv_rows::<V>(&rows, weights, from.as_ptr(), to.as_mut_ptr()) };
        }
    }
}

/// Adds a channel's bias to its plane of results.
///
/// # Safety
/// As every method of [`F32x16`]: the instruction set must be there.
#[inline(always)]
unsafe fn add_bias<V: F32x16>(bias: &[f32], tile: &mut [f32], plane: usize) {
    for (values, &b) in tile.chunks_exact_mut(plane).zip(bias) {
        for v in values.chunks_exact_mut(LANES) {
            // SAFETY: sixteen elements.
            unsafe { V::load(v.as_ptr()).add(V::splat(b)).store(v.as_mut_ptr()) };
        }
    }
}

/// The convolution; the plain loops where tiles do not fit.
pub fn fwd(args: Args<'_, f32>, geometry: &Geometry) {
    let job = Correlation::forward(geometry);
    let Some(len) = scratch_len(&job.scratch()) else { return oracle::fwd(args, geometry) };
    let work = args.work;
    let [x, w, b, y] = args.bufs();
    let bias = geometry.bias.then(|| b.input());
    let out = Shared(y.output().as_mut_ptr());
    run(&job, &Data { source: x.input(), weight: w.input(), bias, out }, work, len);
}

/// The gradient of the input; the plain loops where tiles do not fit.
pub fn bwd_x(args: Args<'_, f32>, geometry: &Geometry) {
    let job = Correlation::backward(geometry);
    let Some(len) = scratch_len(&job.scratch()) else { return oracle::bwd_x(args, geometry) };
    let work = args.work;
    let [dy, w, dx] = args.bufs();
    let out = Shared(dx.output().as_mut_ptr());
    run(&job, &Data { source: dy.input(), weight: w.input(), bias: None, out }, work, len);
}

fn run(job: &Correlation<'_>, data: &Data<'_>, work: Work, scratch: usize) {
    with_scratch(data.weight.len(), |packed: &mut [f32]| {
        job.pack(data.weight, packed);
        let packed = &*packed;
        work.each(job.geometry.groups * job.tiling.batches(), &|task| {
            with_scratch(scratch, |scratch| {
                correlate(work.simd, job, data, work.simd, packed, task, scratch);
            });
        });
    });
}
