//! The case table on a real Vulkan device against the f64 oracle, outputs poisoned first.
//!
//! On hardware when `ETUDE_ADAPTER` names it, else on a software adapter (Mesa's lavapipe): where there is
//! neither, these tests fail.
#![cfg(feature = "wgpu")]

use etude::cases;
use etude::device::wgpu::{ADAPTER_VARIABLE, Select, Wgpu, shaders};
use etude::kernels::REGISTRY;

/// Stems without a shader. Must shrink to nothing.
const MISSING: &[&str] = &["contrastive", "conv1d", "conv2d", "similarity"];

fn device() -> Wgpu {
    let select = if std::env::var_os(ADAPTER_VARIABLE).is_some() { Select::Auto } else { Select::Software };
    Wgpu::new(&select).unwrap_or_else(|e| {
        panic!("{e}\ninstall Mesa's software Vulkan: apt-get install mesa-vulkan-drivers")
    })
}

#[test]
fn the_list_of_missing_shaders_is_exact() {
    for (stem, kernels) in REGISTRY {
        let have = shaders::source(stem).is_some();
        assert_eq!(have, !MISSING.contains(stem), "{stem}: update MISSING");
        assert!(!have || kernels.iter().all(|k| !k.groups.is_empty()), "{stem}: a row has no `groups`");
    }
}

#[test]
fn every_case_matches_the_oracle() {
    let device = device();
    let mut faults = Vec::new();
    let table: Vec<_> = cases::all().into_iter().filter(|c| !MISSING.contains(&c.stem)).collect();
    for case in &table {
        match case.parity(&device) {
            Ok((e, _)) if e <= case.tolerance => {}
            Ok((e, at)) => {
                faults.push(format!("{} {}: {e:e} at {at}, over {:e}", case.stem, case.name, case.tolerance));
            }
            Err(e) => faults.push(format!("{} {}: {e}", case.stem, case.name)),
        }
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), table.len(), faults.join("\n"));
}

#[test]
fn a_run_repeats_bit_for_bit() {
    let device = device();
    for case in cases::all().into_iter().filter(|c| !MISSING.contains(&c.stem)) {
        let bits = |o: cases::Outcome| -> Vec<u64> {
            o.into_iter().flat_map(|(_, v)| v).map(f64::to_bits).collect()
        };
        let (a, b) = (case.run(&device).unwrap(), case.run(&device).unwrap());
        assert_eq!(bits(a), bits(b), "{} {}", case.stem, case.name);
    }
}
