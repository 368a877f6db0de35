//! The case table against the oracle.

use super::sink::Sink;
use super::target::Target;
use etude::Result;
use etude::cases::{self, Case};
use etude::device::Cpu;
use etude::kernel::{Cost, Elem};
use etude::kernels::REGISTRY;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Operations and bytes of a case that is small enough for tools that watch every access.
const SMALL: u64 = 1 << 20;

/// Which cases.
#[derive(Clone, Copy, PartialEq)]
pub enum Which {
    /// Those that launch every kernel, then as many more as there is time for.
    InTime,
    /// Every one.
    All,
    /// Every one below [`SMALL`]; only faults are said.
    Small,
}

/// What came of them.
#[derive(Default)]
pub struct Verdict {
    pub cases: usize,
    pub left_out: usize,
    /// Cases of a type that the device does not store.
    pub refused: usize,
    /// Kernels that were launched, and that there are.
    pub kernels: (usize, usize),
    /// What is wrong: stem and case, and why.
    pub faults: Vec<String>,
}

/// A case, what it launches and what that costs.
struct Planned {
    case: Case,
    kernels: BTreeSet<&'static str>,
    cost: Cost,
}

/// Runs cases on the device and on the oracle, outputs poisoned first. None beyond those that show every kernel is begun once
/// less than `reserve` seconds are left.
pub fn check(target: &Target, which: Which, reserve: f64, sink: &Sink) -> Result<Verdict> {
    let device = target.device();
    let mut verdict = Verdict::default();
    let mut planned = Vec::new();
    let holds = [Elem::F16, Elem::Bf16].map(|elem| (elem, device.alloc(elem, 1).is_ok()));
    for case in cases::all() {
        if holds.iter().any(|&(elem, holds)| !holds && case.stores(elem)) {
            verdict.refused += 1;
            continue;
        }
        let step = case.prepare(&Cpu::<f32>::new(1)?)?.step;
        let kernels = step.recorded().iter().map(|l| l.kernel.name).collect();
        planned.push(Planned { kernels, cost: step.cost(), case });
    }
    // Cheap ones first, and of them those that show a kernel that none has shown yet.
    planned.sort_by_key(|p| p.cost.flops.max(p.cost.bytes));
    let mut seen = BTreeSet::new();
    let (first, rest): (Vec<_>, Vec<_>) = planned.into_iter().partition(|p| {
        let fresh = !p.kernels.is_subset(&seen);
        seen.extend(p.kernels.iter().copied());
        fresh
    });
    let must = first.len();
    sink.begin("cases", must + rest.len());
    let mut launched = BTreeSet::new();
    for (i, Planned { case, kernels, cost }) in first.into_iter().chain(rest).enumerate() {
        let large = which == Which::Small && cost.flops.max(cost.bytes) > SMALL;
        let late = which == Which::InTime && i >= must && sink.left() < reserve;
        if large || late {
            verdict.left_out += 1;
            continue;
        }
        sink.doing(&format!("{} {}", case.stem, case.name));
        verdict.cases += 1;
        launched.extend(kernels);
        one(target, &case, which, sink, &mut verdict);
        sink.did();
    }
    verdict.kernels = (launched.len(), REGISTRY.iter().map(|(_, kernels)| kernels.len()).sum());
    sink.say(&json!({"cases": verdict.cases, "wrong": verdict.faults.len(), "left_out": verdict.left_out,
                     "refused": verdict.refused}));
    Ok(verdict)
}

fn one(target: &Target, case: &Case, which: Which, sink: &Sink, verdict: &mut Verdict) {
    let (error, at) = match case.parity(target.device()) {
        Ok((error, at)) => (error, at),
        Err(e) => (f64::NAN, e.to_string()),
    };
    // NaN is not within it.
    let right = error <= case.tolerance;
    if !right {
        let (stem, name, tolerance) = (case.stem, &case.name, case.tolerance);
        verdict.faults.push(format!("{stem} {name}: {error:e} at {at}, over {tolerance:e}"));
    }
    if which != Which::Small || !right {
        // NaN has no JSON.
        let shown: Value = if error.is_finite() { json!(error) } else { json!(error.to_string()) };
        sink.say(&json!({"stem": case.stem, "case": case.name, "error": shown, "tolerance": case.tolerance,
                         "reason": case.reason, "at": at, "right": right}));
    }
}
