//! Arithmetic stays bit for bit what it was: every case of the table, and a short training run of each protocol, on each device
//! that this machine has, against the hashes of `tests/golden/fingerprints.txt`.
//!
//! A change that is meant to change arithmetic says so by changing that file: `ETUDE_FINGERPRINTS=write cargo test fingerprint`
//! writes the lines of the devices at hand anew. What a driver's own compiler rounds (WGSL) has the driver's name in its line; on
//! one that is not listed its losses must be those of a listed one within [`DRIVER`].

use crate::table::{self, CASES, Outcomes, bits};
use crate::training::small;
use etude::data::inputs::InputKind;
use etude::device::{Cpu, Device};
use etude::simd::Simd;
use etude::train::{Hooks, Pairs, Protocol, TrainOptions, fit};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How far losses may lie from those of another driver, relative: what three epochs make of sums in another order.
const DRIVER: f64 = 1e-3;

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

/// Lines of the file: `device / what` and the hash, with the losses of a training run behind it.
type Lines = BTreeMap<String, String>;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fingerprints.txt")
}

fn recorded() -> Lines {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let line = |l: &str| l.split_once(" = ").map(|(name, value)| (name.to_string(), value.to_string()));
    text.lines().filter_map(line).collect()
}

/// Hashes of what the cases of each stem give. What the device refuses is refused by its row, and left out.
fn of_cases(outcomes: &Outcomes, name: &str, lines: &mut Lines) {
    let mut hashes: BTreeMap<&str, Hash> = BTreeMap::new();
    for (case, outcome) in CASES.iter().zip(outcomes) {
        let Ok(outcome) = outcome else { continue };
        let hash = hashes.entry(case.stem).or_insert_with(Hash::new);
        hash.add(case.name.as_bytes());
        bits(outcome).into_iter().for_each(|v| hash.add(&v.to_le_bytes()));
    }
    for (stem, hash) in hashes {
        lines.insert(format!("{name} / cases {stem}"), format!("{:016x}", hash.0));
    }
}

/// Every loss of a run, and a hash of these and of the weights it ends with.
fn of_training(device: &dyn Device, name: &str, lines: &mut Lines) {
    let runs = [
        (InputKind::AlignmentPath, Protocol::Mse),
        (InputKind::AlignmentPath, Protocol::Joint),
        (InputKind::AlignmentPath, Protocol::TwoPhase),
        (InputKind::Contour, Protocol::Joint),
    ];
    for (kind, protocol) in runs {
        let (inputs, split) = small(50, kind);
        let mut options = TrainOptions::for_inputs(kind, protocol, 1.0 / 127.0);
        (options.epochs, options.encoder_epochs, options.batch, options.seed) = (3, 2, 12, 5);
        if protocol == Protocol::TwoPhase {
            options.contrast.pairs = Pairs::Halves;
        }
        let fitted = fit(device, &inputs, &split, &options, Hooks::default()).unwrap();
        let losses: Vec<f64> =
            fitted.history.iter().flat_map(|e| [e.train_loss, e.val_loss.unwrap()]).collect();
        let mut hash = Hash::new();
        losses.iter().for_each(|v| hash.add(&v.to_bits().to_le_bytes()));
        for tensor in fitted.net.tensors(device).unwrap() {
            hash.add(tensor.name.as_bytes());
            tensor.values.iter().for_each(|v| hash.add(&v.to_bits().to_le_bytes()));
        }
        let losses: Vec<String> = losses.iter().map(|v| format!("{v:.6e}")).collect();
        let what = format!("{name} / training {} {}", kind.name(), protocol.name());
        lines.insert(what, format!("{:016x} {}", hash.0, losses.join(" ")));
    }
}

/// Holds `now`, the lines of the devices whose names begin with `family`, against the file, or writes them there.
fn hold(family: &str, now: Lines) {
    if std::env::var("ETUDE_FINGERPRINTS").as_deref() == Ok("write") {
        // Tests of other devices write the same file.
        static WRITING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _held = WRITING.lock().unwrap();
        let mut all = recorded();
        all.extend(now);
        let text: String = all.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        std::fs::write(file(), text).unwrap();
        return;
    }
    let recorded = recorded();
    let mut faults = Vec::new();
    for (name, value) in &now {
        match recorded.get(name) {
            Some(was) if was == value => {}
            Some(was) => faults.push(format!("{name}\n  was {was}\n  is  {value}")),
            None => match unlisted(family, name, value, &recorded) {
                Ok(()) => eprintln!("{name}: not listed; its losses are those of a listed driver"),
                Err(fault) => faults.push(format!("{name}: {fault}")),
            },
        }
    }
    assert!(
        !now.is_empty() && faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        now.len(),
        faults.join("\n")
    );
}

/// What a driver that nobody has listed may give.
fn unlisted(family: &str, name: &str, value: &str, recorded: &Lines) -> Result<(), String> {
    if family != "wgpu" {
        return Err("has no line in tests/golden/fingerprints.txt".into());
    }
    let what = name.split_once(" / ").map_or("", |(_, what)| what);
    if !what.starts_with("training") {
        return Ok(());
    }
    let losses = |text: &str| text.split(' ').skip(1).map(|v| v.parse().unwrap()).collect::<Vec<f64>>();
    let listed = recorded.iter().find(|(n, _)| n.starts_with("wgpu") && n.ends_with(what));
    let (_, listed) = listed.ok_or("no driver is listed")?;
    let (ours, theirs) = (losses(value), losses(listed));
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= DRIVER * b.abs();
    if ours.len() == theirs.len() && ours.iter().zip(&theirs).all(near) {
        return Ok(());
    }
    Err(format!("losses {ours:?} against {theirs:?}"))
}

#[test]
fn the_oracle() {
    let (device, mut lines) = (Cpu::<f64>::new(2).unwrap(), Lines::new());
    of_cases(&table::ORACLE, "cpu f64", &mut lines);
    of_training(&device, "cpu f64", &mut lines);
    hold("cpu f64", lines);
}

#[test]
fn the_cpu_in_each_instruction_set() {
    for simd in [Simd::Portable, Simd::Avx2, Simd::Avx512].into_iter().filter(|s| s.is_supported()) {
        let (device, mut lines) = (Cpu::<f32>::with_simd(2, simd).unwrap(), Lines::new());
        let name = format!("cpu {simd:?}");
        if simd == Simd::best() {
            of_cases(&table::CPU[0], &name, &mut lines);
        } else {
            let make = || Box::new(Cpu::<f32>::with_simd(2, simd).unwrap()) as Box<dyn Device>;
            of_cases(&table::run(make), &name, &mut lines);
        }
        of_training(&device, &name, &mut lines);
        hold("cpu f32", lines);
    }
}

#[cfg(feature = "cuda-on-cpu")]
#[test]
fn the_cuda_sources_on_the_cpu() {
    let (device, mut lines) = (etude::device::cuda::CudaOnCpu::with_seed(0).unwrap(), Lines::new());
    of_cases(&table::CUDA_ON_CPU[0], "cuda-on-cpu", &mut lines);
    of_training(&device, "cuda-on-cpu", &mut lines);
    hold("cuda-on-cpu", lines);
}

#[cfg(feature = "wgpu")]
#[test]
fn the_wgsl_device() {
    let (device, mut lines) = (crate::gpu::wgpu(), Lines::new());
    let adapter =
        etude::device::wgpu::adapters().into_iter().find(|a| a.name == device.adapter_name()).unwrap();
    let name = format!("wgpu {}, {}", adapter.name, adapter.driver);
    of_cases(&table::WGPU[0], &name, &mut lines);
    of_training(&device, &name, &mut lines);
    hold("wgpu", lines);
}
