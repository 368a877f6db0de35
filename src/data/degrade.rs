//! A reference take with planted errors, rated by them: on trial.

use super::random::Random;
use crate::Result;
use crate::audio::notes::Note;
use crate::audio::{Blocks, Contour};

/// What the notes of a melody cost, as the edit distance of [`crate::audio::notes`] has it.
struct Errors {
    cost: f64,
    pitch: Vec<f32>,
}

/// Sings `notes`, which lie in the `blocks` of a reference, anew: with wrong, missing and additional notes, others out of tune or
/// out of time and pauses, as many as chance has it; with a key, a tempo, a vibrato and glides, which cost nothing. The rating is
/// `1 − fall·cost/notes`, at least 0.
pub(super) fn degrade(
    of: &Contour,
    blocks: &Blocks,
    notes: &[Note],
    fall: f32,
    random: &mut Random,
) -> Result<(Contour, f32)> {
    let Some(first) = notes.first() else { return Ok((of.clone(), 1.0)) };
    let frame = |block: usize| ((blocks.start() + block) * blocks.frames()).min(of.len());
    let level = random.unit();
    // Which kinds of errors this take has.
    let [wrong, missing, added, untuned, uneven, paused] = [0.5, 0.15, 0.15, 0.4, 0.35, 0.12]
        .map(|most| if random.chance(0.6) { most * level } else { 0.1 * most * level });
    let key =
        if random.chance(0.2) { random.between(-5.0, 5.0).round() } else { 0.0 } + 0.2 * random.normal();
    let tempo = (0.12 * random.normal()).exp();
    let (depth, hz, glide) = (random.between(0.0, 0.3), random.between(4.5, 6.5), random.between(0.01, 0.04));
    let mut sung = Errors { cost: 0.0, pitch: vec![0.0; frame(first.start).min(20)] };
    let mut last = f64::from(first.pitch) + key;
    let mut sing =
        |sung: &mut Errors, source: &[f32], pitch: f64, offset: f64, stretch: f64, random: &mut Random| {
            let len = ((source.len() as f64 * stretch * tempo).round() as usize).max(1);
            let (phase, from) = (random.unit(), last - (pitch + offset));
            for k in 0..len {
                let time = k as f64 * of.hop();
                let seen = source[(k * source.len() / len).min(source.len() - 1)];
                let vibrato =
                    depth * (time / 0.3).min(1.0) * (std::f64::consts::TAU * (phase + hz * time)).sin();
                let moved = f64::from(seen)
                    + offset
                    + vibrato
                    + from.clamp(-3.0, 3.0) * (-time / glide).exp()
                    + 0.05 * random.normal();
                sung.pitch.push(if seen > 0.0 { moved.clamp(1.0, 127.0) as f32 } else { 0.0 });
            }
            last = pitch + offset;
        };
    for (i, note) in notes.iter().enumerate() {
        let end = notes.get(i + 1).map_or(of.len(), |next| frame(next.start));
        let source = &of.pitch()[frame(note.start).min(end)..end];
        if source.is_empty() {
            continue;
        }
        let pitch = f64::from(note.pitch);
        let sign = if random.chance(0.5) { 1.0 } else { -1.0 };
        if random.chance(added) {
            let length = (random.between(6.0, 16.0) * blocks.frames() as f64) as usize;
            let extra = vec![note.pitch; length];
            sing(&mut sung, &extra, pitch, key + sign * random.between(1.0, 4.0).round(), 1.0, random);
            sung.cost += 0.6;
        }
        if i > 0 && random.chance(missing) {
            sung.cost += 0.8;
            continue;
        }
        let mut off = (0.08 + untuned) * random.normal();
        if random.chance(wrong) {
            off += sign * random.between(0.5, 3.5).round();
        }
        let stretch = ((0.04 + uneven) * random.normal()).exp();
        sing(&mut sung, source, pitch, key + off, stretch, random);
        sung.cost += (off.abs() - 0.3).clamp(0.0, 1.2) + 0.5 * (stretch.ln().abs() - 0.1).max(0.0);
        if random.chance(paused) {
            let pause = (random.between(0.2, 0.8) / of.hop()) as usize;
            sung.pitch.resize(sung.pitch.len() + pause, 0.0);
            sung.cost += 0.3;
        }
    }
    let rating = 1.0 - fall * (sung.cost / notes.len() as f64) as f32;
    Ok((Contour::from_pitch(sung.pitch, of.hop())?, rating.clamp(0.0, 1.0)))
}
