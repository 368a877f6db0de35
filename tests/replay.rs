//! A replayed step allocates nothing, and training gives the same bits on any number of threads.

/// A small set to train on.
#[path = "common/training.rs"]
mod training;

use etude::cases::{normal, uniform};
use etude::data::InputKind;
use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::net::{Learn, NetConfig, PcConvNet};
use etude::ops::contrastive::{ContrastiveOptions, contrastive};
use etude::ops::loss::{LossOptions, mse};
use etude::optim::Method;
use etude::train::{Epoch, Hooks, Protocol, Snapshot, TrainOptions, fit};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;

/// Counts the calling thread's allocations.
struct Counting;

thread_local!(static COUNT: Cell<usize> = const { Cell::new(0) });

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_replayed_step_allocates_nothing() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let (batch, frames) = (40, 300);
    let net = PcConvNet::new(device, NetConfig::paper(2, frames), 0).unwrap();
    let x = device.upload(&normal(1, 3 * 16 * 2 * frames)).unwrap();
    let y = device.upload(&uniform(2, batch)).unwrap();
    let mut g = Graph::new();
    let vars = net.bind(&mut g, Learn::Yes, Learn::Yes).unwrap();
    let (x, y) = (g.bind(&x, &[3, 2, frames, 16]).unwrap(), g.bind(&y, &[batch]).unwrap());
    let z = net.encode(&mut g, &vars, x, batch, None).unwrap();
    let rating = net.rate(&mut g, &vars, z, None).unwrap();
    let a = mse(&mut g, rating, y, LossOptions::default()).unwrap();
    let b = contrastive(&mut g, z, y, ContrastiveOptions { tau: 0.1, ..Default::default() }).unwrap();
    let loss = etude::ops::add(&mut g, a, b).unwrap();
    g.backward(loss).unwrap();
    let mut optimizer = net.optimize(device, &mut g, &vars, Method::Adam(Default::default())).unwrap();
    optimizer.before_step(device, 1e-3).unwrap();
    let mut step = g.compile(device, &[loss]).unwrap();
    step.run().unwrap();
    let before = COUNT.get();
    assert!(before > 0, "the counter counts");
    for _ in 0..3 {
        step.run().unwrap();
    }
    assert_eq!(COUNT.get() - before, 0);
}

#[test]
fn training_gives_the_same_bits_on_one_and_on_three_threads() {
    let (inputs, split) = training::small(60, InputKind::AlignmentPath);
    for protocol in [Protocol::Mse, Protocol::Joint, Protocol::TwoPhase] {
        let run = |threads| {
            let cpu = Cpu::<f32>::new(threads).unwrap();
            let mut options = TrainOptions { protocol, ..TrainOptions::for_inputs(inputs.kind, 1.0 / 127.0) };
            (options.epochs, options.encoder_epochs, options.batch, options.seed) = (2, 2, 24, 5);
            let mut losses = Vec::new();
            let mut watch = |e: &Epoch, _: &mut Snapshot<'_>| {
                losses.push(e.train_loss);
                Ok(ControlFlow::Continue(()))
            };
            let hooks = Hooks { progress: Some(&mut watch), ..Hooks::default() };
            let mut fitted = fit(&cpu, &inputs, &split, &options, hooks).unwrap();
            (fitted.net.tensors(&cpu).unwrap(), losses, fitted.predict(&cpu, &split.test).unwrap())
        };
        let one = run(1);
        assert_eq!(one, run(3), "{protocol:?}: three threads");
        assert_eq!(one, run(1), "{protocol:?}: again");
    }
}
