//! The contrastive loss at large N on the CPU: time over four sizes and its fit, peak memory, time against the share of open
//! pairs, and the f32 loss beside an f64 sum.
//!
//! `cargo bench --bench scale -- [--threads 2] [--rows 65536] [--columns 128]`

use etude::cases::normal;
use etude::contrastive::{ContrastiveOptions, CpuLoss, Metric, Samples};
use etude::{Error, Result};
use std::ops::ControlFlow;
use std::time::Instant;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str, default: usize| {
        let value = args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)?.parse().ok());
        value.unwrap_or(default)
    };
    let (threads, rows, columns) =
        (option("--threads", 2), option("--rows", 1 << 16), option("--columns", 128));
    let loss = CpuLoss::new(threads)?;
    println!("value and gradient over all pairs, D = {columns}, {threads} threads");
    let mut points = Vec::new();
    for n in [rows / 8, rows / 4, rows / 2, rows] {
        let seconds = timed(&loss, n, columns)?;
        let pairs = n as f64 * (n as f64 - 1.0) / 2.0 / seconds / 1e6;
        println!(
            "N = {n:7}   {seconds:9.3} s   {pairs:6.0} million pairs a second   peak memory {} MiB",
            peak_kib()? / 1024
        );
        points.push(((n as f64).ln(), seconds.ln()));
    }
    // Least squares of ln t = a + b·ln N.
    let mean = |f: fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>()
        / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>();
    println!("time grows as N^{slope:.3}");
    for d in [16, columns] {
        shares(&loss, rows / 4, d)?;
    }
    for metric in [Metric::Euclidean, Metric::Cosine] {
        accuracy(&loss, rows, metric)?;
    }
    Ok(())
}

/// Five bins in turn, and ordinary embeddings: 32 bits each, so that memory counts what the loss takes.
fn samples(n: usize, d: usize) -> (Vec<f32>, Vec<f32>) {
    let noise: Vec<f32> = normal(1, 4099).into_iter().map(|v| v as f32).collect();
    let z = (0..n * d).map(|e| noise[e % 4099] + 0.3 * noise[e / 7 % 4099]).collect();
    (z, (0..n).map(|i| (i * 7 % 5) as f32).collect())
}

fn timed(loss: &CpuLoss, n: usize, d: usize) -> Result<f64> {
    let (z, labels) = samples(n, d);
    let mut gradient = vec![0.0; n * d];
    let mut calls = 0;
    let start = Instant::now();
    let mut progress = |done: u64, total: u64| {
        calls += 1;
        eprint!("\r{:3} %", 100 * done / total.max(1));
        ControlFlow::Continue(())
    };
    let margin = (d as f32).sqrt();
    let options = ContrastiveOptions { margin, ..Default::default() };
    loss.all(Samples::new(&z, d, &labels), options, &mut gradient, Some(&mut progress))?;
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("   progress was called {calls} times");
    Ok(seconds)
}

/// How embeddings lie, five bins as labels.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// Every row for itself, at a margin of about the distances.
    Random,
    /// Along a line by their labels, off their places by as much as labels are apart, and a little off the line: what training on
    /// noisy labels leaves.
    Line,
    /// A centre a label, and noise of 0.05.
    Centres,
}

/// Time beside the share of the pairs of different labels that are within their margins.
fn shares(loss: &CpuLoss, n: usize, d: usize) -> Result<()> {
    let noise: Vec<f32> = normal(2, n * d).into_iter().map(|v| v as f32).collect();
    let off: Vec<f32> = normal(3, n).into_iter().map(|v| v as f32).collect();
    let labels: Vec<f32> = (0..n).map(|i| (i * 7 % 5) as f32).collect();
    let mut of_random = None;
    for lie in [Lie::Random, Lie::Line, Lie::Centres] {
        let at = |i: usize, k: usize| match lie {
            Lie::Random => noise[i * d + k],
            Lie::Line => {
                let along = labels[i] + 0.8 * off[i];
                0.1 * noise[i * d + k] + if k == 0 { along } else { 0.0 }
            }
            Lie::Centres => noise[labels[i] as usize * d + k] + 0.05 * noise[i * d + k],
        };
        let z: Vec<f32> = (0..n * d).map(|e| at(e / d, e % d)).collect();
        let margin = if matches!(lie, Lie::Random) { (d as f32).sqrt() } else { 1.0 };
        let options = ContrastiveOptions { margin, ..Default::default() };
        let mut gradient = vec![0.0; n * d];
        let mut times: Vec<f64> = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            loss.all(Samples::new(&z, d, &labels), options, &mut gradient, None)?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let random = *of_random.get_or_insert(times[2]);
        println!(
            "{lie:?}, N = {n}, D = {d}: {:4.1} % of the pairs open, {:8.2} ms, {:.2} of random",
            100.0 * open(&z, d, &labels, margin),
            1e3 * times[2],
            times[2] / random
        );
    }
    Ok(())
}

/// The share of all pairs that are of different labels and within their margins, of some rows against all.
fn open(z: &[f32], d: usize, labels: &[f32], margin: f32) -> f64 {
    let n = labels.len();
    let (mut open, mut of) = (0usize, 0usize);
    for i in (0..n).step_by(n.div_ceil(200)) {
        for j in (0..n).filter(|&j| j != i) {
            let square: f32 = (0..d).map(|k| (z[i * d + k] - z[j * d + k]).powi(2)).sum();
            of += 1;
            open += usize::from(square.sqrt() < margin * (labels[i] - labels[j]).abs());
        }
    }
    open as f64 / of as f64
}

/// The loss in f32 beside a plain double loop in f64.
fn accuracy(loss: &CpuLoss, n: usize, metric: Metric) -> Result<()> {
    let d = 4;
    let (z, labels) = samples(n, d);
    let options = ContrastiveOptions { metric, margin: 1.0, ..Default::default() };
    let got = loss.all(Samples::new(&z, d, &labels), options, &mut vec![0.0; n * d], None)?;
    let rows: Vec<[f64; 4]> = z
        .as_chunks::<4>()
        .0
        .iter()
        .map(|r| {
            let row = r.map(f64::from);
            let norm = match metric {
                Metric::Euclidean => 1.0,
                Metric::Cosine => row.iter().map(|v| v * v).sum::<f64>().sqrt(),
            };
            row.map(|v| v / norm)
        })
        .collect();
    let mut sum = 0.0;
    for i in 0..n {
        let mut of_row = 0.0;
        for j in 0..i {
            let square: f64 = rows[i].iter().zip(&rows[j]).map(|(a, b)| (a - b) * (a - b)).sum();
            let distance = if metric == Metric::Cosine { 0.5 * square } else { square.sqrt() };
            let w = f64::from((labels[i] - labels[j]).abs());
            let short = (w - distance).max(0.0);
            of_row += if w == 0.0 { distance * distance } else { short * short };
        }
        sum += of_row;
    }
    let want = sum / (n as f64 * (n as f64 - 1.0));
    let off = (f64::from(got) - want).abs() / want;
    println!("{metric:?}, N = {n}, D = {d}: loss {got:.9} in f32, {want:.9} summed in f64: {off:.1e} apart");
    Ok(())
}

/// The process's high-water mark.
fn peak_kib() -> Result<u64> {
    let path = "/proc/self/status";
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| Error::data(path, None, "has no VmHWM line: peak memory is only measured on Linux"))
}
