//! Graphs made of random bytes, as the fuzzer makes them, agree with the oracle on every device.

use crate::gpu;
use crate::random_graph::disagreement;
use etude::device::{Cpu, Device};
use etude::simd::Simd;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::Path;

/// Bytes of the graph of a seed: eight ops take some fifty.
fn bytes(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn agree(graphs: impl Iterator<Item = Vec<u8>>, devices: &[&dyn Device]) {
    let mut recorded = 0;
    for bytes in graphs {
        match disagreement(&bytes, devices) {
            Ok(None) => recorded += 1,
            Ok(Some(difference)) => panic!("{bytes:?}: {difference}"),
            // Nothing that can be recorded: an error, as it should be.
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(recorded > 0, "no graph could be recorded");
}

#[test]
fn the_cpu_agrees_in_every_instruction_set() {
    let sets = Simd::supported();
    let cpus: Vec<Cpu<f32>> = sets.map(|set| Cpu::with_simd(1, set).unwrap()).collect();
    let devices: Vec<&dyn Device> = cpus.iter().map(|cpu| cpu as &dyn Device).collect();
    agree((0..500).map(bytes), &devices);
}

/// Seeds of the fuzz target, and all that it ever failed on.
#[test]
fn the_fuzz_targets_inputs_agree() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/graph");
    let cpu = Cpu::<f32>::new(1).unwrap();
    agree(fs::read_dir(corpus).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()), &[&cpu]);
}

/// Few on the WGSL device: each graph has pipelines of its own, which a software driver compiles for seconds.
#[test]
fn gpus_agree() {
    for device in gpu::devices() {
        let graphs = if device.name().starts_with("wgpu") { 3 } else { 40 };
        agree((1000..1000 + graphs).map(bytes), &[device.as_ref()]);
    }
}
