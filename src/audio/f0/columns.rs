//! Which column of a table holds what.

use super::options::F0Unit;
use super::rows::Fault;
use super::table::Table;
use super::times::TimeUnit;
use crate::names::quoted;

/// Where everything is.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Roles {
    pub time: Option<usize>,
    pub f0: usize,
    pub confidence: Option<usize>,
    pub flag: Option<usize>,
    pub probability: Option<usize>,
    pub time_unit: TimeUnit,
    /// Where the name says so.
    pub f0_unit: Option<F0Unit>,
    /// Whether there are columns of texts, without names.
    pub texts: bool,
}

/// What a name says of its column.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    Confidence,
    Probability,
    Flag,
    Time,
    Frame,
    F0,
    Midi,
    Index,
    Other,
}

/// The words of a name in lower case: `f0 [Hz]` is `f0` and `hz`.
fn words(name: &str) -> Vec<String> {
    let split = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    split.map(str::to_lowercase).collect()
}

fn role(words: &[String]) -> Role {
    let has = |some: &[&str]| words.iter().any(|word| some.contains(&word.as_str()));
    let begins = |some: &[&str]| words.iter().any(|word| some.iter().any(|start| word.starts_with(start)));
    const TIMES: [&str; 11] =
        ["t", "s", "ms", "sec", "secs", "second", "seconds", "msec", "millis", "onset", "start"];
    if has(&["confidence", "conf", "periodicity"]) {
        Role::Confidence
    } else if begins(&["prob", "voicedprob", "likelihood"]) {
        Role::Probability
    } else if has(&["voiced", "voicing", "vuv", "isvoiced"]) {
        Role::Flag
    } else if has(&TIMES) || begins(&["time", "millisec"]) {
        Role::Time
    } else if has(&["frame", "frames", "sample", "samples"]) {
        Role::Frame
    } else if has(&["midi", "note", "notes"]) {
        Role::Midi
    } else if has(&["fo", "hz", "fundamental"]) || begins(&["f0", "pitch", "freq"]) {
        Role::F0
    } else if words.is_empty() || has(&["index", "unnamed", "row", "id", "no", "nr"]) {
        Role::Index
    } else {
        Role::Other
    }
}

fn time_unit(words: &[String], role: Role) -> Result<TimeUnit, Fault> {
    let has = |some: &[&str]| words.iter().any(|word| some.contains(&word.as_str()));
    if has(&["us", "µs", "μs", "min", "mins", "minutes", "h", "hours", "beat", "beats", "bars"]) {
        let message = format!("times are {}; expected seconds or ms", quoted(&words.join(" ")));
        return Err(Fault::new(None, message));
    }
    let milli = words.iter().any(|word| word.starts_with("millis") || word.starts_with("msec"));
    Ok(if milli || has(&["ms", "timems"]) {
        TimeUnit::Milliseconds
    } else if role == Role::Frame || has(&["frames", "samples"]) {
        TimeUnit::Frames
    } else if has(&["s", "sec", "secs", "second", "seconds"]) {
        TimeUnit::Seconds
    } else {
        TimeUnit::Unsaid
    })
}

/// `None` for what is no unit that can be read.
fn f0_unit(words: &[String], role: Role) -> Option<Option<F0Unit>> {
    const OTHERS: [&str; 14] = [
        "cent",
        "cents",
        "semitone",
        "semitones",
        "st",
        "khz",
        "log",
        "log2",
        "log10",
        "mel",
        "bark",
        "erb",
        "octaves",
        "oct",
    ];
    let has = |some: &[&str]| words.iter().any(|word| some.contains(&word.as_str()));
    if role == Role::Midi {
        Some(Some(F0Unit::Midi))
    } else if has(&OTHERS) {
        None
    } else {
        Some(has(&["hz"]).then_some(F0Unit::Hz))
    }
}

impl Roles {
    pub(super) fn of(table: &Table<'_>, unit: F0Unit) -> Result<Self, Fault> {
        let are_known = |names: &[String]| {
            let roles: Vec<Role> = names.iter().map(|name| role(&words(name))).collect();
            let any = |some: [Role; 2]| roles.iter().any(|role| some.contains(role));
            any([Role::F0, Role::Midi]) && (roles.len() == 1 || any([Role::Time, Role::Frame]))
        };
        match table.names(are_known) {
            Some(names) => Self::by_name(&names, table, unit),
            None => Self::by_contents(table),
        }
    }

    fn by_name(names: &[String], table: &Table<'_>, unit: F0Unit) -> Result<Self, Fault> {
        let words: Vec<Vec<String>> = names.iter().map(|name| words(name)).collect();
        let roles: Vec<Role> = words.iter().map(|words| role(words)).collect();
        // Two columns of any names are time and f0.
        if let ([Role::Other | Role::Index, Role::Other], [a, b]) = (&roles[..], &table.columns[..])
            && !a.is_text()
            && !b.is_text()
        {
            return Ok(Self { time: Some(0), f0: 1, ..Self::default() });
        }
        let first = |wanted: Role| roles.iter().position(|role| *role == wanted);
        let other = |beside: usize| {
            let mut others = (0..roles.len()).filter(|&i| roles[i] == Role::Other && i != beside);
            others.next().filter(|_| roles.len() == 2)
        };

        let mut time = first(Role::Time).or(first(Role::Frame));
        let readable = |wanted: Role| {
            (0..roles.len()).find(|&i| roles[i] == wanted && f0_unit(&words[i], wanted).is_some())
        };
        let (hz, midi) = (readable(Role::F0), readable(Role::Midi));
        let f0 = if unit == F0Unit::Midi { midi.or(hz) } else { hz.or(midi) };
        let f0 = f0.or_else(|| time.and_then(other)).or_else(|| (roles.len() == 1).then_some(0));
        let Some(f0) = f0 else {
            let names: Vec<String> = names.iter().take(8).map(|name| quoted(name)).collect();
            let message = format!("no column of f0 in Hz or MIDI note numbers among {}", names.join(", "));
            return Err(Fault::new(None, message));
        };
        time = time.filter(|&time| time != f0).or_else(|| other(f0));
        Ok(Self {
            time,
            f0,
            confidence: first(Role::Confidence),
            flag: first(Role::Flag),
            probability: first(Role::Probability),
            time_unit: time.map_or(Ok(TimeUnit::Unsaid), |time| time_unit(&words[time], roles[time]))?,
            f0_unit: f0_unit(&words[f0], roles[f0]).flatten(),
            texts: false,
        })
    }

    fn by_contents(table: &Table<'_>) -> Result<Self, Fault> {
        let columns = &table.columns;
        let numeric: Vec<usize> =
            (0..columns.len()).filter(|&i| !columns[i].is_text() && columns[i].flags == 0).collect();
        let mut roles = Self {
            flag: (0..columns.len()).find(|&i| columns[i].flags > 0),
            texts: columns.iter().any(|column| column.is_text()),
            ..Self::default()
        };
        let share =
            |i: usize| columns[i].numbers > 0 && columns[i].values.iter().all(|v| !(*v < 0.0 || *v > 1.0));
        let index = |i: usize| {
            let values = &columns[i].values;
            let from = values[0];
            values.len() > 1
                && (from == 0.0 || from == 1.0)
                && (0..).zip(values).all(|(row, v)| *v == from + f64::from(row))
        };
        let certainty = match numeric[..] {
            [f0] => {
                roles.f0 = f0;
                None
            }
            [time, f0] => {
                (roles.time, roles.f0) = (Some(time), f0);
                None
            }
            [time, f0, certainty] if share(certainty) => {
                (roles.time, roles.f0) = (Some(time), f0);
                Some(certainty)
            }
            [i, time, f0] if index(i) => {
                (roles.time, roles.f0) = (Some(time), f0);
                None
            }
            [i, time, f0, certainty] if index(i) && share(certainty) => {
                (roles.time, roles.f0) = (Some(time), f0);
                Some(certainty)
            }
            _ => {
                let message = format!(
                    "{} columns without names: which are time and f0? Name them in a first line, such as time,f0",
                    numeric.len()
                );
                return Err(Fault::new(table.lines.first().copied(), message));
            }
        };
        if roles.flag.is_some() {
            roles.probability = certainty
        } else {
            roles.confidence = certainty
        }
        Ok(roles)
    }
}
