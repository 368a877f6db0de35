//! A take read note by note: where each note is heard, when it was due, what is not in the melody, and to what of these each
//! moment of the take belongs.

use super::super::align::Alignment;
use super::super::blocks::fold;
use super::following::Followed;
use super::note::Note;
use super::statistics::{densest, median};
use super::sung::Sung;
use super::transcription::transcribe;
use std::ops::Range;

/// A note this far off, in semitones, is another.
pub(super) const WRONG: f32 = 0.5;
/// Blocks this near to the median of a note's middle, in semitones, are the note's.
const SAME: f32 = 1.0;
/// A note that is heard for a smaller share of what the take's tempo asks for is missing.
const LEAST: f64 = 0.2;
/// A wrong note that is heard for a smaller share of that, at the pitch of the note before or after, is a piece of that one.
const ECHO: f64 = 0.7;
/// Notes before and after one that say when it is due, at most. One more before than after, but for the first note: of what waits
/// for a note that is held too long only the next comes late.
const NEIGHBOURS: [usize; 2] = [4, 3];

/// Blocks within which neighbours agree on when a note is due: 93 ms.
const AGREE: f64 = 4.0;
/// A note that begins late and ends at most this share of that off its time began in time, whatever is heard first.
const IN_TIME: f64 = 0.7;

/// A take beside a reference, note by note. All is in blocks of the take, from its first voiced one.
pub(super) struct Reading {
    pub followed: Followed,
    /// Of each note; `None` where it is missing.
    pub cores: Vec<Option<Core>>,
    /// When each note should begin by its neighbours; `None` where there is none.
    pub due: Vec<Option<f64>>,
    /// Every note, and what is not in the melody, in order of time.
    pub pieces: Vec<Piece>,
}

/// A stretch of a take. All of them together are the whole take, in order.
pub(super) struct Piece {
    pub what: What,
    pub blocks: Range<usize>,
}

/// What is to be heard in a piece.
pub(super) enum What {
    /// The note of this number, with the pause after it. It begins where the note sounds, or should where that is missing. A note
    /// that starts late and ends in time begins where it should: what rings on before it, and silence, is its own.
    Written(usize),
    /// What is not in the melody, up to the next note.
    Extra(Note),
}

impl Reading {
    /// Of the notes that an alignment to a reference has `sung`.
    pub(super) fn of(alignment: &Alignment, sung: &[Sung]) -> Self {
        let take = alignment.blocks()[0].pitch();
        let followed = Followed::of(alignment, sung);
        let cores = cores(take, &followed);
        let due: Vec<Option<f64>> =
            (0..cores.len()).map(|i| begins(i, &followed.notes, &cores, followed.tempo)).collect();
        let mut reading = Self { followed, cores, due, pieces: Vec::new() };
        reading.pieces = reading.pieces(take);
        reading
    }

    /// Blocks that a note should last at the take's tempo.
    pub(super) fn length(&self, note: usize) -> f64 {
        self.followed.tempo * self.followed.notes[note].blocks() as f64
    }

    fn pieces(&self, take: &[f32]) -> Vec<Piece> {
        let extra = extra(take, &self.cores);
        let mut starts: Vec<(usize, What)> = Vec::with_capacity(self.cores.len() + extra.len());
        // What is before this block is another note's: of one that sounds its beginning at least.
        let mut from = 0;
        for (i, core) in self.cores.iter().enumerate() {
            let start = self.start(i, from, &extra).clamp(from, take.len());
            starts.push((start, What::Written(i)));
            from = core.as_ref().map_or(start, |core| core.blocks.start + 1);
        }
        starts.extend(extra.into_iter().map(|note| (note.start, What::Extra(note))));
        // A stable sort: of those that begin together the melody's are first.
        starts.sort_by_key(|start| start.0);
        let ends: Vec<usize> = starts.iter().skip(1).map(|start| start.0).chain([take.len()]).collect();
        let piece = |(k, ((start, what), end)): (usize, ((usize, What), usize))| Piece {
            what,
            blocks: if k == 0 { 0 } else { start }..end,
        };
        starts.into_iter().zip(ends).enumerate().map(piece).collect()
    }

    /// Where the piece of a note begins: in block `from` or later, and after what is not in the melody.
    fn start(&self, note: usize, from: usize, extra: &[Note]) -> usize {
        let place = self.followed.places[note].start;
        let is_free = |from: usize, to: usize| !extra.iter().any(|extra| (from..to).contains(&extra.start));
        let core = self.cores[note].as_ref();
        let heard = core.map_or(place, |core| core.blocks.start);
        let own = if is_free(place, heard) { place } else { heard };
        let is_there = |due: &f64| (from as f64..own as f64).contains(due);
        let Some(due) = self.due[note].map(|due| due.max(0.0)).filter(is_there) else { return own };
        let ends_in_time = core.is_none_or(|core| {
            let off = core.blocks.end as f64 - (due + self.length(note));
            off.abs() <= IN_TIME * (core.blocks.start as f64 - due)
        });
        let due = due.round() as usize;
        if ends_in_time && is_free(due, own) { due } else { own }
    }
}

/// The block in which a note should begin by most of its neighbours at a tempo; `None` where there is none.
fn begins(i: usize, notes: &[Note], cores: &[Option<Core>], tempo: f64) -> Option<f64> {
    let says = |k: usize| {
        let apart = notes[i].start as f64 - notes[k].start as f64;
        cores[k].as_ref().map(|core| core.blocks.start as f64 + tempo * apart)
    };
    let [before, after] = NEIGHBOURS;
    let mut all: Vec<f64> = (0..i).rev().filter_map(says).take(before).collect();
    let after = if all.is_empty() { after } else { all.len() - 1 };
    all.extend((i + 1..notes.len()).filter_map(says).take(after));
    (!all.is_empty()).then(|| densest(&mut all, AGREE))
}

/// The notes that are heard.
fn cores(take: &[f32], followed: &Followed) -> Vec<Option<Core>> {
    let Followed { notes, places, key, tempo } = followed;
    let of = |(note, place): (&Note, &Range<usize>)| {
        let length = tempo * note.blocks() as f64;
        let enough = (LEAST * length).max(1.0);
        let core = Core::of(take, place, note.pitch + key, enough)?;
        let heard = core.blocks.len() as f64;
        (heard > enough).then_some((core, heard < ECHO * length))
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
pub(super) struct Core {
    pub blocks: Range<usize>,
    /// MIDI pitch: the median of its blocks.
    pub pitch: f32,
    /// From what is written in the take's key, in semitones folded into −6..=6.
    pub off: f32,
}

impl Core {
    /// Of the note that should have a pitch, in its place; `None` where nothing is voiced. Where it is heard for `enough` blocks
    /// as it should be, it is that, whatever else is in its place: a note that comes late has what rings before it there too.
    fn of(take: &[f32], place: &Range<usize>, wanted: f32, enough: f64) -> Option<Self> {
        let pitch = &take[place.clone()];
        let ends = if pitch.len() > 4 { pitch.len() / 5 } else { 0 };
        let voiced = |pitch: &[f32]| -> Vec<f32> { pitch.iter().copied().filter(|&p| p > 0.0).collect() };
        let mut right = voiced(pitch);
        right.retain(|p| fold(p - wanted).abs() < WRONG);
        let middle = match voiced(&pitch[ends..pitch.len() - ends]) {
            _ if right.len() as f64 > enough => median(&right),
            none if none.is_empty() => median(&voiced(pitch)),
            middle => median(&middle),
        };
        let is_its = |&p: &f32| p > 0.0 && (p - middle).abs() < SAME;
        let (first, last) = (pitch.iter().position(is_its)?, pitch.iter().rposition(is_its)?);
        let blocks = place.start + first..place.start + last + 1;
        // What is half a semitone off now and then, as vibrato is, is not a note that is right now and then.
        let middle = median(&pitch[first..=last].iter().copied().filter(is_its).collect::<Vec<_>>());
        Some(Self { blocks, pitch: middle, off: fold(middle - wanted) })
    }
}

/// What was performed outside of all notes: transcribed notes of which more than half of the blocks are no note's, each from the
/// first of these on.
fn extra(pitch: &[f32], notes: &[Option<Core>]) -> Vec<Note> {
    let mut free = vec![true; pitch.len()];
    notes.iter().flatten().for_each(|core| free[core.blocks.clone()].fill(false));
    let own = |note: &Note| {
        let blocks = &free[note.start..note.end];
        let first = blocks.iter().position(|&free| free)?;
        let most = 2 * blocks.iter().filter(|&&free| free).count() > note.blocks();
        most.then_some(Note { start: note.start + first, ..*note })
    };
    transcribe(pitch).iter().filter_map(own).collect()
}
