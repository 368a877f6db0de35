//! What `scripts/gpu-report` runs on a card: one command, JSON lines on standard output.
//!
//!     gpu [--device cuda|cpu] [--quick] info        the card
//!     gpu ... ceilings                              a large copy and a large product by our own kernels
//!     gpu ... cases [--small]                       every case against the f64 oracle; the small ones are for sanitizers
//!     gpu ... kernels                               every kernel by itself, memory rotated beyond the cache
//!     gpu ... step                                  the training step, as one graph and launch by launch
//!     gpu ... large                                 the loss at N = 1,048,576, once, and the memory that it takes
//!     gpu ... once [TEXT]                           every workload of `kernels` (whose name has TEXT) once, for a profiler

#[path = "shared/step.rs"]
mod shared;

use etude::cases::{self, Case, Input, normal, uniform};
#[cfg(feature = "cuda")]
use etude::device::Cuda;
use etude::device::{Buf, Cpu, Device, Launch};
use etude::graph::{Graph, Step, Var};
use etude::kernel::{Cost, Elem, Kernel};
use etude::ops::contrastive::{ContrastiveOptions, bins, contrastive};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::similarity::{Similarity, similarity};
use etude::{Error, Result};
use serde_json::{Value, json};
use std::time::Instant;

/// A run of launches is repeated until it takes this long: waiting for it then weighs nothing.
const SPAN: f64 = 5e-3;

/// Timed runs; the median counts.
const RUNS: usize = 9;

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let device = args.iter().position(|a| a == "--device").and_then(|i| args.get(i + 1));
    let target = Target::new(device.map_or("cuda", String::as_str))?;
    let command = args.last().map_or("", String::as_str);
    let size = if has("--quick") || !target.is_card() { Size::Quick } else { Size::Full };
    if let Some(at) = args.iter().position(|a| a == "once") {
        return once(&target, size, args.get(at + 1).map_or("", String::as_str));
    }
    match if has("cases") { "cases" } else { command } {
        "info" => say(target.info()?),
        "large" => large(&target, size),
        "ceilings" => ceilings(&target, size),
        "cases" => run_cases(&target, has("--small")),
        "kernels" => kernels(&target, size),
        "step" => steps(&target),
        _ => {
            let commands = "info|ceilings|cases [--small]|kernels|step|large|once [TEXT]";
            Err(Error::config(format!("gpu [--device cuda|cpu] [--quick] {commands}")))
        }
    }
}

fn say(value: Value) -> Result<()> {
    println!("{value}");
    Ok(())
}

/// How large the workloads are: for a card, or for a look at whether all of it works.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    Quick,
    Full,
}

/// What is measured.
enum Target {
    #[cfg(feature = "cuda")]
    Cuda(Cuda),
    Cpu(Cpu<f32>),
}

impl Target {
    fn new(name: &str) -> Result<Self> {
        match name {
            #[cfg(feature = "cuda")]
            "cuda" => Ok(Self::Cuda(Cuda::new(0)?)),
            "cpu" => Ok(Self::Cpu(Cpu::new(0)?)),
            _ => Err(Error::config(format!("no device `{name}` in this build"))),
        }
    }

    fn device(&self) -> &dyn Device {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => device,
            Self::Cpu(device) => device,
        }
    }

    fn is_card(&self) -> bool {
        !matches!(self, Self::Cpu(_))
    }

    /// Bytes that inputs must go beyond for a launch to find nothing of them in the cache; 0 to leave them.
    fn cache(&self) -> usize {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => device.card().l2,
            Self::Cpu(_) => 0,
        }
    }

    /// Bytes of the card's memory that are in use, by anybody.
    fn used(&self) -> Result<usize> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => device.memory_in_use(),
            Self::Cpu(_) => Ok(0),
        }
    }

    fn info(&self) -> Result<Value> {
        let mut info = json!({"version": env!("CARGO_PKG_VERSION"), "build": env!("ETUDE_BUILD")});
        let card = match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => {
                let card = device.card();
                json!({"device": "cuda", "card": card.name, "capability": card.capability, "memory": card.memory,
                       "l2": card.l2, "driver_cuda": card.driver, "kernels": card.origin.to_string()})
            }
            Self::Cpu(device) => json!({"device": "cpu", "threads": device.threads()}),
        };
        if let (Value::Object(info), Value::Object(card)) = (&mut info, card) {
            info.extend(card);
        }
        Ok(info)
    }
}

/// Waits for everything before: a read of one element.
struct Fence<'a> {
    device: &'a dyn Device,
    probe: Buf,
}

impl<'a> Fence<'a> {
    fn new(device: &'a dyn Device) -> Result<Self> {
        Ok(Self { device, probe: device.upload(&[0.0f32])? })
    }

    fn wait(&self) -> Result<()> {
        self.device.download(&self.probe).map(drop)
    }

    /// Seconds of `run` and everything it started.
    fn time(&self, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
        self.wait()?;
        let start = Instant::now();
        run()?;
        self.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Median and extremes of the seconds that one launch of a list takes, the list repeated as one plan.
    fn launches(&self, list: &[Launch]) -> Result<Timing> {
        let mut plan = self.device.compile(list.to_vec())?;
        plan.run()?;
        let once = self.time(|| plan.run())?.max(1e-9);
        let repeats = ((SPAN / once).ceil() as usize).clamp(1, 4096 / list.len().max(1) + 1);
        let mut plan = self.device.compile(vec![list; repeats].concat())?;
        plan.run()?;
        let count = (repeats * list.len()) as f64;
        Timing::of((0..RUNS).map(|_| Ok(self.time(|| plan.run())? / count)).collect::<Result<_>>()?)
    }
}

/// Seconds.
struct Timing {
    least: f64,
    median: f64,
    most: f64,
}

impl Timing {
    fn of(mut seconds: Vec<f64>) -> Result<Self> {
        seconds.sort_by(f64::total_cmp);
        match (seconds.first(), seconds.get(seconds.len() / 2), seconds.last()) {
            (Some(&least), Some(&median), Some(&most)) => Ok(Self { least, median, most }),
            _ => Err(Error::config("nothing was timed")),
        }
    }

    fn json(&self) -> Value {
        json!({"least_us": self.least * 1e6, "median_us": self.median * 1e6, "most_us": self.most * 1e6})
    }
}

/// A row: what, how long, at what rate.
fn row(what: &str, timing: &Timing, cost: Cost, more: Value) -> Value {
    let mut row = json!({"what": what, "gb_s": cost.bytes as f64 / timing.median / 1e9,
                         "tflop_s": cost.flops as f64 / timing.median / 1e12, "flops": cost.flops, "bytes": cost.bytes});
    if let Value::Object(row) = &mut row {
        row.extend(
            [timing.json(), more]
                .into_iter()
                .filter_map(|v| if let Value::Object(v) = v { Some(v) } else { None })
                .flatten(),
        );
    }
    row
}

fn ceilings(target: &Target, size: Size) -> Result<()> {
    let device = target.device();
    let fence = Fence::new(device)?;
    let (n, piece) = if size == Size::Full { (1 << 28, 1 << 22) } else { (1 << 20, 1 << 18) };
    let mut g = Graph::new();
    let x = device.alloc(Elem::Real, n)?;
    // Not zeros: an H200 "copied" those at twice its memory's speed.
    let random = normal(1, piece);
    for at in (0..n).step_by(piece) {
        device.write(&x.window(at, piece)?, (&random).into())?;
    }
    let x = g.bind(&x, &[n])?;
    let y = etude::ops::scale(&mut g, x, 2.0)?;
    let mut step = g.compile(device, &[y])?;
    step.run()?;
    // A ceiling that is too good to be true would flatter nobody: both ends of every piece are what they should be.
    for at in (0..n).step_by(piece) {
        let got = device.download(&step.buf(y)?.window(at, piece)?)?;
        if got.iter().zip(&random).any(|(got, x)| *got != 2.0 * *x as f32) {
            return Err(Error::config(format!("the copy is wrong from element {at} on")));
        }
    }
    let timing = fence.launches(step.recorded())?;
    say(row("copy", &timing, step.cost(), json!({"how": format!("elementwise_scale of {n} floats")})))?;
    let (n, d) = if size == Size::Full { (8192, 2048) } else { (256, 64) };
    let mut steps = gram(target, Similarity::Dot, n, d, Elem::Real, false);
    let step = steps()?;
    let timing = fence.launches(step.recorded())?;
    say(row(
        "product",
        &timing,
        step.cost(),
        json!({"how": format!("similarity, dot product, N = {n}, D = {d}, f32")}),
    ))
}

fn run_cases(target: &Target, small: bool) -> Result<()> {
    let device = target.device();
    let (mut wrong, mut left_out, mut count) = (0, 0, 0);
    for case in cases::all() {
        let cost = case.prepare(&Cpu::<f32>::new(1)?)?.step.cost();
        if small && cost.flops.max(cost.bytes) > 1 << 20 {
            left_out += 1;
            continue;
        }
        count += 1;
        let (error, at) = match case.parity(device) {
            Ok((error, at)) => (error, at),
            Err(e) => (f64::NAN, e.to_string()),
        };
        let right = error <= case.tolerance;
        wrong += usize::from(!right);
        // NaN has no JSON.
        let shown = if error.is_finite() { json!(error) } else { json!(error.to_string()) };
        if !small {
            say(json!({"stem": case.stem, "case": case.name, "error": shown, "tolerance": case.tolerance,
                       "reason": case.reason, "at": at, "right": right}))?;
        } else if !right {
            eprintln!("{} {}: {error:e} at {at}", case.stem, case.name);
        }
    }
    say(json!({"cases": count, "wrong": wrong, "left_out": left_out}))?;
    if wrong == 0 { Ok(()) } else { Err(Error::config(format!("{wrong} of {count} cases are wrong"))) }
}

/// Makes a step over memory of its own, again and again.
type Make<'a> = Box<dyn FnMut() -> Result<Step> + 'a>;

/// The memory of rows as `stored`.
fn upload(device: &dyn Device, rows: &[f64], stored: Elem) -> Result<Buf> {
    let buf = device.alloc(stored, rows.len())?;
    device.write(&buf, rows.into())?;
    Ok(buf)
}

/// Similarities of N rows with N others, and their gradients if asked for.
fn gram<'a>(
    target: &'a Target,
    kind: Similarity,
    n: usize,
    d: usize,
    stored: Elem,
    backward: bool,
) -> Make<'a> {
    let device = target.device();
    let mut rows = None;
    Box::new(move || {
        let (a, b) = rows.get_or_insert_with(|| (normal(1, n * d), normal(2, n * d)));
        let mut g = Graph::new();
        let (a, b) = (upload(device, a, stored)?, upload(device, b, stored)?);
        let (a, b) = (g.leaf(&a, None, &[n, d])?, g.leaf(&b, None, &[n, d])?);
        let y = similarity(&mut g, a, b, kind)?;
        let mut keep = vec![y];
        if backward {
            g.backward_from(y, y)?;
            keep.extend([a, b].iter().filter_map(|&v| g.grad(v)));
        }
        g.compile(device, &keep)
    })
}

/// How embeddings lie.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    /// Every row for itself.
    Random,
    /// As training leaves them: five centres, one a label, and noise of 1e-3.
    Clustered,
}

/// Such embeddings of N rows.
fn embeddings(lie: Lie, n: usize, d: usize, labels: &[f32]) -> Vec<f64> {
    let mut z = normal(1, n * d);
    if lie == Lie::Clustered {
        let centres = normal(3, 5 * d);
        for (row, label) in z.chunks_exact_mut(d).zip(labels) {
            let centre = &centres[*label as usize * d..];
            row.iter_mut().zip(centre).for_each(|(v, c)| *v = c + 1e-3 * *v);
        }
    }
    z
}

fn loss<'a>(target: &'a Target, n: usize, d: usize, stored: Elem, lie: Lie) -> Make<'a> {
    let device = target.device();
    let mut rows = None;
    Box::new(move || {
        if rows.is_none() {
            let labels = bins(&uniform(2, n), 5)?;
            rows = Some((embeddings(lie, n, d, &labels), labels));
        }
        let (z, labels) = rows.as_ref().ok_or_else(|| Error::config("no rows"))?;
        let mut g = Graph::new();
        let (z, labels) = (upload(device, z, stored)?, device.upload(labels)?);
        let (z, labels) = (g.leaf(&z, None, &[n, d])?, g.bind(&labels, &[n])?);
        let loss = contrastive(&mut g, z, labels, ContrastiveOptions::default())?;
        g.backward(loss)?;
        let keep: Vec<Var> = [Some(loss), g.grad(z)].into_iter().flatten().collect();
        g.compile(device, &keep)
    })
}

fn conv<'a>(target: &'a Target, x: [usize; 3], cout: usize, taps: usize, options: ConvOptions1d) -> Make<'a> {
    let device = target.device();
    let inputs = vec![Input::normal(1, &x), Input::normal(2, &[cout, x[1] / options.groups, taps])];
    let case = Case::new("conv1d", "", inputs, move |g, v| conv1d(g, v[0], v[1], None, options));
    Box::new(move || Ok(case.prepare(device)?.step))
}

/// What `kernels` times and `once` runs.
fn workloads(target: &Target, size: Size) -> Vec<(String, Make<'_>)> {
    let full = size == Size::Full;
    let plain = ConvOptions1d::default();
    let strided = ConvOptions1d { stride: 3, ..plain };
    let mut work: Vec<(String, Make<'_>)> = Vec::new();
    let (n, d) = if full { (16384, 128) } else { (64, 16) };
    for stored in [Elem::Real, Elem::Bf16] {
        for kind in [Similarity::Dot, Similarity::Cosine, Similarity::Euclidean] {
            let name = format!("similarity {kind:?} {} N={n} D={d}", called(stored));
            work.push((name, gram(target, kind, n, d, stored, true)));
        }
    }
    let losses: &[(usize, usize)] = match size {
        Size::Full => {
            &[(1024, 16), (1024, 128), (4096, 16), (4096, 128), (16384, 16), (16384, 128), (65536, 128)]
        }
        Size::Quick => &[(64, 16)],
    };
    for stored in [Elem::Real, Elem::Bf16] {
        for &(n, d) in losses {
            for lie in [Lie::Random, Lie::Clustered] {
                let lies = if lie == Lie::Random { "random" } else { "clustered" };
                let name = format!("loss {} {lies} N={n} D={d}", called(stored));
                work.push((name, loss(target, n, d, stored, lie)));
            }
        }
    }
    let batches: &[usize] = if full { &[64, 512] } else { &[2] };
    for &b in batches {
        for (cin, cout, t) in [(1, 4, 1000), (4, 8, 332), (8, 16, 109)] {
            let name = format!("conv1d B={b} {cin}->{cout} k7 s3 T={t}");
            work.push((name, conv(target, [b, cin, t], cout, 7, strided)));
        }
        let device = target.device();
        work.push((format!("step B={b}"), Box::new(move || shared::record(device, b.max(16)))));
    }
    let (b, cin, cout, t) = if full { (32, 64, 128, 512) } else { (1, 4, 8, 32) };
    let same = ConvOptions1d { padding: 2, ..plain };
    work.push((format!("conv1d B={b} {cin}->{cout} k5 T={t}"), conv(target, [b, cin, t], cout, 5, same)));
    for case in cases::all().into_iter().filter(|c| c.bench) {
        let (name, device) = (format!("{} {}", case.stem, case.name), target.device());
        work.push((name, Box::new(move || Ok(case.prepare(device)?.step))));
    }
    work
}

/// What a type of rows is called.
fn called(stored: Elem) -> &'static str {
    match stored {
        Elem::F16 => "f16",
        Elem::Bf16 => "bf16",
        _ => "f32",
    }
}

/// Every launch of every workload, for whoever watches; twice, the second time with everything loaded.
fn once(target: &Target, size: Size, text: &str) -> Result<()> {
    for (name, mut make) in workloads(target, size).into_iter().filter(|(name, _)| name.contains(text)) {
        let mut step = make()?;
        let fence = Fence::new(target.device())?;
        let first = fence.time(|| step.run())?;
        say(json!({"what": name, "first_us": first * 1e6, "second_us": fence.time(|| step.run())? * 1e6}))?;
    }
    Ok(())
}

/// The loss of a million rows in 16 bits, which must end, and what it takes beside its inputs.
fn large(target: &Target, size: Size) -> Result<()> {
    let (n, d) = if size == Size::Full { (1 << 20, 128) } else { (256, 16) };
    let before = target.used()?;
    let mut step = loss(target, n, d, Elem::Bf16, Lie::Random)()?;
    let fence = Fence::new(target.device())?;
    let seconds = fence.time(|| step.run())?;
    let used = target.used()?.saturating_sub(before);
    let inputs = 2 * n * d + 4 * n;
    say(json!({"what": format!("loss bf16 random N={n} D={d}"), "seconds": seconds, "bytes_used": used,
               "bytes_of_inputs": inputs, "bytes_of_gradient": 4 * n * d,
               "tflop_s": 4.0 * (n as f64).powi(2) * d as f64 / seconds / 1e12}))
}

fn kernels(target: &Target, size: Size) -> Result<()> {
    for (name, mut make) in workloads(target, size) {
        // A workload that fails must not hide the others.
        if let Err(error) = time_kernels(target, &name, &mut make) {
            say(json!({"what": name, "failed": error.to_string()}))?;
        }
    }
    Ok(())
}

/// Times each launch of a step by itself.
fn time_kernels(target: &Target, name: &str, make: &mut Make<'_>) -> Result<()> {
    let fence = Fence::new(target.device())?;
    let mut first = make()?;
    first.run()?;
    let footprint = |l: &Launch| l.bufs.iter().map(|b| 4 * b.len()).sum::<usize>().max(1);
    // As many copies as push every launch's memory through the cache twice; small kernels stay small, so not without end.
    let least = first.recorded().iter().map(footprint).min().unwrap_or(1);
    let copies = (2 * target.cache() / least).clamp(1, 64);
    let mut steps = vec![first];
    for _ in 1..copies {
        let mut step = make()?;
        step.run()?;
        steps.push(step);
    }
    for (i, launch) in steps[0].recorded().iter().enumerate() {
        let copies = (2 * target.cache()).div_ceil(footprint(launch)).clamp(1, steps.len());
        let list: Vec<Launch> = steps[..copies].iter().map(|s| s.recorded()[i].clone()).collect();
        let timing = fence.launches(&list)?;
        let kernel: &Kernel = launch.kernel;
        let cost = (kernel.cost)(&launch.params);
        let more = json!({"kernel": kernel.name, "launch": i, "copies": copies,
                          "beyond_cache": copies * footprint(launch) >= 2 * target.cache()});
        say(row(name, &timing, cost, more))?;
    }
    Ok(())
}

fn steps(target: &Target) -> Result<()> {
    for batch in [64, 512] {
        for graphs in [true, false] {
            #[cfg(feature = "cuda")]
            if let Target::Cuda(device) = target {
                device.use_graphs(graphs);
            }
            if !graphs && !target.is_card() {
                continue; // has no graphs to do without
            }
            let device = target.device();
            let fence = Fence::new(device)?;
            let mut step = shared::record(device, batch)?;
            step.run()?;
            let once = fence.time(|| step.run())?;
            let repeats = (10.0 * SPAN / once).ceil().clamp(1.0, 10_000.0) as usize;
            let seconds = (0..RUNS)
                .map(|_| Ok(fence.time(|| (0..repeats).try_for_each(|_| step.run()))? / repeats as f64));
            let timing = Timing::of(seconds.collect::<Result<_>>()?)?;
            let latency = Timing::of((0..RUNS).map(|_| fence.time(|| step.run())).collect::<Result<_>>()?)?;
            let form = match (target.is_card(), graphs) {
                (true, true) => "one graph",
                (true, false) => "launch by launch",
                (false, _) => "one loop",
            };
            let more = json!({"batch": batch, "form": form, "launches": step.launches(),
                              "waited_for_us": latency.median * 1e6});
            say(row("step", &timing, step.cost(), more))?;
        }
    }
    Ok(())
}
