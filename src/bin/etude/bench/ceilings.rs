//! What the device does at most.

use super::row::{Ceilings, Row};
use super::sink::Sink;
use super::target::Target;
use super::timing::{Fence, Timing};
use etude::cases::{normal, uniform};
use etude::graph::Graph;
use etude::kernel::{Cost, Elem};
use etude::kernels::peak;
use etude::ops::ceiling::multiply_adds;
use etude::simd::Simd;
use etude::{Error, Result};
use serde_json::json;

/// Floats of the copy on a card: far beyond any cache.
const COPIED: usize = 1 << 28;
/// Random numbers that fill it, again and again.
const PIECE: usize = 1 << 18;
/// Elements and rounds of the multiply-adds: as many threads as fill any card, and long enough that their start weighs nothing.
const THREADS: usize = 1 << 20;
const ROUNDS: u32 = 512;

/// Measures them.
pub fn measure(target: &Target, quick: bool, sink: &Sink) -> Result<Ceilings> {
    sink.begin("ceilings", 3);
    if let Some(device) = target.cpu() {
        let one = peak::measure(Simd::best());
        // Cores add up in arithmetic, and share the memory.
        let flops = one.flops * device.threads() as f64;
        sink.say(&json!({"what": "copy", "how": "by one core", "gb_s": one.bytes / 1e9}));
        let how = format!("on registers of {} cores, one of them measured", device.threads());
        sink.say(&json!({"what": "fma f32", "how": how, "tflop_s": flops / 1e12}));
        return Ok(Ceilings { bytes: one.bytes, flops, half: None });
    }
    sink.doing("copy");
    let copy = copy(target, quick || !target.is_card())?;
    sink.say(&copy.json());
    sink.did();
    let rate = |row: &Row| row.cost.flops as f64 / row.timing.median;
    sink.doing("multiply-adds in f32");
    let full = fused(target, Elem::Real, quick)?;
    sink.say(&full.json());
    sink.did();
    let mut half = None;
    if target.device().alloc(Elem::F16, 1).is_ok() {
        sink.doing("multiply-adds in f16");
        let row = fused(target, Elem::F16, quick)?;
        sink.say(&row.json());
        half = Some(rate(&row));
    }
    Ok(Ceilings { bytes: copy.cost.bytes as f64 / copy.timing.median, flops: rate(&full), half })
}

fn copy(target: &Target, small: bool) -> Result<Row> {
    let device = target.device();
    // As large as the device takes.
    let mut n = if small { 1 << 22 } else { COPIED };
    let x = loop {
        match device.alloc(Elem::Real, n).and_then(|x| Ok((x, device.alloc(Elem::Real, n)?))) {
            Ok((x, _)) => break x,
            Err(e) if n <= PIECE => return Err(e),
            Err(_) => n /= 2,
        }
    };
    // Not zeros: an H200 "copied" those at twice its memory's speed.
    let random = normal(1, PIECE);
    for at in (0..n).step_by(PIECE) {
        device.write(&x.window(at, PIECE)?, (&random).into())?;
    }
    let mut g = Graph::new();
    let x = g.bind(&x, &[n])?;
    let y = etude::ops::scale(&mut g, x, 2.0)?;
    let mut step = g.compile(device, &[y])?;
    step.run()?;
    // A ceiling that is too good to be true would flatter nobody: every piece is what it should be.
    for at in (0..n).step_by(PIECE) {
        let got = device.download(&step.buf(y)?.window(at, PIECE)?)?;
        if got.iter().zip(&random).any(|(got, x)| *got != 2.0 * *x as f32) {
            return Err(Error::config(format!("the copy is wrong from element {at} on")));
        }
    }
    // The last launch is the copy; one before it fills a factor.
    let launch = step.recorded().last().ok_or_else(|| Error::config("nothing was recorded"))?.clone();
    let cost = (launch.kernel.cost)(&launch.params);
    let timing = Fence::new(target)?.launches(&[launch])?;
    let how = format!("elementwise_scale of {n} floats");
    Ok(Row { what: "copy".into(), more: json!({"how": how}), how, timing, cost })
}

fn fused(target: &Target, elem: Elem, quick: bool) -> Result<Row> {
    let device = target.device();
    // A processor that plays a card has fewer threads to fill.
    let (n, rounds) =
        if quick || !target.is_card() { (THREADS >> 6, ROUNDS >> 2) } else { (THREADS, ROUNDS) };
    let x = device.alloc(elem, n)?;
    let values: Vec<f64> = uniform(1, n).into_iter().map(|v| 0.5 * v).collect();
    device.write(&x, (&values[..]).into())?;
    let mut g = Graph::new();
    let x = g.bind(&x, &[n])?;
    let y = multiply_adds(&mut g, x, rounds)?;
    let step = g.compile(device, &[y])?;
    let (timing, cost): (Timing, Cost) = (Fence::new(target)?.launches(step.recorded())?, step.cost());
    let what = if elem == Elem::F16 { "fma f16" } else { "fma f32" };
    let how = format!("{n} threads, {} multiply-adds on each of 16 numbers", 4 * rounds);
    Ok(Row { what: what.into(), more: json!({"how": how}), how, timing, cost })
}
