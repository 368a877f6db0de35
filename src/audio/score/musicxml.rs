//! MusicXML, as it is played.

use super::melody::{Sounding, Voice, count, melody};
use super::notes::ScoreNote;
use super::order::{Marks, order};
use super::tempo::Tempo;
use super::written::{Measure, Sheet, Written};
use crate::fs::utf16;
use crate::names::quoted;
use roxmltree::{Document, ParsingOptions};
use std::borrow::Cow;

/// Where the root of a document begins at the latest, in bytes.
const HEAD: usize = 1 << 16;

/// Nodes of a document at most: a note is some 10.
const MAX_NODES: u32 = 1 << 21;

/// Quarter notes a minute where no tempo is given.
const TEMPO: f64 = 120.0;

/// Notes this near, in quarter notes, follow at once.
const SAME: f64 = 1e-6;

/// Whether bytes are a MusicXML document with a score, in whatever encoding.
pub(super) fn is_musicxml(bytes: &[u8]) -> bool {
    // UTF-16 of what is ASCII has a zero at every other place.
    let head: Vec<u8> = bytes.iter().take(HEAD).copied().filter(|&byte| byte != 0).collect();
    ["<score-partwise", "<score-timewise"]
        .iter()
        .any(|root| head.windows(root.len()).any(|at| at == root.as_bytes()))
}

/// The melody of a document's bytes; what was chosen or left out is added to `remarks`.
pub(super) fn parse(bytes: &[u8], remarks: &mut Vec<String>) -> Result<Vec<ScoreNote>, String> {
    let text = decode(bytes)?;
    // MusicXML names its DTD.
    let options = ParsingOptions { allow_dtd: true, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&text, options)
        .map_err(|reason| format!("{reason}: is it damaged? Export it again"))?;
    let root = document.root_element().tag_name().name();
    if !["score-partwise", "score-timewise"].contains(&root) {
        return Err(format!("holds {}, which is no score: expected MusicXML", quoted(root)));
    }
    let sheet = Sheet::read(&document)?;
    for (many, what) in
        [(sheet.grace, "grace note"), (sheet.cue, "cue note"), (sheet.unpitched, "unpitched note")]
    {
        if many > 0 {
            remarks.push(format!("{} left out", count(many, what)));
        }
    }
    if sheet.words {
        remarks.push("a jump to a coda that stands as words alone is not followed".into());
    }
    if sheet.ratios {
        remarks.push("a tempo without a number is not followed".into());
    }
    if sheet.measures.iter().all(|measure| measure.tempos.is_empty()) {
        remarks.push("no tempo is given: 120 quarter notes a minute".into());
    }
    let marks: Vec<Marks> = sheet.measures.iter().map(|measure| measure.marks.clone()).collect();
    let order = order(&marks)?;
    if order.iter().enumerate().any(|(at, &measure)| at != measure) {
        remarks.push(format!("{} played as {}", count(marks.len(), "measure"), order.len()));
    }
    let (starts, tempo) = times(&sheet.measures, &order);
    let voice = |((part, staff, voice), notes): (&(usize, String, String), &Vec<Written>)| Voice {
        what: format!("part {} staff {staff} voice {voice}", part + 1),
        name: sheet.parts.get(*part).cloned().unwrap_or_default(),
        notes: play(notes.clone(), &order, &starts, &tempo),
    };
    let voices = sheet.voices.iter().map(voice).collect();
    let place = |measure: u64| {
        let number = sheet.measures.get(measure as usize).map_or("", |measure| measure.number.as_str());
        format!("measure {}", quoted(number))
    };
    melody(voices, place, remarks)
}

/// The text of a document.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    let (text, coding) = match bytes {
        [0xff, 0xfe, rest @ ..] => (utf16(rest, u16::from_le_bytes).map(Cow::Owned), "UTF-16"),
        [0xfe, 0xff, rest @ ..] => (utf16(rest, u16::from_be_bytes).map(Cow::Owned), "UTF-16"),
        [b'<', 0, ..] => (utf16(bytes, u16::from_le_bytes).map(Cow::Owned), "UTF-16"),
        [0, b'<', ..] => (utf16(bytes, u16::from_be_bytes).map(Cow::Owned), "UTF-16"),
        [0xef, 0xbb, 0xbf, rest @ ..] => (std::str::from_utf8(rest).ok().map(Cow::Borrowed), "UTF-8"),
        _ => (std::str::from_utf8(bytes).ok().map(Cow::Borrowed), "UTF-8"),
    };
    text.ok_or_else(|| format!("is not {coding}: is it damaged, or in an old encoding? Export it again"))
}

/// When each measure begins as they are played, in quarter notes, and the tempo map of that. A measure has the tempo that it has
/// where it is written, whatever was played before it.
fn times(measures: &[Measure], order: &[usize]) -> (Vec<f64>, Tempo) {
    let mut now = TEMPO;
    let mut written: Vec<(f64, Vec<(f64, f64)>)> = Vec::with_capacity(measures.len());
    for measure in measures {
        let mut tempos = measure.tempos.clone();
        tempos.sort_by(|a, b| a.0.total_cmp(&b.0));
        let first = now;
        now = tempos.last().map_or(now, |&(_, tempo)| tempo);
        written.push((first, tempos));
    }
    let (mut at, mut tempo) = (0.0, Tempo::new(60.0 / TEMPO));
    let mut starts = Vec::with_capacity(order.len());
    for &index in order {
        let (first, tempos) = &written[index];
        starts.push(at);
        tempo.change(at, 60.0 / first);
        for &(within, quarters) in tempos {
            tempo.change(at + within.min(measures[index].length), 60.0 / quarters);
        }
        at += measures[index].length;
    }
    (starts, tempo)
}

/// The notes of a voice as they are played, tied ones as one.
fn play(mut notes: Vec<Written>, order: &[usize], starts: &[f64], tempo: &Tempo) -> Vec<Sounding> {
    notes.sort_by(|a, b| a.measure.cmp(&b.measure).then(a.at.total_cmp(&b.at)));
    // Pitch, start and end in quarter notes, measure, and whether it is tied on.
    let mut played: Vec<(f32, f64, f64, usize, bool)> = Vec::with_capacity(notes.len());
    for (&measure, &from) in order.iter().zip(starts) {
        let first = notes.partition_point(|note| note.measure < measure);
        for note in notes[first..].iter().take_while(|note| note.measure == measure) {
            let (start, end) = (from + note.at, from + note.at + note.length);
            let [before, on] = note.tied;
            match played.last_mut() {
                Some(last) if before && last.4 && last.0 == note.pitch && (last.2 - start).abs() < SAME => {
                    (last.2, last.4) = (end, on);
                }
                _ => played.push((note.pitch, start, end, measure, on)),
            }
        }
    }
    let sounding = |(pitch, start, end, measure, _): (f32, f64, f64, usize, bool)| Sounding {
        pitch,
        start: tempo.seconds(start),
        end: tempo.seconds(end),
        at: measure as u64,
    };
    played.into_iter().map(sounding).collect()
}
