//! Standard MIDI Files.

use super::melody::{Sounding, Voice, count, melody};
use super::notes::ScoreNote;
use super::tempo::Tempo;
use midly::{Format, Fps, MetaMessage, MidiMessage, Timing, TrackEvent, TrackEventKind};
use std::collections::{BTreeMap, VecDeque};

/// The channel of percussion, from 0.
const PERCUSSION: u8 = 9;

/// Seconds per quarter note where no tempo is given, as the format says.
const QUARTER: f64 = 0.5;

/// What the tracks of a file hold, times in ticks.
#[derive(Default)]
struct Tracks {
    /// Microseconds per quarter note from a tick on.
    tempos: Vec<(u64, u32)>,
    /// Numerator and exponent of the denominator from a tick on.
    signatures: Vec<(u64, u8, u8)>,
    /// By track and channel, both from 0.
    voices: BTreeMap<(usize, u8), Vec<Key>>,
    names: Vec<String>,
    percussion: usize,
    /// Notes without an end.
    open: usize,
    bends: bool,
}

/// A key pressed, and released.
struct Key {
    key: u8,
    start: u64,
    end: u64,
}

/// Whether bytes begin as a MIDI file does.
pub(super) fn is_midi(bytes: &[u8]) -> bool {
    bytes.starts_with(b"MThd") || is_wrapped(bytes)
}

/// Whether it is in a RIFF wrapper.
fn is_wrapped(bytes: &[u8]) -> bool {
    bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"RMID")
}

/// The melody of a file's bytes; what was chosen or left out is added to `remarks`.
pub(super) fn parse(bytes: &[u8], remarks: &mut Vec<String>) -> Result<Vec<ScoreNote>, String> {
    let bytes = if is_wrapped(bytes) { unwrap(bytes)? } else { bytes };
    // Where such a header stands, a second one too, midly overflows.
    if bytes.windows(13).any(|at| at.starts_with(b"MThd") && at[12] == 0x80) {
        return Err("times are in -128 frames a second: is it damaged?".into());
    }
    let (header, tracks) = midly::parse(bytes).map_err(|reason| format!("{reason}: is it damaged?"))?;
    if header.format == Format::Sequential {
        return Err("is a MIDI file of format 2, patterns without an order: save it as format 0 or 1".into());
    }
    let (wanted, mut all) = (tracks.size_hint().0, Tracks::default());
    let mut found = 0;
    for track in tracks {
        let events = track.map_err(|reason| format!("{reason}: is it damaged?"))?;
        // midly ends a track silently where it cannot go on.
        all.read(found, events.map_while(Result::ok))?;
        found += 1;
    }
    if found < wanted {
        return Err(format!(
            "says that it has {wanted} tracks and has {found}: it is cut short, export it again"
        ));
    }
    let (tempo, per_quarter) = all.tempo(header.timing, remarks)?;
    if all.percussion > 0 {
        remarks.push(format!("{} of channel 10 (percussion) left out", count(all.percussion, "note")));
    }
    if all.open > 0 {
        remarks.push(format!("{} without an end: until the end of the track", count(all.open, "note")));
    }
    if all.bends {
        remarks.push("pitch bend is left out".into());
    }
    let voices = all.voices(&tempo);
    let place = |tick: u64| match per_quarter {
        Some(per_quarter) => all.bar(tick, per_quarter),
        None => format!("tick {tick}"),
    };
    melody(voices, place, remarks)
}

/// The MIDI file in a RIFF wrapper.
fn unwrap(bytes: &[u8]) -> Result<&[u8], String> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let (Some(id), Some(length)) = (rest.get(..4), rest.get(4..8)) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let body = &rest[8..];
        if id == b"data" {
            return body.get(..length).ok_or_else(|| "is cut short: export it again".into());
        }
        // Chunks begin at even places.
        rest = body.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    Err("is a RIFF file without MIDI data: export it again".into())
}

impl Tracks {
    fn read<'a>(&mut self, track: usize, events: impl Iterator<Item = TrackEvent<'a>>) -> Result<(), String> {
        let (mut tick, mut ended, mut name) = (0_u64, false, String::new());
        let mut pressed: BTreeMap<(u8, u8), VecDeque<u64>> = BTreeMap::new();
        for event in events {
            tick += u64::from(event.delta.as_int());
            match event.kind {
                TrackEventKind::Midi { channel, message } => {
                    self.message((track, channel.as_int()), tick, message, &mut pressed)
                }
                TrackEventKind::Meta(MetaMessage::TrackName(text)) if name.is_empty() => {
                    name = String::from_utf8_lossy(text).into_owned();
                }
                TrackEventKind::Meta(MetaMessage::Tempo(quarter)) => {
                    self.tempos.push((tick, quarter.as_int()))
                }
                TrackEventKind::Meta(MetaMessage::TimeSignature(over, under, _, _)) => {
                    self.signatures.push((tick, over, under));
                }
                TrackEventKind::Meta(MetaMessage::EndOfTrack) => {
                    ended = true;
                    break;
                }
                _ => {}
            }
        }
        if !ended {
            let track = track + 1;
            return Err(format!(
                "track {track} cannot be read beyond tick {tick} and has no end: it is damaged or cut short, export it again"
            ));
        }
        for ((channel, key), starts) in pressed {
            self.open += starts.len();
            let voice = self.voices.entry((track, channel)).or_default();
            voice.extend(starts.into_iter().map(|start| Key { key, start, end: tick }));
        }
        self.names.push(name);
        Ok(())
    }

    fn message(
        &mut self,
        voice: (usize, u8),
        tick: u64,
        message: MidiMessage,
        pressed: &mut BTreeMap<(u8, u8), VecDeque<u64>>,
    ) {
        let (_, channel) = voice;
        let (key, on) = match message {
            MidiMessage::NoteOn { key, vel } => (key.as_int(), vel.as_int() > 0),
            MidiMessage::NoteOff { key, .. } => (key.as_int(), false),
            MidiMessage::PitchBend { bend } => {
                self.bends |= channel != PERCUSSION && bend.0.as_int() != 0x2000;
                return;
            }
            _ => return,
        };
        if channel == PERCUSSION {
            self.percussion += usize::from(on);
        } else if on {
            pressed.entry((channel, key)).or_default().push_back(tick);
        } else if let Some(start) = pressed.get_mut(&(channel, key)).and_then(VecDeque::pop_front) {
            // The first pressed is the first released: a note repeated legato begins before the one before it ends.
            self.voices.entry(voice).or_default().push(Key { key, start, end: tick });
        }
    }

    /// The tempo map, and ticks per quarter note where times are in quarter notes.
    fn tempo(&mut self, timing: Timing, remarks: &mut Vec<String>) -> Result<(Tempo, Option<u16>), String> {
        match timing {
            Timing::Metrical(ticks) if ticks.as_int() == 0 => {
                Err("has 0 ticks per quarter note: export it again".into())
            }
            Timing::Metrical(ticks) => {
                let per_quarter = f64::from(ticks.as_int());
                let mut tempo = Tempo::new(QUARTER / per_quarter);
                if self.tempos.is_empty() {
                    remarks.push("no tempo is given: 120 quarter notes a minute".into());
                }
                self.tempos.sort_by_key(|&(tick, _)| tick);
                for &(tick, micros) in &self.tempos {
                    if micros == 0 {
                        return Err(format!(
                            "the tempo at tick {tick} is 0 microseconds per quarter note: export it again"
                        ));
                    }
                    tempo.change(tick as f64, 1e-6 * f64::from(micros) / per_quarter);
                }
                Ok((tempo, Some(ticks.as_int())))
            }
            Timing::Timecode(_, 0) => Err("has 0 ticks per SMPTE frame: export it again".into()),
            Timing::Timecode(fps, ticks) => {
                // 29 stands for 30 frames in 1.001 s.
                let fps = if fps == Fps::Fps29 { 30.0 / 1.001 } else { f64::from(fps.as_int()) };
                Ok((Tempo::new(1.0 / (fps * f64::from(ticks))), None))
            }
        }
    }

    fn voices(&self, tempo: &Tempo) -> Vec<Voice> {
        let voice = |(&(track, channel), keys): (&(usize, u8), &Vec<Key>)| {
            let note = |key: &Key| Sounding {
                pitch: f32::from(key.key),
                start: tempo.seconds(key.start as f64),
                end: tempo.seconds(key.end as f64),
                at: key.start,
            };
            Voice {
                what: format!("track {} channel {}", track + 1, channel + 1),
                name: self.names.get(track).cloned().unwrap_or_default(),
                notes: keys.iter().map(note).collect(),
            }
        };
        self.voices.iter().map(voice).collect()
    }

    /// Bar, from 1, and tick in it; a new time signature begins a bar.
    fn bar(&self, tick: u64, per_quarter: u16) -> String {
        let mut signatures = self.signatures.clone();
        signatures.sort_by_key(|&(tick, _, _)| tick);
        let (mut bar, mut from, mut length) = (1, 0, 4 * u64::from(per_quarter));
        for (at, over, under) in signatures.into_iter().filter(|&(at, _, _)| at <= tick) {
            bar += (at - from).div_ceil(length);
            let whole = 4 * u64::from(per_quarter) * u64::from(over);
            (from, length) = (at, (whole >> under.min(63)).max(1));
        }
        format!("bar {}, tick {}", bar + (tick - from) / length, (tick - from) % length)
    }
}
