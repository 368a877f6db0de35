//! The command line: train, evaluate, make data, measure devices.

mod args;
mod begin;
mod bench;
mod checkpoints;
mod choice;
mod device;
mod devices;
mod eval;
mod failure;
mod fold;
mod grades;
mod load;
mod options;
mod outcome;
mod print;
mod run;
mod session;
mod synth;
mod train;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Train(args) => train::train(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Synth(args) => synth::synthesise(&args),
        Command::Devices => devices::list(),
        Command::Bench(args) => bench::command::bench(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.error);
            if let Some(hint) = failure.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
