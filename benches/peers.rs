//! Etude's side of `benches/peers/peers.py`: one request a line on stdin, one JSON answer a line on stdout.
//!
//! - `step B T reps`: training steps of PCConvNet (MSE, SGD), batch by index from a resident data set
//! - `loss N D reps`: contrastive loss over all pairs, value and gradient
//! - `rss N D`: peak memory of the loss beyond what the process had before
//! - `quit`

use etude::cases::normal;
use etude::device::{Buf, Cpu, Device};
use etude::graph::{Graph, Step, Var};
use etude::nn::{Learn, NetConfig, PcConvNet};
use etude::ops::contrastive::{ContrastiveOptions, bins, contrastive};
use etude::ops::gather::{Layout, WindowOptions, gather_rows, gather_window};
use etude::ops::loss::{LossOptions, mse};
use etude::ops::optim::Sgd;
use etude::optim::Method;
use etude::{Error, Result};
use serde_json::{Value, json};
use std::io::BufRead;
use std::time::Instant;

/// Rows of the resident data set and different batches of it that take turns; the peers' side has the same.
const RESIDENT: usize = 1024;
const BATCHES: usize = 8;

fn main() {
    let mut threads = 1;
    let mut args = std::env::args();
    while let Some(arg) = args.next() {
        if arg == "--threads" {
            threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        }
    }
    let device = match Cpu::<f32>::new(threads) {
        Ok(device) => device,
        Err(error) => return println!("{}", json!({"error": error.to_string()})),
    };
    for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| {
            words
                .get(i)
                .and_then(|w| w.parse::<usize>().ok())
                .ok_or_else(|| Error::config("a number is missing"))
        };
        let answer = (|| match words.first().copied() {
            Some("step") => step(&device, number(1)?, number(2)?, number(3)?),
            Some("loss") => loss(&device, number(1)?, number(2)?, number(3)?),
            Some("rss") => rss(&device, number(1)?, number(2)?),
            _ => Err(Error::config("step, loss, rss or quit")),
        })();
        match answer {
            Ok(answer) => println!("{answer}"),
            Err(_) if words == ["quit"] => return,
            Err(error) => println!("{}", json!({"error": error.to_string()})),
        }
    }
}

/// Milliseconds of each of `reps` runs, after `warm_up` that are not counted.
fn time(warm_up: usize, reps: usize, mut run: impl FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
    for _ in 0..warm_up {
        run(0)?;
    }
    (0..reps)
        .map(|i| {
            let start = Instant::now();
            run(i)?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })
        .collect()
}

/// One run, as every other side; on several threads more, until the second core has come up to speed
/// (some ten steps on a virtual machine): that table has no other side.
fn warm_up(device: &Cpu<f32>) -> usize {
    if device.threads() == 1 { 1 } else { 20 }
}

fn step(cpu: &Cpu<f32>, batch: usize, frames: usize, reps: usize) -> Result<Value> {
    let device: &dyn Device = cpu;
    let net = PcConvNet::new(device, NetConfig::paper(1, frames), 0)?;
    let data = device.upload(&normal(1, RESIDENT * frames))?;
    let ratings = device.upload(&etude::cases::uniform(2, RESIDENT))?;
    let alloc = |elem, n| device.alloc(elem, n);
    let rows = alloc(etude::kernels::Elem::Index, 4 * batch)?;
    let shift = alloc(etude::kernels::Elem::Real, batch)?;
    let chosen = alloc(etude::kernels::Elem::Index, batch)?;
    let mut g = Graph::new();
    let vars = net.bind(&mut g, Learn::Yes, Learn::Yes)?;
    let bind = |g: &mut Graph, buf: &Buf, shape: &[usize]| g.bind(buf, shape);
    let (all, at) = (bind(&mut g, &data, &[RESIDENT * frames])?, bind(&mut g, &rows, &[batch, 4])?);
    let (shift, chosen_var) = (bind(&mut g, &shift, &[batch])?, bind(&mut g, &chosen, &[batch])?);
    let window = WindowOptions { channels: 1, columns: frames, shift_channels: 0, layout: Layout::Nct16n };
    let x = gather_window(&mut g, all, at, shift, window)?;
    let table = bind(&mut g, &ratings, &[RESIDENT])?;
    let target = gather_rows(&mut g, table, chosen_var)?;
    let embedding = net.encode(&mut g, &vars, x, batch, None)?;
    let rating = net.rate(&mut g, &vars, embedding, None)?;
    let loss = mse(&mut g, rating, target, LossOptions::default())?;
    g.backward(loss)?;
    let method = Method::Sgd(Sgd { momentum: 0.9, weight_decay: 1e-5 });
    let mut optimizer = net.optimize(device, &mut g, &vars, method)?;
    let mut step: Step = g.compile(device, &[loss])?;
    let mut value = 0.0;
    let ms = time(warm_up(cpu), reps, |i| {
        let index = |b: usize| ((i % BATCHES) * 131 + b * 7) % RESIDENT;
        let places: Vec<u32> =
            (0..batch).flat_map(|b| [(index(b) * frames) as u32, frames as u32, 0, frames as u32]).collect();
        device.write(&rows, (&places).into())?;
        device.write(&chosen, (&(0..batch).map(|b| index(b) as u32).collect::<Vec<_>>()).into())?;
        optimizer.before_step(device, 0.005)?;
        step.run()?;
        value = scalar(device, &step, loss)?;
        Ok(())
    })?;
    let cost = step.cost();
    Ok(json!({"ms": ms, "loss": value, "form": format!("{} launches", step.launches()),
              "flops": cost.flops, "bytes": cost.bytes}))
}

fn scalar(device: &dyn Device, step: &Step, var: Var) -> Result<f64> {
    Ok(device.download_f64(step.buf(var)?)?[0])
}

fn loss(device: &dyn Device, n: usize, d: usize, reps: usize) -> Result<Value> {
    let z: Vec<f64> = (0..n * d)
        .map(|at| {
            let (i, k) = ((at / d + 1) as f64, (at % d + 1) as f64);
            (0.37 * i * k).sin() * 0.7 + 0.1 * (1.3 * (i - 1.0)).cos()
        })
        .collect();
    let ratings: Vec<f64> = (0..n).map(|i| (i as f64 * 0.618_033_988_749_894_9).fract()).collect();
    let (z, labels) = (device.upload(&z)?, device.upload(&bins(&ratings, 5)?)?);
    let mut g = Graph::new();
    let (z, labels) = (g.leaf(&z, None, &[n, d])?, g.bind(&labels, &[n])?);
    let loss = contrastive(&mut g, z, labels, ContrastiveOptions { margin: 0.5, ..Default::default() })?;
    g.backward(loss)?;
    let grad = g.grad(z).ok_or_else(|| Error::config("no gradient"))?;
    let mut step = g.compile(device, &[loss, grad])?;
    let ms = time(1, reps, |_| step.run())?;
    let norm = device.download_f64(step.buf(grad)?)?.iter().map(|v| v * v).sum::<f64>().sqrt();
    Ok(json!({"ms": ms, "loss": scalar(device, &step, loss)?, "grad_norm": norm}))
}

fn rss(device: &dyn Device, n: usize, d: usize) -> Result<Value> {
    let base = peak_kb()?;
    loss(device, n, d, 1)?;
    Ok(json!({"base_kb": base, "peak_kb": peak_kb()?}))
}

/// The process's high-water mark, in KiB.
fn peak_kb() -> Result<u64> {
    let path = "/proc/self/status";
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| Error::data(path, None, "has no VmHWM line: peak memory is only measured on Linux"))
}
