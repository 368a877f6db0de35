//! The contrastive loss of 1,000 embeddings and its gradient: from slices, against a memory bank, and on a device's buffers.
//!
//! `cargo run --release --example contrastive`

use etude::Result;
use etude::cases::{normal, uniform};
use etude::contrastive::{
    Buffers, ContrastiveOptions, CpuLoss, DeviceLoss, Metric, Samples, all, bins, cross,
};
use etude::device::{Cpu, Device};
use std::ops::ControlFlow;

fn main() -> Result<()> {
    let (n, d) = (1000, 16);
    let single = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect::<Vec<f32>>();
    let (embeddings, ratings) = (single(normal(1, n * d)), single(uniform(2, n)));
    let options = ContrastiveOptions { margin: 0.5, ..Default::default() };

    // One call. The labels are five bins of the ratings; no n × n matrix exists.
    let labels = bins(&ratings, 5)?;
    let (loss, gradient) = all(Samples::new(&embeddings, d, &labels), options)?;
    println!("all pairs         {loss:.6}, gradient of the first row {:.6?}", &gradient[..3]);

    // The ratings themselves as labels: those within 0.1 of each other are alike.
    let continuous = ContrastiveOptions { tau: 0.1, metric: Metric::Cosine, ..options };
    let (loss, _) = all(Samples::new(&embeddings, d, &ratings), continuous)?;
    println!("continuous labels {loss:.6}");

    // The first half against the second, as against a memory bank whose every third row is not filled yet.
    let ((z, bank), (of_z, of_bank)) = (embeddings.split_at(500 * d), labels.split_at(500));
    let filled: Vec<f32> = (0..500).map(|i| if i % 3 == 0 { 0.0 } else { 1.0 }).collect();
    let bank = Samples::new(bank, d, of_bank).weighted(&filled);
    let (loss, _) = cross(Samples::new(z, d, of_z), bank, options)?;
    println!("across two sets   {loss:.6}");

    // Again and again into the same memory, with a word on progress.
    let (threads, mut gradient) = (CpuLoss::new(0)?.checked(), vec![0.0; n * d]);
    let mut progress = |done: u64, total: u64| {
        eprint!("\r{done} of {total} pairs");
        ControlFlow::Continue(())
    };
    let samples = Samples::new(&embeddings, d, &labels);
    let loss = threads.all(samples, options, &mut gradient, Some(&mut progress))?;
    eprintln!();
    println!("into own memory   {loss:.6}");

    // Buffers of a device, this one or a GPU: compiled once, one launch a run.
    let cpu = Cpu::<f32>::new(0)?;
    let device: &dyn Device = &cpu;
    let (z, labels) = (device.upload(&embeddings)?, device.upload(&labels)?);
    let samples = Buffers { embeddings: &z, labels: &labels, weights: None };
    let mut resident = DeviceLoss::all(device, d, samples, options)?;
    resident.run()?;
    println!("device buffers    {:.6}", resident.loss()?);
    Ok(())
}
