//! What the file of a study says.

use super::arm::{Arm, Setting};
use etude::names::quoted;
use etude::{Error, Result, fs};
use serde::Deserialize;
use std::path::Path;
use toml::{Spanned, Table, Value};

/// Bytes that a study's file has at most.
const MAX_BYTES: u64 = 1 << 20;

/// Arms that a study has at most: what a list too many makes of a grid.
const MOST_ARMS: usize = 1000;

/// Seeds that a study has at most.
const MOST_SEEDS: usize = 100;

/// Why a table is refused whose arms are tested by different things.
const ONE_TEST: &str = "split-by and criterion are the same in every arm of a table; a list of them in `with`, such as `with = { \
                        split-by = [\"performer\", \"melody\"] }`, makes a table of each";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyText {
    seeds: Vec<u32>,
    #[serde(default = "usual_folds")]
    folds: Spanned<u32>,
    #[serde(default)]
    with: Table,
    #[serde(rename = "table")]
    tables: Vec<Spanned<TableText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableText {
    title: String,
    #[serde(default)]
    with: Table,
    arms: Vec<Spanned<Table>>,
}

fn usual_folds() -> Spanned<u32> {
    Spanned::new(0..0, 5)
}

/// Ways to train that are compared with the first of them.
pub struct TableOfArms {
    pub title: String,
    /// What each arm is called, and its place among the study's arms.
    pub rows: Vec<(String, usize)>,
}

/// What is to be trained and compared.
pub struct Study {
    pub folds: u32,
    pub seeds: Vec<u32>,
    /// Each once, whichever tables it is in.
    pub arms: Vec<Arm>,
    pub tables: Vec<TableOfArms>,
}

impl Study {
    /// # Errors
    /// [`Error::Io`] and [`Error::Data`], with the line, where the file cannot be read or says what cannot be done.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path, MAX_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::data(path, None, "is no UTF-8 text"))?;
        let place = Place { path, text: &text };
        let file: StudyText = toml::from_str(&text).map_err(|e| place.refuse(e.span(), e.message()))?;
        place.check(&file)?;
        let mut study =
            Self { folds: *file.folds.get_ref(), seeds: file.seeds, arms: Vec::new(), tables: Vec::new() };
        for table in &file.tables {
            study.add(&place, &file.with, table)?;
        }
        Ok(study)
    }

    /// Adds the tables that one of the file makes: one for each combination of what its arms share.
    fn add(&mut self, place: &Place<'_>, with: &Table, table: &Spanned<TableText>) -> Result<()> {
        let TableText { title, with: own, arms } = table.get_ref();
        let whole = |message: String| place.refuse(Some(table.span()), &message);
        let shared = merged(with, own);
        for context in combinations(&shared).map_err(&whole)? {
            let varied = |setting: &&Setting| own.get(&setting.0).is_some_and(Value::is_array);
            let title = [title.clone()].into_iter().chain(context.iter().filter(varied).map(said));
            let title = title.collect::<Vec<_>>().join(": ");
            let mut rows: Vec<(String, usize)> = Vec::new();
            for arm in arms {
                let at = |message: String| place.refuse(Some(arm.span()), &message);
                for settings in combinations(arm.get_ref()).map_err(at)? {
                    let name = match settings.is_empty() {
                        true => "the usual options".to_string(),
                        false => settings.iter().map(short).collect::<Vec<_>>().join(", "),
                    };
                    let arm = Arm::new(&joined(&context, &settings), format!("{title}: {name}"));
                    let index = arm.and_then(|arm| self.place(arm)).map_err(|e| at(e.to_string()))?;
                    if let Some((_, first)) = rows.first()
                        && self.arms[*first].tested_by() != self.arms[index].tested_by()
                    {
                        return Err(at(ONE_TEST.into()));
                    }
                    // A list may hold what makes no difference beside another setting: that is one arm.
                    if rows.iter().all(|row| row.1 != index) {
                        rows.push((name, index));
                    }
                }
            }
            if rows.is_empty() {
                return Err(whole("a table without arms".into()));
            }
            self.tables.push(TableOfArms { title, rows });
        }
        Ok(())
    }

    /// The place of an arm, which is added where there is none like it.
    fn place(&mut self, arm: Arm) -> Result<usize> {
        if let Some(known) = self.arms.iter().position(|known| known.id == arm.id) {
            return Ok(known);
        }
        if self.arms.len() == MOST_ARMS {
            return Err(Error::config(format!("more than {MOST_ARMS} arms: are there lists too many?")));
        }
        self.arms.push(arm);
        Ok(self.arms.len() - 1)
    }
}

/// Where errors point.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn refuse(&self, span: Option<std::ops::Range<usize>>, message: &str) -> Error {
        let line = |span: std::ops::Range<usize>| {
            self.text.bytes().take(span.start).filter(|b| *b == b'\n').count() as u64 + 1
        };
        Error::data(self.path, span.map(line), message)
    }

    fn check(&self, file: &StudyText) -> Result<()> {
        let StudyText { seeds, folds, tables, .. } = file;
        let mut sorted = seeds.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let message = if !(1..=MOST_SEEDS).contains(&seeds.len()) {
            format!("{} seeds: expected 1 to {MOST_SEEDS}", seeds.len())
        } else if sorted.len() < seeds.len() {
            "a seed stands there twice".into()
        } else if *folds.get_ref() < 2 {
            return Err(self.refuse(Some(folds.span()), "folds: expected 2 or more"));
        } else if tables.is_empty() {
            "no [[table]] to fill".into()
        } else {
            return Ok(());
        };
        Err(self.refuse(None, &message))
    }
}

/// What a setting is called.
fn said((key, value): &Setting) -> String {
    value.as_ref().map_or(key.clone(), |value| format!("{key} {value}"))
}

/// The same in a row of many: a word such as `cosine` tells without the option's name what it is.
fn short(setting: &Setting) -> String {
    match &setting.1 {
        Some(value) if value.parse::<f64>().is_err() => value.clone(),
        _ => said(setting),
    }
}

/// `first`, and what `then` says instead or besides.
fn merged(first: &Table, then: &Table) -> Table {
    let mut all = first.clone();
    all.extend(then.iter().map(|(key, value)| (key.clone(), value.clone())));
    all
}

/// The same for settings.
fn joined(first: &[Setting], then: &[Setting]) -> Vec<Setting> {
    let kept = first.iter().filter(|(key, _)| then.iter().all(|(other, _)| other != key));
    kept.chain(then).cloned().collect()
}

/// Every combination of the values of lists, the last list's changing first. A switch that is off is left out.
fn combinations(table: &Table) -> std::result::Result<Vec<Vec<Setting>>, String> {
    let mut all: Vec<Vec<Setting>> = vec![Vec::new()];
    for (key, value) in table {
        let values = match value {
            Value::Array(values) => &values[..],
            one => std::slice::from_ref(one),
        };
        if values.is_empty() {
            return Err(format!("{key}: an empty list"));
        }
        if all.len().saturating_mul(values.len()) > MOST_ARMS {
            return Err(format!("{key}: makes more than {MOST_ARMS} combinations"));
        }
        let settings: Vec<Option<Setting>> =
            values.iter().map(|value| setting(key, value)).collect::<std::result::Result<_, _>>()?;
        let with = |before: &Vec<Setting>| -> Vec<Vec<Setting>> {
            settings.iter().map(|setting| before.iter().chain(setting).cloned().collect()).collect()
        };
        all = all.iter().flat_map(with).collect();
    }
    Ok(all)
}

fn setting(key: &str, value: &Value) -> std::result::Result<Option<Setting>, String> {
    let value = match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(n) => Some(n.to_string()),
        Value::Float(x) => Some(format!("{x:?}")),
        Value::Boolean(true) => None,
        Value::Boolean(false) => return Ok(None),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            return Err(format!(
                "{}: expected text, a number, true or false, or a list of such",
                quoted(key)
            ));
        }
    };
    Ok(Some((key.to_string(), value)))
}
