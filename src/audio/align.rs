//! Alignment of a performance to a reference of the same melody, tolerant of key and tempo.
//!
//! Dynamic time warping (Sakoe and Chiba, 1978) on blocks of 23 ms, in four steps: trim the unvoiced ends;
//! find the whole semitones, from 8 below the distance of the medians to 7 above, with the cheapest path;
//! refine them by the median residual and align again; tell octave and key. A singer may choose the key, so
//! a constant shift is no error; what remains at a step of the path is.
//!
//! The **path is the time axis** of the features ([`CHANNELS`]): one column per step. Where a note is held
//! too long or rushed, one of the two indices repeats, so rhythm is visible as well as pitch.

use super::blocks::{Blocks, fold, median};
use super::contour::{Contour, HOP};
use super::warp::{self, OFFSETS};
use crate::{Error, Result};
use std::ops::Range;

/// The channels of [`Alignment::columns`], in order, with what they hold.
///
/// `a` is the performance, `b` the reference, both MIDI pitch; `d` the residual
/// `a − b − octave − shift` folded into one octave (−6..=6); `m` is 1 where both are voiced, else 0.
pub const CHANNELS: [(&str, &str); 14] = [
    ("residual", "clip(d, ±3)/1.5 · m"),
    ("both_voiced", "m"),
    ("performance_voiced", "1 where the performance is voiced"),
    ("reference_voiced", "1 where the reference is voiced"),
    ("reference_repeats", "1 where the reference index is the last step's: the performance is slower"),
    ("performance_repeats", "1 where the performance index is the last step's: the performance is faster"),
    ("absolute_residual", "min(|d|, 3)/1.5 · m"),
    ("in_tune", "1 where |d| < 0.5 and m"),
    ("key_shift", "|shift folded into one octave|/3, the same in every column"),
    ("performance_pitch", "(a − median of a)/6, 0 where unvoiced"),
    ("reference_pitch", "(b − median of b)/6, 0 where unvoiced"),
    ("unshifted_residual", "clip(a − b − octave folded into one octave, ±3)/1.5 · m"),
    ("length_ratio", "2·ln(performance blocks / reference blocks), the same in every column"),
    ("tempo_trend", "2 · mean over 21 steps of reference_repeats − performance_repeats"),
];

/// Residuals below this, in semitones, count as the right note when the shift is refined.
const REFINE_BELOW: f32 = 1.5;
/// Steps over which `tempo_trend` is averaged.
const TREND: usize = 21;

/// Blocks to each side of the diagonal where a part is aligned anew: 12 s.
const REALIGN: usize = 512;

/// Largest table of the path, in cells of a byte: 9 hours against 9 in the widest default band.
const MAX_CELLS: u64 = 1 << 30;

/// How to align.
#[derive(Debug, Clone, PartialEq)]
pub struct AlignOptions {
    /// Seconds per block; 23 ms is 4 frames at the default hop. Rounded to whole frames, at least 1.
    pub block: f64,
    /// Half-width of the band around the (scaled) diagonal that the path may use, as a part of the longer
    /// of the two. The default, 0.3, lets a take of 6 s be 1.8 s ahead or behind of even tempo.
    pub band: f64,
    /// The band is at least this many blocks to each side, so short takes are not bound at all.
    pub min_band: usize,
    /// The band is at most this many blocks to each side, so memory and time grow with length, not its square.
    pub max_band: usize,
}

impl Default for AlignOptions {
    /// 23 ms blocks, a band of 0.3 of the length, 64 blocks (1.5 s) at least and 512 (12 s) at most.
    fn default() -> Self {
        Self { block: 4.0 * HOP, band: 0.3, min_band: 64, max_band: 512 }
    }
}

impl AlignOptions {
    fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.band) || self.min_band > self.max_band {
            return Err(Error::config(format!(
                "align band {}, at least {}, at most {}: expected a part in 0..=1, and the least no more \
                 than the most",
                self.band, self.min_band, self.max_band
            )));
        }
        Ok(())
    }

    /// Blocks to each side of the diagonal for sequences of these lengths.
    fn half_width(&self, n: usize, m: usize) -> usize {
        ((self.band * n.max(m) as f64).ceil() as usize).clamp(self.min_band, self.max_band)
    }
}

/// A performance aligned to a reference.
#[derive(Debug, Clone)]
pub struct Alignment {
    performance: Blocks,
    reference: Blocks,
    /// Octaves from the reference up to the performance, in semitones (a multiple of 12).
    pub octave: f32,
    /// Key shift from the reference up to the performance after the octave, in semitones: −6 to 6, and its fraction.
    pub shift: f32,
    /// The path: block of the performance and block of the reference per step, from the first voiced block
    /// of both to the last. Each step advances one of them, or both, by one.
    pub path: Vec<[usize; 2]>,
    /// The cost of the path.
    pub cost: f32,
}

/// Which keys an alignment tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Any: a singer may choose it. Whole semitones near the distance of the medians, then a fraction.
    Free,
    /// The reference's, in the octave of the medians, and a fraction of at most 1.5 semitones: two takes of one melody as it
    /// should be.
    Same,
}

/// Aligns `performance` to `reference`, in any key; see the module's description. The hops must agree.
///
/// Takes `O(T · band)` time and memory for `T` blocks of 23 ms; any two contours align, down to one frame.
///
/// # Errors
/// [`Error::Config`] if an option is out of its range, [`Error::Shape`] if the hops differ, or if the band over these lengths
/// has more than 2^30 cells.
pub fn align(performance: &Contour, reference: &Contour, options: &AlignOptions) -> Result<Alignment> {
    let blocks = |contour| Blocks::of(contour, options.block);
    align_blocks(&blocks(performance)?, &blocks(reference)?, Key::Free, options)
}

/// [`align`] of blocks at hand, which both must be as long as `options.block` says.
///
/// # Errors
/// As [`align`].
pub fn align_blocks(a: &Blocks, b: &Blocks, key: Key, options: &AlignOptions) -> Result<Alignment> {
    options.check()?;
    let (hop, other) = (a.hop(), b.hop());
    if (hop - other).abs() > 1e-9 * hop {
        return Err(Error::shape(
            "align",
            "reference",
            format!("hop {other} s, the performance's is {hop} s"),
        ));
    }
    let nearest_octave = |semitones: f32| 12.0 * (semitones / 12.0).round();
    let half_width = options.half_width(a.pitch().len(), b.pitch().len());
    let (n, m) = (a.pitch().len() as u64, b.pitch().len() as u64);
    let cells = n * m.min(2 * half_width.min(b.pitch().len()) as u64 + m / n + 2);
    if cells > MAX_CELLS {
        return Err(Error::shape(
            "align",
            "reference",
            format!(
                "{n} blocks against {m} in a band of {half_width} make {cells} cells, at most {MAX_CELLS} are taken"
            ),
        ));
    }
    let whole = match key {
        Key::Free => semitones(a, b, half_width),
        Key::Same => nearest_octave(a.median() - b.median()),
    };
    let octave = nearest_octave(whole);
    let mut shift = whole - octave;

    // Its fraction: the median residual of the notes that are right.
    let (_, path) = warp::path(a.pitch(), b.pitch(), octave + shift, half_width);
    let mut residuals: Vec<f32> = path
        .iter()
        .map(|&[i, j]| (a.pitch()[i], b.pitch()[j]))
        .filter(|&(a, b)| a > 0.0 && b > 0.0)
        .map(|(a, b)| a - b - octave - shift)
        .filter(|residual| residual.abs() < REFINE_BELOW)
        .collect();
    shift += median(&mut residuals);

    let (cost, mut path) = warp::path(a.pitch(), b.pitch(), octave + shift, half_width);
    for [i, j] in &mut path {
        *i += a.start();
        *j += b.start();
    }
    Ok(Alignment { performance: a.clone(), reference: b.clone(), octave, shift, path, cost })
}

/// From the reference up to the performance: the cheapest whole semitones, on every second block.
///
/// Medians lie as far apart as the keys but for what is not performed as written, or not heard: the octave between them can be
/// one off, so that any semitones are tried, not those within an octave.
fn semitones(a: &Blocks, b: &Blocks, half_width: usize) -> f32 {
    let every_second = |blocks: &Blocks| -> Vec<f32> { blocks.pitch().iter().copied().step_by(2).collect() };
    let (a_half, b_half) = (every_second(a), every_second(b));
    let near = (a.median() - b.median()).round();
    let mut tried: [f32; OFFSETS] = std::array::from_fn(|i| near + i as f32 - (OFFSETS / 2) as f32);
    // Of equal costs the smallest shift from a whole octave wins.
    let octave = 12.0 * (near / 12.0).round();
    tried.sort_by(|a, b| (a - octave).abs().total_cmp(&(b - octave).abs()));
    let costs = warp::costs(&a_half, &b_half, &tried, half_width.div_ceil(2));
    let ranked = tried.into_iter().zip(costs);
    ranked.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(octave, |(semitones, _)| semitones)
}

impl Alignment {
    /// The blocks of the performance and the reference that were aligned.
    pub fn blocks(&self) -> [&Blocks; 2] {
        [&self.performance, &self.reference]
    }

    /// The steps that meet these blocks of the reference, counted from its first voiced one.
    pub(super) fn steps(&self, blocks: Range<usize>) -> &[[usize; 2]] {
        // Both indices rise along the path.
        let at = |block| self.path.partition_point(|&[_, j]| j - self.reference.start() < block);
        let from = at(blocks.start);
        &self.path[from..at(blocks.end).max(from)]
    }

    /// The alignment of a performance that has other `pitch` in some of its `blocks`, counted from the first voiced one, in the
    /// same octave and key. The path is the cheapest up to `margin` blocks before and after them, 1 at least, and further on as
    /// it was; the cost stays the old one. Where nothing would be voiced, all stays.
    pub(super) fn realigned(&self, blocks: Range<usize>, pitch: &[f32], margin: usize) -> Self {
        let (take, reference) = (&self.performance, &self.reference);
        let (before, after) = (&take.pitch()[..blocks.start], &take.pitch()[blocks.end..]);
        let Some(performance) = take.of_pitch([before, pitch, after].concat()) else { return self.clone() };
        // Of the blocks that stay, those that the new part of the path begins and ends with.
        let margin = margin.max(1);
        // The path counts from the first block of the recording, this from the first voiced one.
        let old = |step: &[usize; 2]| step[0] - take.start();
        let moved = |block: usize| block + pitch.len() - blocks.len();
        let first = self.path.partition_point(|step| old(step) + margin < blocks.start);
        let last = self.path.partition_point(|step| old(step) < blocks.end + margin).min(self.path.len() - 1);
        let first = first.min(last);
        let (from, to) = (&self.path[first], &self.path[last]);
        // At an end of the take there is no block beside the new ones.
        let start = if old(from) < blocks.start { old(from) } else { 0 };
        let end = if old(to) >= blocks.end { moved(old(to)) + 1 } else { performance.pitch().len() };
        let j = from[1] - reference.start()..to[1] - reference.start() + 1;
        let (a, b) = (&performance.pitch()[start..end], &reference.pitch()[j.clone()]);
        let (_, within) = warp::path(a, b, self.octave + self.shift, REALIGN);
        let mut path: Vec<[usize; 2]> = self.path[..first].iter().map(|step| [old(step), step[1]]).collect();
        path.extend(within.into_iter().map(|[i, k]| [start + i, reference.start() + j.start + k]));
        path.extend(self.path[last + 1..].iter().map(|step| [moved(old(step)), step[1]]));
        Self { performance, reference: reference.clone(), path, ..*self }
    }

    /// The features of [`CHANNELS`] along the path: `[14][path.len()]`, row-major.
    pub fn columns(&self) -> Vec<f32> {
        let (a, b, len) = (&self.performance, &self.reference, self.path.len());
        let mut columns = vec![0.0; CHANNELS.len() * len];
        let mut rest = columns.as_mut_slice();
        // Splitting off the channels in order keeps this list and the table above side by side.
        let mut channel = || {
            let (channel, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            channel
        };
        let residual = channel();
        let both_voiced = channel();
        let performance_voiced = channel();
        let reference_voiced = channel();
        let reference_repeats = channel();
        let performance_repeats = channel();
        let absolute_residual = channel();
        let in_tune = channel();
        let key_shift = channel();
        let performance_pitch = channel();
        let reference_pitch = channel();
        let unshifted_residual = channel();
        let length_ratio = channel();
        let tempo_trend = channel();

        key_shift.fill(fold(self.shift).abs() / 3.0);
        length_ratio.fill(2.0 * (a.pitch().len() as f32 / b.pitch().len() as f32).ln());
        for (k, &[i, j]) in self.path.iter().enumerate() {
            let (pa, pb) = (a.pitch()[i - a.start()], b.pitch()[j - b.start()]);
            if pa > 0.0 {
                performance_voiced[k] = 1.0;
                performance_pitch[k] = (pa - a.median()) / 6.0;
            }
            if pb > 0.0 {
                reference_voiced[k] = 1.0;
                reference_pitch[k] = (pb - b.median()) / 6.0;
            }
            if pa > 0.0 && pb > 0.0 {
                let unshifted = pa - pb - self.octave;
                let d = fold(unshifted - self.shift);
                both_voiced[k] = 1.0;
                residual[k] = d.clamp(-3.0, 3.0) / 1.5;
                absolute_residual[k] = d.abs().min(3.0) / 1.5;
                in_tune[k] = f32::from(d.abs() < 0.5);
                unshifted_residual[k] = fold(unshifted).clamp(-3.0, 3.0) / 1.5;
            }
            if k > 0 {
                let [last_i, last_j] = self.path[k - 1];
                reference_repeats[k] = f32::from(j == last_j);
                performance_repeats[k] = f32::from(i == last_i);
            }
        }
        // Steps before the first and after the last count as 0.
        for (k, trend) in tempo_trend.iter_mut().enumerate() {
            let window = k.saturating_sub(TREND / 2)..(k + TREND / 2 + 1).min(len);
            let sum: f32 = window.map(|k| reference_repeats[k] - performance_repeats[k]).sum();
            *trend = 2.0 * sum / TREND as f32;
        }
        columns
    }

    /// The reference on the performance's time axis and in its octave and key: MIDI pitch per frame of the
    /// performance, 0.0 where unvoiced and before and after the path.
    ///
    /// `performance` and `reference` must be the contours that were aligned. A block of the performance that
    /// meets several of the reference takes the middle one.
    pub fn reference_on_performance(&self, performance: &Contour, reference: &Contour) -> Vec<f32> {
        let frames = self.performance.frames();
        let mut aligned = vec![0.0; performance.len()];
        for steps in self.path.chunk_by(|step, next| step[0] == next[0]) {
            let [i, j] = steps[steps.len() / 2];
            let from = reference.pitch().iter().skip(j * frames).take(frames);
            for (to, &pitch) in aligned.iter_mut().skip(i * frames).zip(from) {
                if pitch > 0.0 {
                    *to = (pitch + self.octave + self.shift).clamp(f32::MIN_POSITIVE, 128.0);
                }
            }
        }
        aligned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes of (pitch, frames), pitch 0 a rest.
    fn sing(notes: &[(f32, usize)]) -> Contour {
        let pitch = notes.iter().flat_map(|&(pitch, frames)| std::iter::repeat_n(pitch, frames)).collect();
        Contour::from_pitch(pitch, HOP).unwrap()
    }

    const TUNE: [(f32, usize); 6] = [(60.0, 80), (64.0, 40), (0.0, 12), (67.0, 40), (65.0, 80), (60.0, 120)];

    fn transposed(by: f32) -> Contour {
        sing(&TUNE.map(|(pitch, frames)| (if pitch > 0.0 { pitch + by } else { 0.0 }, frames)))
    }

    fn aligned(performance: &Contour, reference: &Contour) -> Alignment {
        align(performance, reference, &AlignOptions::default()).unwrap()
    }

    fn channel<'a>(columns: &'a [f32], name: &str) -> &'a [f32] {
        let len = columns.len() / CHANNELS.len();
        let index = CHANNELS.iter().position(|(channel, _)| *channel == name).unwrap();
        &columns[index * len..][..len]
    }

    #[test]
    fn a_take_aligns_to_itself_along_the_diagonal() {
        let alignment = aligned(&sing(&TUNE), &sing(&TUNE));
        assert_eq!((alignment.octave, alignment.shift, alignment.cost), (0.0, 0.0, 0.0));
        assert!(alignment.path.iter().enumerate().all(|(k, &step)| step == [k, k]));
        assert_eq!(alignment.path.len(), 372 / 4);
        let columns = alignment.columns();
        assert!(channel(&columns, "absolute_residual").iter().all(|&d| d == 0.0));
        assert!(channel(&columns, "tempo_trend").iter().all(|&t| t == 0.0));
        let rests = channel(&columns, "both_voiced").iter().filter(|&&m| m == 0.0).count();
        assert_eq!(rests, 3);
        assert_eq!(channel(&columns, "in_tune"), channel(&columns, "both_voiced"));
    }

    #[test]
    fn a_transposed_copy_has_no_residual() {
        for by in [-16.6, -12.0, -5.0, -1.3, 0.4, 3.0, 5.75, 12.0, 26.0] {
            let alignment = aligned(&transposed(by), &sing(&TUNE));
            assert!((alignment.octave + alignment.shift - by).abs() < 1e-4, "{by}");
            assert_eq!(alignment.octave % 12.0, 0.0);
            assert!(alignment.shift.abs() <= 6.5);
            let columns = alignment.columns();
            assert!(channel(&columns, "absolute_residual").iter().all(|d| d.abs() < 1e-4), "{by}");
            let shift = by - 12.0 * (by / 12.0).round();
            assert!((channel(&columns, "key_shift")[0] - shift.abs() / 3.0).abs() < 1e-4);
            let unshifted = channel(&columns, "unshifted_residual")[0];
            assert!((unshifted - shift.clamp(-3.0, 3.0) / 1.5).abs() < 1e-4, "{by}: {unshifted}");
        }
    }

    #[test]
    fn the_key_is_found_where_medians_are_half_an_octave_off() {
        // The median of the reference is its upper note, that of a take that holds the lower one is that.
        let reference = sing(&[(60.0, 120), (67.0, 160), (60.0, 20)]);
        for by in -6..6 {
            let by = by as f32;
            let take = sing(&[(60.0 + by, 200), (67.0 + by, 160), (60.0 + by, 20)]);
            let alignment = aligned(&take, &reference);
            assert_eq!(alignment.octave + alignment.shift, by);
            assert!(alignment.octave % 12.0 == 0.0 && alignment.shift.abs() <= 6.0, "{alignment:?}");
        }
    }

    #[test]
    fn a_wrong_note_and_an_octave_slip_show_where_they_are() {
        let mut notes = TUNE;
        notes[3].0 += 2.0;
        notes[4].0 += 12.0;
        let columns = aligned(&sing(&notes), &sing(&TUNE)).columns();
        let residual = channel(&columns, "residual");
        let wrong = residual.iter().filter(|&&d| (d - 2.0 / 1.5).abs() < 1e-6).count();
        let right = residual.iter().filter(|&&d| d.abs() < 1e-6).count();
        assert_eq!((wrong, right), (10, residual.len() - 10));
        let pitch = channel(&columns, "performance_pitch");
        assert!(pitch.iter().any(|&p| p > 1.5), "the slip of an octave is in the pitch channel");
    }

    #[test]
    fn a_held_note_repeats_the_reference_and_a_rushed_one_the_performance() {
        let mut notes = TUNE;
        notes[3].1 += 60;
        let slow = aligned(&sing(&notes), &sing(&TUNE)).columns();
        assert_eq!(channel(&slow, "reference_repeats").iter().sum::<f32>(), 15.0);
        assert_eq!(channel(&slow, "performance_repeats").iter().sum::<f32>(), 0.0);
        assert!(channel(&slow, "tempo_trend").iter().all(|&t| (0.0..=2.0).contains(&t)));
        let ratio = 2.0 * (108.0_f32 / 93.0).ln();
        assert!((channel(&slow, "length_ratio")[0] - ratio).abs() < 1e-6);

        let fast = aligned(&sing(&TUNE), &sing(&notes)).columns();
        assert_eq!(channel(&fast, "performance_repeats").iter().sum::<f32>(), 15.0);
        assert!((channel(&fast, "length_ratio")[0] + ratio).abs() < 1e-6);
        // 15 repeats in one run give a full window of 15 in 21.
        let most = channel(&fast, "tempo_trend").iter().copied().fold(0.0, f32::min);
        assert!((most + 2.0 * 15.0 / 21.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_replaced_is_aligned_anew_and_all_else_stays() {
        let mut notes = TUNE;
        notes[3].0 += 2.0;
        notes[4].1 += 60;
        notes.iter_mut().filter(|note| note.0 > 0.0).for_each(|note| note.0 += 1.0);
        let alignment = aligned(&sing(&[&[(0.0, 8)], &notes[..]].concat()), &sing(&TUNE));
        let sum = |alignment: &Alignment, name: &str| channel(&alignment.columns(), name).iter().sum::<f32>();
        let of = |alignment: &Alignment| {
            (sum(alignment, "absolute_residual"), sum(alignment, "reference_repeats"))
        };
        let near = |a: (f32, f32), b: (f32, f32)| (a.0 - b.0).abs() < 1e-3 && a.1 == b.1;
        let wrong = 10.0 * 2.0 / 1.5;
        assert!(near(of(&alignment), (wrong, 15.0)), "{:?}", of(&alignment));
        let same = alignment.realigned(33..43, &[70.0; 10], 5);
        // Counted from the first voiced block, the path is what it was.
        let counted: Vec<[usize; 2]> = alignment.path.iter().map(|&[i, j]| [i - 2, j]).collect();
        assert_eq!((same.columns(), same.path), (alignment.columns(), counted));
        let tuned = alignment.realigned(33..43, &[68.0; 10], 5);
        assert!(near(of(&tuned), (0.0, 15.0)));
        let timed = alignment.realigned(43..78, &[66.0; 20], 5);
        assert!(near(of(&timed), (wrong, 0.0)));
        let gone = alignment.realigned(20..30, &[], 200);
        let other = alignment.realigned(0..108, &[63.0], 0);
        let middle = alignment.realigned(33..43, &[68.0; 10], 0);
        assert!(near(of(&middle), (0.0, 15.0)));
        let ends = alignment.realigned(0..20, &[63.0; 3], 1).realigned(80..91, &[63.0; 20], 2);
        for alignment in [&tuned, &timed, &gone, &other, &middle, &ends] {
            let one = |pair: &[[usize; 2]]| (0..2).all(|k| pair[1][k] - pair[0][k] < 2) && pair[0] != pair[1];
            assert!(alignment.path.windows(2).all(one), "{:?}", alignment.path);
            let [take, reference] = alignment.blocks();
            assert_eq!(alignment.path.first(), Some(&[0, 0]));
            assert_eq!(alignment.path.last(), Some(&[take.pitch().len() - 1, reference.pitch().len() - 1]));
        }
        assert_eq!((gone.blocks()[0].pitch().len(), other.blocks()[0].pitch().len()), (98, 1));
    }

    #[test]
    fn every_length_aligns() {
        let speck = Contour::from_pitch(vec![0.0, 0.0, 0.0, 60.0, 0.0], HOP).unwrap();
        let one = Contour::from_pitch(vec![64.0], HOP).unwrap();
        let long = sing(&[(60.0, 4000), (62.0, 4001)]);
        for (a, b) in [(&speck, &one), (&one, &long), (&long, &speck), (&one, &one)] {
            let alignment = aligned(a, b);
            let columns = alignment.columns();
            assert_eq!(columns.len(), CHANNELS.len() * alignment.path.len());
            assert!(columns.iter().all(|x| x.is_finite()));
            assert_eq!(alignment.reference_on_performance(a, b).len(), a.len());
        }
    }

    #[test]
    fn the_reference_follows_the_performance() {
        let performance = sing(&[(0.0, 8), (62.5, 80), (66.5, 120), (0.0, 20), (69.5, 40), (0.0, 9)]);
        let reference = sing(&[(60.0, 80), (64.0, 40), (0.0, 12), (67.0, 40)]);
        let mapped = aligned(&performance, &reference).reference_on_performance(&performance, &reference);
        assert_eq!(mapped.len(), performance.len());
        for (t, (&p, &r)) in performance.pitch().iter().zip(&mapped).enumerate() {
            assert!((p - r).abs() < 1e-4, "frame {t}: {p} {r}");
        }
    }

    #[test]
    fn refuses_other_hops_and_bad_options() {
        let other = Contour::from_pitch(vec![60.0], 0.01).unwrap();
        let tune = sing(&TUNE);
        assert!(align(&tune, &other, &AlignOptions::default()).is_err());
        for options in [
            AlignOptions { block: 0.0, ..Default::default() },
            AlignOptions { band: f64::NAN, ..Default::default() },
            AlignOptions { min_band: 9, max_band: 8, ..Default::default() },
        ] {
            assert!(align(&tune, &tune, &options).is_err());
        }
        assert!(align(&tune, &tune, &AlignOptions { block: 1e30, ..Default::default() }).is_ok());
    }

    #[test]
    fn options_at_their_ends_align_or_say_why_not() {
        let long = sing(&[(60.0, 40_000), (62.0, 40_000)]);
        let (short, one) = (sing(&TUNE), sing(&[(60.0, 1)]));
        let widest = AlignOptions { band: 1.0, max_band: usize::MAX, ..AlignOptions::default() };
        let all = AlignOptions { min_band: usize::MAX, ..widest.clone() };
        let none = AlignOptions { band: 0.0, min_band: 0, max_band: 0, ..AlignOptions::default() };
        let finest = AlignOptions { block: f64::MIN_POSITIVE, ..AlignOptions::default() };
        let coarsest = AlignOptions { block: f64::MAX, ..AlignOptions::default() };
        for options in [&widest, &all, &none, &finest, &coarsest] {
            for (a, b) in [(&short, &short), (&short, &one), (&one, &short), (&one, &one)] {
                assert!(!align(a, b, options).unwrap().path.is_empty());
            }
        }
        let frames = AlignOptions { block: HOP, ..all };
        let refused = align(&long, &long, &frames).unwrap_err().to_string();
        assert!(refused.contains("80000 blocks against 80000") && refused.contains("cells"), "{refused}");
        for (block, band, min_band, max_band) in [
            (0.0, 0.3, 1, 2),
            (f64::NAN, 0.3, 1, 2),
            (f64::INFINITY, 0.3, 1, 2),
            (0.1, f64::NAN, 1, 2),
            (0.1, 1.1, 1, 2),
            (0.1, 0.3, 2, 1),
        ] {
            let options = AlignOptions { block, band, min_band, max_band };
            assert!(align(&short, &short, &options).is_err(), "{options:?}");
        }
    }
}
