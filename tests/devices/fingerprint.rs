//! Arithmetic stays bit for bit what it was: every case of the table, and a short training run of each protocol, on each device
//! that this machine has, against the hashes of `tests/golden/fingerprints.txt`.
//!
//! A change that is meant to change arithmetic says so by changing that file: `ETUDE_FINGERPRINTS=write scripts/test --test
//! devices fingerprint` writes the blocks of the devices at hand anew. A case that a block does not list is new, and is held from
//! when it is listed. What a driver's own compiler rounds (WGSL) has the driver's name over its block; on one that is not listed
//! its losses must be those of a listed one within [`DRIVER`].

use crate::table::{self, CASES, Outcomes, bits};
use crate::trained::{self, Trained, train};
use etude::device::{Cpu, Device};
use etude::simd::Simd;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How far losses may lie from those of another driver, relative: what three epochs make of sums in another order.
const DRIVER: f64 = 1e-3;

/// Under what a block says which estimates its processor has: x86 leaves the last bits of them to the maker.
const ESTIMATES: &str = "estimates of reciprocal roots";

/// How the line of a training run begins.
const TRAINING: &str = "training: ";

/// FNV-1a.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What a device gives: hashes by case, `<stem>: <case>`, and by training run, with its losses behind it.
type Block = BTreeMap<String, String>;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fingerprints.txt")
}

/// The blocks of the file, by device.
fn recorded() -> BTreeMap<String, Block> {
    let (mut blocks, mut device) = (BTreeMap::<String, Block>::new(), String::new());
    for line in std::fs::read_to_string(file()).unwrap_or_default().lines() {
        if let Some(name) = line.strip_prefix('[') {
            device = name.trim_end_matches(']').to_string();
        } else if let Some((what, value)) = line.rsplit_once(" = ") {
            blocks.entry(device.clone()).or_default().insert(what.to_string(), value.to_string());
        }
    }
    blocks
}

/// Hashes of what the cases give. What the device refuses is refused by its row, and left out.
fn of_cases(outcomes: &Outcomes, block: &mut Block) {
    for (case, outcome) in CASES.iter().zip(outcomes) {
        let Ok(outcome) = outcome else { continue };
        let mut hash = Hash::new();
        bits(outcome).into_iter().for_each(|v| hash.add(&v.to_le_bytes()));
        block.insert(format!("{}: {}", case.stem, case.name), format!("{:016x}", hash.0));
    }
}

/// Every loss of a run, and a hash of these and of the weights it ends with.
fn of_training(runs: &[Trained], block: &mut Block) {
    for Trained { kind, protocol, losses, tensors, .. } in runs {
        let mut hash = Hash::new();
        losses.iter().for_each(|v| hash.add(&v.to_bits().to_le_bytes()));
        for tensor in tensors {
            hash.add(tensor.name.as_bytes());
            tensor.values.iter().for_each(|v| hash.add(&v.to_bits().to_le_bytes()));
        }
        let losses: Vec<String> = losses.iter().map(|v| format!("{v:.6e}")).collect();
        let what = format!("{TRAINING}{} {}", kind.name(), protocol.name());
        block.insert(what, format!("{:016x} {}", hash.0, losses.join(" ")));
    }
}

/// The set whose bits are another's too, as both fuse multiply-adds or neither does: the other's block lists only where it
/// differs, as from AVX2 NEON does by its estimate of a reciprocal root.
fn like(device: &str) -> Option<&'static str> {
    match device {
        "cpu Neon" => Some("cpu Avx2"),
        "cpu Simd128" => Some("cpu Portable"),
        _ => None,
    }
}

/// A device's own block over that of the set which it is like.
fn listed(blocks: &BTreeMap<String, Block>, device: &str) -> Option<Block> {
    let own = blocks.get(device);
    match like(device).and_then(|other| blocks.get(other)) {
        Some(other) => {
            Some(other.iter().chain(own.into_iter().flatten()).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        None => own.cloned(),
    }
}

/// Whether estimates of reciprocal roots enter into what a line is of: distances, where a gradient divides by them.
fn is_of_estimates(what: &str) -> bool {
    let distance = what.contains("Euclidean") && !what.contains("SquaredEuclidean")
        || what.starts_with("pair_loss: of rows") && what.contains("euclidean");
    distance || what.starts_with("rank_n_contrast: ") || what.starts_with(TRAINING) && !what.ends_with(" mse")
}

/// A hash of a set's estimates, where makers of processors differ in them.
#[cfg(target_arch = "x86_64")]
fn estimates(simd: Simd) -> Option<String> {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx")]
    fn avx2(x: [f32; 8]) -> [f32; 8] {
        let mut y = [0.0; 8];
        // SAFETY: eight elements.
        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), _mm256_rsqrt_ps(_mm256_loadu_ps(x.as_ptr()))) };
        y
    }

    #[target_feature(enable = "avx512f,avx512vl")]
    fn avx512(x: [f32; 8]) -> [f32; 8] {
        let mut y = [0.0; 8];
        // SAFETY: eight elements.
        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), _mm256_rsqrt14_ps(_mm256_loadu_ps(x.as_ptr()))) };
        y
    }

    let mut hash = Hash::new();
    // Two octaves have all that a root has.
    for at in (1f32.to_bits()..4f32.to_bits()).step_by(8 * 67) {
        let x = std::array::from_fn(|l| f32::from_bits(at + 67 * l as u32));
        let y = match simd {
            // SAFETY: the set is supported.
            Simd::Avx2 => unsafe { avx2(x) },
            // SAFETY: as above.
            Simd::Avx512 => unsafe { avx512(x) },
            _ => return None,
        };
        y.iter().for_each(|y| hash.add(&y.to_bits().to_le_bytes()));
    }
    Some(format!("{:016x}", hash.0))
}

/// The architecture, or a division, says every bit.
#[cfg(not(target_arch = "x86_64"))]
fn estimates(_: Simd) -> Option<String> {
    None
}

/// The lines of a block that a device can be held to, which has given `now`: where its estimates are not those of the block, all
/// but the lines that these enter into, which the oracle holds.
fn comparable(block: &Block, now: &Block) -> [Block; 2] {
    let others = now.get(ESTIMATES).is_some_and(|own| block.get(ESTIMATES) != Some(own));
    let kept = |what: &str| what != ESTIMATES && !(others && is_of_estimates(what));
    [block, now]
        .map(|b| b.iter().filter(|(what, _)| kept(what)).map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// Holds what a device gives now against its block of the file, or writes it there.
fn hold(device: &str, mut now: Block) {
    let mut blocks = recorded();
    if std::env::var("ETUDE_FINGERPRINTS").as_deref() == Ok("write") {
        // Tests of other devices write the same file.
        static WRITING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _held = WRITING.lock().unwrap();
        blocks = recorded();
        blocks.remove(device);
        let other = listed(&blocks, device).unwrap_or_default();
        now.retain(|what, value| other.get(what) != Some(value));
        if !now.is_empty() {
            blocks.insert(device.to_string(), now);
        }
        let block = |(device, block): (&String, &Block)| {
            let lines: String = block.iter().map(|(what, value)| format!("{what} = {value}\n")).collect();
            format!("[{device}]\n{lines}\n")
        };
        std::fs::write(file(), blocks.iter().map(block).collect::<String>()).unwrap();
        return;
    }
    let faults = match listed(&blocks, device) {
        Some(block) => {
            let [was, now] = comparable(&block, &now);
            differences(&was, &now)
        }
        None => unlisted(&blocks, device, &now),
    };
    assert!(
        !now.is_empty() && faults.is_empty(),
        "{device}: {} differ:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Where a device no longer gives what it gave.
fn differences(was: &Block, now: &Block) -> Vec<String> {
    let mut faults = Vec::new();
    for (what, was) in was {
        match now.get(what) {
            Some(now) if now == was => {}
            Some(now) => faults.push(format!("{what}\n  was {was}\n  is  {now}")),
            None => faults.push(format!("{what}: is listed, and no longer run")),
        }
    }
    for what in now.keys().filter(|what| !was.contains_key(*what)) {
        eprintln!("{what}: not listed yet");
    }
    faults
}

/// What is wrong with a device that nobody has listed: a driver's losses must be those of a listed one, more or less.
fn unlisted(blocks: &BTreeMap<String, Block>, device: &str, now: &Block) -> Vec<String> {
    let family = device.split(' ').next().unwrap_or_default();
    let listed = blocks.iter().find(|(name, _)| family == "wgpu" && name.starts_with("wgpu "));
    let Some((driver, listed)) = listed else {
        return vec!["has no block in tests/golden/fingerprints.txt".into()];
    };
    eprintln!("{device} is not listed: its losses are compared with those of {driver}");
    let losses = |text: &str| text.split(' ').skip(1).map(|v| v.parse().unwrap()).collect::<Vec<f64>>();
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= DRIVER * b.abs();
    let mut faults = Vec::new();
    for (what, value) in now.iter().filter(|(what, _)| what.starts_with(TRAINING)) {
        let (ours, theirs) = (losses(value), listed.get(what).map(|v| losses(v)).unwrap_or_default());
        if ours.len() != theirs.len() || !ours.iter().zip(&theirs).all(near) {
            faults.push(format!("{what}: losses {ours:?} against {theirs:?}"));
        }
    }
    faults
}

#[test]
fn what_differs_is_told() {
    let block = |lines: &[(&str, &str)]| -> Block {
        lines.iter().map(|(what, value)| (what.to_string(), value.to_string())).collect()
    };
    let was = block(&[("a: 1", "00"), ("a: 2", "11"), ("training: mse", "22 1.0 2.0")]);
    assert_eq!(differences(&was, &was), [""; 0]);
    let now = block(&[("a: 1", "00"), ("a: 3", "33"), ("training: mse", "23 1.0 2.1")]);
    let faults = differences(&was, &now);
    assert!(
        faults.len() == 2 && faults[0].starts_with("a: 2") && faults[1].starts_with("training"),
        "{faults:?}"
    );
    let blocks = [("wgpu x".to_string(), was)].into();
    assert_eq!(unlisted(&blocks, "wgpu y", &now).len(), 1);
    assert_eq!(unlisted(&blocks, "wgpu y", &block(&[("training: mse", "24 1.0 2.0001")])), [""; 0]);
    assert_eq!(unlisted(&blocks, "cpu z", &now).len(), 1);
}

#[test]
fn other_estimates_change_distances_alone() {
    let block = |estimates: &str, distance: &str, square: &str| -> Block {
        let lines = [(ESTIMATES, estimates), ("a: Euclidean", distance), ("a: SquaredEuclidean", square)];
        lines.iter().map(|(what, value)| (what.to_string(), value.to_string())).collect()
    };
    let faults = |was: Block, now: Block| {
        let [was, now] = comparable(&was, &now);
        differences(&was, &now).len()
    };
    assert_eq!(faults(block("0", "1", "2"), block("0", "9", "2")), 1);
    assert_eq!(faults(block("0", "1", "2"), block("5", "9", "2")), 0);
    assert_eq!(faults(block("0", "1", "2"), block("5", "9", "8")), 1);
}

#[test]
fn a_set_that_is_like_another_lists_where_it_differs() {
    let block = |lines: &[(&str, &str)]| -> Block {
        lines.iter().map(|(what, value)| (what.to_string(), value.to_string())).collect()
    };
    let mut blocks: BTreeMap<_, _> =
        [("cpu Avx2".to_string(), block(&[("a: 1", "00"), ("a: 2", "11")]))].into();
    assert_eq!(listed(&blocks, "cpu Neon").as_ref(), blocks.get("cpu Avx2"));
    blocks.insert("cpu Neon".into(), block(&[("a: 2", "12")]));
    assert_eq!(listed(&blocks, "cpu Neon"), Some(block(&[("a: 1", "00"), ("a: 2", "12")])));
    assert_eq!(listed(&blocks, "cpu Avx512"), None);
}

#[test]
fn the_oracle() {
    let mut block = Block::new();
    of_cases(&table::ORACLE, &mut block);
    of_training(&train(&Cpu::<f64>::new(2).unwrap()), &mut block);
    hold("cpu f64", block);
}

#[test]
fn the_cpu_in_each_instruction_set() {
    // WebAssembly has no threads.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(2);
    for simd in Simd::supported() {
        let (name, mut block) = (format!("cpu {simd:?}"), Block::new());
        if simd == Simd::best() {
            of_cases(&table::CPU[0], &mut block);
            of_training(&trained::CPU, &mut block);
        } else {
            let make = || Box::new(Cpu::<f32>::with_simd(threads, simd).unwrap()) as Box<dyn Device>;
            of_cases(&table::run(make), &mut block);
            of_training(&train(&*make()), &mut block);
        }
        block.extend(estimates(simd).map(|hash| (ESTIMATES.to_string(), hash)));
        hold(&name, block);
    }
}

#[cfg(feature = "cuda-on-cpu")]
#[test]
fn the_cuda_sources_on_the_cpu() {
    let mut block = Block::new();
    of_cases(&table::CUDA_ON_CPU[0], &mut block);
    of_training(&trained::CUDA_ON_CPU, &mut block);
    hold("cuda-on-cpu", block);
}

#[cfg(feature = "wgpu")]
#[test]
fn the_wgsl_device() {
    let (device, mut block) = (crate::gpu::wgpu(), Block::new());
    let adapter =
        etude::device::wgpu::adapters().into_iter().find(|a| a.name == device.adapter_name()).unwrap();
    let name = format!("wgpu {}, {}", adapter.name, adapter.driver);
    of_cases(&table::WGPU.runs[0], &mut block);
    of_training(&trained::WGPU, &mut block);
    hold(&name, block);
}
