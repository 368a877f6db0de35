//! The ops beside the same in candle's own, value and gradients, in one run: `RAYON_NUM_THREADS=1 cargo bench -p etude-candle`.

use candle_core::utils::get_num_threads;
use candle_core::{DType, Device, Result, Tensor, Var};
use etude_candle::{ContrastiveOptions, ConvOptions1d, Samples, contrastive, conv1d};
use std::time::Instant;

/// Runs of either side, in turns.
const RUNS: usize = 15;

/// Largest relative difference of the sides' results. candle's f32 loss is a sum of N² terms in one go, off by some 2e-4.
const AGREE: f64 = 1e-3;

fn main() -> Result<()> {
    println!(
        "Threads: {}. Median of {RUNS} runs of either side in turns, f32, value and gradients.\n",
        get_num_threads()
    );
    println!("| | etude [ms] | candle's own [ms] | ratio |\n|---|---|---|---|");
    for (n, d) in [(1024, 16), (1024, 128)] {
        loss(n, d)?;
    }
    for batch in [64, 512] {
        for (channels, time) in [([1, 4], 1000), ([4, 8], 332), ([8, 16], 109)] {
            conv(batch, channels, time)?;
        }
    }
    Ok(())
}

/// Prints a line for two ways to the same result.
fn compare(what: &str, ours: impl Fn() -> Result<Tensor>, theirs: impl Fn() -> Result<Tensor>) -> Result<()> {
    let (a, b) = (ours()?, theirs()?);
    let norm = |t: &Tensor| t.to_dtype(DType::F64)?.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>();
    let difference = norm(&(&a - &b)?)? / norm(&b)?;
    assert!(difference < AGREE, "{what}: the sides differ by {difference:e}");
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..RUNS {
        let start = Instant::now();
        ours()?;
        times[0].push(start.elapsed());
        let start = Instant::now();
        theirs()?;
        times[1].push(start.elapsed());
    }
    let [ours, theirs] = times.map(|mut t| {
        t.sort();
        t[RUNS / 2].as_secs_f64() * 1e3
    });
    println!("| {what} | {ours:.2} | {theirs:.2} | {:.1} |", theirs / ours);
    Ok(())
}

/// The gradient by `of` of what `f` gives.
fn gradient(of: &Var, f: impl Fn() -> Result<Tensor>) -> Result<Tensor> {
    Ok(f()?.backward()?.get(of).expect("the result depends on it").clone())
}

/// All pairs, five bins, Euclidean.
fn loss(n: usize, d: usize) -> Result<()> {
    let cpu = &Device::Cpu;
    let z = Var::randn(0f32, 1.0, (n, d), cpu)?;
    let labels = Tensor::from_iter((0..n).map(|i| (i % 5) as f32), cpu)?;
    let options = ContrastiveOptions::default();

    // What depends on labels alone is not timed on candle's side; each unordered pair comes twice, and the diagonal is far
    // enough from 0 for sqrt's gradient and of weight 0.
    let w = labels.reshape((n, 1))?.broadcast_sub(&labels.reshape((1, n))?)?.abs()?;
    let margins = (&w * f64::from(options.margin))?;
    let share = 0.5 / (n * (n - 1)) as f64;
    let positive = (w.eq(0f32)?.to_dtype(DType::F32)? - Tensor::eye(n, DType::F32, cpu)?)?;
    let theirs = || {
        let squares = z.sqr()?.sum_keepdim(1)?;
        let products = (z.matmul(&z.t()?)? * -2.0)?;
        let d2 = (products.broadcast_add(&squares)?.broadcast_add(&squares.t()?)?.relu()? + 1e-9)?;
        let negative = (&margins - d2.sqrt()?)?.relu()?.sqr()?;
        ((d2 * &positive)?.sum_all()? + negative.sum_all()?)? * share
    };
    let ours = || contrastive(Samples::new(&z, &labels), options);
    let what = format!("contrastive loss, N = {n}, D = {d}");
    compare(&what, || gradient(&z, ours), || gradient(&z, theirs))
}

/// A layer of PCConvNet: seven taps, stride 3. The gradient by the input is compared, as candle's by the weight is wrong.
fn conv(batch: usize, [cin, cout]: [usize; 2], time: usize) -> Result<()> {
    let cpu = &Device::Cpu;
    let x = Var::randn(0f32, 1.0, (batch, cin, time), cpu)?;
    let w = Var::randn(0f32, 1.0, (cout, cin, 7), cpu)?;
    let options = ConvOptions1d { stride: 3, ..Default::default() };
    let ours = || conv1d(&x, &w, None, options)?.sum_all();
    let theirs = || x.conv1d(&w, 0, 3, 1, 1)?.sum_all();
    let what = format!("conv1d {cin} → {cout}, T = {time}, B = {batch}");
    compare(&what, || gradient(&x, ours), || gradient(&x, theirs))
}
