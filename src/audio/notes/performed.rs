//! How each note of a melody was performed, for people to read.

use super::guide::Heard;
use super::reading::{Core, Piece, Reading, WRONG, What};
use crate::names::named;
use std::ops::Range;

/// What became of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was performed within half a semitone.
    Right,
    /// It was performed half a semitone off or more.
    Wrong,
    /// It was left out.
    Missing,
    /// It is not in the melody.
    Extra,
}

named!(Outcome, "outcome": Right "right", Wrong "wrong", Missing "missing", Extra "extra");

/// A note of the melody, or one that is not in it, as a take performs it. Times are in seconds to the nearest block, 23 ms.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformedNote {
    /// What became of it.
    pub outcome: Outcome,
    /// Its number in the melody from 0, and its MIDI pitch there; `None` of an extra note.
    pub written: Option<(usize, f32)>,
    /// Where it sounds in the take, from the take's first frame: of a missing note, where it should.
    pub span: Range<f64>,
    /// What of the take is this note's: from where it begins, or should, to where the next does, pauses included. A note that
    /// begins late and ends in time has the wait before it as well. Together these are the whole take, from its first voiced
    /// block to its last.
    pub part: Range<f64>,
    /// When it should sound by the notes around it, as [`PerformedNote::late`] counts, and as long as the take's tempo makes it,
    /// which may begin before the take; `None` of an extra note, and of one that no other is heard beside.
    pub due: Option<Range<f64>>,
    /// MIDI pitch at which it was performed; `None` of a missing note.
    pub pitch: Option<f32>,
    /// How far it is off, in cents in −600..=600, in the take's own key and any octave; `None` of a missing or extra note.
    pub cents: Option<f32>,
    /// How much later it begins than where most of the four notes before it and the three after it agree that it should, at the
    /// take's tempo; `None` of a missing or extra note.
    pub late: Option<f64>,
    /// How much longer it is held than the take's tempo makes it; `None` of a missing or extra note.
    pub longer: Option<f64>,
}

/// A take of a melody, note by note.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Performed {
    /// Semitones from the melody's key up to the take's, octaves included.
    pub key: f32,
    /// Seconds of the take for each of the melody: above 1 where it is slower.
    pub tempo: f64,
    /// In order of time: every note of the melody, and what is not in it.
    pub notes: Vec<PerformedNote>,
}

impl Performed {
    /// A take as it was heard, beside the first reference: the score, or the most typical take.
    pub fn of(heard: &Heard) -> Self {
        let Some((alignment, sung)) = heard.alignments.first().zip(heard.notes.first()) else {
            return Self::default();
        };
        let [take, _] = alignment.blocks();
        let reading = Reading::of(alignment, sung);
        let seconds = take.frames() as f64 * take.hop();
        let from_start = |block: f64| (take.start() as f64 + block) * seconds;
        let at = |blocks: &Range<usize>| from_start(blocks.start as f64)..from_start(blocks.end as f64);
        let note = |piece: &Piece| {
            let part = at(&piece.blocks);
            let number = match &piece.what {
                What::Extra(extra) => {
                    return PerformedNote {
                        pitch: Some(extra.pitch),
                        ..PerformedNote::unknown(Outcome::Extra, at(&(extra.start..extra.end)), part)
                    };
                }
                What::Written(number) => *number,
            };
            let length = reading.length(number);
            let begins = reading.due[number];
            let written = PerformedNote {
                written: Some((number, reading.followed.notes[number].pitch)),
                due: begins.map(|block| from_start(block)..from_start(block + length)),
                ..PerformedNote::unknown(
                    Outcome::Missing,
                    part.start..part.end.min(part.start + length * seconds),
                    part,
                )
            };
            let Some(Core { blocks, pitch, off }) = &reading.cores[number] else { return written };
            PerformedNote {
                outcome: if off.abs() < WRONG { Outcome::Right } else { Outcome::Wrong },
                span: at(blocks),
                pitch: Some(*pitch),
                cents: Some(100.0 * off),
                late: begins.map(|block| (blocks.start as f64 - block) * seconds),
                longer: Some((blocks.len() as f64 - length) * seconds),
                ..written
            }
        };
        let notes = reading.pieces.iter().map(note).collect();
        Self { key: reading.followed.key, tempo: reading.followed.tempo, notes }
    }
}

impl PerformedNote {
    /// One of which nothing else is known.
    pub(crate) fn unknown(outcome: Outcome, span: Range<f64>, part: Range<f64>) -> Self {
        Self {
            outcome,
            written: None,
            span,
            part,
            due: None,
            pitch: None,
            cents: None,
            late: None,
            longer: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::align::AlignOptions;
    use super::super::super::contour::{Contour, HOP, Span};
    use super::super::guide::Guide;
    use super::super::tune::sing;
    use super::*;

    /// Frames of 5.8 ms, 40 to a note: 10 blocks.
    const MELODY: [f32; 10] = [60.0, 62.0, 64.0, 65.0, 67.0, 65.0, 64.0, 62.0, 60.0, 67.0];
    const BLOCK: f64 = 4.0 * HOP;

    fn performed(take: &[(f32, usize)]) -> Performed {
        let span = |(i, &pitch): (usize, &f32)| Span { pitch, start: 40 * i, end: 40 * i + 40 };
        let score = Contour::from_notes(MELODY.iter().enumerate().map(span).collect(), HOP).unwrap();
        let guide = Guide::of(&[&score], 6, &AlignOptions::default()).unwrap();
        Performed::of(&guide.hear(&sing(take, 0.0)).unwrap())
    }

    /// The melody, five semitones lower and a fifth faster.
    fn take() -> Vec<(f32, usize)> {
        MELODY.iter().map(|pitch| (pitch - 5.0, 32)).collect()
    }

    fn outcomes(performed: &Performed) -> String {
        performed.notes.iter().map(|note| &note.outcome.name()[..1]).collect()
    }

    #[test]
    fn what_is_right_is_right_in_any_key_and_tempo() {
        let take = performed(&[&[(0.0, 100)], &take()[..]].concat());
        assert_eq!(outcomes(&take), "rrrrrrrrrr");
        assert!(
            (take.key + 5.0).abs() < 1e-3 && (take.tempo - 0.8).abs() < 1e-3,
            "{} {}",
            take.key,
            take.tempo
        );
        for (i, note) in take.notes.iter().enumerate() {
            assert_eq!(note.written, Some((i, MELODY[i])));
            assert!((note.pitch.unwrap() - MELODY[i] + 5.0).abs() < 1e-3 && note.cents.unwrap().abs() < 0.1);
            assert!((note.span.start - (100 + 32 * i) as f64 * HOP).abs() < 1e-9);
            assert!(note.late.unwrap().abs() < 1e-3 && note.longer.unwrap().abs() < 1e-3, "{note:?}");
            let due = note.due.as_ref().unwrap();
            assert!((due.start - note.span.start).abs() < 1e-3 && (due.end - note.span.end).abs() < 1e-3);
        }
        assert!(take.notes.windows(2).all(|pair| pair[0].part.end == pair[1].part.start));
    }

    #[test]
    fn each_error_is_what_it_is_and_where() {
        let mut wrong = take();
        wrong[4].0 += 1.5;
        let wrong = performed(&wrong);
        assert_eq!(outcomes(&wrong), "rrrrwrrrrr");
        assert!((wrong.notes[4].cents.unwrap() - 150.0).abs() < 1.0);

        let mut missing = take();
        missing[6].0 = 0.0;
        let silent = performed(&missing);
        assert_eq!(outcomes(&silent), "rrrrrrmrrr");
        assert!((silent.notes[6].span.start - 6.0 * 32.0 * HOP).abs() < 2.0 * BLOCK);
        let due = silent.notes[6].due.as_ref().unwrap();
        assert!((due.start - 6.0 * 32.0 * HOP).abs() < BLOCK && (due.end - 7.0 * 32.0 * HOP).abs() < BLOCK);
        missing.remove(6);
        assert_eq!(outcomes(&performed(&missing)), "rrrrrrmrrr");
        // The note before, dying away, is not the one that is left out.
        let mut echo = take();
        echo.splice(6..7, [(echo[5].0, 16), (0.0, 16)]);
        assert_eq!(outcomes(&performed(&echo)), "rrrrrrmrrr");

        let mut extra = take();
        extra.insert(3, (66.0, 32));
        let extra = performed(&extra);
        assert_eq!(outcomes(&extra), "rrrerrrrrrr");
        assert_eq!((extra.notes[3].written, extra.notes[3].pitch), (None, Some(66.0)));

        // The note that is held waits for none, the next one comes late by as much, and no other does.
        let mut held = take();
        held[3].1 += 40;
        let held = performed(&held);
        let late: Vec<f64> = held.notes.iter().map(|note| (note.late.unwrap() / HOP).round()).collect();
        let longer: Vec<f64> = held.notes.iter().map(|note| (note.longer.unwrap() / HOP).round()).collect();
        assert_eq!(late, [0.0, 0.0, 0.0, 0.0, 40.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(longer, [0.0, 0.0, 0.0, 40.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    /// Where each note's part begins, in frames.
    fn begins(take: &Performed) -> Vec<f64> {
        take.notes.iter().map(|note| (note.part.start / HOP).round()).collect()
    }

    #[test]
    fn what_belongs_to_a_note_begins_where_it_should_have_begun() {
        let even: Vec<f64> = (0..10).map(|i| f64::from(32 * i)).collect();
        assert_eq!(begins(&performed(&take())), even);
        // It starts late and ends in time, after silence or while the note before rings on.
        for before in [0.0, 60.0] {
            let mut late = take();
            late.splice(4..5, [(before, 16), (late[4].0, 16)]);
            let late = performed(&late);
            let begins_late = late.notes[4].late.is_some_and(|late| (late - 16.0 * HOP).abs() < 1e-6);
            assert!(begins_late, "{before}: {:?}", &late.notes[3..6]);
            assert_eq!(begins(&late), even);
        }
        // It waits for a note that is held, or for none, and is as long as it should be: the wait is not its own.
        for held in [0.0, 60.0] {
            let mut waits = take();
            waits.insert(4, (held, 40));
            let starts: Vec<f64> = even.iter().map(|&at| if at > 100.0 { at + 40.0 } else { at }).collect();
            assert_eq!(begins(&performed(&waits)), starts);
        }
        // What rings through the rest of a missing note is that note's, and what is not in the melody is no note's.
        let mut missing = take();
        missing.splice(6..7, [(missing[5].0, 16), (0.0, 16)]);
        assert_eq!(begins(&performed(&missing)), even);
        let mut extra = take();
        extra.insert(3, (66.0, 32));
        let extra = performed(&extra);
        assert_eq!(begins(&extra), (0..11).map(|i| f64::from(32 * i)).collect::<Vec<_>>());
        assert_eq!(extra.notes[3].outcome, Outcome::Extra);
        let end = extra.notes.last().unwrap().part.end;
        assert!((end - 11.0 * 32.0 * HOP).abs() < 1e-9);
    }

    #[test]
    fn notes_held_too_long_do_not_slow_the_take() {
        let mut held = take();
        let by = [0, 40, 24, 0, 0, 0, 32, 48, 0, 0];
        held.iter_mut().zip(by).for_each(|(note, by)| note.1 += by);
        let held = performed(&held);
        assert!((held.tempo - 0.8).abs() < 0.02, "{}", held.tempo);
        for (note, by) in held.notes.iter().zip(by) {
            assert!((note.longer.unwrap() / HOP - by as f64).abs() < 2.0, "{note:?}");
        }
    }

    #[test]
    fn what_sounds_begins_in_its_own_part_however_it_is_performed() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 20) % below) as usize
        };
        for _ in 0..500 {
            let (mut tune, mut before) = (Vec::new(), 0.0);
            for (pitch, frames) in take() {
                let rest = if random(2) == 0 { 0.0 } else { before };
                match random(8) {
                    0 => tune.push((rest, frames)),
                    1 => tune.extend([(rest, frames - 8), (pitch, 8)]),
                    2 => tune.push((pitch, frames + random(60))),
                    3 => tune.extend([(pitch + 3.0, 16), (pitch, frames)]),
                    4 => tune.push((pitch + 1.0 + random(3) as f32, frames)),
                    5 => tune.extend([(0.0, random(60)), (pitch, frames)]),
                    _ => tune.push((pitch, frames)),
                }
                before = pitch;
            }
            let done = performed(&tune);
            assert!(done.notes.windows(2).all(|pair| pair[0].part.end == pair[1].part.start), "{tune:?}");
            for note in done.notes.iter().filter(|note| note.pitch.is_some()) {
                assert!(note.part.contains(&note.span.start), "{note:?} of {tune:?}");
            }
        }
    }

    #[test]
    fn the_least_there_is_has_its_notes() {
        let one = performed(&[(55.0, 1)]);
        assert_eq!(one.notes.iter().filter(|note| note.written.is_some()).count(), 10);
        assert!(one.notes.iter().all(|note| note.span.start <= note.span.end && note.span.end.is_finite()));
        let long = performed(&[(55.0, 4000), (60.0, 4000)]);
        assert_eq!(long.notes.iter().filter(|note| note.written.is_some()).count(), 10);
    }
}
