//! The command line: train, evaluate, compare, make data, measure devices.

mod args;
mod begin;
mod bench;
mod checkpoints;
mod choice;
mod claim;
mod compare;
mod compared;
mod contour;
mod device;
mod devices;
mod eval;
mod failure;
mod fold;
mod grades;
mod load;
mod options;
mod out;
mod outcome;
mod page;
mod print;
mod run;
mod score;
mod session;
mod settings;
mod signals;
mod study;
mod synth;
mod tensorboard;
mod train;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(e) => return usage(&e),
    };
    let done = match command {
        Command::Train(args) => train::train(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Score(args) => score::command::score(&args),
        Command::Contour(args) => contour::contour(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Study(args) => study::command::study(&args),
        Command::Synth(args) => synth::synthesise(&args),
        Command::Devices => devices::list(),
        Command::Bench(args) => bench::command::bench(&args),
    };
    match done {
        Ok(()) => out::code(),
        Err(failure) => failure.report(),
    }
    .into()
}

/// The help that was asked for, or what is wrong with the arguments.
fn usage(e: &clap::Error) -> ExitCode {
    let printed = e.print();
    if e.use_stderr() {
        return ExitCode::from(e.exit_code() as u8);
    }
    out::wrote(printed);
    out::code().into()
}
