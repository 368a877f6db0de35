//! Scores in MIDI files: on trial.

use etude::audio::notes::Note;
use etude::{Error, Result};
use midly::{MetaMessage, MidiMessage, Smf, Timing, TrackEventKind};
use std::collections::BTreeMap;
use std::path::Path;

/// Seconds of a block.
const BLOCK: f64 = 4.0 * etude::audio::HOP;

/// The notes, in blocks, of each `<melody>.mid` in a directory.
pub fn read(directory: &Path) -> Result<BTreeMap<String, Vec<Note>>> {
    let mut scores = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(Error::io(directory, "read"))? {
        let path = entry.map_err(Error::io(directory, "read"))?.path();
        if path.extension().is_none_or(|ending| ending != "mid") {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
        let notes = notes(&bytes).map_err(|e| Error::data(&path, None, e))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        scores.insert(name.into_owned(), notes);
    }
    Ok(scores)
}

fn notes(bytes: &[u8]) -> std::result::Result<Vec<Note>, String> {
    let file = Smf::parse(bytes).map_err(|e| e.to_string())?;
    let Timing::Metrical(per_beat) = file.header.timing else { return Err("times are no beats".into()) };
    // (tick, tempo or pitch)
    let (mut tempos, mut played) = (vec![(0u64, 500_000.0)], Vec::new());
    for track in &file.tracks {
        let (mut tick, mut open) = (0u64, [None; 128]);
        for event in track {
            tick += u64::from(event.delta.as_int());
            match event.kind {
                TrackEventKind::Meta(MetaMessage::Tempo(micros)) => {
                    tempos.push((tick, f64::from(micros.as_int())))
                }
                TrackEventKind::Midi { message, .. } => match message {
                    MidiMessage::NoteOn { key, vel } if vel > 0 => {
                        open[usize::from(key.as_int())] = Some(tick)
                    }
                    MidiMessage::NoteOn { key, .. } | MidiMessage::NoteOff { key, .. } => {
                        if let Some(start) = open[usize::from(key.as_int())].take() {
                            played.push((start, tick, f32::from(key.as_int())));
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }
    tempos.sort_by_key(|tempo| tempo.0);
    let beat = f64::from(per_beat.as_int());
    let seconds = |tick: u64| {
        let ends = tempos.iter().skip(1).map(|next| next.0).chain([u64::MAX]);
        let part = |(&(start, micros), end): (&(u64, f64), u64)| {
            (tick.min(end).saturating_sub(start)) as f64 / beat * micros * 1e-6
        };
        tempos.iter().zip(ends).map(part).sum::<f64>()
    };
    let block = |tick: u64| (seconds(tick) / BLOCK).round() as usize;
    played.sort_by_key(|note| note.0);
    let mut notes: Vec<Note> = Vec::new();
    for (start, end, pitch) in played {
        let (start, end) = (block(start), block(end));
        if let Some(last) = notes.last_mut() {
            last.end = last.end.min(start);
        }
        if end > start {
            notes.push(Note { pitch, start, end });
        }
    }
    notes.retain(|note| note.end > note.start);
    Ok(notes)
}
