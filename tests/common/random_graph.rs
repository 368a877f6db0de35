//! A small graph for any bytes, and whether devices agree with the oracle on it: values and gradients.
//!
//! Whatever op the bytes ask for is tried on the values there are; one that does not fit must say so with an error. Numbers
//! are compared within what the graph makes of roundings: it is run on the oracle with every input moved by 2^-20 of itself
//! too, in random directions. A device rounds to 2^-24, at each op; 64 times the largest change is room enough for a chain of
//! eight ops, and a wrong index or a lost term is off by far more.

use etude::Result;
use etude::device::{Cpu, Device};
use etude::graph::{Graph, Var};
use etude::ops::activation::{leaky_relu, relu, sigmoid};
use etude::ops::batch_norm::{BatchNormOptions, BatchNormVars, batch_norm};
use etude::ops::contrastive::{ContrastiveOptions, Labels, Metric, contrastive};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::conv2d::{ConvOptions2d, conv2d};
use etude::ops::gather::gather_rows;
use etude::ops::linear::{Activation, linear};
use etude::ops::loss::{LossOptions, mse};
use etude::ops::pool::mean_time;
use etude::ops::similarity::{Similarity, similarity};
use etude::ops::{add, reshape, scale};

/// How far an input is moved, as a part of itself.
const MOVED: f64 = 1.0 / (1 << 20) as f64;
/// Times the largest change that this makes.
const ROOM: f64 = 64.0;
/// And a part of the largest number of the graph: sums may cancel, as that of a gradient through a batch normalisation does.
const CANCELS: f64 = 1e-5;

/// The numbers of a graph: its values that are kept, and the gradients of its leaves.
type Numbers = Vec<Vec<f64>>;

/// Bytes taken one by one; zeros when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first)
    }

    /// From `1` to `most`.
    fn size(&mut self, most: usize) -> usize {
        1 + self.next() % most
    }
}

/// What records a graph on one device.
struct Recorder<'a> {
    device: &'a dyn Device,
    g: Graph,
    values: Vec<Var>,
    leaves: Vec<Var>,
    /// The state of the numbers that leaves hold.
    state: u64,
    /// The state of the directions in which they are moved; none where they are not.
    moved: Option<u64>,
}

/// The next of a sequence of 64 bits (Vigna's splitmix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Recorder<'_> {
    /// Numbers from -1 to 1.
    fn numbers(&mut self, shape: &[usize]) -> Vec<f32> {
        let number = |_| {
            let value = (next(&mut self.state) >> 40) as f32 / (1 << 23) as f32 - 1.0;
            let direction = self
                .moved
                .as_mut()
                .map_or(0.0, |state| (next(state) >> 11) as f64 / (1u64 << 52) as f64 - 1.0);
            (f64::from(value) * (1.0 + MOVED * direction)) as f32
        };
        (0..shape.iter().product()).map(number).collect()
    }

    fn leaf(&mut self, shape: &[usize]) -> Result<Var> {
        let numbers = self.numbers(shape);
        let buf = self.device.upload(&numbers)?;
        let leaf = self.g.leaf(&buf, None, shape)?;
        self.leaves.push(leaf);
        Ok(leaf)
    }

    fn constant(&mut self, values: &[f32]) -> Result<Var> {
        let buf = self.device.upload(values)?;
        self.g.bind(&buf, &[values.len()])
    }

    /// The op that the bytes ask for, on the last value or another.
    fn op(&mut self, bytes: &mut Bytes<'_>) -> Result<Var> {
        let (which, from) = (bytes.next() % 16, bytes.next() % self.values.len());
        let x = self.values[from];
        let shape = self.g.shape(x).to_vec();
        let columns = shape.get(1).copied().unwrap_or(1);
        match which {
            0 => {
                let other = self.values[bytes.next() % self.values.len()];
                add(&mut self.g, x, other)
            }
            1 => scale(&mut self.g, x, bytes.next() as f32 / 64.0 - 2.0),
            2 => relu(&mut self.g, x),
            3 => leaky_relu(&mut self.g, x, bytes.next() as f32 / 256.0),
            4 => sigmoid(&mut self.g, x),
            5 => {
                let rows = shape[0];
                reshape(&mut self.g, x, &[rows, shape.iter().product::<usize>() / rows])
            }
            6 => {
                let out = bytes.size(9);
                let (w, b) = (self.leaf(&[out, columns])?, self.leaf(&[out])?);
                let bias = (!bytes.next().is_multiple_of(3)).then_some(b);
                linear(&mut self.g, x, w, bias, [Activation::None, Activation::Sigmoid][bytes.next() % 2])
            }
            7 => {
                let groups = bytes.size(columns);
                let w = self.leaf(&[groups * bytes.size(3), columns / groups, bytes.size(4)])?;
                let [stride, padding, dilation] = [bytes.size(3), bytes.next() % 3, bytes.size(2)];
                let options = ConvOptions1d { stride, padding, dilation, groups, ..ConvOptions1d::default() };
                conv1d(&mut self.g, x, w, None, options)
            }
            8 => {
                let w = self.leaf(&[bytes.size(5), columns, bytes.size(3), bytes.size(3)])?;
                let options = ConvOptions2d {
                    stride: [bytes.size(2), bytes.size(2)],
                    padding: [bytes.next() % 2, bytes.next() % 2],
                    ..ConvOptions2d::default()
                };
                conv2d(&mut self.g, x, w, None, options)
            }
            9 => {
                let (gamma, beta) = (self.leaf(&[columns])?, self.leaf(&[columns])?);
                let (running_mean, running_var) =
                    (self.constant(&vec![0.0; columns])?, self.constant(&vec![1.0; columns])?);
                let vars = BatchNormVars { gamma, beta, running_mean, running_var };
                // Far from 0, so that a channel of one value does not make noise of roundings.
                batch_norm(&mut self.g, x, vars, BatchNormOptions { eps: 0.1, ..BatchNormOptions::default() })
            }
            10 => mean_time(&mut self.g, x),
            11 => {
                let other = self.values[bytes.next() % self.values.len()];
                similarity(&mut self.g, x, other, Similarity::Dot)
            }
            12 => {
                let other = self.leaf(&[bytes.size(20), columns])?;
                let kind = [Similarity::Cosine, Similarity::Euclidean, Similarity::Dot][bytes.next() % 3];
                similarity(&mut self.g, x, other, kind)
            }
            13 => {
                let labels: Vec<f32> = (0..shape[0]).map(|_| (bytes.next() % 5) as f32).collect();
                let labels = self.constant(&labels)?;
                let weights: Vec<f32> = (0..shape[0]).map(|_| (bytes.next() % 4) as f32).collect();
                let weights = self.constant(&weights)?;
                let labels = if bytes.next().is_multiple_of(2) {
                    labels.into()
                } else {
                    Labels::weighted(labels, weights)
                };
                let metric = [Metric::Euclidean, Metric::Cosine][bytes.next() % 2];
                contrastive(
                    &mut self.g,
                    x,
                    labels,
                    ContrastiveOptions { metric, ..ContrastiveOptions::default() },
                )
            }
            14 => {
                let rows: Vec<u32> = (0..bytes.size(9)).map(|_| (bytes.next() % shape[0]) as u32).collect();
                let buf = self.device.upload(&rows[..])?;
                let rows = self.g.bind(&buf, &[rows.len()])?;
                gather_rows(&mut self.g, x, rows)
            }
            _ => self.leaf(&[bytes.size(20), bytes.size(20)]),
        }
    }
}

/// The numbers of the graph that `bytes` describe, on `device`.
fn numbers(bytes: &[u8], device: &dyn Device, moved: Option<u64>) -> Result<Numbers> {
    let mut bytes = Bytes(bytes);
    let state = bytes.next() as u64;
    let mut r = Recorder { device, g: Graph::new(), values: vec![], leaves: vec![], state, moved };
    let shape: Vec<usize> = (0..bytes.size(4)).map(|_| bytes.size(12)).collect();
    let first = r.leaf(&shape)?;
    r.values.push(first);
    while !bytes.0.is_empty() && r.values.len() < 8 {
        if let Ok(value) = r.op(&mut bytes) {
            r.values.push(value);
        }
    }
    let last = r.values[r.values.len() - 1];
    let shape = r.g.shape(last).to_vec();
    let target = r.numbers(&shape);
    let buf = device.upload(&target)?;
    let target = r.g.bind(&buf, &shape)?;
    let loss = mse(&mut r.g, last, target, LossOptions::default())?;
    r.g.backward(loss)?;
    let mut keep = vec![loss, last];
    keep.extend(r.leaves.iter().filter_map(|&leaf| r.g.grad(leaf)));
    let mut step = r.g.compile(device, &keep)?;
    step.poison(device)?;
    step.run()?;
    keep.iter().map(|&v| device.download_f64(step.buf(v)?)).collect()
}

/// Says where a device differs from the oracle on the graph that `bytes` describe.
pub fn disagreement(bytes: &[u8], devices: &[&dyn Device]) -> Result<Option<String>> {
    let oracle = Cpu::<f64>::new(1)?;
    let right = numbers(bytes, &oracle, None)?;
    let moved = (1..=3).map(|seed| numbers(bytes, &oracle, Some(seed))).collect::<Result<Vec<_>>>()?;
    // What overflows f32 on the way is not compared.
    if !right.iter().flatten().all(|v| v.abs() < 1e18) {
        return Ok(None);
    }
    let largest = right.iter().flatten().fold(0.0f64, |most, v| most.max(v.abs()));
    for device in devices {
        let found = numbers(bytes, *device, None)?;
        if found.len() != right.len() {
            return Ok(Some(format!("{}: {} values, not {}", device.name(), found.len(), right.len())));
        }
        for (i, (found, right)) in found.iter().zip(&right).enumerate() {
            let change = |other: &Numbers| {
                other[i].iter().zip(right).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()))
            };
            let room = ROOM * moved.iter().map(change).fold(0.0, f64::max) + CANCELS * largest;
            let off = |(at, (a, b)): (usize, (&f64, &f64))| {
                let near = (a - b).abs() <= room;
                (!near).then(|| {
                    format!("{}: number {at} of value {i} is {a}, not {b} ± {room:e}", device.name())
                })
            };
            if let Some(text) = found.iter().zip(right).enumerate().find_map(off) {
                return Ok(Some(text));
            }
        }
    }
    Ok(None)
}
