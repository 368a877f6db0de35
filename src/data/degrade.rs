//! Reference takes with planted errors, rated by them: something to learn from where few takes are graded.
//!
//! A reference's pitch track is cut at the melody's notes, and each part is sung anew: right, out of tune, wrong, too long or too
//! short, left out, with a note before it that does not belong or a pause behind it. Key, tempo, vibrato and glides are each
//! take's own and no errors. With the costs of the [edit distance](crate::audio::notes::Edits), `0.5·max(|ln stretch| − 0.1, 0)`
//! for a note out of time and 0.3 for a pause, the rating is `max(0, 1 − 2.5·cost/notes)`: nobody heard these takes, and the
//! scale of a judge may be another.

use super::random::Random;
use crate::audio::notes::{DELETION, Note, insertion, substitution};
use crate::audio::{Blocks, Contour};

/// What the rating falls by for a cost of one a note: to 0 where half of the notes are lost. Of 1.5, 2.5 and 4 the one that
/// learning profits from most, see docs/study.md.
const FALL: f64 = 2.5;

/// A pause's cost, and what a note out of time costs for each unit of `|ln stretch|` beyond what is free.
const PAUSE: f64 = 0.3;
const TIME: f64 = 0.5;
const FREE_TIME: f64 = 0.1;

/// How often, or how much, a take errs.
struct Habits {
    /// Chance that a note is wrong, left out, preceded by another, followed by a pause.
    wrong: f64,
    missing: f64,
    added: f64,
    paused: f64,
    /// Deviation of a note's pitch, in semitones, and of the logarithm of its length.
    untuned: f64,
    uneven: f64,
}

impl Habits {
    /// Of a take that is as bad as chance has it, mostly in some of these ways.
    fn draw(random: &mut Random) -> Self {
        let level = random.unit();
        let mut up_to = |most: f64| most * level * if random.chance(0.6) { 1.0 } else { 0.1 };
        let (wrong, missing, added) = (up_to(0.5), up_to(0.15), up_to(0.15));
        let (untuned, uneven, paused) = (0.08 + up_to(0.4), 0.04 + up_to(0.35), up_to(0.12));
        Self { wrong, missing, added, paused, untuned, uneven }
    }
}

/// A part of the take: frames of the reference, how they are sung, and the frames of silence after.
struct Part<'a> {
    frames: &'a [f32],
    /// MIDI pitch of the note in the reference.
    pitch: f64,
    /// Semitones away from it.
    offset: f64,
    /// How much longer.
    stretch: f64,
    pause: usize,
}

/// What is sung of the reference `of`, whose `notes` lie in its `blocks`, and what the errors cost.
fn plan<'a>(of: &'a Contour, blocks: &Blocks, notes: &[Note], random: &mut Random) -> (Vec<Part<'a>>, f64) {
    let habits = Habits::draw(random);
    let frame = |block: usize| ((blocks.start() + block) * blocks.frames()).min(of.len());
    let (mut parts, mut cost) = (Vec::new(), 0.0);
    for (i, note) in notes.iter().enumerate() {
        let end = notes.get(i + 1).map_or(of.len(), |next| frame(next.start));
        let frames = &of.pitch()[frame(note.start).min(end)..end];
        let pitch = f64::from(note.pitch);
        let sign = if random.chance(0.5) { 1.0 } else { -1.0 };
        if random.chance(habits.added) {
            let length = random.between(6.0, 16.0) as usize;
            let offset = sign * random.between(1.0, 4.0).round();
            let frames = &frames[..(length * blocks.frames()).min(frames.len())];
            parts.push(Part { frames, pitch, offset, stretch: 1.0, pause: 0 });
            cost += f64::from(insertion(length));
        }
        // A take has at least one note.
        if i > 0 && random.chance(habits.missing) {
            cost += f64::from(DELETION);
            continue;
        }
        let mut offset = habits.untuned * random.normal();
        if random.chance(habits.wrong) {
            offset += sign * random.between(0.5, 3.5).round();
        }
        let stretch = (habits.uneven * random.normal()).exp();
        let pause = if random.chance(habits.paused) { random.between(0.2, 0.8) / of.hop() } else { 0.0 };
        cost += f64::from(substitution(offset.abs() as f32))
            + TIME * (stretch.ln().abs() - FREE_TIME).max(0.0)
            + if pause > 0.0 { PAUSE } else { 0.0 };
        parts.push(Part { frames, pitch, offset, stretch, pause: pause as usize });
    }
    (parts, cost)
}

/// The pitch of the parts, one after the other, by a voice of its own.
fn sing(parts: &[Part<'_>], hop: f64, random: &mut Random) -> Vec<f32> {
    let key =
        0.2 * random.normal() + if random.chance(0.2) { random.between(-5.0, 5.0).round() } else { 0.0 };
    let tempo = (0.12 * random.normal()).exp();
    let depth = random.between(0.0, 0.3);
    let hertz = random.between(4.5, 6.5);
    let glide = random.between(0.01, 0.04);
    let mut pitch = Vec::new();
    let mut last: Option<f64> = None;
    for part in parts.iter().filter(|part| !part.frames.is_empty()) {
        let now = part.pitch + part.offset;
        let from = last.map_or(0.0, |last| (last - now).clamp(-3.0, 3.0));
        let phase = random.unit();
        let len = ((part.frames.len() as f64 * part.stretch * tempo).round() as usize).max(1);
        for k in 0..len {
            let played = part.frames[k * part.frames.len() / len];
            let time = k as f64 * hop;
            // It sets in late.
            let vibrato =
                depth * (time / 0.3).min(1.0) * (std::f64::consts::TAU * (phase + hertz * time)).sin();
            let sung = f64::from(played)
                + key
                + part.offset
                + vibrato
                + from * (-time / glide).exp()
                + 0.05 * random.normal();
            pitch.push(if played > 0.0 { sung.clamp(1.0, 127.0) as f32 } else { 0.0 });
        }
        pitch.resize(pitch.len() + part.pause, 0.0);
        last = Some(now);
    }
    pitch
}

/// A reference with errors as chance has them, and its rating in 0..=1; its `notes` lie in its `blocks`. Nothing where there is
/// no note, or none of those that are left is voiced.
pub(super) fn degrade(
    of: &Contour,
    blocks: &Blocks,
    notes: &[Note],
    random: &mut Random,
) -> Option<(Contour, f32)> {
    let (parts, cost) = plan(of, blocks, notes, random);
    let contour = Contour::from_pitch(sing(&parts, of.hop(), random), of.hop()).ok()?;
    let rating = 1.0 - FALL * cost / notes.len() as f64;
    Some((contour, rating.max(0.0) as f32))
}
