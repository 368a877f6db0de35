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

impl Window {
    /// Rows and columns of the rectangle that exist: from, to.
    fn there(&self) -> [[usize; 2]; 2] {
        [0, 1].map(|a| {
            let (size, plane) = (self.size[a] as isize, self.plane[a] as isize);
            let from = (-self.start[a]).clamp(0, size);
            [from as usize, (plane - self.start[a]).clamp(from, size) as usize]
        })
    }

    /// Positions that follow each other in the plane, and how many such sequences there are: a row each, or all in one where
    /// rows are whole and short.
    fn sequences(&self, [rows, columns]: [[usize; 2]; 2]) -> [usize; 2] {
        let (height, width) = (rows[1] - rows[0], columns[1] - columns[0]);
        if width == self.plane[1] && width < 2 * LANES { [height * width, 1] } else { [width, height] }
    }

    /// Where numbers `i..` of a sequence lie in the rectangle, in vectors.
    #[inline(always)]
    fn places(&self, [rows, columns]: [[usize; 2]; 2], sequence: usize, i: usize) -> [usize; LANES] {
        let width = columns[1] - columns[0];
        let (down, mut column) = if i < width { (0, i) } else { (i / width, i % width) };
        let mut at = (rows[0] + sequence + down) * self.size[1] + columns[0] + column;
        let mut places = [0; LANES];
        if column + LANES <= width {
            for (i, place) in places.iter_mut().enumerate() {
                *place = at + i;
            }
            return places;
        }
        for place in &mut places {
            *place = at;
            (at, column) = (at + 1, column + 1);
            if column == width {
                (at, column) = (at + self.size[1] - width, 0);
            }
        }
        places
    }
}

/// Copies the rectangle into `out` `[row][column][channel]`, with zeros where nothing exists; `source` starts at the first
/// channel's plane.
pub fn gather(simd: Simd, source: &[f32], window: &Window, out: &mut [f32]) {
    let plane = window.plane[0] * window.plane[1];
    let [rows, columns] = window.size;
    assert!(plane >= LANES && source.len() >= plane * window.channels && window.channels <= LANES);
    let there = window.there();
    let [[top, bottom], [left, right]] = there;
    for (row, line) in out.chunks_exact_mut(columns * LANES).take(rows).enumerate() {
        if row < top || row >= bottom {
            line.fill(0.0);
        } else {
            line[..left * LANES].fill(0.0);
            line[right * LANES..].fill(0.0);
        }
    }
    if left == right || top == bottom {
        return;
    }
    let out = &mut out[..rows * columns * LANES];
    let (zeros, mut unread) = ([0.0; LANES], [0.0; LANES]);
    let [length, count] = window.sequences(there);
    for sequence in 0..count {
        let y = (window.start[0] + (top + sequence) as isize) as usize;
        let start = y * window.plane[1] + (window.start[1] + left as isize) as usize;
        let mut done = 0;
        while done < length {
            // Sixteen positions of the plane; those before and behind the sequence go where nobody reads.
            let first = (start + done).min(plane - LANES);
            let skipped = start + done - first;
            let count = (LANES - skipped).min(length - done);
            let mut read = [zeros.as_ptr(); LANES];
            for (lane, read) in read.iter_mut().enumerate().take(window.channels) {
                *read = source[lane * plane + first..].as_ptr();
            }
            let mut write = [unread.as_mut_ptr(); LANES];
            let places = window.places(there, sequence, done);
            for (write, place) in write[skipped..][..count].iter_mut().zip(places) {
                *write = out[place * LANES..].as_mut_ptr();
            }
            // SAFETY: sixteen positions of each plane exist, and as many elements at every place.
            unsafe { transpose16(simd, &read, &write) };
            done += count;
        }
    }
}

/// Copies `tile` `[row][column][channel]` to where the rectangle exists in `out`, which starts at the first channel's plane.
///
/// # Safety
/// `out` is good for the planes of the window's channels, and nobody else is at its rectangle.
pub unsafe fn scatter(simd: Simd, tile: &[f32], window: &Window, out: *mut f32) {
    let plane = window.plane[0] * window.plane[1];
    let there = window.there();
    let [[top, _], [left, _]] = there;
    let mut unread = [0.0; LANES];
    let [length, count] = window.sequences(there);
    for sequence in 0..count {
        let y = (window.start[0] + (top + sequence) as isize) as usize;
        let start = y * window.plane[1] + (window.start[1] + left as isize) as usize;
        let mut done = 0;
        while done < length {
            let whole = length >= LANES;
            // The last block may lie over the one before.
            let first = if whole { done.min(length - LANES) } else { 0 };
            let mut edge = [0.0; LANES * LANES];
            let mut write = [unread.as_mut_ptr(); LANES];
            for (lane, write) in write.iter_mut().enumerate().take(window.channels) {
                *write = if whole {
                    out.wrapping_add(lane * plane + start + first)
                } else {
                    edge.as_mut_ptr().wrapping_add(lane * LANES)
                };
            }
            let mut read = [tile.as_ptr(); LANES];
            let places = window.places(there, sequence, first);
            for (read, place) in read.iter_mut().zip(places).take(length - first) {
                *read = tile[place * LANES..][..LANES].as_ptr();
            }
            // SAFETY: sixteen vectors of the tile, and as many positions of each plane or of `edge`.
            unsafe { transpose16(simd, &read, &write) };
            if !whole {
                for lane in 0..window.channels {
                    let from = edge[lane * LANES..][..length].as_ptr();
                    // SAFETY: the sequence's positions exist; the caller's promise.
                    unsafe { out.add(lane * plane + start).copy_from_nonoverlapping(from, length) };
                }
            }
            done = first + LANES;
        }
    }
}
