//! Every timed case of the case table, forward and backward, on one thread: time, GFLOP/s, GB/s and the
//! share of what one core can do, measured in the same run.
//!
//! GFLOP/s are those of the sums as they are written, beyond what a core can do where convolutions go by tiles; the share is
//! that of the operations that are done.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etude::Result;
use etude::cases;
use etude::device::Cpu;
use etude::kernels::peak;
use etude::simd::Simd;
use std::hint::black_box;
use std::time::Instant;

fn bench(c: &mut Criterion) -> Result<()> {
    let device = Cpu::<f32>::new(1)?;
    let ceiling = peak::measure(Simd::best());
    println!("one core: {:.1} GFLOP/s, {:.1} GB/s\n", ceiling.flops / 1e9, ceiling.bytes / 1e9);
    let mut lines = Vec::new();
    for case in cases::all().into_iter().filter(|c| c.bench) {
        let mut prepared = case.prepare(&device)?;
        let cost = prepared.step.cost();
        let mut group = c.benchmark_group(case.stem);
        group.throughput(Throughput::Elements(cost.flops));
        group.bench_function(BenchmarkId::from_parameter(&case.name), |b| {
            b.iter(|| black_box(prepared.step.run()))
        });
        group.finish();
        let mut best = f64::INFINITY;
        for _ in 0..30 {
            let start = Instant::now();
            prepared.step.run()?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        // The roofline: no faster than its arithmetic, nor than its compulsory memory traffic.
        let floor = (cost.cpu_flops as f64 / ceiling.flops).max(cost.bytes as f64 / ceiling.bytes);
        lines.push(format!(
            "{:<14} {:<44} {:>10.1} {:>9.1} {:>9.1} {:>8.1} {:>7.1}%  {}",
            case.stem,
            case.name,
            best * 1e6,
            cost.flops as f64 / best / 1e9,
            cost.cpu_flops as f64 / best / 1e9,
            cost.bytes as f64 / best / 1e9,
            100.0 * floor / best,
            if cost.cpu_flops < cost.flops { "tiles" } else { "" }
        ));
    }
    println!(
        "\n{:<14} {:<44} {:>10} {:>9} {:>9} {:>8} {:>8}  form",
        "stem", "case", "best us", "GFLOP/s", "done", "GB/s", "roofline"
    );
    lines.iter().for_each(|l| println!("{l}"));
    Ok(())
}

fn ops(c: &mut Criterion) {
    if let Err(error) = bench(c) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

criterion_group!(benches, ops);
criterion_main!(benches);
