//! Where each note of a melody is in a take, by pitch and by time.
//!
//! The path of an alignment minds pitch alone: a wrong note that is sung as long as the right one is left to the note before or
//! after, whichever is nearer in pitch. Here every note has a length to keep to as well: a hidden semi-Markov model, as in score
//! following (Raphael 1999; Cont 2010), solved for the likeliest segmentation.

use super::super::align::Alignment;
use super::super::blocks::fold;
use super::note::{Note, SHORTEST};
use super::statistics::densest;
use super::sung::Sung;
use std::ops::Range;

/// What a block costs that is off by a semitone or more. What is nearer than a quarter of a semitone costs nothing.
const OFF: f32 = 0.5;
/// What an unvoiced block costs in a note.
const UNVOICED: f32 = 0.3;
/// What a voiced block costs in a rest and after the last note: notes die away, rooms hum. Before the first it is off.
const SOUND: f32 = 0.2;
/// What a block costs, voiced or not, between two notes that no rest is between: one that is not in the melody, a breath.
const BETWEEN: f32 = 0.35;
/// What a length costs that is e times what it should be, in blocks that are off; one of 0 is a note left out.
const LENGTH: f32 = 4.0;
/// How far from where the alignment has it a note begins at most, in blocks: 6 s.
const REACH: usize = 256;
/// How often the notes are placed at the tempo that they had before: first that of the alignment.
const ROUNDS: usize = 2;
/// Logarithms of tempi this far apart, a fifth, say nothing of each other.
const ALIKE: f64 = 0.2;
/// A take is this many times as slow as the melody at most, or as fast.
const SLOWEST: f64 = 10.0;

/// The notes of a melody in a take.
pub(super) struct Followed {
    /// In the time, octave and key of the reference.
    pub notes: Vec<Note>,
    /// The blocks of the take, from its first voiced one, in which each is: in order, none overlapping another, empty where one
    /// is left out.
    pub places: Vec<Range<usize>>,
    /// Semitones from the reference up to the take.
    pub key: f32,
    /// Blocks of the take for each of the reference.
    pub tempo: f64,
}

impl Followed {
    /// Of the notes that an alignment to a reference has `sung`.
    pub(super) fn of(alignment: &Alignment, sung: &[Sung]) -> Self {
        let take = alignment.blocks()[0].pitch();
        let key = alignment.octave + alignment.shift;
        let notes: Vec<Note> = sung.iter().map(|sung| sung.note).collect();
        let near: Vec<Range<usize>> = sung.iter().map(|sung| sung.blocks.clone()).collect();
        let mut followed = Self { tempo: tempo(&notes, &near), places: near.clone(), notes, key };
        for _ in 0..ROUNDS {
            followed.places = follow(take, &followed.notes, &near, key, followed.tempo);
            followed.tempo = tempo(&followed.notes, &followed.places);
        }
        followed
    }
}

/// Blocks of the take for each of the melody: where the slopes from any onset to the next and the one after that lie densest, so
/// that notes held too long and those that are not in the melody do not slow the whole take, however many there are; of fewer
/// than three slopes the ratio of lengths.
fn tempo(notes: &[Note], places: &[Range<usize>]) -> f64 {
    let there =
        |(note, place): (&Note, &Range<usize>)| (!place.is_empty()).then_some((note.start, place.start));
    let onsets: Vec<(usize, usize)> = notes.iter().zip(places).filter_map(there).collect();
    let logarithm = |a: &(usize, usize), b: &(usize, usize)| {
        // An alignment can have two notes begin at once.
        (b.0 > a.0 && b.1 > a.1).then(|| ((b.1 - a.1) as f64 / (b.0 - a.0) as f64).ln())
    };
    let near = onsets.windows(2).filter_map(|pair| logarithm(&pair[0], &pair[1]));
    let far = onsets.windows(3).filter_map(|three| logarithm(&three[0], &three[2]));
    let mut slopes: Vec<f64> = near.chain(far).collect();
    if slopes.len() > 2 {
        return densest(&mut slopes, ALIKE).exp().clamp(SLOWEST.recip(), SLOWEST);
    }
    let sung: usize = places.iter().map(Range::len).sum();
    let written: usize = notes.iter().map(Note::blocks).sum();
    (sung.max(1) as f64 / written.max(1) as f64).clamp(SLOWEST.recip(), SLOWEST)
}

/// A note, or what is between two.
struct Unit {
    kind: Kind,
    /// Blocks that it should last; of a gap that it lasts at most, and any number is right.
    length: f32,
    /// Where its end may be.
    ends: Range<usize>,
}

/// The blocks of `take`, pitches per block and 0.0 where unvoiced, in which each of the `notes` is: in order, none overlapping
/// another, empty where it is left out. The take is `key` semitones higher and `tempo` times as slow; `near` is where an
/// alignment has the notes.
///
/// Takes `O(notes · 512 · L)` steps for lengths of up to L blocks.
fn follow(take: &[f32], notes: &[Note], near: &[Range<usize>], key: f32, tempo: f64) -> Vec<Range<usize>> {
    let (units, of_note) = units(take.len(), notes, near, key, tempo);
    let [before, after] =
        [OFF, SOUND].map(|sound| sums(take.iter().map(|&p| if p > 0.0 { sound } else { 0.0 })));
    // The least cost up to each block at which the unit before may end, and of each unit where it then begins.
    let (mut ends, mut costs) = (0..take.len() + 1, before);
    let mut begins: Vec<Vec<usize>> = Vec::with_capacity(units.len());
    for unit in &units {
        let of_blocks = sums(take[ends.start..unit.ends.end - 1].iter().map(|&p| unit.cost(p)));
        let cost_of = |from: usize, to: usize| of_blocks[to - ends.start] - of_blocks[from - ends.start];
        // No end is out of reach, however far apart the alignment has two notes.
        let most = ((4.0 * unit.length) as usize + 4 * SHORTEST).max(unit.ends.end.saturating_sub(ends.end));
        let by_length: Vec<f32> = (0..=most).map(|blocks| unit.cost_of_length(blocks)).collect();
        let mut here = vec![(f32::INFINITY, unit.ends.start); unit.ends.len()];
        for (to, best) in unit.ends.clone().zip(&mut here) {
            for from in ends.start.max(to.saturating_sub(most))..ends.end.min(to + 1) {
                let cost = costs[from - ends.start] + cost_of(from, to) + by_length[to - from];
                if cost < best.0 {
                    *best = (cost, from);
                }
            }
        }
        (ends, costs) = (unit.ends.clone(), here.iter().map(|best| best.0).collect());
        begins.push(here.into_iter().map(|best| best.1).collect());
    }
    let rest = |end: usize| after[take.len()] - after[end];
    let last = ends.clone().zip(&costs).min_by(|a, b| (a.1 + rest(a.0)).total_cmp(&(b.1 + rest(b.0))));
    let mut end = last.map_or(take.len(), |(end, _)| end);
    let mut places = vec![0..0; units.len()];
    for ((place, unit), begins) in places.iter_mut().zip(&units).zip(&begins).rev() {
        let begin = begins[end - unit.ends.start].min(end);
        *place = begin..end;
        end = begin;
    }
    of_note.into_iter().map(|unit| places[unit].clone()).collect()
}

/// The notes and what is between them, and which unit each note is. Where units may end rises from one to
/// the next, so that there is always a way through.
fn units(of: usize, notes: &[Note], near: &[Range<usize>], key: f32, tempo: f64) -> (Vec<Unit>, Vec<usize>) {
    let (mut units, mut of_note): (Vec<Unit>, Vec<usize>) = (Vec::new(), Vec::new());
    for (i, (note, near)) in notes.iter().zip(near).enumerate() {
        let length = |blocks: usize| (tempo * blocks as f64) as f32;
        let mut add = |kind: Kind, length: f32, end: usize| {
            let from = units.last().map_or(0, |unit| unit.ends.start).max(end.saturating_sub(REACH)).min(of);
            let to = units.last().map_or(0, |unit| unit.ends.end).max((end + REACH).min(of) + 1);
            units.push(Unit { kind, length, ends: from..to });
        };
        if let Some(before) = i.checked_sub(1).map(|before| &notes[before]) {
            match note.start >= before.end + SHORTEST {
                true => add(Kind::Rest, length(note.start - before.end), near.start),
                false => add(Kind::Gap, length(note.blocks()), near.start),
            }
        }
        add(Kind::Note(note.pitch + key), length(note.blocks()), near.end);
        of_note.push(units.len() - 1);
    }
    (units, of_note)
}

enum Kind {
    /// Of this pitch, in the take's octave and key.
    Note(f32),
    /// Of 4 blocks or more.
    Rest,
    /// Where no rest is written.
    Gap,
}

impl Unit {
    /// What so many blocks cost by their number.
    fn cost_of_length(&self, blocks: usize) -> f32 {
        match self.kind {
            Kind::Note(_) | Kind::Rest => LENGTH * ((blocks as f32 + 1.0) / (self.length + 1.0)).ln().abs(),
            Kind::Gap => 0.0,
        }
    }

    /// What a block of this pitch costs, 0 where unvoiced.
    fn cost(&self, pitch: f32) -> f32 {
        match (&self.kind, pitch > 0.0) {
            (Kind::Gap, _) => BETWEEN,
            (Kind::Rest, false) => 0.0,
            (Kind::Rest, true) => SOUND,
            (Kind::Note(_), false) => UNVOICED,
            (Kind::Note(wanted), true) => OFF * ((fold(pitch - wanted).abs() - 0.25) / 0.75).clamp(0.0, 1.0),
        }
    }
}

/// The sum of what is before each, and of all.
fn sums(costs: impl Iterator<Item = f32>) -> Vec<f32> {
    let add = |sum: &mut f32, cost: f32| {
        *sum += cost;
        Some(*sum)
    };
    std::iter::once(0.0).chain(costs.scan(0.0, add)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn melody(lengths: &[(f32, usize)]) -> Vec<Note> {
        let mut end = 0;
        let all = lengths.iter().map(|&(pitch, blocks)| {
            end += blocks;
            Note { pitch, start: end - blocks, end }
        });
        all.filter(|note| note.pitch > 0.0).collect()
    }

    fn sing(lengths: &[(f32, usize)]) -> Vec<f32> {
        lengths.iter().flat_map(|&(pitch, blocks)| std::iter::repeat_n(pitch, blocks)).collect()
    }

    const TUNE: [(f32, usize); 6] = [(60.0, 20), (64.0, 10), (0.0, 6), (67.0, 10), (65.0, 20), (60.0, 30)];

    /// The notes' places, where the alignment puts them all in the middle.
    fn places(take: &[(f32, usize)], key: f32, tempo: f64) -> Vec<Range<usize>> {
        let (take, notes) = (sing(take), melody(&TUNE));
        let middle = vec![take.len() / 2..take.len() / 2; notes.len()];
        follow(&take, &notes, &middle, key, tempo)
    }

    #[test]
    fn what_is_sung_right_is_where_it_is() {
        assert_eq!(places(&TUNE, 0.0, 1.0), [0..20, 20..30, 36..46, 46..66, 66..96]);
        let slower = TUNE.map(|(pitch, blocks)| (if pitch > 0.0 { pitch - 9.0 } else { 0.0 }, 2 * blocks));
        assert_eq!(places(&slower, 3.0, 2.0), [0..40, 40..60, 72..92, 92..132, 132..192]);
    }

    #[test]
    fn a_wrong_note_keeps_its_place_whatever_its_pitch() {
        for pitch in [61.0, 62.0, 65.0, 70.0] {
            let mut take = TUNE;
            take[3].0 = pitch;
            assert_eq!(places(&take, 0.0, 1.0), [0..20, 20..30, 36..46, 46..66, 66..96], "{pitch}");
        }
    }

    #[test]
    fn silence_in_place_of_a_note_is_its_place() {
        let mut take = TUNE;
        take[4].0 = 0.0;
        assert_eq!(places(&take, 0.0, 1.0)[3..], [46..66, 66..96]);
        // One that is skipped takes a little of the next.
        take[4].1 = 0;
        assert!(places(&take, 0.0, 1.0)[3].len() <= 5);
    }

    #[test]
    fn what_is_before_after_and_between_is_no_ones() {
        let take = [&[(50.0, 3), (0.0, 9)], &TUNE[..], &[(0.0, 20), (40.0, 5)]].concat();
        assert_eq!(places(&take, 0.0, 1.0), [12..32, 32..42, 48..58, 58..78, 78..108]);
        assert_eq!(places(&[(50.0, 1)], 0.0, 1.0).len(), 5);
        assert!(follow(&[60.0], &[], &[], 0.0, 1.0).is_empty());
        let far = follow(
            &[60.0; 4000],
            &melody(&TUNE),
            &[0..1, 1..2, 3000..3001, 3001..3002, 3002..4000],
            0.0,
            1.0,
        );
        assert!(far.windows(2).all(|pair| pair[0].end <= pair[1].start) && far[4].end <= 4000);
    }
}
