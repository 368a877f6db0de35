//! The likeliest path through bins of pitch, each voiced and unvoiced.

use super::candidates::{BINS, Seen};

/// How fast pitch moves at most, in octaves per second.
const FASTEST: f64 = 35.92;

/// The probability that the next frame is voiced where this one is not, or the reverse.
const SWITCH: f64 = 0.01;

/// Stands for a probability of 0, so that no path is impossible: a pitch may jump where nothing else explains what is seen.
const TINY: f64 = f64::MIN_POSITIVE;

/// The model. A state is a bin, voiced, or `bins` and a bin, unvoiced.
pub(super) struct Model {
    bins: usize,
    /// Bins that pitch moves at most from a frame to the next.
    reach: usize,
    /// Log probability of a move by so many bins, from 0 to `reach`, before it is normalised: a triangle.
    moves: Vec<f64>,
    /// Log of the sum of the moves out of a bin, fewer at the ends.
    sums: Vec<f64>,
    /// Log probabilities of keeping and of changing the voicing.
    stay: f64,
    switch: f64,
    /// Log probability of any other move.
    jump: f64,
}

/// The larger, in one instruction; none is NaN.
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The place of the largest, the first of equals.
fn largest(values: impl Iterator<Item = f64>) -> (usize, f64) {
    let first = |best: (usize, f64), this: (usize, f64)| if this.1 > best.1 { this } else { best };
    values.enumerate().fold((0, f64::NEG_INFINITY), first)
}

impl Model {
    /// Of so many bins, and frames `hop` seconds apart.
    pub(super) fn new(bins: usize, hop: f64) -> Self {
        let semitones = (FASTEST * 12.0 * hop).round_ties_even();
        let width = (semitones * BINS / 2.0).floor();
        let reach = (width as usize).min(bins - 1);
        let weight = |distance: usize| 1.0 - distance as f64 / (width + 1.0);
        let sum = |bin: usize| -> f64 {
            let (from, to) = (bin.saturating_sub(reach), (bin + reach).min(bins - 1));
            (from..=to).map(|other| weight(bin.abs_diff(other))).sum()
        };
        Self {
            bins,
            reach,
            moves: (0..=reach).map(|distance| weight(distance).ln()).collect(),
            sums: (0..bins).map(|bin| sum(bin).ln()).collect(),
            stay: (1.0 - SWITCH).ln(),
            switch: SWITCH.ln(),
            jump: TINY.ln(),
        }
    }

    /// The likeliest bin of each frame, `None` where unvoiced.
    pub(super) fn decode(&self, seen: &[Seen]) -> Vec<Option<u16>> {
        let bin = |state: usize| (state < self.bins).then_some(state as u16);
        self.path(seen).into_iter().map(bin).collect()
    }

    /// The likeliest state of each frame.
    ///
    /// Log likelihoods are kept at the first frame of each part of `seen` alone; on the way back those of its other frames are
    /// computed once more. So a part's take memory, not the recording's, and no pointers are kept.
    fn path(&self, seen: &[Seen]) -> Vec<usize> {
        let states = 2 * self.bins;
        let mut padded = vec![f64::NEG_INFINITY; self.bins + 2 * self.reach];
        let mut starts = Vec::with_capacity(seen.len());
        let (mut now, mut next) = (vec![-(states as f64).ln(); states], vec![0.0; states]);
        for (part, seen) in seen.iter().enumerate() {
            for frame in 0..seen.len() {
                if (part, frame) == (0, 0) {
                    self.observe(seen, frame, &mut now);
                } else {
                    self.step(&now, &mut next, &mut padded);
                    self.observe(seen, frame, &mut next);
                    std::mem::swap(&mut now, &mut next);
                }
                if frame == 0 {
                    starts.push(now.clone());
                }
            }
        }

        let mut path = Vec::with_capacity(seen.iter().map(Seen::len).sum());
        let mut after = None;
        let mut rows = Vec::new();
        for (seen, start) in seen.iter().zip(starts).rev() {
            rows.resize(seen.len() * states, 0.0);
            rows[..states].copy_from_slice(&start);
            for frame in 1..seen.len() {
                let (before, here) = rows.split_at_mut(frame * states);
                self.step(&before[(frame - 1) * states..], &mut here[..states], &mut padded);
                self.observe(seen, frame, &mut here[..states]);
            }
            for row in rows[..seen.len() * states].chunks_exact(states).rev() {
                let state = match after {
                    None => largest(row.iter().copied()).0,
                    Some(after) => self.before(row, after),
                };
                path.push(state);
                after = Some(state);
            }
        }
        path.reverse();
        path
    }

    /// The log likelihoods of a frame's states before anything is seen of it, from those of the frame before.
    fn step(&self, before: &[f64], to: &mut [f64], padded: &mut [f64]) {
        let (bins, reach) = (self.bins, self.reach);
        let anywhere = before.iter().copied().fold(f64::NEG_INFINITY, larger) + self.jump;
        let (voiced, unvoiced) = before.split_at(bins);
        let (to_voiced, to_unvoiced) = to.split_at_mut(bins);
        for (same, other, to) in [(voiced, unvoiced, to_voiced), (unvoiced, voiced, to_unvoiced)] {
            for (k, leave) in padded[reach..][..bins].iter_mut().enumerate() {
                *leave = larger(same[k] + self.stay, other[k] + self.switch) - self.sums[k];
            }
            to.fill(anywhere);
            for (distance, log) in self.moves.iter().enumerate() {
                let (left, right) =
                    (&padded[reach - distance..][..bins], &padded[reach + distance..][..bins]);
                for ((to, left), right) in to.iter_mut().zip(left).zip(right) {
                    *to = larger(*to, larger(*left, *right) + log);
                }
            }
        }
    }

    /// The state that the likeliest path into `state` comes from, as `step` reckons.
    fn before(&self, before: &[f64], state: usize) -> usize {
        let (bins, reach) = (self.bins, self.reach);
        let (is_unvoiced, bin) = (state >= bins, state % bins);
        let (from, to) = (bin.saturating_sub(reach), (bin + reach).min(bins - 1));
        let (mut best, mut most) = (0, f64::NEG_INFINITY);
        for other_half in [false, true] {
            let voicing = if other_half == is_unvoiced { self.stay } else { self.switch };
            for other in from..=to {
                let source = if other_half { bins + other } else { other };
                let log = before[source] + voicing - self.sums[other] + self.moves[bin.abs_diff(other)];
                if log > most {
                    (best, most) = (source, log);
                }
            }
        }
        let (anywhere, log) = largest(before.iter().copied());
        if log + self.jump > most { anywhere } else { best }
    }

    /// Adds the log likelihoods of what was seen in a frame.
    fn observe(&self, seen: &Seen, frame: usize, to: &mut [f64]) {
        let (voiced, unvoiced) = to.split_at_mut(self.bins);
        let none = ((1.0 - seen.voiced[frame]) / self.bins as f64 + TINY).ln();
        for value in unvoiced {
            *value += none;
        }
        // From candidate to candidate downwards, and the bins between them that have none.
        let mut above = self.bins;
        for candidate in seen.candidates(frame) {
            let bin = usize::from(candidate.bin);
            for value in &mut voiced[bin + 1..above] {
                *value += self.jump;
            }
            voiced[bin] += f64::from(candidate.log);
            above = bin;
        }
        for value in &mut voiced[..above] {
            *value += self.jump;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::{Candidate, Finder};
    use super::*;

    const BINS_HERE: usize = 71;
    const REACH: usize = 5;

    fn transition(from: usize, to: usize) -> f64 {
        let weight = |a: usize, b: usize| (1.0 - a.abs_diff(b) as f64 / (REACH + 1) as f64).max(0.0);
        let sum: f64 = (0..BINS_HERE).map(|other| weight(from % BINS_HERE, other)).sum();
        let voicing = if (from < BINS_HERE) == (to < BINS_HERE) { 0.99 } else { 0.01 };
        (voicing * weight(from % BINS_HERE, to % BINS_HERE) / sum + TINY).ln()
    }

    /// Log likelihoods of all states of each frame, by what was seen in it.
    fn observed(seen: &Seen) -> Vec<Vec<f64>> {
        let of = |frame: usize, state: usize| {
            let of_bin = |c: &&Candidate| usize::from(c.bin) == state;
            if state >= BINS_HERE {
                ((1.0 - seen.voiced[frame]) / BINS_HERE as f64 + TINY).ln()
            } else {
                seen.candidates(frame).iter().find(of_bin).map_or(TINY.ln(), |c| f64::from(c.log))
            }
        };
        (0..seen.len()).map(|frame| (0..2 * BINS_HERE).map(|state| of(frame, state)).collect()).collect()
    }

    /// The log likelihood of the likeliest path, by a matrix of all transitions.
    fn best(observed: &[Vec<f64>], transitions: &[Vec<f64>]) -> f64 {
        let mut row = observed[0].clone();
        for observed in &observed[1..] {
            let into = |to: usize| {
                row.iter().zip(transitions).map(|(log, from)| log + from[to]).fold(f64::MIN, f64::max)
            };
            row = (0..row.len()).map(|to| into(to) + observed[to]).collect();
        }
        row.into_iter().fold(f64::MIN, f64::max)
    }

    #[test]
    fn no_path_is_likelier_whatever_the_parts() {
        let mut state = 7_u32;
        let mut random = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            f64::from(state) / 2_f64.powi(32)
        };
        // A rate of 10 kHz and periods of 66 samples on. Troughs at random, some so deep that unvoiced is next to impossible:
        // paths that glide, switch and jump.
        let differences: Vec<Vec<f64>> = (0..90)
            .map(|frame| {
                let depth = [0.0, 0.05, 0.3, 0.9][frame / 4 % 4];
                let at = 1 + (random() * 30.0) as usize;
                let near = |i: usize| if i == at || (depth > 0.0 && i % 7 == 3) { depth } else { 1.0 };
                (0..34).map(|i| near(i) + 0.05 * depth * random()).collect()
            })
            .collect();
        let see = |part: usize| -> Vec<Seen> {
            let parts = differences.chunks(part).map(|differences| {
                let (mut finder, mut seen) = (Finder::new(10_000.0, 100.0, BINS_HERE, 66), Seen::default());
                differences.iter().for_each(|difference| finder.see(difference, &mut seen));
                seen
            });
            parts.collect()
        };
        let transitions: Vec<Vec<f64>> = (0..2 * BINS_HERE)
            .map(|from| (0..2 * BINS_HERE).map(|to| transition(from, to)).collect())
            .collect();
        let observed = observed(&see(90)[0]);
        let best = best(&observed, &transitions);
        // One semitone a frame.
        let model = Model::new(BINS_HERE, 1.0 / (12.0 * FASTEST));
        let path = model.path(&see(90));
        let (first, rest) = (observed[0][path[0]], path.windows(2).zip(&observed[1..]));
        let log =
            rest.fold(first, |log, (step, observed)| log + transitions[step[0]][step[1]] + observed[step[1]]);
        // Ties are many, so paths may differ; sums of a few thousand round to some 1e-12.
        assert!((log - best).abs() < 1e-9, "{log}, best {best}");
        let voiced = path.iter().filter(|state| **state < BINS_HERE).count();
        let jumps = path.windows(2).filter(|step| transitions[step[0]][step[1]] == TINY.ln()).count();
        assert!((20..70).contains(&voiced) && jumps > 1, "{voiced} voiced, {jumps} jumps");
        for part in [1, 2, 7, 45, 89] {
            assert_eq!(model.path(&see(part)), path, "parts of {part}");
        }
    }
}
