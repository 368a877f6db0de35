//! Short training runs on each device, run once for all tests of this program.

use crate::training::small;
use etude::data::InputKind;
#[cfg(feature = "wgpu")]
use etude::device::Traffic;
use etude::device::{Cpu, Device};
use etude::optim::Tensor;
use etude::train::{Contrast, Epoch, Hooks, Pairs, Protocol, Snapshot, TrainOptions, fit};
use std::ops::ControlFlow;
use std::sync::LazyLock;

/// What a run was, and what came of it.
pub struct Trained {
    pub kind: InputKind,
    pub protocol: Protocol,
    /// Of each epoch, in training and in validation.
    pub losses: Vec<f64>,
    /// The network it ends with.
    pub tensors: Vec<Tensor>,
    #[cfg(feature = "wgpu")]
    pub launches_per_step: usize,
    /// What the last epoch's steps asked the device for, and how many they were.
    #[cfg(feature = "wgpu")]
    pub traffic: Option<(Traffic, usize)>,
}

/// The CPU's, in f32.
pub static CPU: LazyLock<Vec<Trained>> = LazyLock::new(|| train(&Cpu::<f32>::new(1).unwrap()));

/// Those of the CUDA sources on the CPU.
#[cfg(feature = "cuda-on-cpu")]
pub static CUDA_ON_CPU: LazyLock<Vec<Trained>> =
    LazyLock::new(|| train(&etude::device::cuda::CudaOnCpu::new().unwrap()));

/// The WGSL device's.
#[cfg(feature = "wgpu")]
pub static WGPU: LazyLock<Vec<Trained>> = LazyLock::new(|| train(&crate::gpu::wgpu()));

/// Every protocol, both numbers of channels, and each set of heads.
pub fn train(device: &dyn Device) -> Vec<Trained> {
    let runs = [
        (InputKind::AlignmentPath, Protocol::Mse),
        (InputKind::AlignmentPath, Protocol::Joint),
        (InputKind::AlignmentPath, Protocol::TwoPhase),
        (InputKind::Contour, Protocol::Joint),
        (InputKind::AlignmentPathNotes, Protocol::Joint),
        (InputKind::Notes, Protocol::TwoPhase),
    ];
    let run = |(kind, protocol)| {
        let (inputs, split) = small(50, kind);
        let options = options(kind, protocol);
        let mut losses = Vec::new();
        let mut watch = |e: &Epoch, _: &mut Snapshot<'_>| {
            losses.extend([e.train_loss, e.val_loss.unwrap()]);
            Ok(ControlFlow::Continue(()))
        };
        let hooks = Hooks { progress: Some(&mut watch), ..Hooks::default() };
        let fitted = fit(device, &inputs, &split, &options, hooks).unwrap();
        Trained {
            kind,
            protocol,
            losses,
            tensors: fitted.net.tensors(device).unwrap(),
            #[cfg(feature = "wgpu")]
            launches_per_step: fitted.launches_per_step,
            #[cfg(feature = "wgpu")]
            traffic: fitted.traffic,
        }
    };
    runs.into_iter().map(run).collect()
}

/// Three epochs of few batches.
pub fn options(kind: InputKind, protocol: Protocol) -> TrainOptions {
    let mut options = TrainOptions { protocol, ..TrainOptions::for_inputs(kind, 1.0 / 127.0) };
    options.contrast = Contrast::default();
    (options.epochs, options.encoder_epochs, options.batch, options.seed) = (3, 2, 12, 5);
    if protocol == Protocol::TwoPhase {
        options.contrast.pairs = Pairs::Halves;
    }
    options
}

/// Fails where losses are not the CPU's. Devices add in different orders, which training then magnifies: some 1e-6 a step, a
/// thousandfold over ten.
#[cfg(any(feature = "cuda-on-cpu", feature = "wgpu"))]
pub fn follow_the_cpu(ours: &[Trained]) {
    for (ours, theirs) in ours.iter().zip(CPU.iter()) {
        let what = format!("{} {:?}", ours.kind, ours.protocol);
        assert!(
            ours.losses.len() >= 6 && ours.losses.len() == theirs.losses.len(),
            "{what}: {:?}",
            ours.losses
        );
        for (i, (a, b)) in ours.losses.iter().zip(&theirs.losses).enumerate() {
            assert!((a - b).abs() <= 1e-3 * b.abs(), "{what}, loss {i}: {a} against {b}");
        }
    }
}
