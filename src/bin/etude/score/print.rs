//! How grades are printed.

use super::scored::{Note, Notes, Scored};
use crate::out::{print, say, tell};
use etude::audio::contour::pitch_name;
use etude::audio::notes::{Outcome, key_and_tempo};
use etude::data::CostlySpan;
use etude::model::Criterion;
use etude::names::shown;
use etude::report::page::CriterionGrade;
use etude::{Error, Result};
use serde::Serialize;

/// Costly spans that people are told of.
const SPANS: usize = 3;

/// How it is printed.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    Text,
    Json,
    /// A row a take.
    Csv,
    /// A row a note.
    CsvOfNotes,
}

impl Form {
    /// What comes first, where the model rates by several of these criteria.
    pub fn heading(self, criteria: &[Criterion]) -> Result<()> {
        match self {
            Self::Csv => {
                let always = ["id", "grade", "low", "high", "pass", "mark", "error"].map(String::from);
                let each = criteria.iter().flat_map(|Criterion { name, .. }| {
                    [name.clone(), format!("{name} low"), format!("{name} high")]
                });
                print(&csv_row(always.into_iter().chain(each).collect::<Vec<_>>())?);
            }
            Self::CsvOfNotes => say!("id,number,outcome,written,pitch,start,end,cents,late,longer,cost"),
            Self::Text | Self::Json => {}
        }
        Ok(())
    }

    /// Prints a take that was graded by so many of several criteria; what is wrong with it goes to standard error too.
    pub fn show(self, scored: &Scored, criteria: usize) -> Result<()> {
        if let Some(error) = &scored.error {
            tell!("not graded: {}", shown(error, 1000));
        }
        match self {
            Self::Text => print(&text(scored)),
            Self::Json => print(&(serde_json::to_string(scored).map_err(|e| fault(&e))? + "\n")),
            Self::Csv => {
                let [low, high] = scored.interval.map_or([None; 2], |interval| interval.map(Some));
                let Scored { id, grade, error, .. } = scored;
                let mark = scored.mark.map(|mark| mark.to_string());
                let of = |place: usize| scored.criteria.get(place);
                let each = (0..criteria).flat_map(|place| {
                    let ends = of(place).and_then(|by| by.interval).map_or([None; 2], |ends| ends.map(Some));
                    [of(place).map(|by| by.grade), ends[0], ends[1]]
                });
                let always = (id, grade, low, high, verdict(scored), mark, error);
                print(&csv_row((always, each.collect::<Vec<_>>()))?);
            }
            Self::CsvOfNotes => {
                for note in scored.notes.iter().flat_map(|notes| &notes.notes) {
                    let Note { number, outcome, written, pitch, start, end, cents, late, longer, cost } =
                        note;
                    let milliseconds = |seconds: f64| rounded(seconds, 3);
                    let [start, end] = [start, end].map(|seconds| milliseconds(*seconds));
                    let [late, longer] = [late, longer].map(|seconds| seconds.map(milliseconds));
                    let cells =
                        (&scored.id, number, outcome, written, pitch, start, end, cents, late, longer, cost);
                    print(&csv_row(cells)?);
                }
            }
        }
        Ok(())
    }
}

fn fault(e: &dyn std::fmt::Display) -> Error {
    Error::config(format!("cannot print a grade: {e}"))
}

/// To so many digits; what is rounded to 0 has no sign.
fn rounded(value: f64, digits: usize) -> f64 {
    let scale = 10_f64.powi(digits as i32);
    (scale * value).round() / scale + 0.0
}

fn csv_row(cells: impl Serialize) -> Result<String> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    csv.serialize(cells).map_err(|e| fault(&e))?;
    String::from_utf8(csv.into_inner().map_err(|e| fault(&e))?).map_err(|e| fault(&e))
}

fn verdict(scored: &Scored) -> Option<&'static str> {
    scored.pass.map(|pass| if pass { "pass" } else { "fail" })
}

/// A line, and below it the notes where they were asked for.
fn text(scored: &Scored) -> String {
    let Some(grade) = scored.grade else { return String::new() };
    // A line stays one, whatever a file is called.
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    let mut cells = vec![scored.id.chars().map(escaped).collect(), format!("{grade:.4}")];
    cells.extend(scored.interval.map(|[low, high]| format!("{low:.2} to {high:.2}")));
    cells.extend(verdict(scored).map(str::to_owned));
    cells.extend(scored.mark.map(|mark| mark.to_string()));
    cells.extend(scored.criteria.iter().map(|CriterionGrade { name, grade, interval }| {
        let interval = interval.map_or(String::new(), |[low, high]| format!(" ({low:.2} to {high:.2})"));
        format!("{} {grade:.4}{interval}", shown(name, 40))
    }));
    let line = cells.join("\t") + "\n";
    match &scored.notes {
        Some(notes) => line + &table(notes),
        None => line,
    }
}

/// The notes as people read them.
fn table(notes: &Notes) -> String {
    let mut out = format!("  {}\n", key_and_tempo(notes.key, notes.tempo));
    if !notes.spans.is_empty() {
        let span = |span: &CostlySpan| format!("{:.1} to {:.1} s ({:.2})", span.start, span.end, span.cost);
        let spans: Vec<String> = notes.spans.iter().take(SPANS).map(span).collect();
        out += &format!("  costs most: {}\n", spans.join(", "));
    }
    out += "     note  at, s  length, s  cents  late, s  longer, s   cost\n";
    for note in &notes.notes {
        let number = note.number.map_or("+".to_string(), |number| number.to_string());
        let pitch = note.written.or(note.pitch).map_or(String::new(), |pitch| pitch_name(f64::from(pitch)));
        let length =
            if note.pitch.is_some() { format!("{:.2}", note.end - note.start) } else { String::new() };
        let signed = |value: Option<f64>, digits: usize| {
            value.map_or(String::new(), |value| format!("{:+.digits$}", rounded(value, digits)))
        };
        let remark = if note.outcome == Outcome::Right { "" } else { note.outcome.name() };
        let line = format!(
            "{number:>4} {pitch:>4} {:>6.2} {length:>10} {:>6} {:>8} {:>10} {:>6}  {remark}",
            note.start,
            signed(note.cents.map(f64::from), 0),
            signed(note.late, 2),
            signed(note.longer, 2),
            note.cost.map_or(String::new(), |cost| format!("{:.3}", rounded(f64::from(cost), 3))),
        );
        out += &format!("{}\n", line.trim_end());
    }
    out
}
