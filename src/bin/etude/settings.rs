//! The options of a run as a person reads them, and the command that repeats it.

use crate::args::{Cli, Command, DataArgs, F0Args, RunArgs};
use crate::run::Run;
use crate::session::Session;
use clap::{CommandFactory, Parser};
use etude::audio::F0Unit;
use etude::data::InputKind;
use etude::names::shown;
use etude::ops::optim::{Adam, Sgd};
use etude::optim::{Method, Schedule};
use etude::report::page::Setting;
use etude::train::{Encoder, Rule, TrainOptions};
use std::fmt::Display;

/// An option: its name, what was or would be typed, and what was taken.
struct Opt {
    name: &'static str,
    typed: Option<String>,
    taken: String,
    /// Whether it takes no value: what is typed is its name.
    flag: bool,
}

/// One that always has a value.
fn plain(name: &'static str, value: impl Display) -> Opt {
    let value = value.to_string();
    Opt { name, typed: Some(value.clone()), taken: value, flag: false }
}

/// One that takes `otherwise` where nothing is typed.
fn or(name: &'static str, typed: Option<impl Display>, otherwise: impl Display) -> Opt {
    let typed = typed.map(|value| value.to_string());
    Opt { name, taken: typed.clone().unwrap_or_else(|| otherwise.to_string()), typed, flag: false }
}

fn flag(name: &'static str, on: bool) -> Opt {
    Opt { name, typed: on.then(String::new), taken: if on { "yes" } else { "no" }.into(), flag: true }
}

/// Options that have a say in what a run comes to, of a fold trained with `options`.
fn all(args: &RunArgs, files: &DataArgs, session: &Session<'_>, options: &TrainOptions) -> Vec<Opt> {
    let RunArgs { data, protocol, seed, epochs, encoder_epochs, patience, batch, split_by, folds, .. } = args;
    let RunArgs { val_fraction, test_fraction, input, criterion, scale, references, degraded, .. } = args;
    let RunArgs { net, optimizer, lr, weight_decay, lambda, margin, metric, bins, tau, pairs, .. } = args;
    let RunArgs { no_freeze, calibrate, forget_takes, .. } = args;
    let kind = session.inputs.kind;
    let rule = Rule::of(kind);
    let (Schedule::Constant { lr: rate, .. } | Schedule::Cosine { lr: rate, .. }) = options.schedule;
    let (Method::Sgd(Sgd { weight_decay: decay, .. }) | Method::Adam(Adam { weight_decay: decay, .. })) =
        options.method;
    let usual_net = match kind {
        InputKind::Notes => "none",
        InputKind::AlignmentPath | InputKind::AlignmentPathNotes => Encoder::Alignment.name(),
        InputKind::Contour | InputKind::ContourReference => Encoder::Paper.name(),
    };
    let path = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    let mut list = vec![
        or("data", data.as_ref().map(path), "the synthetic set"),
        or("protocol", *protocol, options.protocol),
        plain("seed", seed),
        or("epochs", *epochs, options.epochs),
        or("encoder-epochs", *encoder_epochs, options.encoder_epochs),
        plain("patience", patience),
        plain("batch", batch),
        plain("split-by", split_by),
        or("folds", *folds, "none"),
        or("val-fraction", *val_fraction, crate::options::val_fraction(args, kind)),
        plain("test-fraction", test_fraction),
        or("input", *input, kind),
        plain("scale", scale),
        plain("references", references),
        plain("degraded", degraded),
        or("net", *net, usual_net),
        or("optimizer", *optimizer, rule),
        or("lr", *lr, rate),
        or("weight-decay", *weight_decay, decay),
        plain("lambda", lambda),
        or("margin", *margin, options.contrast.margin),
        plain("metric", metric),
        plain("bins", bins),
        or("tau", *tau, "none: bins"),
        plain("pairs", pairs),
        flag("no-freeze", *no_freeze),
        flag("calibrate", *calibrate),
        flag("forget-takes", *forget_takes),
    ];
    let criteria: Vec<Opt> = match &criterion[..] {
        [] => vec![or("criterion", None::<&str>, session.inputs.criterion())],
        named => named.iter().map(|name| plain("criterion", name)).collect(),
    };
    if let Some(place) = list.iter().position(|opt| opt.name == "scale") {
        list.splice(place..place, criteria);
    }
    if tau.is_some() {
        list.retain(|opt| opt.name != "bins");
    }
    if folds.is_some() {
        list.retain(|opt| opt.name != "test-fraction");
    }
    list.extend(of_files(files));
    list
}

fn of_files(files: &DataArgs) -> Vec<Opt> {
    let DataArgs { rating_scale, scores, score_only, f0 } = files;
    let F0Args { f0_hop, min_confidence, f0_unit, voice } = f0;
    let scores = scores.as_ref().map(|path| path.to_string_lossy().into_owned());
    let unit = |unit: &F0Unit| unit.name();
    vec![
        or("rating-scale", *rating_scale, "what the data says, else 0..1"),
        or("scores", scores, "none"),
        flag("score-only", *score_only),
        or("f0-hop", *f0_hop, "the files’ own"),
        plain("min-confidence", min_confidence),
        plain("f0-unit", unit(f0_unit)),
        plain("voice", voice.name()),
    ]
}

/// Every option that has a say in what the run comes to, with its help.
pub fn settings(session: &Session<'_>, run: &Run, options: &TrainOptions) -> Vec<Setting> {
    let command = Cli::command();
    let train = command.find_subcommand("train");
    let about = |name: &str| {
        let arg = train.and_then(|train| train.get_arguments().find(|arg| arg.get_long() == Some(name)));
        arg.and_then(|arg| arg.get_help()).map_or(String::new(), |help| help.to_string().replace('`', ""))
    };
    let list = all(session.args, &run.files, session, options);
    let setting = |Opt { name, taken, .. }| Setting { name: name.into(), value: taken, about: about(name) };
    list.into_iter().map(setting).collect()
}

/// The command that repeats the run, into a new directory `again`, on the device named; nothing where it cannot be typed.
pub fn command(session: &Session<'_>, run: &Run, options: &TrainOptions) -> Option<String> {
    let paths = [session.args.data.as_ref(), run.files.scores.as_ref()];
    if paths.into_iter().flatten().any(|path| path.to_str().is_none()) {
        return None;
    }
    let Command::Train(usual) = Cli::try_parse_from(["etude", "train"]).ok()?.command else { return None };
    let usual = all(&usual.run, &usual.files, session, options);
    let list = all(session.args, &run.files, session, options);
    let mut words = vec!["etude train".to_string()];
    for Opt { name, typed, flag, .. } in list {
        let Some(typed) = typed else { continue };
        if usual.iter().any(|other| other.name == name && other.typed.as_ref() == Some(&typed)) {
            continue;
        }
        words.push(if flag { format!("--{name}") } else { format!("--{name}={}", for_shell(&typed)) });
    }
    words.push(format!("--device={}", session.device.name()));
    words.push("--out=again".to_string());
    let command = words.join(" \\\n  ");
    (shown(&command, usize::MAX) == command).then_some(command)
}

/// A word as a POSIX shell reads it.
fn for_shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+,=@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::for_shell;

    #[test]
    fn words_survive_a_shell() {
        for (word, quoted) in [("a-b/1.csv", "a-b/1.csv"), ("", "''"), ("it's $x", r"'it'\''s $x'")] {
            assert_eq!(for_shell(word), quoted);
        }
    }
}
