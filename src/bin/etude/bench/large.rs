//! The loss of a million rows.

use super::sink::Sink;
use super::target::Target;
use super::timing::Fence;
use super::workloads::{Lie, loss};
use etude::Result;
use etude::kernel::Elem;
use serde_json::json;

/// Runs it in 16 bits, once: it must end, and what it takes beside its inputs is said.
pub fn large(target: &Target, quick: bool, sink: &Sink) -> Result<()> {
    let (n, d) = if quick { (256, 16) } else { (1 << 20, 128) };
    sink.begin("large", 1);
    sink.doing(&format!("loss bf16 N={n} D={d}"));
    let before = target.used()?;
    let mut step = loss(target, n, d, Elem::Bf16, Lie::Random)()?;
    let fence = Fence::new(target)?;
    let seconds = fence.time(|| step.run())?;
    let used = target.used()?.saturating_sub(before);
    sink.say(
        &json!({"what": format!("loss bf16 random N={n} D={d}"), "seconds": seconds, "bytes_used": used,
                     "bytes_of_inputs": 2 * n * d + 4 * n, "bytes_of_gradient": 4 * n * d,
                     "tflop_s": 4.0 * (n as f64).powi(2) * d as f64 / seconds / 1e12}),
    );
    Ok(())
}
