//! The case table through the CUDA sources, run on the CPU, against the f64 oracle, outputs poisoned first.
#![cfg(feature = "cuda-on-cpu")]

use etude::cases::{self, Case, Outcome};
use etude::device::cuda::{CudaOnCpu, SOURCES};
use etude::kernels::REGISTRY;
use rayon::prelude::*;

/// Stems without a CUDA source. Must shrink to nothing.
const MISSING: &[&str] = &["batch_norm", "conv1d", "conv2d", "dropout", "gather", "loss", "optim", "pool"];

fn table() -> Vec<Case> {
    cases::all().into_iter().filter(|c| !MISSING.contains(&c.stem)).collect()
}

fn bits(outcome: Outcome) -> Vec<u64> {
    outcome.into_iter().flat_map(|(_, v)| v).map(f64::to_bits).collect()
}

/// What `check` finds wrong with each case, cases in parallel.
fn faults(check: impl Fn(&Case) -> Option<String> + Sync) {
    let table = table();
    let faults: Vec<String> = table
        .par_iter()
        .filter_map(|case| Some(format!("{} {}: {}", case.stem, case.name, check(case)?)))
        .collect();
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), table.len(), faults.join("\n"));
}

#[test]
fn the_list_of_missing_sources_is_exact() {
    for (stem, kernels) in REGISTRY {
        let have = SOURCES.iter().any(|s| s.0 == *stem);
        let rows = kernels.iter().filter(|k| k.cuda.is_some()).count();
        assert_eq!(have && rows == kernels.len(), !MISSING.contains(stem), "{stem}: update MISSING");
    }
}

#[test]
fn every_case_matches_the_oracle() {
    faults(|case| {
        // A device a case: copies and runs of one device wait for each other.
        match case.parity(&CudaOnCpu::new().unwrap()) {
            Ok((e, _)) if e <= case.tolerance => None,
            Ok((e, at)) => Some(format!("{e:e} at {at}, over {:e}", case.tolerance)),
            Err(e) => Some(e.to_string()),
        }
    });
}

#[test]
fn any_order_of_lanes_and_blocks_gives_the_same_bits() {
    faults(|case| {
        let run = |seed| case.run(&CudaOnCpu::with_seed(seed).unwrap()).map(bits);
        match (run(0), run(1), run(2)) {
            (Ok(a), Ok(b), Ok(c)) if a == b && b == c => None,
            (Ok(_), Ok(_), Ok(_)) => Some("seeds 0, 1 and 2 differ".into()),
            (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => Some(e.to_string()),
        }
    });
}
