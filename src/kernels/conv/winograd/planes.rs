//! Rectangles of sixteen channels as vectors, a position each, and back.

use crate::kernels::conv::transpose::transpose16;
use crate::simd::{LANES, Simd};

/// A rectangle of the planes of up to sixteen channels that lie one after the other.
#[derive(Clone, Copy)]
pub struct Window {
    /// Rows and columns of a plane: sixteen positions at least.
    pub plane: [usize; 2],
    /// How many channels there are.
    pub channels: usize,
    /// The first row and column; may lie outside.
    pub start: [isize; 2],
    pub size: [usize; 2],
}

/// Copies the rectangle into `out` `[row][column][channel]`, with zeros where nothing exists; `source` starts at the first
/// channel's plane.
pub fn gather(simd: Simd, source: &[f32], window: &Window, out: &mut [f32]) {
    let [height, width] = window.plane;
    let [rows, columns] = window.size;
    let plane = height * width;
    assert!(plane >= LANES && source.len() >= plane * window.channels && window.channels <= LANES);
    let (zeros, mut unread) = ([0.0; LANES], [0.0; LANES]);
    for (row, line) in out.chunks_exact_mut(columns * LANES).take(rows).enumerate() {
        let y = window.start[0] + row as isize;
        if y < 0 || y >= height as isize {
            line.fill(0.0);
            continue;
        }
        let from = (-window.start[1]).clamp(0, columns as isize) as usize;
        let to = (width as isize - window.start[1]).clamp(from as isize, columns as isize) as usize;
        line[..from * LANES].fill(0.0);
        line[to * LANES..].fill(0.0);
        let mut column = from;
        while column < to {
            let at = y as usize * width + (window.start[1] + column as isize) as usize;
            // Sixteen positions of the plane; those before and behind the row go where nobody reads.
            let first = at.min(plane - LANES);
            let skipped = at - first;
            let count = (LANES - skipped).min(to - column);
            let mut read = [zeros.as_ptr(); LANES];
            for (lane, read) in read.iter_mut().enumerate().take(window.channels) {
                *read = source[lane * plane + first..].as_ptr();
            }
            let mut write = [unread.as_mut_ptr(); LANES];
            let line = line[column * LANES..][..count * LANES].as_mut_ptr();
            for (i, write) in write[skipped..][..count].iter_mut().enumerate() {
                *write = line.wrapping_add(i * LANES);
            }
            // SAFETY: sixteen positions of each plane exist, and `count` vectors of the line.
            unsafe { transpose16(simd, &read, &write) };
            column += count;
        }
    }
}

/// Copies `tile` `[row][column][channel]` to where the rectangle exists in `out`, which starts at the first channel's plane.
///
/// # Safety
/// `out` is good for the planes of the window's channels, and nobody else is at its rectangle.
pub unsafe fn scatter(simd: Simd, tile: &[f32], window: &Window, out: *mut f32) {
    let [height, width] = window.plane;
    let plane = height * width;
    let [y, x] = window.start.map(|at| at as usize);
    let (rows, columns) = (window.size[0].min(height - y), window.size[1].min(width - x));
    let mut unread = [0.0; LANES];
    for row in 0..rows {
        let line = &tile[row * window.size[1] * LANES..][..window.size[1] * LANES];
        let at = (y + row) * width + x;
        let mut column = 0;
        while column < columns {
            let whole = columns >= LANES;
            // The last block may lie over the one before.
            let first = if whole { column.min(columns - LANES) } else { 0 };
            let mut edge = [0.0; LANES * LANES];
            let mut write = [unread.as_mut_ptr(); LANES];
            for (lane, write) in write.iter_mut().enumerate().take(window.channels) {
                *write = if whole {
                    out.wrapping_add(lane * plane + at + first)
                } else {
                    edge.as_mut_ptr().wrapping_add(lane * LANES)
                };
            }
            let mut read = [line.as_ptr(); LANES];
            for (i, read) in read.iter_mut().enumerate().take(columns - first) {
                *read = line[(first + i) * LANES..][..LANES].as_ptr();
            }
            // SAFETY: sixteen vectors of the line, and as many positions of each plane or of `edge`.
            unsafe { transpose16(simd, &read, &write) };
            if !whole {
                for lane in 0..window.channels {
                    let from = edge[lane * LANES..][..columns].as_ptr();
                    // SAFETY: the row's columns exist; the caller's promise.
                    unsafe { out.add(lane * plane + at).copy_from_nonoverlapping(from, columns) };
                }
            }
            column = first + LANES;
        }
    }
}
