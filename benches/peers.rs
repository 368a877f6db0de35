//! Etude's side of `benches/peers/peers.py`: one request a line on stdin, one JSON answer a line on stdout.
//!
//! - `step B T reps`: training steps of PCConvNet (MSE, SGD), batch by index from a resident data set
//! - `loss N D reps`: contrastive loss over all pairs, value and gradient; `loss16`, of rows stored in bf16; `centres`, of rows
//!   about five centres; `ratings`, with labels that are not binned; `short`, of such rows so short that hardly a
//!   pair is beyond its margin
//! - `conv B I O T K S reps`: conv1d of K taps and stride S from I to O channels, forward and backward
//! - `conv2d B I O H K reps`: conv2d of K × K taps over H × H, padded to stay so, forward and backward
//! - `dot N D reps`, `cosine N D reps`, `euclidean N D reps`: similarity matrix of N rows with N others, forward and backward
//! - `conv-forward` and so on: forward alone
//! - `values PATH` before any of these but the step: what it computed goes there too, output first, as bytes of f32
//! - `peak`: what one core was measured to do at most
//! - `quit`

use etude::cases::normal;
#[cfg(feature = "cuda")]
use etude::device::Cuda;
use etude::device::{Buf, Cpu, Device};
use etude::graph::{Graph, Step, Var};
use etude::kernel::Elem;
use etude::kernels::peak;
use etude::net::{Learn, NetConfig, PcConvNet};
use etude::ops::contrastive::{ContrastiveOptions, bins, contrastive};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::conv2d::{ConvOptions2d, conv2d};
use etude::ops::gather::{Layout, WindowOptions, gather_rows, gather_window};
use etude::ops::loss::{LossOptions, mse};
use etude::ops::optim::Sgd;
use etude::ops::similarity::{Similarity, similarity};
use etude::optim::Method;
use etude::simd::Simd;
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
        match answer(device, warm_up, &line) {
            Ok(answer) => println!("{answer}"),
            Err(_) if line == "quit" => return,
            Err(error) => println!("{}", json!({"error": error.to_string()})),
        }
    }
}

fn answer(device: &dyn Device, warm_up: usize, line: &str) -> Result<Value> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (save, words) = match words.as_slice() {
        ["values", path, rest @ ..] => (Some(*path), rest),
        all => (None, all),
    };
    let (name, numbers) = words.split_first().ok_or_else(|| Error::config("an empty request"))?;
    let numbers: Vec<usize> = numbers.iter().map_while(|w| w.parse().ok()).collect();
    let (op, backward) = name.strip_suffix("-forward").map_or((*name, true), |op| (op, false));
    let pairs = |kind| match numbers[..] {
        [n, d, reps] => matrix(device, kind, n, d, backward)?.run(device, reps, save),
        _ => Err(Error::config("needs N D reps")),
    };
    match (op, &numbers[..]) {
        ("step", &[batch, frames, reps]) => step(device, warm_up, batch, frames, reps),
        ("loss" | "loss16" | "centres" | "ratings" | "short", &[n, d, reps]) => {
            loss(device, op, n, d)?.run(device, reps, save)
        }
        ("conv", &[b, cin, cout, t, k, stride, reps]) => {
            conv(device, [b, cin, cout, t, k, stride], backward)?.run(device, reps, save)
        }
        ("conv2d", &[b, cin, cout, h, k, reps]) => {
            square(device, [b, cin, cout, h, k], backward)?.run(device, reps, save)
        }
        ("dot", _) => pairs(Similarity::Dot),
        ("cosine", _) => pairs(Similarity::Cosine),
        ("euclidean", _) => pairs(Similarity::Euclidean),
        ("peak", _) => {
            let peak = peak::measure(Simd::best());
            Ok(json!({"gflop_s": peak.flops / 1e9, "gb_s": peak.bytes / 1e9}))
        }
        _ => Err(Error::config("not a request, or not its numbers: benches/peers/README.md")),
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
    let base = high_water(true);
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
              "flops": cost.flops, "bytes": cost.bytes, "peak_kb": beyond(base)}))
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

/// What is run and timed; its first output is the value, the others are gradients.
struct Op {
    step: Step,
    outputs: Vec<Var>,
    base: Option<u64>,
    is_loss: bool,
}

impl Op {
    fn new(device: &dyn Device, g: Graph, outputs: Vec<Var>, base: Option<u64>) -> Result<Self> {
        Ok(Self { step: g.compile(device, &outputs)?, outputs, base, is_loss: false })
    }

    fn run(mut self, device: &dyn Device, reps: usize, save: Option<&str>) -> Result<Value> {
        // A read waits; of one element, so that it does not count.
        let last = if self.is_loss { 0 } else { self.outputs.len() - 1 };
        let end = self.step.buf(self.outputs[last])?.window(0, 1)?;
        let ms = time(1, reps, |_| {
            self.step.run()?;
            device.download(&end).map(drop)
        })?;
        let (peak, cost) = (beyond(self.base), self.step.cost());
        let values: Vec<Vec<f64>> =
            self.outputs.iter().map(|&v| device.download_f64(self.step.buf(v)?)).collect::<Result<_>>()?;
        if let Some(path) = save {
            let bytes: Vec<u8> = values.iter().flatten().flat_map(|&v| (v as f32).to_le_bytes()).collect();
            std::fs::write(path, bytes).map_err(Error::io(path, "write"))?;
        }
        let norms: Vec<f64> = values.iter().map(|v| v.iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
        let mut answer = json!({"ms": ms, "form": format!("{} launches", self.step.launches()),
                                "flops": cost.flops, "bytes": cost.bytes, "peak_kb": peak});
        if self.is_loss {
            (answer["loss"], answer["grad_norm"]) = (json!(values[0][0]), json!(norms[1]));
        } else {
            answer["norms"] = json!(norms);
        }
        Ok(answer)
    }
}

/// Between -1 and 1, evenly, and the same on every side.
fn noise(i: usize, k: usize) -> f64 {
    let s = (12.9898 * (i + 1) as f64 + 78.233 * (k + 1) as f64).sin() * 43_758.545_3;
    2.0 * (s - s.floor()) - 1.0
}

fn loss(device: &dyn Device, kind: &str, n: usize, d: usize) -> Result<Op> {
    let ratings: Vec<f64> = (0..n).map(|i| (i as f64 * 0.618_033_988_749_894_9).fract()).collect();
    let binned = bins(&ratings, 5)?;
    let mut rows = wave(n, d);
    if kind == "centres" {
        let centres = wave(5, d);
        for (e, v) in rows.iter_mut().enumerate() {
            *v = centres[binned[e / d] as usize * d + e % d] + 0.05 * 3_f64.sqrt() * noise(e / d, e % d);
        }
    }
    if kind == "short" {
        rows.iter_mut().for_each(|v| *v /= 256.0);
    }
    // Rounded to f32 first, as the other sides do.
    rows.iter_mut().for_each(|v| *v = f64::from(*v as f32));
    let z = device.alloc(if kind == "loss16" { Elem::Bf16 } else { Elem::Real }, n * d)?;
    device.write(&z, (&rows).into())?;
    let labels = match kind {
        "ratings" | "short" => device.upload(&ratings.iter().map(|y| 5.0 * y).collect::<Vec<_>>())?,
        _ => device.upload(&binned)?,
    };
    let base = high_water(true);
    let mut g = Graph::new();
    let (z, labels) = (g.leaf(&z, None, &[n, d])?, g.bind(&labels, &[n])?);
    let loss = contrastive(&mut g, z, labels, ContrastiveOptions { margin: 0.5, ..Default::default() })?;
    g.backward(loss)?;
    let grad = g.grad(z).ok_or_else(|| Error::config("no gradient"))?;
    Ok(Op { is_loss: true, ..Op::new(device, g, vec![loss, grad], base)? })
}

/// An op of two inputs, and its backward pass, where the upstream gradient is the output itself.
fn both_ways(
    device: &dyn Device,
    inputs: [(Vec<f64>, &[usize]); 2],
    backward: bool,
    op: impl FnOnce(&mut Graph, Var, Var) -> Result<Var>,
) -> Result<Op> {
    let [a, b] = [device.upload(&inputs[0].0)?, device.upload(&inputs[1].0)?];
    let shapes = inputs.map(|(values, shape)| (drop(values), shape).1);
    let base = high_water(true);
    let mut g = Graph::new();
    if !backward {
        let (a, b) = (g.bind(&a, shapes[0])?, g.bind(&b, shapes[1])?);
        let y = op(&mut g, a, b)?;
        return Op::new(device, g, vec![y], base);
    }
    let (a, b) = (g.leaf(&a, None, shapes[0])?, g.leaf(&b, None, shapes[1])?);
    let y = op(&mut g, a, b)?;
    g.backward_from(y, y)?;
    let grad = |v| g.grad(v).ok_or_else(|| Error::config("no gradient"));
    let outputs = vec![y, grad(a)?, grad(b)?];
    Op::new(device, g, outputs, base)
}

fn conv(device: &dyn Device, [b, cin, cout, t, k, stride]: [usize; 6], backward: bool) -> Result<Op> {
    let inputs = [(wave(b * cin, t), &[b, cin, t][..]), (wave(cout * cin, k), &[cout, cin, k][..])];
    let options = ConvOptions1d { stride, ..Default::default() };
    both_ways(device, inputs, backward, |g, x, w| conv1d(g, x, w, None, options))
}

fn square(device: &dyn Device, [b, cin, cout, h, k]: [usize; 5], backward: bool) -> Result<Op> {
    let inputs =
        [(wave(b * cin, h * h), &[b, cin, h, h][..]), (wave(cout * cin, k * k), &[cout, cin, k, k][..])];
    let options = ConvOptions2d { padding: [k / 2; 2], ..Default::default() };
    both_ways(device, inputs, backward, |g, x, w| conv2d(g, x, w, None, options))
}

fn matrix(device: &dyn Device, kind: Similarity, n: usize, d: usize, backward: bool) -> Result<Op> {
    let mut rows = wave(2 * n, d);
    let others = rows.split_off(n * d);
    let shape = [n, d];
    both_ways(device, [(rows, &shape[..]), (others, &shape[..])], backward, |g, a, b| {
        similarity(g, a, b, kind)
    })
}

/// KiB that the process held at most since `anew` was last said, which is now its memory; only Linux tells.
fn high_water(anew: bool) -> Option<u64> {
    if anew {
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
    }
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// KiB beyond what there was.
fn beyond(base: Option<u64>) -> Option<u64> {
    Some(high_water(false)?.saturating_sub(base?))
}
