//! A MusicXML document as it is written, before it is played: measures, and the notes of each voice in them. Times are in quarter
//! notes from the beginning of a measure.

use super::order::Marks;
use crate::names::quoted;
use roxmltree::{Document, Node};
use std::collections::BTreeMap;

/// Quarter notes that a note or a pause lasts at most: longer ones are slips.
const LONGEST: f64 = 1e6;

/// What is taken for a tempo, in quarter notes a minute.
const TEMPOS: std::ops::RangeInclusive<f64> = 1.0..=10_000.0;

/// A measure, over all parts.
#[derive(Debug, Clone, Default)]
pub(super) struct Measure {
    /// As it is numbered.
    pub number: String,
    pub length: f64,
    /// Quarter notes a minute, from a place on.
    pub tempos: Vec<(f64, f64)>,
    pub marks: Marks,
}

/// A note as it is written.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub measure: usize,
    pub at: f64,
    pub length: f64,
    /// MIDI pitch as it sounds.
    pub pitch: f32,
    /// Whether it is tied to the note before, and to the one after.
    pub tied: [bool; 2],
}

/// A voice's place: part from 0, staff and voice as they are called.
pub(super) type Place = (usize, String, String);

/// What a document holds.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    pub measures: Vec<Measure>,
    /// Names of the parts.
    pub parts: Vec<String>,
    pub voices: BTreeMap<Place, Vec<Written>>,
    pub grace: usize,
    pub cue: usize,
    pub unpitched: usize,
    /// Whether there are words of a coda without its meaning, or tempos as ratios.
    pub words: bool,
    pub ratios: bool,
}

/// Where a part's reading is.
struct Reader<'a> {
    sheet: &'a mut Sheet,
    part: usize,
    measure: usize,
    /// Divisions of a quarter note; 0 before they are told.
    divisions: f64,
    /// Quarter notes of a measure by the time signature.
    bar: f64,
    /// Semitones by staff; of all staves under the empty name.
    transpose: BTreeMap<String, f32>,
    endings: Vec<u32>,
    at: f64,
    /// The furthest that the measure got.
    end: f64,
    /// Where the last note began, for what is written above it.
    last: f64,
}

impl Sheet {
    /// What a document holds, measure by measure or part by part.
    pub fn read(document: &Document<'_>) -> Result<Self, String> {
        let root = document.root_element();
        let by_measure = root.tag_name().name() == "score-timewise";
        let mut sheet = Self::default();
        // Parts in order, with their measures.
        let mut parts: Vec<(&str, Vec<(Node<'_, '_>, Node<'_, '_>)>)> = Vec::new();
        let mut of_id: BTreeMap<&str, usize> = BTreeMap::new();
        for outer in children(root, if by_measure { "measure" } else { "part" }) {
            for inner in children(outer, if by_measure { "part" } else { "measure" }) {
                let (measure, part) = if by_measure { (outer, inner) } else { (inner, outer) };
                let id = part.attribute("id").unwrap_or_default();
                let index = *of_id.entry(id).or_insert(parts.len());
                if index == parts.len() {
                    parts.push((id, Vec::new()));
                }
                parts[index].1.push((measure, inner));
            }
        }
        let names: BTreeMap<&str, &str> = children(root, "part-list")
            .flat_map(|list| children(list, "score-part"))
            .filter_map(|part| Some((part.attribute("id")?, child(part, "part-name")?.text()?)))
            .collect();
        for (part, (id, measures)) in parts.into_iter().enumerate() {
            sheet.parts.push(names.get(id).copied().unwrap_or(id).to_owned());
            Reader::new(&mut sheet, part).part(&measures)?;
        }
        Ok(sheet)
    }
}

impl<'a> Reader<'a> {
    fn new(sheet: &'a mut Sheet, part: usize) -> Self {
        let (measure, divisions, bar) = (0, 0.0, 4.0);
        let (transpose, endings) = (BTreeMap::new(), Vec::new());
        Self { sheet, part, measure, divisions, bar, transpose, endings, at: 0.0, end: 0.0, last: 0.0 }
    }

    fn part(&mut self, measures: &[(Node<'_, '_>, Node<'_, '_>)]) -> Result<(), String> {
        for (index, &(measure, content)) in measures.iter().enumerate() {
            let number = measure.attribute("number").unwrap_or_default();
            if self.sheet.measures.len() == index {
                self.sheet.measures.push(Measure { number: number.to_owned(), ..Measure::default() });
            }
            (self.measure, self.at, self.end, self.last) = (index, 0.0, 0.0, 0.0);
            if !self.endings.is_empty() {
                self.measure().marks.endings = self.endings.clone();
            }
            for node in content.children().filter(Node::is_element) {
                self.node(node).map_err(|message| format!("measure {}: {message}", quoted(number)))?;
            }
            // A measure without anything in it is a measure all the same.
            let length = if self.end > 0.0 { self.end } else { self.bar };
            let measure = self.measure();
            measure.length = measure.length.max(length);
        }
        Ok(())
    }

    fn measure(&mut self) -> &mut Measure {
        &mut self.sheet.measures[self.measure]
    }

    fn node(&mut self, node: Node<'_, '_>) -> Result<(), String> {
        match node.tag_name().name() {
            "attributes" => self.attributes(node),
            "note" => self.note(node),
            "backup" => {
                self.at -= self.duration(node)?;
                if self.at < -1e-6 {
                    return Err("a backup goes before its beginning".into());
                }
                self.at = self.at.max(0.0);
                Ok(())
            }
            "forward" => {
                self.at += self.duration(node)?;
                self.end = self.end.max(self.at);
                Ok(())
            }
            "direction" => self.direction(node),
            "sound" => self.sound(node, 0.0).map(drop),
            "barline" => {
                self.barline(node);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn attributes(&mut self, node: Node<'_, '_>) -> Result<(), String> {
        if let Some(divisions) = child(node, "divisions") {
            self.divisions = number(divisions)?;
            if self.divisions <= 0.0 {
                return Err(format!("divisions {}: expected a number above 0", self.divisions));
            }
        }
        let time = child(node, "time").map(|time| (child(time, "beats"), child(time, "beat-type")));
        if let Some((Some(beats), Some(unit))) = time
            // 3+2 and the like are no number; the measure's notes tell its length.
            && let (Ok(beats), Ok(unit)) = (number(beats), number(unit))
            && (0.0..=1e3).contains(&beats)
            && unit >= 1.0
        {
            self.bar = 4.0 * beats / unit;
        }
        for transpose in children(node, "transpose") {
            let part = |name: &'static str| child(transpose, name).map_or(Ok(0.0), number);
            let by = part("chromatic")? + 12.0 * part("octave-change")?;
            let staff = transpose.attribute("number").unwrap_or_default();
            if staff.is_empty() {
                self.transpose.clear();
            }
            self.transpose.insert(staff.to_owned(), by as f32);
        }
        Ok(())
    }

    /// The duration of a node in quarter notes.
    fn duration(&self, node: Node<'_, '_>) -> Result<f64, String> {
        let what = node.tag_name().name();
        let Some(duration) = child(node, "duration") else {
            return Err(format!("a {what} has no duration"));
        };
        if self.divisions == 0.0 {
            return Err(format!("a {what} comes before divisions tell what its duration means"));
        }
        let quarters = number(duration)? / self.divisions;
        if (0.0..=LONGEST).contains(&quarters) {
            Ok(quarters)
        } else {
            Err(format!("a {what} lasts {quarters} quarter notes: expected 0 to {LONGEST}"))
        }
    }

    fn note(&mut self, node: Node<'_, '_>) -> Result<(), String> {
        if child(node, "grace").is_some() {
            self.sheet.grace += 1;
            return Ok(());
        }
        let length = self.duration(node)?;
        if child(node, "chord").is_none() {
            self.last = self.at;
            self.at += length;
            self.end = self.end.max(self.at);
        }
        if child(node, "cue").is_some() {
            self.sheet.cue += usize::from(child(node, "rest").is_none());
            return Ok(());
        }
        if child(node, "unpitched").is_some() {
            self.sheet.unpitched += 1;
            return Ok(());
        }
        // What has no pitch is a rest.
        let Some(pitch) = child(node, "pitch") else { return Ok(()) };
        let text = |name: &'static str| {
            child(node, name).and_then(|node| node.text()).unwrap_or("1").trim().to_owned()
        };
        let (staff, voice) = (text("staff"), text("voice"));
        let by = self.transpose.get(&staff).or_else(|| self.transpose.get("")).copied().unwrap_or(0.0);
        let pitch = midi(pitch)? + by;
        if !(0.0..=128.0).contains(&pitch) {
            return Err(format!("a note sounds at MIDI pitch {pitch}: expected 0 to 128"));
        }
        let ties = || {
            let notations = children(node, "notations").flat_map(|node| children(node, "tied"));
            children(node, "tie").chain(notations)
        };
        let tied = ["stop", "start"].map(|kind| ties().any(|tie| tie.attribute("type") == Some(kind)));
        let written = Written { measure: self.measure, at: self.last, length, pitch, tied };
        self.sheet.voices.entry((self.part, staff, voice)).or_default().push(written);
        Ok(())
    }

    fn direction(&mut self, node: Node<'_, '_>) -> Result<(), String> {
        let offset = child(node, "offset").filter(|offset| offset.attribute("sound") == Some("yes"));
        let offset = offset.map_or(Ok(0.0), number)?;
        let mut told = (false, false);
        for sound in children(node, "sound") {
            let (tempo, jump) = self.sound(sound, offset)?;
            told = (told.0 || tempo, told.1 || jump);
        }
        for kind in children(node, "direction-type") {
            if let (Some(mark), false) = (child(kind, "metronome"), told.0) {
                self.metronome(mark, offset)?;
            }
            if !told.1 {
                children(kind, "words").for_each(|words| self.words(words.text().unwrap_or_default()));
                self.measure().marks.segno |= child(kind, "segno").is_some();
            }
        }
        Ok(())
    }

    /// Jumps that stand as words, without a sound that says what they mean. Which of two signs of a coda is which, words do not
    /// tell.
    fn words(&mut self, words: &str) {
        let words = words.trim().to_lowercase();
        let begins = |with: [&str; 2]| with.iter().any(|with| words.starts_with(with));
        let (capo, segno) = (begins(["d.c", "da capo"]), begins(["d.s", "dal segno"]));
        if (capo || segno) && words.contains("coda") {
            self.sheet.words = true;
            return;
        }
        let marks = &mut self.measure().marks;
        marks.da_capo |= capo;
        marks.dal_segno |= segno;
        marks.fine |= words.trim_end_matches('.') == "fine";
    }

    /// What a sound says of tempo and order; whether it says something of each.
    fn sound(&mut self, node: Node<'_, '_>, offset: f64) -> Result<(bool, bool), String> {
        let offset = child(node, "offset").map_or(Ok(offset), number)?;
        if let Some(tempo) = node.attribute("tempo") {
            let tempo =
                tempo.trim().parse().map_err(|_| format!("tempo {}: expected a number", quoted(tempo)))?;
            self.tempo(tempo, offset)?;
        }
        let is = |name: &str| node.attribute(name).is_some_and(|value| value != "no");
        let marks = &mut self.measure().marks;
        marks.forward |= is("forward-repeat");
        marks.segno |= is("segno");
        marks.coda |= is("coda");
        marks.to_coda |= is("tocoda");
        marks.fine |= is("fine");
        marks.da_capo |= is("dacapo");
        marks.dal_segno |= is("dalsegno");
        let order = ["segno", "coda", "tocoda", "fine", "dacapo", "dalsegno"];
        Ok((node.has_attribute("tempo"), order.iter().any(|name| node.has_attribute(*name))))
    }

    fn metronome(&mut self, node: Node<'_, '_>, offset: f64) -> Result<(), String> {
        let Some(text) = child(node, "per-minute").and_then(|node| node.text()) else {
            self.sheet.ratios = true;
            return Ok(());
        };
        // "ca. 80", "80-84".
        let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let Ok(per_minute) = digits[..end].trim_end_matches('.').parse::<f64>() else { return Ok(()) };
        let unit = child(node, "beat-unit").and_then(|node| node.text()).unwrap_or("quarter").trim();
        let Some(quarters) = beat(unit) else {
            return Err(format!(
                "a metronome mark's beat is {}: expected quarter and the like",
                quoted(unit)
            ));
        };
        let dots = children(node, "beat-unit-dot").count().min(8) as i32;
        self.tempo(per_minute * quarters * (2.0 - 0.5_f64.powi(dots)), offset)
    }

    /// The tempo is so many quarter notes a minute, so many divisions from here on.
    fn tempo(&mut self, tempo: f64, offset: f64) -> Result<(), String> {
        if !TEMPOS.contains(&tempo) {
            let (least, most) = (TEMPOS.start(), TEMPOS.end());
            return Err(format!("a tempo of {tempo} quarter notes a minute: expected {least} to {most}"));
        }
        let offset = if self.divisions > 0.0 { offset / self.divisions } else { 0.0 };
        let at = (self.at + offset).clamp(0.0, LONGEST);
        self.measure().tempos.push((at, tempo));
        Ok(())
    }

    fn barline(&mut self, node: Node<'_, '_>) {
        let mut over = false;
        for ending in children(node, "ending") {
            match ending.attribute("type") {
                Some("start") => {
                    let numbers = ending.attribute("number").unwrap_or_default();
                    let numbers = numbers.split(|c: char| c == ',' || c.is_whitespace());
                    self.endings = numbers.filter_map(|number| number.parse().ok()).collect();
                }
                _ => over = true,
            }
        }
        let endings = if over { std::mem::take(&mut self.endings) } else { self.endings.clone() };
        let repeat = child(node, "repeat");
        let direction = repeat.and_then(|repeat| repeat.attribute("direction"));
        let times = repeat.and_then(|repeat| repeat.attribute("times")?.parse().ok()).unwrap_or(2);
        let marks = &mut self.measure().marks;
        marks.forward |= direction == Some("forward");
        if direction == Some("backward") {
            marks.backward = Some(times);
        }
        if !endings.is_empty() {
            marks.endings = endings;
        }
    }
}

/// Quarter notes of a metronome mark's beat.
fn beat(unit: &str) -> Option<f64> {
    let exponent = match unit {
        "maxima" => 5,
        "long" => 4,
        "breve" => 3,
        "whole" => 2,
        "half" => 1,
        "quarter" => 0,
        "eighth" => -1,
        "16th" => -2,
        "32nd" => -3,
        "64th" => -4,
        _ => return None,
    };
    Some(2.0_f64.powi(exponent))
}

/// MIDI pitch of a pitch as it is written.
fn midi(pitch: Node<'_, '_>) -> Result<f32, String> {
    let step = child(pitch, "step").and_then(|node| node.text()).unwrap_or_default().trim();
    let Some(step) = ["C", "", "D", "", "E", "F", "", "G", "", "A", "", "B"]
        .iter()
        .position(|s| *s == step && !s.is_empty())
    else {
        return Err(format!("a note's step is {}: expected A to G", quoted(step)));
    };
    let Some(octave) = child(pitch, "octave") else { return Err("a note has no octave".into()) };
    let alter = child(pitch, "alter").map_or(Ok(0.0), number)?;
    Ok((step as f64 + 12.0 * (number(octave)? + 1.0) + alter) as f32)
}

/// The finite number that a node holds.
fn number(node: Node<'_, '_>) -> Result<f64, String> {
    let text = node.text().unwrap_or_default().trim();
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
    value.ok_or_else(|| format!("{} {}: expected a number", node.tag_name().name(), quoted(text)))
}

fn children<'a, 'i>(node: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.tag_name().name() == name)
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &'static str) -> Option<Node<'a, 'i>> {
    children(node, name).next()
}
