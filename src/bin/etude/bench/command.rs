//! The command.

use super::ceilings::measure;
use super::check::{Which, check};
use super::kernels::{Choice, kernels, once};
use super::large::large;
use super::page::Report;
use super::sink::Sink;
use super::steps::steps;
use super::target::Target;
use crate::args::{BenchArgs, BenchPart};
use crate::failure::Failure;
use crate::out::{self, tell};
use etude::fs::write_atomic;
use etude::{Error, Result};
use std::path::Path;

/// Seconds kept from the cases for what comes after them, of the seconds that all of it may take.
const AFTER_CASES: f64 = 0.6;

/// Measures a device.
pub fn bench(args: &BenchArgs) -> std::result::Result<(), Failure> {
    // Before two minutes are spent.
    if let Some(out) = &args.out {
        writable(out)?;
    }
    let target = Target::open(args.device, args.threads)?;
    // What some parts say is JSON in any case.
    let bare = |part: &BenchPart| matches!(part, BenchPart::Info | BenchPart::Large | BenchPart::Once);
    let json = args.json || args.only.iter().any(bare);
    let sink = Sink::new(json, args.seconds, args.out.is_some());
    let mut report = Report::of(&target);
    if !json {
        tell!("{}: {}", report.title, report.about);
    }
    let done = parts(&target, args, &sink, &mut report);
    sink.finish();
    done?;
    let page = report.markdown();
    if let Some(out) = &args.out {
        write_atomic(out, page.as_bytes())?;
        tell!("wrote {}", out.display());
    }
    if !json {
        out::print(&page);
    }
    match report.verdict.map_or(0, |v| v.faults.len()) {
        0 => Ok(()),
        wrong => Err(Error::config(format!("{wrong} cases are wrong")).into()),
    }
}

/// Whether a file can be made there.
fn writable(out: &Path) -> Result<()> {
    if out.is_dir() {
        return Err(Error::data(out, None, "is a folder; name a file in it"));
    }
    match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(Error::data(folder, None, "there is no such folder; make it, or name another file"))
        }
        _ => Ok(()),
    }
}

fn parts(target: &Target, args: &BenchArgs, sink: &Sink, report: &mut Report) -> Result<()> {
    let usual = [BenchPart::Info, BenchPart::Ceilings, BenchPart::Cases, BenchPart::Step, BenchPart::Kernels];
    let wanted: &[BenchPart] = if args.only.is_empty() { &usual } else { &args.only };
    // Times stand beside the ceilings on the page.
    let times = |part: &BenchPart| matches!(part, BenchPart::Step | BenchPart::Kernels);
    if !args.json && wanted.iter().any(times) && !wanted.contains(&BenchPart::Ceilings) {
        report.ceilings = Some(measure(target, args.quick, sink)?);
    }
    for part in wanted {
        let choice = || Choice {
            quick: args.quick,
            filter: &args.filter,
            ceilings: report.ceilings.filter(|_| args.seconds > 0),
        };
        match part {
            BenchPart::Info => sink.say(&target.info()),
            BenchPart::Ceilings => report.ceilings = Some(measure(target, args.quick, sink)?),
            BenchPart::Cases => {
                let which = match (args.small, args.only.is_empty()) {
                    (true, _) => Which::Small,
                    (_, true) => Which::InTime,
                    (_, false) => Which::All,
                };
                report.verdict = Some(check(target, which, AFTER_CASES * args.seconds as f64, sink)?);
            }
            BenchPart::Step => report.steps = steps(target, sink)?,
            BenchPart::Kernels => (report.kernels, report.without) = kernels(target, &choice(), sink)?,
            BenchPart::Large => large(target, args.quick, sink)?,
            BenchPart::Once => once(target, &choice(), sink)?,
        }
    }
    Ok(())
}
