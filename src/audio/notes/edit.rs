//! The edit distance between the notes that a take was transcribed to and those of a melody (Wagner and Fischer, 1974), with
//! costs of this module's own.

use super::note::{Note, SHORTEST};

/// A note this near, in semitones, costs nothing.
const FREE: f32 = 0.3;
/// A wrong note costs at most this.
const WRONG: f32 = 1.2;
/// A note of the melody that was left out.
pub(crate) const DELETION: f32 = 0.8;
/// A note nearer than this, in semitones, is the melody's.
const MATCH: f32 = 0.5;
/// Notes to each side of the diagonal that the edits may stray: time grows with the length of a take, not its square.
const BAND: usize = 64;
/// What may be added to all pitches of the melody, in semitones: the shift was estimated from blocks.
const OFFSETS: [f32; 5] = [-0.4, -0.2, 0.0, 0.2, 0.4];

/// A step from the melody to the take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Edit {
    /// A note of the melody was sung, this far off in semitones, folded into 0..=6.
    Sung(f32),
    /// A note was sung that is not in the melody.
    Inserted,
    /// A note of the melody was left out.
    Deleted,
}

impl Edit {
    /// Whether it is the melody's note, within half a semitone.
    pub fn matches(self) -> bool {
        matches!(self, Self::Sung(distance) if distance < MATCH)
    }
}

/// How a take departs from a melody, note by note.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Edits {
    /// In order.
    pub steps: Vec<Edit>,
    /// The sum of their costs.
    pub cost: f32,
    /// Notes of the melody, and of the take.
    pub notes: [usize; 2],
}

/// The cheapest edits that turn the `melody`, moved by `by` semitones, into the `take`.
///
/// With `d` a distance in semitones folded into one octave, a note sung costs `min(max(d − 0.3, 0), 1.2)`, one inserted
/// `0.6·(0.3 + 0.7·min(ℓ/8, 1))` for its length `ℓ` in blocks, one deleted 0.8; of equal costs they are preferred in this
/// order. The cheapest of five offsets, `by` ± 0, 0.2 and 0.4, is kept, the lowest of equal ones. Of more than 64 notes the
/// edits stay within 64 of the diagonal. Takes `5·m·min(n, 129)` steps for `m` and `n` notes.
pub fn edits(melody: &[Note], take: &[Note], by: f32) -> Edits {
    cheapest(melody, take, by, false)
}

/// As [`edits`], of a score: notes of one pitch that follow each other at once, or after less than 4 blocks, may be one of the
/// take, which then has 4 blocks or more for each. A transcription cannot tell where one is sung after the other without a break.
pub(super) fn edits_of_score(melody: &[Note], take: &[Note], by: f32) -> Edits {
    cheapest(melody, take, by, true)
}

fn cheapest(melody: &[Note], take: &[Note], by: f32, joined: bool) -> Edits {
    let all = OFFSETS.map(|offset| at_offset(melody, take, by + offset, joined));
    all.into_iter().reduce(|best, next| if next.cost < best.cost { next } else { best }).unwrap_or_default()
}

/// The cost of a note that is sung so far off, in semitones.
pub(crate) fn substitution(distance: f32) -> f32 {
    (distance - FREE).clamp(0.0, WRONG)
}

/// The cost of a note of so many blocks that is not in the melody.
pub(crate) fn insertion(blocks: usize) -> f32 {
    0.6 * (0.3 + 0.7 * (blocks as f32 / 8.0).min(1.0))
}

/// The size of a difference of pitch, in semitones folded into 0..=6: as [`super::super::blocks::fold`] has it, for
/// differences below 2^24, and several times as fast where rounding is a call.
fn distance(x: f32) -> f32 {
    // What is added leaves no bit for fractions, which so are rounded; of ties both ways are as far.
    const WHOLE: f32 = 12_582_912.0;
    (x - 12.0 * (x / 12.0 + WHOLE - WHOLE)).abs()
}

fn at_offset(melody: &[Note], take: &[Note], by: f32, joined: bool) -> Edits {
    let (m, n) = (melody.len(), take.len());
    let repeats = |i: usize| {
        joined && melody[i].pitch == melody[i - 1].pitch && melody[i].start < melody[i - 1].end + SHORTEST
    };
    let distance = |i: usize, j: usize| distance(take[j].pitch - melody[i].pitch - by);
    // The cheapest edits of the first i notes and the first j, the last of these, and how many notes of the melody it ends.
    let mut table = vec![(f32::INFINITY, Edit::Deleted, 1_u32); (m + 1) * (n + 1)];
    table[0].0 = 0.0;
    // As wide as one row goes on from the last.
    let band = BAND + n / m.max(1);
    for i in 0..=m {
        let diagonal = i * n / m.max(1);
        for j in diagonal.saturating_sub(band)..=(diagonal + band).min(n) {
            let at = i * (n + 1) + j;
            let mut best = (f32::INFINITY, Edit::Deleted, 1);
            if i > 0 && j > 0 {
                let d = distance(i - 1, j - 1);
                best = (table[at - n - 2].0 + substitution(d), Edit::Sung(d), 1);
                let most = take[j - 1].blocks() / SHORTEST;
                for of in (2..=most.min(i)).take_while(|of| repeats(i + 1 - of)) {
                    let cost = table[(i - of) * (n + 1) + j - 1].0 + substitution(d);
                    if cost < best.0 {
                        best = (cost, Edit::Sung(d), of as u32);
                    }
                }
            }
            if j > 0 && table[at - 1].0 + insertion(take[j - 1].blocks()) < best.0 {
                best = (table[at - 1].0 + insertion(take[j - 1].blocks()), Edit::Inserted, 1);
            }
            if i > 0 && table[at - n - 1].0 + DELETION < best.0 {
                best = (table[at - n - 1].0 + DELETION, Edit::Deleted, 1);
            }
            if i + j > 0 {
                table[at] = best;
            }
        }
    }
    let (mut i, mut j) = (m, n);
    let mut steps = Vec::new();
    while i + j > 0 {
        let (_, step, of) = table[i * (n + 1) + j];
        let of = of as usize;
        steps.extend(std::iter::repeat_n(step, of));
        i -= if step == Edit::Inserted { 0 } else { of };
        j -= usize::from(step != Edit::Deleted);
    }
    steps.reverse();
    Edits { steps, cost: table[m * (n + 1) + n].0, notes: [m, n] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(pitches: &[f32]) -> Vec<Note> {
        let note = |(i, &pitch): (usize, &f32)| Note { pitch, start: 8 * i, end: 8 * i + 8 };
        pitches.iter().enumerate().map(note).collect()
    }

    #[test]
    fn each_planted_error_is_the_edit_that_it_is() {
        let melody = notes(&[60.0, 62.0, 64.0, 65.0]);
        let right = edits(&melody, &notes(&[65.0, 67.0, 69.0, 70.0]), 5.0);
        assert_eq!((right.cost, right.steps.len()), (0.0, 4));
        assert!(right.steps.iter().all(|step| step.matches()));
        // An octave off is right, a semitone is not.
        let slipped = edits(&melody, &notes(&[72.0, 63.0, 52.0, 65.0]), 0.0);
        let matches: Vec<bool> = slipped.steps.iter().map(|step| step.matches()).collect();
        assert_eq!(matches, [true, false, true, true]);
        // A semitone less 0.2, which all others may be off by, less 0.3.
        assert!((slipped.cost - 0.5).abs() < 1e-5);
        let extra = edits(&melody, &notes(&[60.0, 62.0, 68.0, 64.0, 65.0]), 0.0);
        assert_eq!(extra.steps[2], Edit::Inserted);
        assert!((extra.cost - 0.6).abs() < 1e-6);
        let missing = edits(&melody, &notes(&[60.0, 64.0, 65.0]), 0.0);
        assert_eq!((missing.steps[1], missing.cost), (Edit::Deleted, 0.8));
        assert_eq!((missing.notes, edits(&melody, &[], 0.0).cost), ([4, 3], 3.2));
        assert!((edits(&melody[..1], &notes(&[62.0; 500]), 0.0).cost - (1.2 + 499.0 * 0.6)).abs() < 0.01);
        assert_eq!(edits(&[], &[], 0.0), Edits::default());
    }

    #[test]
    fn notes_of_a_score_at_one_pitch_may_be_sung_without_a_break() {
        let melody = notes(&[60.0, 60.0, 60.0, 64.0]);
        let held = [Note { pitch: 60.0, start: 0, end: 24 }, Note { pitch: 64.0, start: 24, end: 32 }];
        let right = edits_of_score(&melody, &held, 0.0);
        assert_eq!((right.cost, right.steps.len(), right.notes), (0.0, 4, [4, 2]));
        assert!(right.steps.iter().all(|step| step.matches()));
        // Sung apart they are right too; takes agree on no such notes, and one too short for three is not three.
        assert_eq!(edits_of_score(&melody, &melody, 0.0).cost, 0.0);
        assert_eq!(edits(&melody, &held, 0.0).cost, 1.6);
        let short = [Note { end: 11, ..held[0] }, held[1]];
        assert_eq!(edits_of_score(&melody, &short, 0.0).cost, 0.8);
        // A pause between them is a break.
        let mut apart = melody.clone();
        apart.iter_mut().skip(1).for_each(|note| (note.start, note.end) = (note.start + 4, note.end + 4));
        assert_eq!(edits_of_score(&apart, &held, 0.0).cost, 0.8);
    }

    #[test]
    fn distances_are_folded_as_elsewhere() {
        for k in -60_000..60_000 {
            let x = k as f32 / 100.0;
            assert_eq!(distance(x), super::super::super::blocks::fold(x).abs(), "{x}");
        }
    }

    #[test]
    fn long_takes_are_compared_near_the_diagonal() {
        let melody: Vec<f32> = (0..400).map(|i| 60.0 + (i * 7 % 12) as f32).collect();
        let mut take = melody.clone();
        take.drain(100..130);
        let edits = edits(&notes(&melody), &notes(&take), 0.0);
        let count = |step: fn(&Edit) -> bool| edits.steps.iter().filter(|s| step(s)).count();
        assert_eq!((count(|s| *s == Edit::Deleted), count(|s| *s == Edit::Inserted)), (30, 0));
        assert!((edits.cost - 30.0 * DELETION).abs() < 1e-3);
    }

    #[test]
    fn a_take_that_is_all_a_little_sharp_is_right() {
        let melody = notes(&[60.0, 62.0, 64.0]);
        let sharp = edits(&melody, &notes(&[60.7, 62.7, 64.7]), 0.0);
        assert!(sharp.cost < 1e-5);
        let apart = edits(&melody, &notes(&[60.7, 61.3, 64.7]), 0.0);
        assert!(apart.cost > 0.5, "{}", apart.cost);
    }
}
