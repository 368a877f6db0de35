//! A training step of PCConvNet: launch by launch, against the replayed plan.

#[path = "shared/step.rs"]
mod shared;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use etude::device::{Cpu, Device};
use etude::{Error, Result};
use shared::record;
use std::hint::black_box;

fn bench(c: &mut Criterion) -> Result<()> {
    for threads in [1, 2] {
        let cpu = Cpu::<f32>::new(threads)?;
        let device: &dyn Device = &cpu;
        let mut group = c.benchmark_group(format!("step, {threads} threads"));
        for batch in [64, 512] {
            let mut step = record(device, batch)?;
            step.run()?;
            group.bench_function(BenchmarkId::new("replayed", batch), |b| b.iter(|| black_box(step.run())));
            group.bench_function(BenchmarkId::new("launch by launch", batch), |b| {
                b.iter(|| black_box(step.profile().map(|rows| rows.len())));
            });
        }
        group.finish();
    }
    for (threads, batch) in [(1, 64), (1, 512), (2, 512)] {
        println!("\nB = {batch}, {threads} threads");
        profile(&Cpu::<f32>::new(threads)?, batch)?;
    }
    Ok(())
}

/// Where the time of one step goes: the least of many runs of each launch.
fn profile(device: &dyn Device, batch: usize) -> Result<()> {
    let mut step = record(device, batch)?;
    let mut best: Vec<f64> = vec![f64::INFINITY; step.launches()];
    for _ in 0..50 {
        for (best, (_, _, seconds)) in best.iter_mut().zip(step.profile()?) {
            *best = best.min(seconds);
        }
    }
    println!("{:<26} {:>9} {:>9} {:>9} {:>6}", "kernel", "us", "GFLOP/s", "GB/s", "share");
    let total: f64 = best.iter().sum();
    for ((kernel, cost, _), seconds) in step.profile()?.iter().zip(&best) {
        println!(
            "{:<26} {:>9.1} {:>9.1} {:>9.1} {:>5.1}%",
            kernel.name,
            seconds * 1e6,
            cost.flops as f64 / seconds / 1e9,
            cost.bytes as f64 / seconds / 1e9,
            100.0 * seconds / total
        );
    }
    println!("{:<26} {:>9.1} {:>9.1}", "sum", total * 1e6, step.cost().flops as f64 / total / 1e9);
    Ok(())
}

fn steps(c: &mut Criterion) {
    if let Err(error) = bench(c) {
        let error: Error = error;
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
