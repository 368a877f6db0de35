//! A training step of PCConvNet: launch by launch, against the replayed plan.

#[path = "shared/step.rs"]
mod shared;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use etude::device::{Cpu, Device};
use etude::report::profile::{LaunchTime, profile_table};
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
    let launches: Vec<LaunchTime> = step
        .profile()?
        .iter()
        .zip(best)
        .map(|(&(kernel, cost, _), seconds)| LaunchTime {
            name: kernel.name,
            flops: cost.flops,
            bytes: cost.bytes,
            seconds,
        })
        .collect();
    print!("{}", profile_table(&launches));
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
