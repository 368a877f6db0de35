//! Sixteen rectangles of a tensor as lanes, and back.

use crate::kernels::conv::shared::Shared;
use crate::kernels::conv::transpose::transpose16;
use crate::simd::{LANES, Simd};

/// Sixteen tiles: sample and first unit on either axis of those in use.
pub struct Lanes {
    pub in_use: usize,
    pub sample: [usize; LANES],
    pub unit: [[usize; 2]; LANES],
}

/// Where the lanes' rectangles of `[batch, channels, rows, columns]` lie.
pub struct Window {
    /// Rows and columns of a plane.
    pub plane: [usize; 2],
    /// Channels of a sample.
    pub channels: usize,
    /// The channels at hand.
    pub first: usize,
    pub count: usize,
    /// Rows and columns of each rectangle.
    pub size: [usize; 2],
    /// A unit's positions, and where unit 0 starts.
    pub step: [usize; 2],
    pub start: [isize; 2],
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
pub fn gather(
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
                    *out = if from <= column && column < to {
                        // SAFETY: the column exists in this lane: `Window::row` placed it in the plane.
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
pub fn scatter(
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
