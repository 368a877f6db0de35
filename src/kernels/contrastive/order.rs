//! Which samples a sweep takes, and as which rows.
//!
//! A tile can stay closed where its labels and its rows lie together: samples are sorted by label, cut into strips of whole
//! labels, and each strip is sorted along the direction in which labels vary, `Σ (l_i − l̄)·z_i`, which is the one that this loss
//! pulls rows apart in. Strips are about as long as there are of them, so that neither a tile's labels nor its rows spread over
//! much; a label that many samples have is a strip by itself. It takes `O(n·(d + log n))`.

use super::schedule::block_rows;
use super::set::Set;
use crate::kernel::with_scratch;
use crate::kernels::pairs::TILE;
use crate::simd::LANES;
use std::ops::Range;

/// The samples that count. Everything about their order depends on the data alone.
pub struct Order<'a> {
    /// By label: its bits above the sample's number.
    keys: &'a [u64],
    /// The row that each becomes.
    rows: &'a [u64],
}

/// Elements of scratch that an [`Order`] of `n` samples takes.
pub fn order_len(n: usize) -> usize {
    2 * n
}

impl<'a> Order<'a> {
    /// Of the samples of `set` of positive weight; `scratch` as long as [`order_len`] says.
    pub fn of(set: &Set<'_>, d: usize, scratch: &'a mut [u64]) -> Self {
        let (mut count, largest) = (0, set.largest());
        let (keys, rows) = scratch.split_at_mut(set.labels.len());
        for (i, label) in (0u64..).zip(set.labels) {
            if set.weights.is_none_or(|w| w[i as usize] / largest > 0.0) {
                // Bits of numbers that are not negative are in their order, once −0 is 0.
                keys[count] = u64::from((label + 0.0).to_bits()) << 32 | i;
                count += 1;
            }
        }
        let (keys, rows) = (&mut keys[..count], &mut rows[..count]);
        keys.sort_unstable();
        let mut order = Self { keys, rows: &[] };
        if count > TILE {
            order.seat(set, d, rows);
        } else {
            (0..).zip(&mut *rows).for_each(|(k, row)| *row = k);
        }
        order.rows = rows;
        order
    }

    /// Says in `rows` which row each becomes.
    fn seat(&self, set: &Set<'_>, d: usize, rows: &mut [u64]) {
        let n = self.len();
        with_scratch(n + d, |scratch: &mut [u64]| {
            let (seats, direction) = scratch.split_at_mut(n);
            let direction = &mut bytemuck::cast_slice_mut(direction)[..d];
            self.direction(set, direction);
            for (k, seat) in seats.iter_mut().enumerate() {
                let along = dot(direction, &set.z[self.sample(k) * d..][..d]).to_bits();
                // Bits in the order of the numbers.
                let along = if along >> 31 == 1 { !along } else { along | 1 << 31 };
                *seat = u64::from(along) << 32 | k as u64;
            }
            let strip = TILE * (n.div_ceil(TILE) as f64).sqrt().ceil() as usize;
            let mut rest = &mut *seats;
            let mut classes = self.classes().peekable();
            while let Some(first) = classes.next() {
                let mut to = first.end;
                while let Some(more) = classes.next_if(|class| class.end <= first.start + strip) {
                    to = more.end;
                }
                let (of_strip, beyond) = rest.split_at_mut(to - first.start);
                of_strip.sort_unstable();
                rest = beyond;
            }
            for (at, seat) in seats.iter().enumerate() {
                rows[(seat & u64::from(u32::MAX)) as usize] = self.dealt(at) as u64;
            }
        });
    }

    /// Where labels grow.
    fn direction(&self, set: &Set<'_>, direction: &mut [f32]) {
        let (n, d) = (self.len(), direction.len());
        let mean = (0..n).map(|k| f64::from(self.label(k))).sum::<f64>() / n as f64;
        direction.fill(0.0);
        for k in 0..n {
            let off = (f64::from(self.label(k)) - mean) as f32;
            let z = &set.z[self.sample(k) * d..][..d];
            direction.iter_mut().zip(z).for_each(|(sum, z)| *sum += off * z);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The label of the `k`th.
    pub fn label(&self, k: usize) -> f32 {
        f32::from_bits((self.keys[k] >> 32) as u32)
    }

    /// The number of the `k`th in its set.
    pub fn sample(&self, k: usize) -> usize {
        (self.keys[k] & u64::from(u32::MAX)) as usize
    }

    /// The row that the `k`th becomes.
    pub fn place(&self, k: usize) -> usize {
        self.rows[k] as usize
    }

    /// Tiles are dealt out to the blocks in turn, so that each block has some of every label and
    /// tasks are alike; the last tile, which may be short, stays the last.
    fn dealt(&self, k: usize) -> usize {
        let (tile, of_block) = (k / TILE, block_rows(self.len()) / TILE);
        let last = (self.len() - 1) / TILE;
        if tile == last {
            return k;
        }
        // The last block has fewer tiles than the others, its last one aside.
        let (blocks, of_last) = (last / of_block + 1, last % of_block);
        let (block, at) = if tile < of_last * blocks {
            (tile % blocks, tile / blocks)
        } else {
            let rest = tile - of_last * blocks;
            (rest % (blocks - 1), of_last + rest / (blocks - 1))
        };
        (block * of_block + at) * TILE + k % TILE
    }

    /// Runs of equal labels.
    pub fn classes(&self) -> impl Iterator<Item = Range<usize>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let label = self.keys.get(from)? >> 32;
            let len = self.keys[from..].iter().take_while(|&key| key >> 32 == label).count();
            from += len;
            Some(from - len..from)
        })
    }

    /// The smallest difference of two labels that are not equal.
    pub fn step(&self) -> f32 {
        let steps = (1..self.len()).map(|k| self.label(k) - self.label(k - 1));
        steps.filter(|&step| step > 0.0).fold(f32::INFINITY, f32::min)
    }
}

/// `a·b`, sixteen sums side by side.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}
