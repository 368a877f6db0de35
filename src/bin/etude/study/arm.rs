//! One way to train.

use crate::args::RunArgs;
use crate::options::{check, input_options, options_for, train_options};
use clap::Parser;
use etude::data::{InputKind, InputOptions, SplitBy};
use etude::train::Protocol;
use etude::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value};

/// Options of `etude train` that a study sets itself, or that make nothing of its tables.
const NOT_HERE: [&str; 8] =
    ["data", "seed", "folds", "test-fraction", "calibrate", "checkpoint-every", "profile", "tensorboard"];

/// What an arm may say: the options of `etude train`, and two of a study's own.
#[derive(Clone, Parser, Serialize)]
#[command(disable_help_flag = true, allow_negative_numbers = true)]
pub struct ArmArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
    /// Train on so many of the training takes, chosen at random.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    pub labels: Option<u32>,
    /// Learn from what one grading pass gave each take, chosen at random, and be tested on what all gave.
    #[arg(long)]
    pub one_pass: bool,
}

/// A setting: the name of an option, and its value; without one it is given as it is.
pub type Setting = (String, Option<String>);

/// One way to train, in any table.
#[derive(Clone)]
pub struct Arm {
    pub args: ArmArgs,
    /// What it is known by in records: all that its networks depend on, but data, seed and fold.
    pub id: String,
    /// The title of the first table that has it, and its name there.
    pub name: String,
}

impl Arm {
    /// # Errors
    /// [`Error::Config`] that names the setting which cannot be.
    pub fn new(settings: &[Setting], name: String) -> Result<Self> {
        if let Some((key, _)) = settings.iter().find(|(key, _)| NOT_HERE.contains(&&**key)) {
            return Err(Error::config(format!(
                "{key}: is no setting of an arm; seeds and folds stand at the top of the file, --data is an option"
            )));
        }
        let words = settings.iter().map(|(key, value)| match value {
            Some(value) => format!("--{key}={value}"),
            None => format!("--{key}"),
        });
        let words = ["arm".to_string()].into_iter().chain(words);
        let args = ArmArgs::try_parse_from(words).map_err(|e| Error::config(plain(&e)))?;
        check(&args.run)?;
        let id = id(&args)?;
        Ok(Self { args, id, name })
    }

    /// What a test of its networks depends on: arms are compared where it is the same.
    pub fn tested_by(&self) -> (SplitBy, Option<&str>) {
        (self.args.run.split_by, self.args.run.criterion.first().map(String::as_str))
    }

    /// What its inputs are made with.
    pub fn input_options(&self) -> InputOptions {
        input_options(&self.args.run)
    }
}

/// What clap says, in one line and without the options of a command line that nobody typed.
fn plain(e: &clap::Error) -> String {
    let text = e.to_string();
    let said = text.trim_start_matches("error: ").split("\n\n");
    let said = said.take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let words: Vec<String> = said.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    words.join("; ")
}

/// The settings that are not the usual ones: the same for arms that train the same networks. What a protocol does not look at
/// does not count.
fn id(args: &ArmArgs) -> Result<String> {
    // The metric does always: neighbours in the embedding are found by it.
    let unused: &[&str] = match args.run.protocol {
        None => &[],
        Some(Protocol::Mse) => &["encoder_epochs", "lambda", "margin", "bins", "tau", "pairs", "no_freeze"],
        Some(Protocol::Joint) => &["encoder_epochs", "no_freeze"],
        Some(Protocol::TwoPhase) => &["lambda"],
    };
    let (usual, own) = (settings(&ArmArgs::parse_from(["arm"]))?, settings(args)?);
    let own = own
        .into_iter()
        .filter(|(key, value)| !unused.contains(&key.as_str()) && usual.get(key) != Some(value));
    Ok(own.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", "))
}

/// What an arm that says nothing is, for every kind of input: the options that [`Arm::id`] leaves unsaid.
pub fn usual() -> Result<String> {
    let args = ArmArgs::parse_from(["arm"]);
    let of_kind = |kind| {
        let options = train_options(&args.run, kind, 1);
        format!("{options:?} {}", options_for(1, &options, &args.run).epochs)
    };
    let options: Vec<String> = InputKind::ALL.into_iter().map(of_kind).collect();
    Ok(format!("{:?} {:?} {}", settings(&args)?, input_options(&args.run), options.join(" ")))
}

/// By way of text: a number of 32 bits is as short there as somebody would write it.
fn settings(args: &ArmArgs) -> Result<Map<String, Value>> {
    let text = serde_json::to_string(args).and_then(|text| serde_json::from_str(&text));
    text.map_err(|e| Error::config(format!("settings of an arm: {e}")))
}
