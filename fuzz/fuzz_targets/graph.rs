//! A small graph of whatever ops the bytes ask for: nothing panics, and every instruction set agrees with the oracle.
#![no_main]

use etude::device::{Cpu, Device};
use etude::simd::Simd;
use libfuzzer_sys::fuzz_target;
use random_graph::disagreement;
use std::sync::LazyLock;

#[path = "../../tests/common/random_graph.rs"]
mod random_graph;

static CPUS: LazyLock<Vec<Cpu<f32>>> = LazyLock::new(|| {
    let sets = Simd::supported();
    sets.map(|set| Cpu::with_simd(1, set).expect("a set that is supported")).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let devices: Vec<&dyn Device> = CPUS.iter().map(|cpu| cpu as &dyn Device).collect();
    if let Ok(Some(difference)) = disagreement(bytes, &devices) {
        panic!("{difference}");
    }
});
