//! Etude's WGSL device beside burn-wgpu (autodiff, fusion and autotune as burn has them by default), on one adapter in one run.
//!
//!     cargo run --release -p etude-bench-burn [ROUNDS [CASE]]      CASE: step, conv or loss
//!
//! Both sides compute the same network, convolution and loss on the same numbers; no time is printed before
//! their values and gradients agree. Rounds are interleaved, so that a slow minute of the machine hits both.
//! Without hardware both run on a software adapter, where times say nothing about a GPU.

mod ours;
mod theirs;

use std::time::Instant;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What one side offers for a case: a run that ends when the device is done.
pub struct Side {
    /// One run; the value (loss) that it gave.
    pub run: Box<dyn FnMut() -> Result<f64>>,
    /// The norm of the gradient of the last run, where the case has one.
    pub gradient: Box<dyn FnMut() -> Result<f64>>,
}

/// A convolution 64 → 128 with 5 taps and padding 2.
pub const CONV: Conv = Conv { batch: 32, cin: 64, cout: 128, taps: 5, frames: 512, padding: 2 };

pub struct Conv {
    pub batch: usize,
    pub cin: usize,
    pub cout: usize,
    pub taps: usize,
    pub frames: usize,
    pub padding: usize,
}

/// Frames of a training chunk.
pub const FRAMES: usize = 1000;
/// The optimizer of the step.
pub const LEARNING_RATE: f64 = 0.005;
pub const MOMENTUM: f32 = 0.9;
pub const WEIGHT_DECAY: f32 = 1e-5;
/// Margin of the contrastive loss, and label bins.
pub const MARGIN: f32 = 0.5;
pub const BINS: usize = 5;

/// Relative difference that rounding explains: f32 sums over up to 512·1000·8 terms in another order.
const TOLERANCE: f64 = 2e-3;

fn main() -> Result<()> {
    let rounds: usize = match std::env::args().nth(1) {
        Some(n) => n.parse().map_err(|_| format!("usage: etude-bench-burn [ROUNDS [CASE]], not `{n}`"))?,
        None => 5,
    };
    let only = std::env::args().nth(2).unwrap_or_default();
    let ours = ours::device()?;
    let software = ours.is_software();
    let theirs = theirs::device(software)?;
    let (name, other) = (ours.adapter_name().to_string(), theirs::name(&theirs));
    if name != other {
        return Err(format!("not the same adapter: Etude has {name}, burn {other}").into());
    }
    let kind = if software { "software: right or wrong, not fast or slow" } else { "hardware" };
    println!("adapter: {name} ({kind}); {rounds} rounds, median ms of one run\n");
    println!("| case | Etude | burn 0.22.1 | burn / Etude |\n|---|---|---|---|");
    let cases: [(&str, &str); 5] = [
        ("step", "64"),
        ("step", "512"),
        ("conv 64→128 k5, T 512, B 32, forward + backward", ""),
        ("loss N = 1024, D", "16"),
        ("loss N = 1024, D", "128"),
    ];
    for (what, size) in cases.into_iter().filter(|(what, _)| what.starts_with(&only)) {
        let (title, a, b) = match (what, size) {
            ("step", batch) => {
                let batch = batch.parse()?;
                let title = format!("training step of PCConvNet, MSE, T = 1000, B = {batch}");
                (title, ours::step(&ours, batch)?, theirs::step(&theirs, batch)?)
            }
            (title, "") => (title.to_string(), ours::conv(&ours)?, theirs::conv(&theirs)?),
            (title, d) => {
                let d = d.parse()?;
                (format!("{title} = {d}, value + gradient"), ours::loss(&ours, d)?, theirs::loss(&theirs, d)?)
            }
        };
        let [a, b] = race(&title, a, b, rounds)?;
        println!("| {title} | {a:.2} | {b:.2} | {:.2} |", b / a);
    }
    Ok(())
}

/// Checks that both sides agree, then their median milliseconds.
fn race(title: &str, mut a: Side, mut b: Side, rounds: usize) -> Result<[f64; 2]> {
    // The first run compiles and tunes; the second is the first of which a training step's state tells.
    for i in 0..3 {
        let (x, y) = ((a.run)()?, (b.run)()?);
        agree(&format!("{title}: value of run {i}"), x, y)?;
    }
    agree(&format!("{title}: gradient"), (a.gradient)()?, (b.gradient)()?)?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (side, times) in [&mut a, &mut b].into_iter().zip(&mut times) {
            // One run not counted, then some for a third of a second.
            (side.run)()?;
            let round = Instant::now();
            while round.elapsed().as_secs_f64() < 0.3 {
                let start = Instant::now();
                (side.run)()?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times.map(|mut t| {
        t.sort_by(f64::total_cmp);
        t[t.len() / 2]
    }))
}

fn agree(what: &str, a: f64, b: f64) -> Result<()> {
    // Not `> TOLERANCE`: a NaN must not pass.
    if (a - b).abs() <= TOLERANCE * b.abs() {
        return Ok(());
    }
    Err(format!("{what}: Etude has {a}, burn {b}").into())
}

/// The rows' embeddings and bins: the same numbers as in `benches/peers`.
pub fn embeddings(n: usize, d: usize) -> (Vec<f32>, Vec<f32>) {
    let z = (0..n * d).map(|at| {
        let (i, k) = ((at / d) as f64, (at % d) as f64);
        ((0.37 * (i + 1.0) * (k + 1.0)).sin() * 0.7 + 0.1 * (1.3 * i).cos()) as f32
    });
    let bin = |i: usize| {
        let y = (i as f64 * 0.618_033_988_749_894_9).fract();
        (BINS as f64 * y + 1e-6).floor().min(BINS as f64 - 1.0) as f32
    };
    (z.collect(), (0..n).map(bin).collect())
}
