//! The f32 twins of both convolutions: sixteen (sample, tile) pairs side by side.
//!
//! A tile is a rectangle of output positions of one sample. Sixteen of them, the lanes, are
//! transposed into scratch as `[row][channel][column][lane]` with the padding's zeros in place, so
//! that in the inner loops of [`microkernel`](super::microkernel) stride and dilation are only
//! addresses and nothing has an edge. Any batch fills the lanes: few samples are cut in more tiles.
//! What lanes compute beyond the output is not written back.
//!
//! The gradient of the input is a convolution too. The positions of `dx` that are congruent modulo
//! the stride see the same taps, a subset of the kernel in reverse order, and see `dy` with stride 1:
//! one [`Phase`] each. So forward and backward are the same [`Sweep`] with other numbers.
//!
//! The gradient of the weight keeps sixteen sums of each weight, one a lane, over a run of tiles;
//! a second pass adds the runs in order. How the work is cut depends on the shapes alone.

use super::microkernel::{Rows, WeightRows, conv_rows, pack_weights, sum_lanes};
use super::transpose::transpose16;
use crate::kernel::{Args, with_scratch};
use crate::simd::{F32x16, LANES, Simd};

/// One axis of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl Axis {
    /// The axis that a one-dimensional convolution lacks.
    pub const ONE: Self = Self { input: 1, output: 1, kernel: 1, stride: 1, padding: 0, dilation: 1 };
}

/// A convolution: rows, then columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub batch: usize,
    pub groups: usize,
    /// Input channels of a group.
    pub cin: usize,
    /// Output channels of a group.
    pub cout: usize,
    pub axes: [Axis; 2],
    pub bias: bool,
}

/// Output channels that are computed before they are written back.
const BLOCK: usize = 8;
/// Floats of scratch that stay in the second-level cache beside what streams by: 512 KiB.
const CACHED: usize = 128 * 1024;
/// Floats of lane sums of a block of output channels: 1.5 MiB.
const SUMS: usize = 384 * 1024;
/// Floats of scratch beyond which a shape is left to the plain loops: 64 MiB. Only taps or
/// padding that reach across hundreds of thousands of positions come here.
const SCRATCH: usize = 16 * 1024 * 1024;

/// One axis of a sweep: `units` steps, each from one source step to `to_step` destinations.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    /// Steps in all.
    units: usize,
    /// Source positions from one unit to the next.
    from_step: usize,
    /// Source positions that a unit sees, first to last.
    reach: usize,
    /// The first source position that unit 0 sees.
    from_start: isize,
    /// Destination positions of a unit; each is a phase of its own.
    to_step: usize,
    /// The first destination position of unit 0.
    to_start: isize,
    /// Source positions from one tap of a phase to the next.
    tap_step: usize,
    axis: Axis,
}

/// The taps that one destination position of each unit sees, in order of their source positions.
#[derive(Debug, Clone, Copy)]
struct Phase {
    taps: usize,
    /// Source position of the first tap, from the first that the unit sees.
    first: usize,
    /// The first tap's place in the kernel, and from each to the next.
    kernel_first: usize,
    kernel_step: isize,
}

impl Phase {
    fn kernel(&self, tap: usize) -> usize {
        self.kernel_first.wrapping_add_signed(self.kernel_step * tap as isize)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Sweep {
    /// From input to output: a unit is an output position.
    fn forward(axis: Axis) -> Self {
        Self {
            units: axis.output,
            from_step: axis.stride,
            reach: (axis.kernel - 1) * axis.dilation + 1,
            from_start: -(axis.padding as isize),
            to_step: 1,
            to_start: 0,
            tap_step: axis.dilation,
            axis,
        }
    }

    /// From the output's gradient to the input's: a unit is `stride` input positions, counted from
    /// where the padding starts. Tap `k` brings `dy[u − ⌊k·dilation/stride⌋]` to unit `u`'s position
    /// of phase `k·dilation mod stride`.
    fn backward(axis: Axis) -> Self {
        let first = axis.padding / axis.stride;
        let last = (axis.padding + axis.input - 1) / axis.stride;
        let furthest = (axis.kernel - 1) * axis.dilation / axis.stride;
        Self {
            units: last - first + 1,
            from_step: 1,
            reach: furthest + 1,
            from_start: first as isize - furthest as isize,
            to_step: axis.stride,
            to_start: (first * axis.stride) as isize - axis.padding as isize,
            tap_step: axis.dilation / gcd(axis.stride, axis.dilation),
            axis,
        }
    }

    fn forward_phase(&self) -> Phase {
        Phase { taps: self.axis.kernel, first: 0, kernel_first: 0, kernel_step: 1 }
    }

    fn backward_phase(&self, residue: usize) -> Phase {
        let Axis { kernel, stride, dilation, .. } = self.axis;
        let step = stride / gcd(stride, dilation);
        match (0..kernel.min(step)).find(|k| k * dilation % stride == residue) {
            None => Phase { taps: 0, first: 0, kernel_first: 0, kernel_step: 0 },
            Some(k) => {
                let taps = (kernel - 1 - k) / step + 1;
                let last = k + (taps - 1) * step;
                Phase {
                    taps,
                    first: self.reach - 1 - last * dilation / stride,
                    kernel_first: last,
                    kernel_step: -(step as isize),
                }
            }
        }
    }

    /// Source positions that `n` units see.
    fn span(&self, n: usize) -> usize {
        (n - 1).saturating_mul(self.from_step).saturating_add(self.reach)
    }
}

/// Tile counts worth trying: all small ones, then four to an octave.
fn counts(units: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |n| Some(n + (n / 4).max(1))).take_while(move |&n| n <= units)
}

/// How the units of both axes are cut.
#[derive(Debug, Clone, Copy)]
struct Tiling {
    /// Units of a tile.
    units: [usize; 2],
    /// Tiles of a sample.
    count: [usize; 2],
    /// Rows and columns of source that a tile sees.
    span: [usize; 2],
    /// Tiles of all samples.
    tiles: usize,
}

impl Tiling {
    /// The cut with the least work, in vector operations: idle lanes, what neighbouring tiles both
    /// see and what does not fit the cache cost, and so does `fixed` for every sixteen tiles.
    fn best(batch: usize, sweeps: &[Sweep; 2], from: usize, to: usize, fixed: usize) -> Self {
        let taps = sweeps[0].axis.kernel * sweeps[1].axis.kernel;
        let cut = |a: usize, count: usize| {
            let units = sweeps[a].units.div_ceil(count);
            (units, sweeps[a].units.div_ceil(units))
        };
        let mut best: Option<(usize, Self)> = None;
        for (rows, row_tiles) in counts(sweeps[0].units).map(|n| cut(0, n)) {
            for (columns, column_tiles) in counts(sweeps[1].units).map(|n| cut(1, n)) {
                let tiles = batch * row_tiles * column_tiles;
                let span = [sweeps[0].span(rows), sweeps[1].span(columns)];
                let source = from.saturating_mul(span[0].saturating_mul(span[1]));
                let result =
                    to.saturating_mul(rows * sweeps[0].to_step).saturating_mul(columns * sweeps[1].to_step);
                // A multiply-add is one; each row starts anew; transposition is several a vector.
                let multiply = (columns + 2).saturating_mul(rows * from * to).saturating_mul(taps);
                let slow = if source.saturating_mul(LANES) > CACHED { multiply / 4 } else { 0 };
                let work = source.saturating_add(result).saturating_mul(4);
                let work = work.saturating_add(multiply).saturating_add(slow).saturating_add(500 + fixed);
                let work = tiles.div_ceil(LANES).saturating_mul(work);
                if best.as_ref().is_none_or(|b| work < b.0) {
                    let count = [row_tiles, column_tiles];
                    best = Some((work, Self { units: [rows, columns], count, span, tiles }));
                }
            }
        }
        best.expect("an axis has at least one unit").1
    }

    /// Sixteen tiles are computed together.
    fn batches(&self) -> usize {
        self.tiles.div_ceil(LANES)
    }

    /// The lanes of batch `i`: sample and first unit on either axis of each that is in use.
    fn lanes(&self, i: usize) -> Lanes {
        let in_use = (self.tiles - i * LANES).min(LANES);
        let mut lanes = Lanes { in_use, sample: [0; LANES], unit: [[0; 2]; LANES] };
        let [rows, columns] = self.count;
        for lane in 0..in_use {
            let tile = i * LANES + lane;
            lanes.sample[lane] = tile / (rows * columns);
            lanes.unit[lane] = [tile / columns % rows * self.units[0], tile % columns * self.units[1]];
        }
        lanes
    }

    fn source_len(&self, channels: usize) -> usize {
        self.span[0].saturating_mul(apart(self.span[1])).saturating_mul(channels).saturating_mul(LANES)
    }
}

struct Lanes {
    in_use: usize,
    sample: [usize; LANES],
    unit: [[usize; 2]; LANES],
}

/// Where the lanes' rectangles of `[batch, channels, rows, columns]` lie.
struct Window {
    /// Rows and columns of a plane.
    plane: [usize; 2],
    /// Channels of a sample.
    channels: usize,
    /// The channels at hand.
    first: usize,
    count: usize,
    /// Rows and columns of each rectangle.
    size: [usize; 2],
    /// A unit's positions, and where unit 0 starts.
    step: [usize; 2],
    start: [isize; 2],
}

/// One row of all lanes: where column 0 would be, and the columns that exist.
struct Row {
    /// Offset in elements for channel `first`; may lie outside for columns that do not exist.
    base: [isize; LANES],
    /// Columns from..to exist; none where a row or lane does not.
    exist: [[usize; 2]; LANES],
    /// Whether the row exists in the lane at all.
    there: [bool; LANES],
    /// Columns that exist in every lane whose row exists.
    common: [usize; 2],
}

impl Window {
    fn row(&self, lanes: &Lanes, row: usize) -> Row {
        let [height, width] = self.plane;
        let columns = self.size[1];
        let mut out =
            Row { base: [0; LANES], exist: [[0; 2]; LANES], there: [false; LANES], common: [0, columns] };
        for lane in 0..lanes.in_use {
            let at = |a: usize| (lanes.unit[lane][a] * self.step[a]) as isize + self.start[a];
            let (y, x) = (at(0) + row as isize, at(1));
            if y < 0 || y >= height as isize {
                continue;
            }
            let from = (-x).clamp(0, columns as isize) as usize;
            let to = (width as isize - x).clamp(from as isize, columns as isize) as usize;
            let plane = (lanes.sample[lane] * self.channels + self.first) * height + y as usize;
            out.base[lane] = (plane * width) as isize + x;
            out.exist[lane] = [from, to];
            out.there[lane] = true;
            out.common = [out.common[0].max(from), out.common[1].min(to)];
        }
        out.common[1] = out.common[1].max(out.common[0]);
        out
    }
}

/// Copies the lanes' rectangles into `out`, lane by lane side by side, with zeros where nothing
/// exists; `at(row, channel)` is where a row goes. `zeros` is at least a row long.
fn gather(
    simd: Simd,
    source: &[f32],
    window: &Window,
    lanes: &Lanes,
    zeros: &[f32],
    out: &mut [f32],
    at: impl Fn(usize, usize) -> usize,
) {
    let columns = window.size[1];
    let plane = window.plane[0] * window.plane[1];
    for y in 0..window.size[0] {
        let row = window.row(lanes, y);
        let [from, to] = row.common;
        for c in 0..window.count {
            let out = &mut out[at(y, c)..][..columns * LANES];
            let base: [*const f32; LANES] = std::array::from_fn(|lane| {
                if row.there[lane] {
                    source.as_ptr().wrapping_offset(row.base[lane] + (c * plane) as isize)
                } else {
                    zeros.as_ptr()
                }
            });
            let mut edge = |column: usize| {
                for (lane, out) in out[column * LANES..][..LANES].iter_mut().enumerate() {
                    let [from, to] = row.exist[lane];
                    // SAFETY: the column exists in this lane: `Window::row` placed it in the plane.
                    *out = if from <= column && column < to {
                        unsafe { *base[lane].wrapping_add(column) }
                    } else {
                        0.0
                    };
                }
            };
            (0..from).for_each(&mut edge);
            (to..columns).for_each(&mut edge);
            if to - from < LANES {
                (from..to).for_each(&mut edge);
                continue;
            }
            for column in blocks(from, to) {
                let first = out[column * LANES..][..LANES * LANES].as_mut_ptr();
                // SAFETY: these sixteen columns exist in every lane, or are zeros; `out` holds them.
                unsafe {
                    transpose16(
                        simd,
                        &base.map(|p| p.wrapping_add(column)),
                        &std::array::from_fn(|i| first.add(i * LANES)),
                    );
                }
            }
        }
    }
}

/// Copies the lanes' rectangles, `[channel][row][column][lane]` with `tile_plane` floats from one
/// channel to the next, to where they exist in `out`.
/// `unread` is at least a row long.
fn scatter(
    simd: Simd,
    tile: &[f32],
    tile_plane: usize,
    window: &Window,
    lanes: &Lanes,
    unread: &mut [f32],
    out: &Shared,
) {
    let [rows, columns] = window.size;
    let plane = window.plane[0] * window.plane[1];
    let nowhere = unread.as_mut_ptr();
    for y in 0..rows {
        let row = window.row(lanes, y);
        let [from, to] = row.common;
        for c in 0..window.count {
            let tile = &tile[c * tile_plane + y * columns * LANES..][..columns * LANES];
            let base: [*mut f32; LANES] = std::array::from_fn(|lane| {
                if row.there[lane] {
                    out.0.wrapping_offset(row.base[lane] + (c * plane) as isize)
                } else {
                    nowhere
                }
            });
            let edge = |column: usize| {
                for (lane, &v) in tile[column * LANES..][..LANES].iter().enumerate() {
                    let [from, to] = row.exist[lane];
                    if from <= column && column < to {
                        // SAFETY: the column exists in this lane, and the lane is this task's own.
                        unsafe { *base[lane].wrapping_add(column) = v };
                    }
                }
            };
            (0..from).for_each(edge);
            (to..columns).for_each(edge);
            if to - from < LANES {
                (from..to).for_each(edge);
                continue;
            }
            for column in blocks(from, to) {
                let first = tile[column * LANES..][..LANES * LANES].as_ptr();
                // SAFETY: these sixteen columns exist in every lane, or go where nobody reads.
                unsafe {
                    transpose16(
                        simd,
                        &std::array::from_fn(|i| first.add(i * LANES)),
                        &base.map(|p| p.wrapping_add(column)),
                    );
                }
            }
        }
    }
}

/// First columns of blocks of sixteen that cover `from..to`; the last may lie over the one before.
fn blocks(from: usize, to: usize) -> impl Iterator<Item = usize> {
    (from..to).step_by(LANES).map(move |at| at.min(to - LANES))
}

/// An output that tasks write disjoint parts of.
struct Shared(*mut f32);

// SAFETY: tasks write the rectangles of their own lanes only; no two lanes share an element.
unsafe impl Sync for Shared {}

/// A convolution or the gradient of its input, cut into tiles.
struct Correlation<'a> {
    geometry: &'a Geometry,
    sweeps: [Sweep; 2],
    /// Whether the sweeps are [`Sweep::backward`].
    backward: bool,
    tiling: Tiling,
    /// Source and destination channels of a group.
    from: usize,
    to: usize,
    source: &'a [f32],
    planes: [[usize; 2]; 2],
    bias: Option<&'a [f32]>,
    out: Shared,
}

impl<'a> Correlation<'a> {
    fn phase(&self, axis: usize, residue: usize) -> Phase {
        let sweep = &self.sweeps[axis];
        if self.backward { sweep.backward_phase(residue) } else { sweep.forward_phase() }
    }

    /// Every pair of phases, vertical and horizontal: residues and taps.
    fn phases(&self) -> impl Iterator<Item = ([usize; 2], [Phase; 2])> {
        let [rows, columns] = [self.sweeps[0].to_step, self.sweeps[1].to_step];
        (0..rows).flat_map(move |y| {
            let vertical = self.phase(0, y);
            (0..columns).map(move |x| ([y, x], [vertical, self.phase(1, x)]))
        })
    }

    /// Weights of a group, in all its phases.
    fn weights(&self) -> usize {
        self.from * self.to * self.geometry.axes[0].kernel * self.geometry.axes[1].kernel
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
        [0, 1].map(|a| self.tiling.units[a] * self.sweeps[a].to_step)
    }
}

/// Computes the destination of sixteen tiles of one group.
#[inline(always)]
unsafe fn correlate<V: F32x16>(
    job: &Correlation<'_>,
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
    // 1. Transpose the source. Rows that are a tap apart come to lie next to each other, so that
    //    vertical taps and channels are one sequence of equal steps.
    let [y, x] = &job.sweeps;
    let span = job.tiling.span;
    let line = apart(span[1]) * LANES;
    let per_residue = span[0].div_ceil(y.tap_step);
    // The last residues may lack their last row: without gaps, rows before them are counted.
    let full = span[0] % y.tap_step;
    let row_at = |row: usize| {
        let (residue, nth) = (row % y.tap_step, row / y.tap_step);
        let lacking = if full == 0 { 0 } else { residue.saturating_sub(full) };
        (residue * per_residue - lacking + nth) * job.from * line
    };
    let from = Window {
        plane: job.planes[0],
        channels: job.geometry.groups * job.from,
        first: group * job.from,
        count: job.from,
        size: span,
        step: [y.from_step, x.from_step],
        start: [y.from_start, x.from_start],
    };
    gather(instructions, job.source, &from, &lanes, zeros, source, |row, c| row_at(row) + c * line);

    let [rows, columns] = job.result();
    let plane = apart(rows * columns) * LANES;
    for first in (0..job.to).step_by(BLOCK) {
        let count = (job.to - first).min(BLOCK);
        // 2. Multiply, phase by phase and row by row.
        let mut at = 0;
        for (residue, [vertical, horizontal]) in job.phases() {
            let terms = vertical.taps * job.from * horizontal.taps;
            let weights = &packed[at + first * terms..][..count * terms];
            at += job.to * terms;
            let sweep = Rows {
                channels: vertical.taps * job.from,
                taps: horizontal.taps,
                in_c: line,
                in_k: (x.tap_step * LANES) as isize,
                in_t: x.from_step * LANES,
                out_channels: count,
                out_c: plane,
                out_t: x.to_step * LANES,
                positions: job.tiling.units[1],
            };
            for unit in 0..job.tiling.units[0] {
                let from = &source[row_at(unit * y.from_step + vertical.first) + horizontal.first * LANES..];
                let row = unit * y.to_step + residue[0];
                let to = &mut tile[(row * columns + residue[1]) * LANES..];
                debug_assert!(
                    terms == 0
                        || (sweep.channels - 1) * line
                            + (horizontal.taps - 1) * x.tap_step * LANES
                            + (sweep.positions - 1) * sweep.in_t
                            + LANES
                            <= from.len()
                );
                // SAFETY: `span` holds every position that every phase sees, `tile` every result.
                unsafe { conv_rows::<V>(&sweep, weights, from.as_ptr(), to.as_mut_ptr()) };
            }
        }
        // 3. Add the bias and transpose back.
        let first = group * job.to + first;
        if let Some(bias) = job.bias {
            for (values, &b) in tile.chunks_exact_mut(plane).zip(&bias[first..][..count]) {
                for v in values.chunks_exact_mut(LANES) {
                    // SAFETY: sixteen elements.
                    unsafe { V::load(v.as_ptr()).add(V::splat(b)).store(v.as_mut_ptr()) };
                }
            }
        }
        let to = Window {
            plane: job.planes[1],
            channels: job.geometry.groups * job.to,
            first,
            count,
            size: [rows, columns],
            step: [y.to_step, x.to_step],
            start: [y.to_start, x.to_start],
        };
        scatter(instructions, tile, plane, &to, &lanes, unread, &job.out);
    }
}

crate::dispatch! {
    fn correlate_on(
        job: &Correlation<'_>, instructions: Simd, packed: &[f32], task: usize, scratch: &mut [f32],
    ) = correlate
}

/// Vectors from one row or plane of `n` to the next: an odd number, so that the rows a loop reads
/// together do not fall on the same few sets of the first-level cache.
fn apart(n: usize) -> usize {
    n | 1
}

/// Cuts `scratch` into parts of these lengths, each on a cache line of its own.
fn split<const N: usize>(mut scratch: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|len| {
        let (part, rest) = std::mem::take(&mut scratch).split_at_mut(len.next_multiple_of(LANES));
        scratch = rest;
        &mut part[..len]
    })
}

/// What [`split`] needs; `None` when it is beyond [`SCRATCH`].
fn scratch_len(lengths: &[usize]) -> Option<usize> {
    let sum = lengths.iter().fold(0usize, |sum, len| sum.saturating_add(len.saturating_add(LANES)));
    (sum <= SCRATCH).then_some(sum)
}

impl Geometry {
    fn planes(&self) -> [[usize; 2]; 2] {
        [self.axes.map(|a| a.input), self.axes.map(|a| a.output)]
    }
}

/// The convolution; `plain` where tiles do not fit.
pub(super) fn fwd(args: Args<'_, f32>, geometry: &Geometry, plain: fn(Args<'_, f32>)) {
    let sweeps = geometry.axes.map(Sweep::forward);
    let tiling = Tiling::best(geometry.batch, &sweeps, geometry.cin, geometry.cout, 0);
    let mut job = Correlation {
        geometry,
        sweeps,
        backward: false,
        tiling,
        from: geometry.cin,
        to: geometry.cout,
        source: &[],
        planes: geometry.planes(),
        bias: None,
        out: Shared(std::ptr::null_mut()),
    };
    let Some(len) = scratch_len(&job.scratch()) else { return plain(args) };
    let work = args.work;
    let [x, w, b, y] = args.bufs();
    (job.source, job.out) = (x.input(), Shared(y.output().as_mut_ptr()));
    job.bias = geometry.bias.then(|| b.input());
    run(&job, work, w.input(), len);
}

/// The gradient of the input; `plain` where tiles do not fit.
pub(super) fn bwd_x(args: Args<'_, f32>, geometry: &Geometry, plain: fn(Args<'_, f32>)) {
    let sweeps = geometry.axes.map(Sweep::backward);
    let tiling = Tiling::best(geometry.batch, &sweeps, geometry.cout, geometry.cin, 0);
    let [input, output] = geometry.planes();
    let mut job = Correlation {
        geometry,
        sweeps,
        backward: true,
        tiling,
        from: geometry.cout,
        to: geometry.cin,
        source: &[],
        planes: [output, input],
        bias: None,
        out: Shared(std::ptr::null_mut()),
    };
    let Some(len) = scratch_len(&job.scratch()) else { return plain(args) };
    let work = args.work;
    let [dy, w, dx] = args.bufs();
    (job.source, job.out) = (dy.input(), Shared(dx.output().as_mut_ptr()));
    run(&job, work, w.input(), len);
}

fn run(job: &Correlation<'_>, work: crate::kernel::Work, w: &[f32], scratch: usize) {
    with_scratch(w.len(), |packed: &mut [f32]| {
        job.pack(w, packed);
        let packed = &*packed;
        work.each(job.geometry.groups * job.tiling.batches(), |task| {
            with_scratch(scratch, |scratch| correlate_on(work.simd, job, work.simd, packed, task, scratch));
        });
    });
}

/// The gradient of the weight, cut into runs of tiles and blocks of output channels.
struct Weights<'a> {
    geometry: &'a Geometry,
    sweeps: [Sweep; 2],
    tiling: Tiling,
    /// Batches of tiles in a run.
    run: usize,
    /// Output channels in a block.
    block: usize,
    x: &'a [f32],
    dy: &'a [f32],
}

impl Weights<'_> {
    fn runs(&self) -> usize {
        self.tiling.batches().div_ceil(self.run)
    }
    fn blocks(&self) -> usize {
        self.geometry.cout.div_ceil(self.block)
    }
    /// Weights of an output channel.
    fn terms(&self) -> usize {
        self.geometry.cin * self.geometry.axes[0].kernel * self.geometry.axes[1].kernel
    }
    /// Scratch of a task: a row of zeros, `x`, `dy` and the sums.
    fn scratch(&self) -> [usize; 4] {
        let [rows, columns] = self.tiling.units;
        let dy = apart(rows.saturating_mul(columns)).saturating_mul(self.block * LANES);
        let sums = (self.block * LANES).saturating_mul(self.terms());
        [self.tiling.span[1].max(columns), self.tiling.source_len(self.geometry.cin), dy, sums]
    }
}

/// Rows of positions, and from one to the next in `x` and `dy`.
#[derive(Clone, Copy)]
struct Planes {
    rows: usize,
    in_row: usize,
    dy_row: usize,
}

/// [`weight_rows`](super::microkernel::weight_rows) over rows of positions: sums stay in registers
/// from row to row.
///
/// # Safety
/// `x` and `dy` are good for every address that `s` and `p` reach.
#[inline(always)]
unsafe fn weight_planes<V: F32x16>(
    s: &WeightRows,
    p: &Planes,
    x: *const f32,
    dy: *const f32,
    sums: &mut [f32],
) {
    let terms = s.channels * s.taps;
    assert!(sums.len() >= s.out_channels * terms * LANES);
    let mut first = 0;
    // Blocks of 8, 4, 2 and 1 channels, as `sum_lanes` expects them.
    while first < s.out_channels {
        let size = match s.out_channels - first {
            8.. => 8,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        // SAFETY: the block's sums and channels lie inside what was promised and checked.
        unsafe {
            let sums = sums.as_mut_ptr().add(first * terms * LANES);
            let dy = dy.add(first * s.dy_c);
            match (V::WIDE, size) {
                (true, 8) => terms_of::<V, 8, 3>(s, p, x, dy, sums, 8),
                (true, 4) => terms_of::<V, 4, 6>(s, p, x, dy, sums, 4),
                (true, 2) => terms_of::<V, 2, 8>(s, p, x, dy, sums, 2),
                (false, 2 | 4 | 8) => {
                    for c in (0..size).step_by(2) {
                        terms_of::<V, 2, 3>(s, p, x, dy.add(c * s.dy_c), sums.add(c * LANES), size);
                    }
                }
                _ => terms_of::<V, 1, 4>(s, p, x, dy, sums, 1),
            }
        }
        first += size;
    }
}

/// All terms of `C` output channels, `Q` at a time and then one by one.
#[inline(always)]
unsafe fn terms_of<V: F32x16, const C: usize, const Q: usize>(
    s: &WeightRows,
    p: &Planes,
    x: *const f32,
    dy: *const f32,
    sums: *mut f32,
    sums_q: usize,
) {
    let terms = s.channels * s.taps;
    let mut q = 0;
    // SAFETY: terms 0..terms only.
    unsafe {
        while q + Q <= terms {
            terms_tile::<V, C, Q>(s, p, x, dy, sums.add(q * sums_q * LANES), sums_q, q);
            q += Q;
        }
        while q < terms {
            terms_tile::<V, C, 1>(s, p, x, dy, sums.add(q * sums_q * LANES), sums_q, q);
            q += 1;
        }
    }
}

/// `C` channels by `Q` terms of sums in registers.
#[inline(always)]
unsafe fn terms_tile<V: F32x16, const C: usize, const Q: usize>(
    s: &WeightRows,
    p: &Planes,
    x: *const f32,
    dy: *const f32,
    sums: *mut f32,
    sums_q: usize,
    first: usize,
) {
    // SAFETY: as promised to `weight_planes`.
    unsafe {
        let mut from = [x; Q];
        for (i, from) in from.iter_mut().enumerate() {
            let (channel, tap) = ((first + i) / s.taps, (first + i) % s.taps);
            *from = x.add(channel * s.in_c + tap * s.in_k);
        }
        let mut acc = [[V::splat(0.0); Q]; C];
        for (c, acc) in acc.iter_mut().enumerate() {
            for (q, acc) in acc.iter_mut().enumerate() {
                *acc = V::load(sums.add((q * sums_q + c) * LANES));
            }
        }
        for row in 0..p.rows {
            let dy = dy.add(row * p.dy_row);
            for t in 0..s.positions {
                let mut xs = [V::splat(0.0); Q];
                for (v, from) in xs.iter_mut().zip(&from) {
                    *v = V::load(from.add(row * p.in_row + t * s.in_t));
                }
                for (c, acc) in acc.iter_mut().enumerate() {
                    let g = V::load(dy.add(c * s.dy_c + t * s.dy_t));
                    for (acc, &v) in acc.iter_mut().zip(&xs) {
                        *acc = v.mul_add(g, *acc);
                    }
                }
            }
        }
        for (c, acc) in acc.iter().enumerate() {
            for (q, acc) in acc.iter().enumerate() {
                acc.store(sums.add((q * sums_q + c) * LANES));
            }
        }
    }
}

/// Computes one run's share of the gradients of a block of output channels: `out` `[block, terms]`.
#[inline(always)]
unsafe fn weights<V: F32x16>(
    job: &Weights<'_>,
    instructions: Simd,
    task: usize,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let Geometry { groups, cin, cout, axes, .. } = *job.geometry;
    let (group, task) = (task / (job.blocks() * job.runs()), task % (job.blocks() * job.runs()));
    let (first, run) = (task / job.runs() * job.block, task % job.runs());
    let count = (cout - first).min(job.block);
    let terms = job.terms();
    let [zeros, source, gradient, sums] = split(scratch, job.scratch());
    let sums = &mut sums[..count * terms * LANES];
    zeros.fill(0.0);
    sums.fill(0.0);

    let [y, x] = &job.sweeps;
    let [rows, columns] = job.tiling.units;
    let plane = apart(rows * columns) * LANES;
    let span = job.tiling.span;
    let line = apart(span[1]) * LANES;
    let row_at = |row: usize| row * cin * line;
    let from = Window {
        plane: axes.map(|a| a.input),
        channels: groups * cin,
        first: group * cin,
        count: cin,
        size: span,
        step: [y.from_step, x.from_step],
        start: [y.from_start, x.from_start],
    };
    let to = Window {
        plane: axes.map(|a| a.output),
        channels: groups * cout,
        first: group * cout + first,
        count,
        size: [rows, columns],
        step: [1, 1],
        start: [0, 0],
    };
    for batch in run * job.run..((run + 1) * job.run).min(job.tiling.batches()) {
        let lanes = job.tiling.lanes(batch);
        gather(instructions, job.x, &from, &lanes, zeros, source, |row, c| row_at(row) + c * line);
        gather(instructions, job.dy, &to, &lanes, zeros, gradient, |row, c| {
            c * plane + row * columns * LANES
        });
        // Rows of the kernel are separate sweeps over separate sums: any dilation is an address.
        let share = cin * axes[1].kernel;
        for (tap, sums) in sums.chunks_exact_mut(count * share * LANES).enumerate() {
            let sweep = WeightRows {
                channels: cin,
                taps: axes[1].kernel,
                in_c: line,
                in_k: x.tap_step * LANES,
                in_t: x.from_step * LANES,
                out_channels: count,
                dy_c: plane,
                dy_t: LANES,
                positions: columns,
            };
            let x = &source[row_at(tap * y.tap_step)..];
            let rows = Planes { rows, in_row: row_at(y.from_step), dy_row: columns * LANES };
            debug_assert!(
                (rows.rows - 1) * rows.in_row
                    + (cin - 1) * line
                    + (axes[1].kernel - 1) * sweep.in_k
                    + (columns - 1) * sweep.in_t
                    + LANES
                    <= x.len()
            );
            // SAFETY: `span` holds every position that every tap sees.
            unsafe { weight_planes::<V>(&sweep, &rows, x.as_ptr(), gradient.as_ptr(), sums) };
        }
    }
    let share = cin * axes[1].kernel;
    for (tap, sums) in sums.chunks_exact(count * share * LANES).enumerate() {
        // SAFETY: the instruction set is there.
        unsafe {
            sum_lanes::<V>(sums, count, share, |c, term, sum| {
                let (channel, column) = (term / axes[1].kernel, term % axes[1].kernel);
                out[c * terms + (channel * axes[0].kernel + tap) * axes[1].kernel + column] = sum;
            });
        }
    }
}

crate::dispatch! {
    fn weights_on(
        job: &Weights<'_>, instructions: Simd, task: usize, scratch: &mut [f32], out: &mut [f32],
    ) = weights
}

/// Positions of a run at least: folding lanes costs about as much as ten positions.
const RUN: usize = 256;
/// Runs at most: their shares are all in memory until they are added.
const RUNS: usize = 16;

/// The gradient of the weight; `plain` where tiles do not fit.
pub(super) fn bwd_w(args: Args<'_, f32>, geometry: &Geometry, plain: fn(Args<'_, f32>)) {
    let sweeps = geometry.axes.map(Sweep::forward);
    // Every sixteen tiles read and write all sums once: as much as ten positions' work.
    let weights = geometry.cin * geometry.cout * geometry.axes[0].kernel * geometry.axes[1].kernel;
    let tiling = Tiling::best(geometry.batch, &sweeps, geometry.cin, geometry.cout, 10 * weights);
    let batch_positions = tiling.units[0] * tiling.units[1];
    let run = RUN.div_ceil(batch_positions).max(tiling.batches().div_ceil(RUNS));
    let mut job = Weights { geometry, sweeps, tiling, run, block: geometry.cout, x: &[], dy: &[] };
    // Whole register tiles of sums that are still near: more blocks would transpose `x` more often.
    let block = (SUMS / (job.terms().saturating_mul(LANES)).max(1) / BLOCK).max(1) * BLOCK;
    job.block = block.min(geometry.cout);
    let Some(len) = scratch_len(&job.scratch()) else { return plain(args) };
    let work = args.work;
    let [x, dy, _, dw] = args.bufs();
    (job.x, job.dy) = (x.input(), dy.input());
    let dw = dw.output();
    // Each task's share has a place of its own, as long as a full block's.
    let share = job.block * job.terms();
    let tasks = geometry.groups * job.blocks() * job.runs();
    with_scratch(share * tasks, |shares: &mut [f32]| {
        work.pieces(shares, share, |task, out| {
            with_scratch(len, |scratch| weights_on(work.simd, &job, work.simd, task, scratch, out));
        });
        let shares = &*shares;
        work.pieces(dw, job.terms(), |channel, dw| {
            let (group, channel) = (channel / geometry.cout, channel % geometry.cout);
            let block = (group * job.blocks() + channel / job.block) * job.runs();
            let place = |run: usize| (block + run) * share + channel % job.block * job.terms();
            dw.copy_from_slice(&shares[place(0)..][..job.terms()]);
            for run in 1..job.runs() {
                for (dw, &v) in dw.iter_mut().zip(&shares[place(run)..]) {
                    *dw += v;
                }
            }
        });
    });
}

/// The gradient of the bias over planes of `plane` positions: sixteen sums a plane, then plane by plane.
pub(super) fn bwd_b(args: Args<'_, f32>, plane: usize) {
    let work = args.work;
    let [dy, db] = args.bufs();
    let (dy, db) = (dy.input(), db.output());
    let channels = db.len();
    work.pieces(db, 1, |channel, db| {
        let planes = dy.chunks_exact(plane).skip(channel).step_by(channels);
        db[0] = planes.map(|plane| sum_on(work.simd, plane)).sum();
    });
}

crate::dispatch! { fn sum_on(v: &[f32]) -> f32 = sum }

#[inline(always)]
unsafe fn sum<V: F32x16>(v: &[f32]) -> f32 {
    let (blocks, rest) = v.as_chunks::<LANES>();
    // SAFETY: blocks of sixteen.
    let lanes = unsafe {
        let mut lanes = V::splat(0.0);
        for block in blocks {
            lanes = lanes.add(V::load(block.as_ptr()));
        }
        lanes.sum()
    };
    lanes + rest.iter().sum::<f32>()
}
