//! The section of a graded take.

use super::base::{Cell, Column, Drawing, Link, Table, count, number};
use super::take::{CriterionGrade, GradedTake, Sound};
use crate::Result;
use crate::audio::contour::pitch_name;
use crate::audio::notes::{Outcome, Performed, PerformedNote, key_and_tempo};
use crate::data::{CostlySpan, NoteCost};
use crate::names::shown;
use crate::report::interval::LEVEL;
use crate::report::plots::{PerformedTake, performed_svg};
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::ops::Range;

/// Characters of a take's name in its heading, and of an error.
const HEADING: usize = 200;
const ERROR: usize = 1000;

/// Seconds that are drawn in one row at most, as wide as a page.
const ROW: f64 = 20.0;

/// Costly spans that are told in words at most.
const SPANS: usize = 5;

/// A stretch of the drawing.
pub(super) struct Row {
    /// What it is called.
    name: String,
    /// What it shows, for those who do not see it.
    label: String,
    /// Seconds at its ends, and where these are across.
    from: String,
    to: String,
    left: i32,
    right: i32,
    drawing: Drawing,
}

/// What is told of a take.
#[derive(Template)]
#[template(path = "take.html")]
pub(super) struct Section {
    id: String,
    name: String,
    grade: Vec<String>,
    /// A `data:` URI.
    sound: Option<String>,
    remarks: Vec<String>,
    rows: Vec<Row>,
    caption: String,
    about_costly: String,
    costly: Vec<Cell>,
    notes: Option<Table>,
}

/// Why there is nothing to tell.
#[derive(Template)]
#[template(path = "refused.html")]
pub(super) struct Refused {
    id: String,
    name: String,
    error: String,
}

impl Refused {
    /// Of the take of this number from 1.
    pub(super) fn of(place: usize, name: &str, error: &str) -> Self {
        let error = shown(error, ERROR).trim_end_matches('.').to_string();
        Self { id: format!("take-{place}"), name: shown(name, HEADING).into_owned(), error }
    }
}

impl Section {
    /// Of the take of this number from 1, of which `costly` is what costs most.
    pub(super) fn of(place: usize, take: &GradedTake<'_>, costly: &[CostlySpan]) -> Result<Self> {
        let id = format!("take-{place}");
        let sound = match &take.sound {
            Sound::Wav(bytes) => Some(format!("data:audio/wav;base64,{}", STANDARD.encode(bytes))),
            Sound::None | Sound::LeftOut(_) => None,
        };
        // Where something at a time is to be seen, and heard.
        let at = |time: f64| {
            let at = sound.is_some().then(|| format!("{:.3}", time.max(0.0)));
            at.map(|at| Link { to: format!("{id}-figure"), at: Some(at) })
        };
        let span = |span: &CostlySpan| {
            let note = span.note.map_or("not in the melody".to_string(), |number| format!("note {number}"));
            let text = format!("{} to {} s", seconds(span.start, 1), seconds(span.end, 1));
            Cell { text, about: format!(", {note}: {:.2}", span.cost), link: at(span.start) }
        };
        let table = |performed: &Performed| notes(&id, performed, take.costs, &at);
        let nothing = Performed::default();
        let performed = take.performed.unwrap_or(&nothing);
        let plot =
            PerformedTake { contour: take.contour, key: performed.key, notes: &performed.notes, costly };
        Ok(Self {
            name: shown(take.name, HEADING).into_owned(),
            grade: grade(take),
            remarks: remarks(take, costly),
            rows: rows(take, costly, &plot)?,
            caption: caption(&plot, sound.is_some()),
            about_costly: about_costly(costly),
            costly: costly.iter().take(SPANS).map(span).collect(),
            notes: take.performed.filter(|performed| !performed.notes.is_empty()).map(table),
            sound,
            id: id.clone(),
        })
    }
}

fn seconds(time: f64, digits: usize) -> String {
    number(Some(time), digits)
}

/// The grade and what it means.
fn grade(take: &GradedTake<'_>) -> Vec<String> {
    let mut all = format!("Grade {} of 1.", number(Some(take.grade.into()), 2));
    if let Some(ends) = take.interval {
        let [low, high] = ends.map(|end| number(Some(end.into()), 2));
        all += &format!(" {:.0} % of takes with such a grade are rated from {low} to {high}.", 100.0 * LEVEL);
    }
    match take.pass {
        Some(true) => all += " That passes.",
        Some(false) => all += " That does not pass.",
        None => {}
    }
    if let Some(mark) = take.mark {
        all += &format!(" On the graders’ scale it is {mark}.");
    }
    let each = take.criteria.iter().map(|CriterionGrade { name, grade, interval }| {
        let interval = interval.map_or(String::new(), |ends| {
            let [low, high] = ends.map(|end| number(Some(end.into()), 2));
            format!(" ({low} to {high})")
        });
        format!("{} {}{interval}", shown(name, HEADING), number(Some((*grade).into()), 2))
    });
    let each: Vec<String> = each.collect();
    let each = (!each.is_empty()).then(|| format!("It is the mean of: {}.", each.join(", ")));
    let performed =
        take.performed.map(|p| format!("Performed {}.", key_and_tempo(p.key, p.tempo).replace('\'', "’")));
    std::iter::once(all).chain(each).chain(performed).collect()
}

/// What the section has not got, and why.
fn remarks(take: &GradedTake<'_>, costly: &[CostlySpan]) -> Vec<String> {
    let sound = match &take.sound {
        Sound::Wav(_) => None,
        Sound::None => {
            Some("There is no sound to listen to: the take is given by its pitch alone.".to_string())
        }
        Sound::LeftOut(why) => {
            Some(format!("Its sound is left out: {}.", shown(why, ERROR).trim_end_matches('.')))
        }
    };
    let costs = match take.performed {
        Some(_) if take.costs.is_empty() => Some(
            "What each note costs is not known: the model is shown a contour, of which no note can be put right.",
        ),
        Some(_) if costly.is_empty() => Some("No note costs as much of the grade as could be told."),
        Some(_) => None,
        None => {
            Some("The model hears a take alone, without a melody that it should have: it knows no notes.")
        }
    };
    sound.into_iter().chain(costs.map(String::from)).collect()
}

/// The drawing, in rows of one length.
fn rows(take: &GradedTake<'_>, costly: &[CostlySpan], plot: &PerformedTake<'_>) -> Result<Vec<Row>> {
    let all = take.contour.seconds();
    let count = (all / ROW).ceil().max(1.0);
    let row = |i: usize| {
        let span = all * i as f64 / count..all * (i + 1) as f64 / count;
        let (left, right) = PerformedTake::ACROSS;
        Ok(Row {
            name: format!("Pitch from {} to {} s", seconds(span.start, 1), seconds(span.end, 1)),
            label: label(take, costly, &span),
            from: format!("{:.3}", span.start),
            to: format!("{:.3}", span.end),
            left,
            right,
            drawing: Drawing::of(&performed_svg(plot, span)?),
        })
    };
    (0..count as usize).map(row).collect()
}

/// What a row shows, in words.
fn label(take: &GradedTake<'_>, costly: &[CostlySpan], span: &Range<f64>) -> String {
    let is_here = |start: f64, end: f64| start < span.end && end >= span.start;
    let hop = take.contour.hop();
    let here = take.contour.pitch().iter().enumerate().filter(|(i, p)| {
        let time = *i as f64 * hop;
        **p > 0.0 && time >= span.start && time <= span.end
    });
    let ends = here.fold(None, |ends: Option<(f32, f32)>, (_, &p)| {
        Some(ends.map_or((p, p), |(low, high)| (low.min(p), high.max(p))))
    });
    let range = ends.map_or(", silent".to_string(), |(low, high)| {
        format!(", between {} and {}", pitch_name(low.into()), pitch_name(high.into()))
    });
    let mut text = format!("The pitch from {} to {} s{range}.", seconds(span.start, 1), seconds(span.end, 1));
    let Some(performed) = take.performed else { return text };
    let notes = || performed.notes.iter().filter(|note| is_here(note.span.start, note.span.end));
    for (outcome, what) in
        [(Outcome::Right, "Right"), (Outcome::Wrong, "Wrong"), (Outcome::Missing, "Missing")]
    {
        let of = |note: &PerformedNote| note.written.filter(|_| note.outcome == outcome).map(|(i, _)| i + 1);
        let numbers = runs(notes().filter_map(of));
        if !numbers.is_empty() {
            text += &format!(" {what}: note {numbers}.");
        }
    }
    let extra: Vec<String> = notes()
        .filter(|note| note.outcome == Outcome::Extra)
        .map(|note| format!("{} s", seconds(note.span.start, 1)))
        .collect();
    if !extra.is_empty() {
        text += &format!(" Not in the melody: what begins at {}.", extra.join(", "));
    }
    let costs: Vec<String> = costly
        .iter()
        .filter(|span| is_here(span.start, span.end))
        .map(|s| format!("{} to {} s costs {:.2}", seconds(s.start, 1), seconds(s.end, 1), s.cost))
        .collect();
    if !costs.is_empty() {
        text += &format!(" {}.", costs.join(", "));
    }
    text
}

/// Rising numbers in few words: `1 to 4, 6`.
fn runs(numbers: impl Iterator<Item = usize>) -> String {
    let mut runs: Vec<[usize; 2]> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if run[1] + 1 == number => run[1] = number,
            _ => runs.push([number; 2]),
        }
    }
    let words = runs.iter().map(|&[first, last]| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// How the drawing is read.
fn caption(take: &PerformedTake<'_>, sound: bool) -> String {
    let mut text = format!("The pitch of the take over its {} s.", seconds(take.contour.seconds(), 1));
    let mut add = |is_so: bool, words: &str| {
        if is_so {
            text.push(' ');
            text.push_str(words);
        }
    };
    let has = |outcome| take.notes.iter().any(|note| note.outcome == outcome);
    add(
        take.notes.iter().any(|note| note.written.is_some()),
        "A grey bar is a note as it is written, moved to where the take’s own key and tempo have it, with its number above where \
         there is room; it reaches 50 cents, a quarter tone, up and down. A note is right that is performed as high as its bar, \
         whenever that is.",
    );
    add(has(Outcome::Wrong), "A cross marks a note that is performed too high or too low for that.");
    add(has(Outcome::Missing), "A dashed bar is a note that is missing.");
    add(has(Outcome::Extra), "A plus sign marks what is not in the melody.");
    add(
        !take.costly.is_empty(),
        "What is shaded costs as much of the grade as is written above it: the stronger, the more.",
    );
    add(take.has_strays(), "What is heard more than an octave away from the rest is not drawn.");
    add(sound, "Where scripts may run, a click plays from there.");
    text
}

fn about_costly(costly: &[CostlySpan]) -> String {
    let more = match costly.len().saturating_sub(SPANS) {
        0 => String::new(),
        n => format!(" These are {SPANS} of {} that cost something.", n + SPANS),
    };
    format!(
        "Performed as it is written, or left out where it is not in the melody, each of these notes would raise the grade by \
         about as much as is told of it.{more}"
    )
}

/// The notes as `etude score --notes` prints them.
fn notes(id: &str, performed: &Performed, costs: &[NoteCost], at: &impl Fn(f64) -> Option<Link>) -> Table {
    let has_costs = !costs.is_empty();
    let mut columns = vec![
        Column::text("number"),
        Column::text("note"),
        Column::text("outcome"),
        Column::number("at, s"),
        Column::number("length, s"),
        Column::number("cents"),
        Column::number("late, s"),
        Column::number("longer, s"),
    ];
    if has_costs {
        columns.push(Column::number("cost"));
    }
    let row = |(place, note): (usize, &PerformedNote)| {
        let pitch = note.written.map(|(_, pitch)| pitch).or(note.pitch);
        let length = note.pitch.map(|_| note.span.end - note.span.start);
        let start = Cell { link: at(note.span.start), ..seconds(note.span.start, 2).into() };
        let mut cells = vec![
            note.written.map_or("+".to_string(), |(i, _)| (i + 1).to_string()).into(),
            pitch.map_or(String::new(), |pitch| pitch_name(pitch.into())).into(),
            note.outcome.name().to_string().into(),
            start,
            length.map_or(String::new(), |length| seconds(length, 2)).into(),
            signed(note.cents.map(f64::from), 0).into(),
            signed(note.late, 2).into(),
            signed(note.longer, 2).into(),
        ];
        if has_costs {
            let cost = costs.get(place).map(|cost| f64::from(cost.cost()));
            cells.push(cost.map_or(String::new(), |cost| number(Some(cost), 3)).into());
        }
        cells
    };
    let right = performed.notes.iter().filter(|note| note.outcome == Outcome::Right).count();
    let of = performed.notes.iter().filter(|note| note.written.is_some()).count();
    let cost = match has_costs {
        true => {
            " Cost: what it takes from the grade; below 0 it pleases more as it is than as it is written."
        }
        false => "",
    };
    Table {
        id: format!("{id}-notes"),
        caption: format!(
            "{} of {} right, within a quarter tone. Notes are named as they are written; one that is not in the melody has a + \
             and its name as performed. At: where it begins in the take. Cents, hundredths of a semitone, in the take’s own key: \
             + is too high (sharp), − too low (flat). Late: it begins so much later than its neighbours and the take’s own tempo \
             ask, − earlier. Longer: it is held so much longer than the tempo asks, − shorter.{cost}",
            right,
            count(of, "note"),
        ),
        columns,
        rows: performed.notes.iter().enumerate().map(row).collect(),
    }
}

/// A number with its sign, but what is rounded to 0; nothing where there is none.
fn signed(value: Option<f64>, digits: usize) -> String {
    let Some(value) = value else { return String::new() };
    let text = number(Some(value), digits);
    let is_zero = text.chars().all(|c| c == '0' || c == '.');
    if value > 0.0 && !is_zero { format!("+{text}") } else { text }
}
