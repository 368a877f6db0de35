//! How each note of a melody was performed, for people to read.

use super::super::blocks::fold;
use super::following::Followed;
use super::guide::Heard;
use super::note::Note;
use super::statistics::median;
use super::transcription::transcribe;
use crate::names::named;
use std::ops::Range;

/// A note this far off, in semitones, is another.
const WRONG: f32 = 0.5;
/// Blocks this near to the median of a note's middle, in semitones, are the note's.
const SAME: f32 = 1.0;
/// A note that is heard for a smaller share of what the take's tempo asks for is missing.
const LEAST: f64 = 0.2;
/// A wrong note that is heard for a smaller share of that, at the pitch of the note before or after, is a piece of that one.
const ECHO: f64 = 0.7;
/// Notes before and after one that say when it is due, at most. One more before than after, but for the first note: of what waits
/// for a note that is held too long only the next comes late.
const NEIGHBOURS: [usize; 2] = [4, 3];

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
    /// When it should sound by the notes around it, as [`PerformedNote::late`] counts, and as long as the take's tempo makes it,
    /// which may begin before the take; `None` of an extra note, and of one that no other is heard beside.
    pub due: Option<Range<f64>>,
    /// MIDI pitch at which it was performed; `None` of a missing note.
    pub pitch: Option<f32>,
    /// How far it is off, in cents in −600..=600, in the take's own key and any octave; `None` of a missing or extra note.
    pub cents: Option<f32>,
    /// How much later it begins than the four notes before it and the three after it say, by the median, at the take's tempo;
    /// `None` of a missing or extra note.
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
    /// Where each note of the melody is in the take with what follows it up to the next, in seconds: together the whole take from
    /// its first voiced block to its last.
    pub parts: Vec<Range<f64>>,
}

impl Performed {
    /// A take as it was heard, beside the first reference: the score, or the most typical take.
    pub fn of(heard: &Heard) -> Self {
        let Some((alignment, sung)) = heard.alignments.first().zip(heard.notes.first()) else {
            return Self::default();
        };
        let [take, _] = alignment.blocks();
        let followed = Followed::of(alignment, sung);
        let (key, tempo, notes, places) = (followed.key, followed.tempo, &followed.notes, &followed.places);
        let seconds = take.frames() as f64 * take.hop();
        let at = |blocks: &Range<usize>| {
            (take.start() + blocks.start) as f64 * seconds..(take.start() + blocks.end) as f64 * seconds
        };
        let cores = cores(take.pitch(), &followed);
        let mut performed = Vec::with_capacity(notes.len());
        let unknown = |outcome, span| PerformedNote {
            outcome,
            written: None,
            span,
            due: None,
            pitch: None,
            cents: None,
            late: None,
            longer: None,
        };
        for (i, note) in notes.iter().enumerate() {
            let written = Some((i, note.pitch));
            let begins = begins(i, notes, &cores, tempo);
            let due = begins.map(|block| {
                let start = (take.start() as f64 + block) * seconds;
                start..start + tempo * note.blocks() as f64 * seconds
            });
            let Some(Core { blocks, pitch, off }) = &cores[i] else {
                performed.push(PerformedNote { written, due, ..unknown(Outcome::Missing, at(&places[i])) });
                continue;
            };
            let late = begins.map(|block| (blocks.start as f64 - block) * seconds);
            performed.push(PerformedNote {
                written,
                due,
                pitch: Some(*pitch),
                cents: Some(100.0 * off),
                late,
                longer: Some((blocks.len() as f64 - tempo * note.blocks() as f64) * seconds),
                ..unknown(if off.abs() < WRONG { Outcome::Right } else { Outcome::Wrong }, at(blocks))
            });
        }
        for note in extra(take.pitch(), &cores) {
            let span = at(&(note.start..note.end));
            performed.push(PerformedNote { pitch: Some(note.pitch), ..unknown(Outcome::Extra, span) });
        }
        // Those of the melody are in order already.
        performed.sort_by(|a, b| a.span.start.total_cmp(&b.span.start));
        let parts = followed.parts(take.pitch().len()).iter().map(at).collect();
        Self { key, tempo, notes: performed, parts }
    }
}

/// The block in which a note should begin by its neighbours at a tempo; `None` where there is none.
fn begins(i: usize, notes: &[Note], cores: &[Option<Core>], tempo: f64) -> Option<f64> {
    let says = |k: usize| {
        let apart = notes[i].start as f64 - notes[k].start as f64;
        cores[k].as_ref().map(|core| (core.blocks.start as f64 + tempo * apart) as f32)
    };
    let [before, after] = NEIGHBOURS;
    let mut all: Vec<f32> = (0..i).rev().filter_map(says).take(before).collect();
    let after = if all.is_empty() { after } else { all.len() - 1 };
    all.extend((i + 1..notes.len()).filter_map(says).take(after));
    (!all.is_empty()).then(|| f64::from(median(&all)))
}

/// The notes that are heard.
fn cores(take: &[f32], followed: &Followed) -> Vec<Option<Core>> {
    let Followed { notes, places, key, tempo } = followed;
    let of = |(note, place): (&Note, &Range<usize>)| {
        let length = tempo * note.blocks() as f64;
        let core = Core::of(take, place, note.pitch + key)?;
        let heard = core.blocks.len() as f64;
        (heard > (LEAST * length).max(1.0)).then_some((core, heard < ECHO * length))
    };
    let all: Vec<Option<(Core, bool)>> = notes.iter().zip(places).map(of).collect();
    let same = |core: &Core, neighbour: Option<&Option<(Core, bool)>>| match neighbour {
        Some(Some((neighbour, _))) => (core.pitch - neighbour.pitch).abs() < SAME,
        _ => false,
    };
    let is_echo = |i: usize| {
        let Some((core, short)) = &all[i] else { return false };
        let [before, after] = [i.checked_sub(1).and_then(|i| all.get(i)), all.get(i + 1)];
        *short && core.off.abs() >= WRONG && (same(core, before) || same(core, after))
    };
    let echoes: Vec<bool> = (0..all.len()).map(is_echo).collect();
    all.into_iter().zip(echoes).map(|(core, echo)| core.map(|(core, _)| core).filter(|_| !echo)).collect()
}

/// A note as it is heard, without what is before and after it in its place: glides, what is left of the note before.
struct Core {
    blocks: Range<usize>,
    /// MIDI pitch: the median of its middle three fifths.
    pitch: f32,
    /// From what is written in the take's key, in semitones folded into −6..=6.
    off: f32,
}

impl Core {
    /// Of the note that should have a pitch, in its place; `None` where nothing is voiced.
    fn of(take: &[f32], place: &Range<usize>, wanted: f32) -> Option<Self> {
        let pitch = &take[place.clone()];
        let ends = if pitch.len() > 4 { pitch.len() / 5 } else { 0 };
        let voiced = |pitch: &[f32]| -> Vec<f32> { pitch.iter().copied().filter(|&p| p > 0.0).collect() };
        let middle = match voiced(&pitch[ends..pitch.len() - ends]) {
            none if none.is_empty() => median(&voiced(pitch)),
            middle => median(&middle),
        };
        let is_its = |&p: &f32| p > 0.0 && (p - middle).abs() < SAME;
        let (first, last) = (pitch.iter().position(is_its)?, pitch.iter().rposition(is_its)?);
        let blocks = place.start + first..place.start + last + 1;
        Some(Self { blocks, pitch: middle, off: fold(middle - wanted) })
    }
}

/// What was performed outside of all notes: transcribed notes of which more than half of the blocks are no note's.
fn extra(pitch: &[f32], notes: &[Option<Core>]) -> Vec<Note> {
    let mut free = vec![true; pitch.len()];
    notes.iter().flatten().for_each(|core| free[core.blocks.clone()].fill(false));
    let mut all = transcribe(pitch);
    all.retain(|note| 2 * free[note.start..note.end].iter().filter(|&&free| free).count() > note.blocks());
    all
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
        assert_eq!(take.parts.len(), 10);
        assert!(take.parts.windows(2).all(|pair| pair[0].end == pair[1].start));
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

    #[test]
    fn the_least_there_is_has_its_notes() {
        let one = performed(&[(55.0, 1)]);
        assert_eq!(
            (one.notes.iter().filter(|note| note.written.is_some()).count(), one.parts.len()),
            (10, 10)
        );
        assert!(one.notes.iter().all(|note| note.span.start <= note.span.end && note.span.end.is_finite()));
        let long = performed(&[(55.0, 4000), (60.0, 4000)]);
        assert_eq!(long.notes.iter().filter(|note| note.written.is_some()).count(), 10);
    }
}
