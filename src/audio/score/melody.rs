//! From the notes that a file has to a melody, one note at a time.

use super::notes::ScoreNote;
use crate::names::{few, quoted};

/// Of a note that sounds on into the next at most this part is cut off: played legato, notes overlap a little.
const LEGATO: f64 = 1.0 / 3.0;

/// Times this near, in seconds, are one: sums of fractions are rounded.
const SAME: f64 = 1e-6;

/// Voices and characters of a name that a message lists at most.
const LISTED: usize = 8;
const NAME: usize = 40;

/// A note as a file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sounding {
    /// MIDI pitch.
    pub pitch: f32,
    /// In seconds.
    pub start: f64,
    pub end: f64,
    /// Where the file has it, in a unit of its own.
    pub at: u64,
}

/// A part of a score that may be the melody.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Voice {
    /// What it is: a track, a channel, a part.
    pub what: String,
    /// What the file calls it; may be empty.
    pub name: String,
    pub notes: Vec<Sounding>,
}

/// The one of `voices` that has notes, as a melody; `place` tells where a note is. What was done is added to `remarks`.
///
/// # Errors
/// Where no voice has notes, several have, or notes sound at once.
pub(super) fn melody(
    mut voices: Vec<Voice>,
    place: impl Fn(u64) -> String,
    remarks: &mut Vec<String>,
) -> Result<Vec<ScoreNote>, String> {
    let mut none = 0;
    for voice in &mut voices {
        let all = voice.notes.len();
        voice.notes.retain(|note| note.end - note.start > SAME);
        none += all - voice.notes.len();
    }
    if none > 0 {
        remarks.push(format!("{} of no length left out", count(none, "note")));
    }
    voices.retain(|voice| !voice.notes.is_empty());
    if voices.len() > 1 {
        return Err(several(&voices));
    }
    let Some(voice) = voices.pop() else {
        let but = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join("; ")) };
        return Err(format!("holds no note{but}: export the melody again"));
    };
    one_at_a_time(voice.notes, place, remarks)
}

fn several(voices: &[Voice]) -> String {
    let voice = |voice: &Voice| {
        let name: String = voice.name.trim().chars().take(NAME).collect();
        let name = if name.is_empty() { name } else { format!(" {}", quoted(&name)) };
        format!("{}{name} ({})", voice.what, count(voice.notes.len(), "note"))
    };
    let list: Vec<String> = voices.iter().map(voice).collect();
    let list = few(list.iter().map(String::as_str), LISTED);
    format!("has notes in {} places: {list}; which is the melody? Export it alone", voices.len())
}

fn one_at_a_time(
    mut notes: Vec<Sounding>,
    place: impl Fn(u64) -> String,
    remarks: &mut Vec<String>,
) -> Result<Vec<ScoreNote>, String> {
    notes.sort_by(|a, b| a.start.total_cmp(&b.start));
    let mut melody: Vec<ScoreNote> = Vec::with_capacity(notes.len());
    let (mut cut, mut doubled) = (0, 0);
    for note in notes {
        let Sounding { pitch, start, end, at } = note;
        if let Some(last) = melody.last_mut() {
            let over = last.end - start;
            if start - last.start <= SAME && pitch == last.pitch {
                last.end = last.end.max(end);
                doubled += 1;
                continue;
            }
            if start - last.start <= SAME || over > SAME.max(LEGATO * (last.end - last.start)) {
                return Err(format!(
                    "two notes sound at once at {start:.2} s ({}), pitches {} and {pitch}; a melody has one at a time: keep the \
                     melody's track alone, without chords",
                    place(at),
                    last.pitch
                ));
            }
            cut += usize::from(over > SAME);
            last.end = last.end.min(start);
        }
        melody.push(ScoreNote { pitch, start, end });
    }
    if cut > 0 {
        remarks.push(format!("{} cut where the next begins", count(cut, "note")));
    }
    if doubled > 0 {
        remarks.push(format!("{} left out that double another", count(doubled, "note")));
    }
    Ok(melody)
}

/// `1 note`, `2 notes`.
pub(super) fn count(many: usize, what: &str) -> String {
    format!("{many} {what}{}", if many == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pitch, start and end.
    type Timed = (f32, f64, f64);

    fn voice(name: &str, notes: &[Timed]) -> Voice {
        let sounding = |&(pitch, start, end): &Timed| Sounding { pitch, start, end, at: start as u64 };
        Voice { what: "track 1".into(), name: name.into(), notes: notes.iter().map(sounding).collect() }
    }

    fn of(voices: &[Voice]) -> Result<(Vec<Timed>, Vec<String>), String> {
        let mut remarks = Vec::new();
        let notes = melody(voices.to_vec(), |at| format!("bar {at}"), &mut remarks)?;
        Ok((notes.iter().map(|note| (note.pitch, note.start, note.end)).collect(), remarks))
    }

    #[test]
    fn a_little_overlap_is_cut_and_a_chord_is_refused() {
        let (notes, remarks) =
            of(&[voice("", &[(62.0, 1.0, 2.0), (60.0, 0.0, 1.25), (60.0, 0.0, 1.5)])]).unwrap();
        assert_eq!(notes, [(60.0, 0.0, 1.0), (62.0, 1.0, 2.0)]);
        assert_eq!(remarks, ["1 note cut where the next begins", "1 note left out that double another"]);
        let refused = |notes: &[Timed]| of(&[voice("", notes)]).unwrap_err();
        let told = refused(&[(60.0, 0.0, 1.0), (64.0, 0.0, 1.0)]);
        assert!(told.starts_with("two notes sound at once at 0.00 s (bar 0), pitches 60 and 64;"), "{told}");
        assert!(refused(&[(60.0, 0.0, 3.1), (64.0, 2.0, 4.0)]).contains("2.00 s (bar 2)"));
        // Rounding is no overlap.
        assert!(of(&[voice("", &[(60.0, 0.0, 1.0 + 1e-9), (62.0, 1.0, 2.0)])]).unwrap().1.is_empty());
    }

    #[test]
    fn one_voice_alone_may_have_notes() {
        let one = [(60.0, 0.0, 1.0)];
        assert_eq!(of(&[voice("a", &[]), voice("b", &one)]).unwrap().0, one);
        assert_eq!(
            of(&[voice("a", &[(60.0, 1.0, 1.0)]), voice("b", &one)]).unwrap().1,
            ["1 note of no length left out"]
        );
        assert_eq!(of(&[]).unwrap_err(), "holds no note: export the melody again");
        let told = of(&[voice("Flute", &one), voice("", &[one[0]; 2])]).unwrap_err();
        assert_eq!(
            told,
            "has notes in 2 places: track 1 \"Flute\" (1 note), track 1 (2 notes); which is the melody? Export it alone"
        );
        let many = vec![voice(&"x".repeat(500), &one); 5000];
        let told = of(&many).unwrap_err();
        assert!(told.contains("and 4992 more") && told.len() < 1200, "{told}");
    }
}
