//! What is printed when a command is done.

use crate::out::{note, say, tell};
use etude::device::Traffic;
use etude::kernel::{Cost, Kernel};
use etude::report::profile::{LaunchTime, profile_table};
use etude::report::run::RunReport;
use etude::report::scores::SILHOUETTE_ROWS;
use etude::{Error, Result};

/// The table of a report on standard output; with `json` the report there and the table on standard error.
pub fn report(report: &RunReport, heading: &str, json: bool) -> Result<()> {
    let table = format!("{heading}\n\n{}", report.table());
    if report.folds.iter().chain([&report.test]).any(|test| test.n > SILHOUETTE_ROWS as u64) {
        tell!(
            "note: of more than {SILHOUETTE_ROWS} takes the silhouette is that of evenly spaced ones among all"
        );
    }
    if json {
        tell!("{table}");
        let line =
            serde_json::to_string(report).map_err(|e| Error::config(format!("cannot print JSON: {e}")))?;
        say!("{line}");
    } else {
        say!("{table}");
    }
    Ok(())
}

/// Where the time of one training step goes.
pub fn profile(rows: &[(&'static Kernel, Cost, f64)]) {
    let launches: Vec<LaunchTime> = rows
        .iter()
        .map(|&(kernel, cost, seconds)| LaunchTime {
            name: kernel.name,
            flops: cost.flops,
            bytes: cost.bytes,
            seconds,
        })
        .collect();
    note(&profile_table(&launches));
}

/// What a training step asked of the device, as counted over the last epoch.
pub fn traffic(traffic: Traffic, steps: usize) {
    let Traffic { dispatches, submissions, writes, reads } = traffic;
    let [d, s, w, r] = [dispatches, submissions, writes, reads].map(|n| n as f64 / steps as f64);
    tell!("a step: {d} dispatches, {s} submissions, {w} uploads, {r} read-backs (over {steps} steps)");
}
