//! Every launch of every workload by itself.

use super::row::{Ceilings, Row};
use super::sink::Sink;
use super::target::Target;
use super::timing::Fence;
use super::workloads::{Make, Workload, workloads};
use etude::device::Launch;
use etude::{Error, Result};
use serde_json::json;

/// The share of the ceiling that a launch is taken to reach, before it is known.
const EXPECTED: f64 = 0.1;
/// Runs of a launch that its timing takes at least, those before it too.
const RUNS: f64 = 8.0;

/// Which workloads.
pub struct Choice<'a> {
    /// Small ones.
    pub quick: bool,
    /// A part of their names.
    pub filter: &'a str,
    /// What is left out where there is no time; none where there is.
    pub ceilings: Option<Ceilings>,
}

impl Choice<'_> {
    fn wanted<'t>(&self, target: &'t Target) -> Result<Vec<Workload<'t>>> {
        let mut all = workloads(target, self.quick);
        all.retain(|w| w.name.contains(self.filter));
        if all.is_empty() {
            return Err(Error::config(format!("no workload's name has `{}`", self.filter)));
        }
        Ok(all)
    }

    /// Whether there is time for it.
    fn fits(&self, work: &Workload<'_>, sink: &Sink) -> bool {
        let takes = self.ceilings.map_or(0.0, |c| RUNS * work.flops / (EXPECTED * c.flops));
        takes <= 0.1 * sink.left()
    }
}

/// Times them; the rows, and what was left out or failed and why.
pub fn kernels(target: &Target, choice: &Choice<'_>, sink: &Sink) -> Result<(Vec<Row>, Vec<String>)> {
    let (mut rows, mut without) = (Vec::new(), Vec::new());
    let all = choice.wanted(target)?;
    sink.begin("kernels", all.len());
    for mut work in all {
        sink.doing(&work.name);
        if !choice.fits(&work, sink) {
            without.push(format!("{}: no time for it here", work.name));
        } else if let Err(error) = launches(target, &work.name, &mut work.make, &mut rows, sink) {
            // A workload that fails must not hide the others.
            sink.say(&json!({"what": work.name, "failed": error.to_string()}));
            without.push(format!("{}: {error}", work.name));
        }
        sink.did();
    }
    Ok((rows, without))
}

/// Times each launch of a step by itself.
fn launches(
    target: &Target,
    name: &str,
    make: &mut Make<'_>,
    rows: &mut Vec<Row>,
    sink: &Sink,
) -> Result<()> {
    let fence = Fence::new(target)?;
    let mut first = make()?;
    first.run()?;
    let footprint = |l: &Launch| l.bufs.iter().map(|b| 4 * b.len()).sum::<usize>().max(1);
    // As many copies as push every launch's memory through the cache twice; small kernels stay small, so not without end.
    let least = first.recorded().iter().map(footprint).min().unwrap_or(1);
    let copies = (2 * target.cache() / least).clamp(1, 64);
    let mut steps = vec![first];
    for _ in 1..copies {
        let mut step = make()?;
        step.run()?;
        steps.push(step);
    }
    for (i, launch) in steps[0].recorded().iter().enumerate() {
        let copies = (2 * target.cache()).div_ceil(footprint(launch)).clamp(1, steps.len());
        let list: Vec<Launch> = steps[..copies].iter().map(|s| s.recorded()[i].clone()).collect();
        let timing = fence.launches(&list)?;
        let kernel = launch.kernel.name;
        let sum = (launch.kernel.cost)(&launch.params);
        let cost = target.cost(sum);
        let more = json!({"kernel": kernel, "launch": i, "copies": copies, "sum_flops": sum.flops,
                          "beyond_cache": copies * footprint(launch) >= 2 * target.cache()});
        let how = format!("{kernel}{}", if cost.flops < sum.flops { ", by tiles" } else { "" });
        let row = Row { what: name.to_string(), how, timing, cost, more };
        sink.say(&row.json());
        rows.push(row);
    }
    Ok(())
}

/// Every launch of every workload, for whoever watches; twice, the second time with everything loaded.
pub fn once(target: &Target, choice: &Choice<'_>, sink: &Sink) -> Result<()> {
    let all = choice.wanted(target)?;
    sink.begin("once", all.len());
    for mut work in all {
        sink.doing(&work.name);
        let mut step = (work.make)()?;
        let fence = Fence::new(target)?;
        let [first, second] = [fence.time(|| step.run())?, fence.time(|| step.run())?];
        sink.say(&json!({"what": work.name, "first_us": first * 1e6, "second_us": second * 1e6}));
        sink.did();
    }
    Ok(())
}
