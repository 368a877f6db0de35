//! The training step.

use super::row::Row;
use super::sink::Sink;
use super::step::record;
use super::target::Target;
use super::timing::{Fence, Timing};
use etude::Result;
use serde_json::json;

const BATCHES: [usize; 2] = [64, 512];

/// Times it at both batches, in every form that the device has.
pub fn steps(target: &Target, sink: &Sink) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    sink.begin("step", BATCHES.len());
    for batch in BATCHES {
        sink.doing(&format!("B = {batch}"));
        match target {
            #[cfg(feature = "cuda")]
            Target::Cuda(device) => {
                for (graphs, form) in [(true, "one graph"), (false, "launch by launch")] {
                    device.use_graphs(graphs);
                    rows.push(step(target, batch, form, sink)?);
                }
                device.use_graphs(true);
            }
            #[cfg(feature = "wgpu")]
            Target::Wgpu(..) => rows.push(step(target, batch, "one submission", sink)?),
            Target::Cpu(_) => rows.push(step(target, batch, "one loop", sink)?),
        }
        sink.did();
    }
    Ok(rows)
}

fn step(target: &Target, batch: usize, form: &str, sink: &Sink) -> Result<Row> {
    let fence = Fence::new(target)?;
    let mut step = record(target.device(), batch)?;
    step.run()?;
    let timing = fence.repeated(|| step.run())?;
    let latency = Timing::of(|| fence.time(|| step.run()))?;
    let more = json!({"batch": batch, "form": form, "launches": step.launches(),
                      "waited_for_us": latency.median * 1e6});
    let row = Row {
        what: "step".into(),
        how: format!("B = {batch}, {form}"),
        timing,
        cost: target.cost(step.cost()),
        more,
    };
    sink.say(&row.json());
    Ok(row)
}
