//! Etude's side of `benches/peers/peers.py`: one request a line on stdin, one JSON answer a line on stdout.
//!
//! - `step B T reps`: training steps of PCConvNet (MSE, SGD), batch by index from a resident data set
//! - `loss N D reps`: contrastive loss over all pairs, value and gradient
//! - `loss16 N D reps`: the same of rows stored in bf16
//! - `conv B I O T K S reps`: conv1d of K taps and stride S from I to O channels, forward and backward
//! - `dot N D reps`, `cosine N D reps`, `euclidean N D reps`: similarity matrix of N rows with N others, forward and backward
//! - `rss N D`: peak memory of the loss beyond what the process had before
//! - `quit`

use etude::cases::normal;
#[cfg(feature = "cuda")]
use etude::device::Cuda;
use etude::device::{Buf, Cpu, Device};
use etude::graph::{Graph, Step, Var};
use etude::kernel::Elem;
use etude::net::{Learn, NetConfig, PcConvNet};
use etude::ops::contrastive::{ContrastiveOptions, bins, contrastive};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::gather::{Layout, WindowOptions, gather_rows, gather_window};
use etude::ops::loss::{LossOptions, mse};
use etude::ops::optim::Sgd;
use etude::ops::similarity::{Similarity, similarity};
use etude::optim::Method;
use etude::{Error, Result};
use serde_json::{Value, json};
use std::io::BufRead;
use std::time::Instant;

/// Rows of the resident data set and different batches of it that take turns; the peers' side has the same.
const RESIDENT: usize = 1024;
const BATCHES: usize = 8;

fn main() {
    let (mut threads, mut name) = (1, "cpu".to_string());
    let mut args = std::env::args();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--threads" => threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            "--device" => name = args.next().unwrap_or_default(),
            _ => {}
        }
    }
    let device = match device(&name, threads) {
        Ok(device) => device,
        Err(error) => return println!("{}", json!({"error": error.to_string()})),
    };
    let device = device.as_ref();
    // One run, as every other side; on several threads more, until the second core has come up to speed
    // (some ten steps on a virtual machine): that table has no other side.
    let warm_up = if threads == 1 { 1 } else { 20 };
    for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| {
            words
                .get(i)
                .and_then(|w| w.parse::<usize>().ok())
                .ok_or_else(|| Error::config("a number is missing"))
        };
        let pairs = |kind| matrix(device, kind, number(1)?, number(2)?, number(3)?);
        let answer = (|| match words.first().copied() {
            Some("step") => step(device, warm_up, number(1)?, number(2)?, number(3)?),
            Some("loss") => loss(device, Elem::Real, number(1)?, number(2)?, number(3)?),
            Some("loss16") => loss(device, Elem::Bf16, number(1)?, number(2)?, number(3)?),
            Some("conv") => {
                let sizes = [number(1)?, number(2)?, number(3)?, number(4)?, number(5)?, number(6)?];
                conv(device, sizes, number(7)?)
            }
            Some("dot") => pairs(Similarity::Dot),
            Some("cosine") => pairs(Similarity::Cosine),
            Some("euclidean") => pairs(Similarity::Euclidean),
            Some("rss") => rss(device, number(1)?, number(2)?),
            _ => Err(Error::config("step, loss, loss16, conv, dot, cosine, euclidean, rss or quit")),
        })();
        match answer {
            Ok(answer) => println!("{answer}"),
            Err(_) if words == ["quit"] => return,
            Err(error) => println!("{}", json!({"error": error.to_string()})),
        }
    }
}

fn device(name: &str, threads: usize) -> Result<Box<dyn Device>> {
    match name {
        "cpu" => Ok(Box::new(Cpu::<f32>::new(threads)?)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Box::new(Cuda::new(0)?)),
        _ => Err(Error::config(format!("no device `{name}` in this build"))),
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

fn step(device: &dyn Device, warm_up: usize, batch: usize, frames: usize, reps: usize) -> Result<Value> {
    let net = PcConvNet::new(device, NetConfig::paper(1, frames), 0)?;
    let data = device.upload(&normal(1, RESIDENT * frames))?;
    let ratings = device.upload(&etude::cases::uniform(2, RESIDENT))?;
    let alloc = |elem, n| device.alloc(elem, n);
    let rows = alloc(Elem::Index, 4 * batch)?;
    let shift = alloc(Elem::Real, batch)?;
    let chosen = alloc(Elem::Index, batch)?;
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
    let ms = time(warm_up, reps, |i| {
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

/// `[n, d]` numbers that every side computes alike.
fn wave(n: usize, d: usize) -> Vec<f64> {
    let at = |at: usize| {
        let (i, k) = ((at / d + 1) as f64, (at % d + 1) as f64);
        (0.37 * i * k).sin() * 0.7 + 0.1 * (1.3 * (i - 1.0)).cos()
    };
    (0..n * d).map(at).collect()
}

fn loss(device: &dyn Device, stored: Elem, n: usize, d: usize, reps: usize) -> Result<Value> {
    let ratings: Vec<f64> = (0..n).map(|i| (i as f64 * 0.618_033_988_749_894_9).fract()).collect();
    // Rounded to f32 first, as the other sides do.
    let rows: Vec<f64> = wave(n, d).into_iter().map(|v| f64::from(v as f32)).collect();
    let z = device.alloc(stored, n * d)?;
    device.write(&z, (&rows).into())?;
    let labels = device.upload(&bins(&ratings, 5)?)?;
    let mut g = Graph::new();
    let (z, labels) = (g.leaf(&z, None, &[n, d])?, g.bind(&labels, &[n])?);
    let loss = contrastive(&mut g, z, labels, ContrastiveOptions { margin: 0.5, ..Default::default() })?;
    g.backward(loss)?;
    let grad = g.grad(z).ok_or_else(|| Error::config("no gradient"))?;
    let mut step = g.compile(device, &[loss, grad])?;
    let mut value = 0.0;
    let ms = time(1, reps, |_| {
        step.run()?;
        value = scalar(device, &step, loss)?;
        Ok(())
    })?;
    Ok(json!({"ms": ms, "loss": value, "grad_norm": norm(device, &step, grad)?}))
}

fn norm(device: &dyn Device, step: &Step, var: Var) -> Result<f64> {
    Ok(device.download_f64(step.buf(var)?)?.iter().map(|v| v * v).sum::<f64>().sqrt())
}

/// Times an op of two inputs and its backward pass, where the upstream gradient is the output itself.
fn both_ways(device: &dyn Device, mut g: Graph, [a, b, y]: [Var; 3], reps: usize) -> Result<Value> {
    g.backward_from(y, y)?;
    let grad = |v| g.grad(v).ok_or_else(|| Error::config("no gradient"));
    let (da, db) = (grad(a)?, grad(b)?);
    let mut step = g.compile(device, &[y, da, db])?;
    // A read waits; of one element, so that it does not count.
    let end = step.buf(db)?.window(0, 1)?;
    let ms = time(1, reps, |_| {
        step.run()?;
        device.download(&end).map(drop)
    })?;
    let norms: Vec<f64> = [y, da, db].map(|v| norm(device, &step, v)).into_iter().collect::<Result<_>>()?;
    Ok(json!({"ms": ms, "norms": norms, "form": format!("{} launches", step.launches())}))
}

fn conv(device: &dyn Device, [b, cin, cout, t, k, stride]: [usize; 6], reps: usize) -> Result<Value> {
    let (x, w) = (device.upload(&wave(b * cin, t))?, device.upload(&wave(cout * cin, k))?);
    let mut g = Graph::new();
    let (x, w) = (g.leaf(&x, None, &[b, cin, t])?, g.leaf(&w, None, &[cout, cin, k])?);
    let y = conv1d(&mut g, x, w, None, ConvOptions1d { stride, ..Default::default() })?;
    both_ways(device, g, [x, w, y], reps)
}

fn matrix(device: &dyn Device, kind: Similarity, n: usize, d: usize, reps: usize) -> Result<Value> {
    let rows = wave(2 * n, d);
    let (a, b) = (device.upload(&rows[..n * d])?, device.upload(&rows[n * d..])?);
    let mut g = Graph::new();
    let (a, b) = (g.leaf(&a, None, &[n, d])?, g.leaf(&b, None, &[n, d])?);
    let y = similarity(&mut g, a, b, kind)?;
    both_ways(device, g, [a, b, y], reps)
}

fn rss(device: &dyn Device, n: usize, d: usize) -> Result<Value> {
    let base = peak_kb()?;
    loss(device, Elem::Real, n, d, 1)?;
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
