//! Training on the WGSL device: the CPU's loss curve, one submission a step, and what a run that goes wrong says.

use crate::gpu;
use crate::trained::{Trained, WGPU, follow_the_cpu, options};
use crate::training::small;
use etude::cases::normal;
use etude::data::InputKind;
use etude::device::Device;
use etude::graph::Graph;
use etude::net::{Learn, NetConfig, PcConvNet};
use etude::train::{Hooks, Protocol, fit};
use std::ops::ControlFlow;

/// Most dispatches of a training step of the default network.
const DISPATCHES: u64 = 25;

#[test]
fn losses_follow_those_of_the_cpu() {
    follow_the_cpu(&WGPU);
}

#[test]
fn a_step_is_one_submission_and_reads_nothing_back() {
    let whole = |run: &&Trained| [Protocol::Mse, Protocol::Joint].contains(&run.protocol);
    for run in WGPU.iter().filter(whole) {
        let (protocol, (traffic, steps)) = (run.protocol, run.traffic.unwrap());
        let n = steps as u64;
        assert!(
            steps > 1 && traffic.submissions == n && (traffic.reads, traffic.writes) == (0, 0),
            "{traffic:?}"
        );
        assert!(traffic.dispatches.is_multiple_of(n), "{traffic:?}");
        let (most, launches) =
            if protocol == Protocol::Mse { (DISPATCHES, 20) } else { (DISPATCHES + 5, 24) };
        // Features gathered, three layers both ways, an error and a sum.
        let of_notes = if run.kind.has_notes() { 9 } else { 0 };
        let (most, launches) = (most + of_notes, launches + of_notes as usize);
        assert!(traffic.dispatches / n <= most, "{protocol:?}: {} dispatches", traffic.dispatches / n);
        // What CUDA captures in its graph: a launch is one kernel there.
        assert!(run.launches_per_step <= launches, "{protocol:?}: {} launches", run.launches_per_step);
    }
}

/// A NaN in one of the data set's rows is first seen by the kernel that cuts batches out of it.
#[test]
fn a_checked_run_names_the_first_kernel_at_fault() {
    let (mut inputs, split) = small(50, InputKind::AlignmentPath);
    let mut options = options(inputs.kind, Protocol::Mse);
    options.checked = true;
    options.epochs = 1;
    let device = gpu::wgpu();
    fit(&device, &inputs, &split, &options, Hooks::default()).unwrap();
    for &example in &split.train {
        inputs.examples[example].rows.iter_mut().for_each(|row| row.data.fill(f32::NAN));
    }
    let fault = fit(&device, &inputs, &split, &options, Hooks::default()).err().unwrap().to_string();
    for word in ["launch 0", "gather_window", "`x`[0] is NaN"] {
        assert!(fault.contains(word), "{fault}");
    }
}

/// A NaN in the middle of the network: what comes before it is not blamed, nor what comes after.
#[test]
fn a_nan_in_the_second_layer_is_found_there() {
    let device = gpu::wgpu();
    let device: &dyn Device = &device;
    let (batch, frames) = (16, 200);
    let net = PcConvNet::new(device, NetConfig::paper(1, frames), 0).unwrap();
    let x = device.upload(&normal(1, batch * frames)).unwrap();
    let mut g = Graph::new();
    let vars = net.bind(&mut g, Learn::Yes, Learn::Yes).unwrap();
    let x = g.bind(&x, &[1, 1, frames, batch]).unwrap();
    let z = net.encode(&mut g, &vars, x, batch, None).unwrap();
    let mut step = g.compile(device, &[z]).unwrap();
    step.run_checked(device).unwrap();
    let mut tensors = net.tensors(device).unwrap();
    tensors.iter_mut().find(|t| t.name == "conv2.weight").unwrap().values[3] = f32::NAN;
    net.load(device, &tensors).unwrap();
    let fault = step.run_checked(device).err().unwrap().to_string();
    let names: Vec<_> = step.profile().unwrap().iter().map(|row| row.0.name).collect();
    let second = names.iter().enumerate().filter(|n| *n.1 == "conv_block_fwd").nth(1).unwrap().0;
    assert!(fault.contains(&format!("launch {second}, conv_block_fwd: ")), "{fault}");
}

#[test]
fn a_device_lost_in_mid_run_is_an_error() {
    let (inputs, split) = small(50, InputKind::AlignmentPath);
    let device = gpu::wgpu();
    let mut epochs = 0;
    let mut lose = |_: &etude::train::Epoch, _: &mut etude::train::Snapshot<'_>| {
        epochs += 1;
        device.raw().0.destroy();
        Ok(ControlFlow::Continue(()))
    };
    let hooks = Hooks { progress: Some(&mut lose), ..Hooks::default() };
    let fault = fit(&device, &inputs, &split, &options(inputs.kind, Protocol::Mse), hooks).err().unwrap();
    assert!(fault.to_string().contains("lost") && fault.to_string().contains("last saved"), "{fault}");
    assert_eq!(epochs, 1);
}
