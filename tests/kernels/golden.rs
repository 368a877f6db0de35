//! Every op against PyTorch, in f64, on the oracle: `tests/golden/pytorch` and its README.
//!
//! Parameter structs hold f32, so an option such as eps, momentum or a slope carries a relative
//! rounding of up to 6e-8 that PyTorch's doubles do not: [`OPTION`] is the tolerance where such an
//! option enters the result, [`EXACT`] where none does.

use crate::vectors;
use etude::cases::relative;
use etude::device::{Buf, Cpu, Device};
use etude::graph::{Graph, Var};
use etude::net::{LayerConfig, Learn, NetConfig, PcConvNet};
use etude::ops;
use etude::ops::batch_norm::{BatchNormOptions, BatchNormVars, Mode};
use etude::ops::contrastive::{ContrastiveOptions, Labels, Metric};
use etude::ops::conv1d::ConvOptions1d;
use etude::ops::conv2d::ConvOptions2d;
use etude::ops::gather::{Layout, WindowOptions};
use etude::ops::linear::Activation;
use etude::ops::loss::LossOptions;
use etude::ops::optim::{Adam, Sgd};
use etude::ops::similarity::Similarity;
use etude::optim::{Method, Optimizer, ParamSet, Tensor};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// f64 sums in another order.
const EXACT: f64 = 1e-12;
/// An option rounded to f32.
const OPTION: f64 = 1e-7;
/// Below this norm errors are absolute: what cancels to 0 here is rounding there.
const NOTHING: f64 = 1e-2;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
/// Results by the name of the tensor they are compared with.
type Results = HashMap<String, Vec<f64>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    #[expect(dead_code, reason = "which version wrote the files, for people")]
    torch: String,
    cases: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    case: String,
    op: String,
    file: String,
    options: Value,
    inputs: Vec<String>,
    outputs: Vec<String>,
    gradients: Vec<String>,
}

/// A case's tensors, by name.
struct Golden<'a> {
    entry: &'a Entry,
    file: SafeTensors<'a>,
}

impl Golden<'_> {
    /// The options, all of which must be known.
    fn options<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_value(self.entry.options.clone())?)
    }

    fn has(&self, name: &str) -> bool {
        self.file.tensor(&format!("{}/{name}", self.entry.case)).is_ok()
    }

    /// Shape and values of a tensor, whatever its type.
    fn get(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>)> {
        Ok(vectors::tensor(&self.file, &format!("{}/{name}", self.entry.case))?)
    }

    fn index(&self, name: &str) -> Result<(Vec<usize>, Vec<u32>)> {
        let (shape, values) = self.get(name)?;
        Ok((shape, values.into_iter().map(|v| v as u32).collect()))
    }
}

/// The inputs of a case, bound.
struct Inputs {
    vars: HashMap<String, (Var, Buf)>,
}

impl Inputs {
    fn var(&self, name: &str) -> Result<Var> {
        Ok(self.vars.get(name).ok_or_else(|| format!("no input is called {name}"))?.0)
    }
}

/// Runs one op forward and backward.
///
/// Inputs called in `indices` are `u32`; those whose gradient is listed are leaves. `build` records the
/// op. After the run, the inputs in `states` are read as the outputs named with them.
fn run(
    golden: &Golden<'_>,
    indices: &[&str],
    states: &[(&str, &str)],
    build: impl FnOnce(&mut Graph, &Inputs) -> Result<Var>,
) -> Result<Results> {
    let cpu = Cpu::<f64>::new(1)?;
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let mut inputs = Inputs { vars: HashMap::new() };
    for name in &golden.entry.inputs {
        let (shape, values) = golden.get(name)?;
        let buf = if indices.contains(&name.as_str()) {
            device.upload(&golden.index(name)?.1)?
        } else {
            device.upload(&values)?
        };
        let var = if golden.entry.gradients.contains(&format!("g{name}")) {
            g.leaf(&buf, None, &shape)?
        } else {
            g.bind(&buf, &shape)?
        };
        inputs.vars.insert(name.clone(), (var, buf));
    }
    let y = build(&mut g, &inputs)?;
    if golden.has("gy") {
        let shape = g.shape(y).to_vec();
        let gy = device.upload(&golden.get("gy")?.1)?;
        let upstream = g.bind(&gy, &shape)?;
        g.backward_from(y, upstream)?;
    } else {
        g.backward(y)?;
    }
    let mut keep = vec![(golden.entry.outputs[0].clone(), y)];
    for gradient in &golden.entry.gradients {
        let var = inputs.var(&gradient[1..])?;
        keep.push((gradient.clone(), g.grad(var).ok_or_else(|| format!("no {gradient}"))?));
    }
    let mut step = g.compile(device, &keep.iter().map(|k| k.1).collect::<Vec<_>>())?;
    step.poison(device)?;
    step.run()?;
    let mut results = Results::new();
    for (name, var) in keep {
        results.insert(name, device.download_f64(step.buf(var)?)?);
    }
    for (input, output) in states {
        let buf = &inputs.vars.get(*input).ok_or("no such state")?.1;
        results.insert((*output).to_string(), device.download_f64(buf)?);
    }
    Ok(results)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// An op of one input and no options.
fn unary(golden: &Golden<'_>, op: fn(&mut Graph, Var) -> etude::Result<Var>) -> Result<Results> {
    let Nothing {} = golden.options()?;
    run(golden, &[], &[], |g, i| Ok(op(g, i.var("x")?)?))
}

fn leaky_relu(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        slope: f32,
    }
    let o: Options = golden.options()?;
    run(golden, &[], &[], |g, i| Ok(ops::activation::leaky_relu(g, i.var("x")?, o.slope)?))
}

fn masked_mean_time(golden: &Golden<'_>) -> Result<Results> {
    let Nothing {} = golden.options()?;
    run(golden, &["lengths"], &[], |g, i| Ok(ops::pool::masked_mean_time(g, i.var("x")?, i.var("lengths")?)?))
}

fn linear(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        bias: bool,
    }
    let o: Options = golden.options()?;
    run(golden, &[], &[], |g, i| {
        let b = if o.bias { Some(i.var("b")?) } else { None };
        Ok(ops::linear::linear(g, i.var("x")?, i.var("w")?, b, Activation::None)?)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conv<T> {
    stride: T,
    padding: T,
    dilation: T,
    groups: usize,
    bias: bool,
}

fn conv1d(golden: &Golden<'_>) -> Result<Results> {
    let Conv { stride, padding, dilation, groups, bias } = golden.options::<Conv<usize>>()?;
    run(golden, &[], &[], |g, i| {
        let b = if bias { Some(i.var("b")?) } else { None };
        let options = ConvOptions1d { stride, padding, dilation, groups, ..Default::default() };
        Ok(ops::conv1d::conv1d(g, i.var("x")?, i.var("w")?, b, options)?)
    })
}

fn conv2d(golden: &Golden<'_>) -> Result<Results> {
    let Conv { stride, padding, dilation, groups, bias } = golden.options::<Conv<[usize; 2]>>()?;
    run(golden, &[], &[], |g, i| {
        let b = if bias { Some(i.var("b")?) } else { None };
        let options = ConvOptions2d { stride, padding, dilation, groups, ..Default::default() };
        Ok(ops::conv2d::conv2d(g, i.var("x")?, i.var("w")?, b, options)?)
    })
}

fn pairwise(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        metric: String,
    }
    let o: Options = golden.options()?;
    let kind = match o.metric.as_str() {
        "dot" => Similarity::Dot,
        "cosine" => Similarity::Cosine,
        "squared_euclidean" => Similarity::SquaredEuclidean,
        "euclidean" => Similarity::Euclidean,
        other => return Err(format!("unknown metric {other}").into()),
    };
    run(golden, &[], &[], |g, i| Ok(ops::similarity::similarity(g, i.var("a")?, i.var("b")?, kind)?))
}

type Loss = fn(&mut Graph, Var, Var, LossOptions) -> etude::Result<Var>;

fn loss(golden: &Golden<'_>, prediction: &str, op: Loss) -> Result<Results> {
    let Nothing {} = golden.options()?;
    run(golden, &[], &[], |g, i| Ok(op(g, i.var(prediction)?, i.var("t")?, LossOptions::default())?))
}

fn batch_norm(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        train: bool,
        momentum: f32,
        eps: f32,
    }
    let o: Options = golden.options()?;
    let (mode, states) = if o.train {
        let after = [("running_mean", "running_mean_after"), ("running_var", "running_var_after")];
        (Mode::Train, after.to_vec())
    } else {
        (Mode::Eval, Vec::new())
    };
    run(golden, &[], &states, |g, i| {
        let vars = BatchNormVars {
            gamma: i.var("w")?,
            beta: i.var("b")?,
            running_mean: i.var("running_mean")?,
            running_var: i.var("running_var")?,
        };
        let options = BatchNormOptions { mode, eps: o.eps, momentum: o.momentum };
        Ok(ops::batch_norm::batch_norm(g, i.var("x")?, vars, options)?)
    })
}

fn contrastive(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        pairs: String,
        labels: String,
        metric: String,
        margin: f32,
        bins: Option<usize>,
        tau: Option<f32>,
    }
    let o: Options = golden.options()?;
    let metric = match o.metric.as_str() {
        "euclidean" => Metric::Euclidean,
        "cosine" => Metric::Cosine,
        other => return Err(format!("unknown metric {other}").into()),
    };
    let tau = match (o.labels.as_str(), o.bins, o.tau) {
        ("binned", Some(bins), None) => {
            for (ratings, labels) in [("y", "label"), ("yb", "labelb")] {
                if golden.has(labels) {
                    let ours = ops::contrastive::bins(&golden.get(ratings)?.1, bins)?;
                    let ours: Vec<f64> = ours.into_iter().map(f64::from).collect();
                    if ours != golden.get(labels)?.1 {
                        return Err(format!("bins of {ratings}: {ours:?}").into());
                    }
                }
            }
            0.0
        }
        ("continuous", None, Some(tau)) => tau,
        _ => return Err("unknown labels".into()),
    };
    let (rows, others) = if o.labels == "binned" { ("label", "labelb") } else { ("y", "yb") };
    let options = ContrastiveOptions { metric, margin: o.margin, tau, ..Default::default() };
    run(golden, &["left", "right"], &[], |g, i| {
        let (z, labels) = (i.var("z")?, i.var(rows)?);
        match o.pairs.as_str() {
            "all" => Ok(ops::contrastive::contrastive(g, z, labels, options)?),
            "halves" => {
                let (left, right) = (golden.index("left")?.1, golden.index("right")?.1);
                let pairing: Vec<u32> = left.into_iter().zip(right).flat_map(|(l, r)| [l, r]).collect();
                let cpu = Cpu::<f64>::new(1)?;
                let buf = (&cpu as &dyn Device).upload(&pairing)?;
                let pairing = g.bind(&buf, &[pairing.len() / 2, 2])?;
                Ok(ops::contrastive::contrastive_halves(g, z, labels, pairing, options)?)
            }
            "cross" => {
                let (zb, labels_b) = (i.var("zb")?, i.var(others)?);
                Ok(ops::contrastive::contrastive_cross(g, z, labels, zb, labels_b, options)?)
            }
            other => Err(format!("unknown pairs {other}").into()),
        }
    })
}

fn contrastive_hvp(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        metric: String,
        margin: f32,
        tau: f32,
    }
    let o: Options = golden.options()?;
    let metric = if o.metric == "cosine" { Metric::Cosine } else { Metric::Euclidean };
    let options = ContrastiveOptions { metric, margin: o.margin, tau: o.tau, ..Default::default() };
    let cpu = Cpu::<f64>::new(1)?;
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let mut set = |[rows, along, labels]: [&str; 3]| -> Result<(Var, Labels)> {
        let ((shape, rows), (_, along), (_, labels)) =
            (golden.get(rows)?, golden.get(along)?, golden.get(labels)?);
        let duals = device.upload(&[rows, along].concat())?;
        let labels = g.bind(&device.upload(&labels)?, &[shape[0]])?;
        Ok((g.bind(&duals, &[2, shape[0], shape[1]])?, labels.into()))
    };
    let (rows, labels) = set(["z", "v", "y"])?;
    let others = golden.has("zb").then(|| set(["zb", "vb", "yb"])).transpose()?;
    let sums = ops::contrastive_hvp::contrastive_hvp(&mut g, rows, labels, others, options)?;
    let mut step = g.compile(device, &[sums])?;
    step.run()?;
    // There a row's sums lie side by side, here all of one kind.
    let [_, n, d] = g.dims("contrastive_hvp", "sums", sums)?;
    let sums = device.download_f64(step.buf(sums)?)?;
    let of_row = |i: usize| [&sums[i * d..][..d], &sums[(n + i) * d..][..d]].concat();
    Ok(Results::from([("sums".into(), (0..n).flat_map(of_row).collect())]))
}

fn rank_n_contrast(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        temperature: f32,
    }
    let o: Options = golden.options()?;
    let cpu = Cpu::<f64>::new(1)?;
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let (shape, z) = golden.get("z")?;
    let z = g.leaf(&device.upload(&z)?, None, &shape)?;
    let labels = g.bind(&device.upload(&golden.get("y")?.1)?, &shape[..1])?;
    let loss = ops::rank_n_contrast::rank_n_contrast(&mut g, z, labels, o.temperature)?;
    g.backward(loss)?;
    let dz = g.grad(z).ok_or("no gradient")?;
    let mut step = g.compile(device, &[loss, dz])?;
    step.run()?;
    let read = |var| Ok::<_, Box<dyn std::error::Error>>(device.download_f64(step.buf(var)?)?);
    Ok(Results::from([("loss".into(), read(loss)?), ("gz".into(), read(dz)?)]))
}

fn info_nce(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        sigma: f32,
        temperature: f32,
    }
    let Options { sigma, temperature } = golden.options()?;
    let cpu = Cpu::<f64>::new(1)?;
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let mut set = |rows: &str, labels: &str| {
        let (shape, z) = golden.get(rows)?;
        let labels = g.bind(&device.upload(&golden.get(labels)?.1)?, &shape[..1])?;
        Ok::<_, Box<dyn std::error::Error>>((g.leaf(&device.upload(&z)?, None, &shape)?, labels))
    };
    let (z, labels) = set("z", "y")?;
    let others = golden.has("zb").then(|| set("zb", "yb")).transpose()?;
    let options = ops::info_nce::InfoNceOptions { sigma, temperature };
    let loss = ops::info_nce::info_nce(&mut g, z, labels, others, options)?;
    g.backward(loss)?;
    let mut wanted = vec![("loss", loss), ("gz", g.grad(z).ok_or("no gradient")?)];
    if let Some((others, _)) = others {
        wanted.push(("gzb", g.grad(others).ok_or("no gradient")?));
    }
    let vars: Vec<Var> = wanted.iter().map(|&(_, var)| var).collect();
    let mut step = g.compile(device, &vars)?;
    step.run()?;
    wanted.into_iter().map(|(name, var)| Ok((name.into(), device.download_f64(step.buf(var)?)?))).collect()
}

fn pair_loss(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        metric: String,
        margin: f32,
        tau: f32,
    }
    let Options { metric, margin, tau } = golden.options()?;
    let (metric, kind) = match metric.as_str() {
        "cosine" => (Metric::Cosine, Similarity::Cosine),
        _ => (Metric::Euclidean, Similarity::Euclidean),
    };
    let cpu = Cpu::<f64>::new(1)?;
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let mut leaf = |name: &str| {
        let (shape, values) = golden.get(name)?;
        Ok::<_, Box<dyn std::error::Error>>(g.leaf(&device.upload(&values)?, None, &shape)?)
    };
    let (z, apart, up) = (leaf("z")?, leaf("apart")?, leaf("up")?);
    let others = golden.has("zb").then(|| leaf("zb")).transpose()?;
    let weights = golden.has("weights").then(|| leaf("weights")).transpose()?;
    let own = others.is_none().then_some(0);
    let similarities = ops::similarity::similarity(&mut g, z, others.unwrap_or(z), kind)?;
    let options = ops::pair_loss::PairLossOptions { metric, margin, tau };
    let [sums, totals] = ops::pair_loss::pair_loss(&mut g, similarities, apart, weights, own, options)?;
    g.backward_from(sums, up)?;
    let mut wanted = vec![("sums", sums), ("totals", totals), ("gz", g.grad(z).ok_or("no gradient")?)];
    if let Some(others) = others {
        wanted.push(("gzb", g.grad(others).ok_or("no gradient")?));
    }
    let vars: Vec<Var> = wanted.iter().map(|&(_, var)| var).collect();
    let mut step = g.compile(device, &vars)?;
    step.run()?;
    wanted.into_iter().map(|(name, var)| Ok((name.into(), device.download_f64(step.buf(var)?)?))).collect()
}

/// Given gradients, step after step; a row of each result after each.
fn optimizer(golden: &Golden<'_>, method: Method, lr: f64, steps: usize) -> Result<Results> {
    let cpu = Cpu::<f64>::new(1)?;
    let device: &dyn Device = &cpu;
    let (shape, start) = golden.get("p0")?;
    let (_, gradients) = golden.get("grad")?;
    let params = ParamSet::new(device, &[("p", &shape[..])])?;
    params.write(device, "p", &start)?;
    let mut optimizer = Optimizer::new(device, &params, method)?;
    // The gradient of ⟨p, t⟩ in p is t: a loss that hands the given gradients on.
    let given = device.upload(&gradients[..start.len()])?;
    let mut g = Graph::new();
    let leaves = params.leaves(&mut g)?;
    let upstream = g.bind(&given, &shape)?;
    g.backward_from(leaves.get("p")?, upstream)?;
    optimizer.record(&mut g, &params, &leaves)?;
    let mut step = g.compile(device, &[])?;
    let mut results = Results::new();
    for gradient in gradients.chunks(start.len()).take(steps) {
        device.write(&given, gradient.into())?;
        optimizer.before_step(device, lr)?;
        step.run()?;
        let p = device.download_f64(params.buf("p")?)?;
        results.entry("p".into()).or_default().extend(p);
        for (name, state) in optimizer.states() {
            let state = device.download_f64(&state.window(0, start.len())?)?;
            let name = if *name == "velocity" { "m" } else { name };
            results.entry(name.into()).or_default().extend(state);
        }
    }
    Ok(results)
}

fn sgd(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        lr: f64,
        momentum: f32,
        weight_decay: f32,
        steps: usize,
    }
    let o: Options = golden.options()?;
    let method = Method::Sgd(Sgd { momentum: o.momentum, weight_decay: o.weight_decay });
    optimizer(golden, method, o.lr, o.steps)
}

fn adam(golden: &Golden<'_>, decoupled: bool) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f32,
        weight_decay: f32,
        steps: usize,
    }
    let o: Options = golden.options()?;
    let Options { beta1, beta2, eps, weight_decay, .. } = o;
    optimizer(golden, Method::Adam(Adam { beta1, beta2, eps, weight_decay, decoupled }), o.lr, o.steps)
}

/// Our name of a parameter of the network.
fn parameter(name: &str) -> String {
    let (layer, kind) = name.split_once('.').unwrap_or((name, ""));
    let norm = layer.strip_prefix("bn");
    let kind = match (kind, norm.is_some()) {
        ("w", true) => "gamma",
        ("b", true) => "beta",
        ("w", false) => "weight",
        ("b", false) => "bias",
        (other, _) => other,
    };
    format!("{}.{kind}", norm.map_or(layer.to_string(), |n| format!("norm{n}")))
}

fn pcconvnet(golden: &Golden<'_>) -> Result<Results> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        channels: usize,
        widths: Vec<usize>,
        kernel: usize,
        stride: usize,
        lambda: f32,
        margin: f32,
        bins: usize,
        lr: f64,
        momentum: f32,
        weight_decay: f32,
    }
    let o: Options = golden.options()?;
    let cpu = Cpu::<f64>::new(1)?;
    let device: &dyn Device = &cpu;
    let (shape, x) = golden.get("x")?;
    let (_, ratings) = golden.get("y")?;
    let [batch, channels, frames] = shape[..] else { return Err("x is not [B, C, T]".into()) };
    let layer = |&channels: &usize| LayerConfig { channels, taps: o.kernel, stride: o.stride };
    let config = NetConfig {
        channels: o.channels,
        frames,
        layers: o.widths.iter().map(layer).collect(),
        ..NetConfig::paper(o.channels, frames)
    };
    let net = PcConvNet::new(device, config, 0)?;
    let names = || golden.entry.inputs.iter().filter(|n| !["x", "y"].contains(&n.as_str()));
    let tensor = |name: &String| -> Result<Tensor> {
        let (shape, values) = golden.get(name)?;
        let values = values.into_iter().map(|v| v as f32).collect();
        Ok(Tensor { name: parameter(name), shape, values })
    };
    net.load(device, &names().map(tensor).collect::<Result<Vec<_>>>()?)?;

    let mut g = Graph::new();
    let vars = net.bind(&mut g, Learn::Yes, Learn::Yes)?;
    let data = g.bind(&device.upload(&x)?, &[x.len()])?;
    let row = |b: usize| [b * channels * frames, frames, 0, frames].map(|v| v as u32);
    let rows: Vec<u32> = (0..batch).flat_map(row).collect();
    let rows = g.bind(&device.upload(&rows)?, &[batch, 4])?;
    let shift = g.bind(&device.upload(&vec![0.0f64; batch])?, &[batch])?;
    let window = WindowOptions { channels, columns: frames, shift_channels: 0, layout: Layout::Nct16n };
    let x = ops::gather::gather_window(&mut g, data, rows, shift, window)?;
    let y = g.bind(&device.upload(&ratings)?, &[batch])?;
    let embedding = net.encode(&mut g, &vars, x, batch, None)?;
    let rating = net.rate(&mut g, &vars, embedding, None)?;
    let mut loss = ops::loss::mse(&mut g, rating, y, LossOptions::default())?;
    if o.lambda != 0.0 {
        let labels = ops::contrastive::bins(&ratings, o.bins)?;
        let labels = g.bind(&device.upload(&labels)?, &[batch])?;
        let options =
            ContrastiveOptions { margin: o.margin, weight: o.lambda, ..ContrastiveOptions::default() };
        let pairs = ops::contrastive::contrastive(&mut g, embedding, labels, options)?;
        loss = ops::add(&mut g, loss, pairs)?;
    }
    g.backward(loss)?;
    let method = Method::Sgd(Sgd { momentum: o.momentum, weight_decay: o.weight_decay });
    net.optimize(device, &mut g, &vars, method)?.before_step(device, o.lr)?;
    let mut step = g.compile(device, &[embedding, rating, loss])?;
    step.run()?;

    let mut results = Results::new();
    for (name, var) in [("embedding", embedding), ("rating", rating), ("loss", loss)] {
        results.insert(name.into(), device.download_f64(step.buf(var)?)?);
    }
    for name in names() {
        let ours = parameter(name);
        let set = [&net.encoder, &net.head, &net.running]
            .into_iter()
            .find(|set| set.buf(&ours).is_ok())
            .ok_or_else(|| format!("the network has no {ours}"))?;
        let values = device.download_f64(set.buf(&ours)?)?;
        if name.contains("running") {
            results.insert(format!("after.{name}"), values);
        } else {
            results.insert(format!("step.{name}"), values);
            results.insert(format!("grad.{name}"), device.download_f64(set.grad(&ours)?)?);
        }
    }
    Ok(results)
}

/// `‖got − want‖/‖want‖`, but what is as small as [`NOTHING`] counts as 0: PyTorch leaves the rounding
/// of what cancels.
fn relative_above(got: &[f64], want: &[f64]) -> f64 {
    let diff: Vec<f64> = got.iter().zip(want).map(|(g, w)| g - w).collect();
    let norm = relative(want, &vec![0.0; want.len()]);
    relative(&diff, &vec![0.0; diff.len()]) / norm.max(NOTHING)
}

fn check(golden: &Golden<'_>) -> Result<f64> {
    let (tolerance, results) = match golden.entry.op.as_str() {
        "relu" => (EXACT, unary(golden, ops::activation::relu)),
        "leaky_relu" => (OPTION, leaky_relu(golden)),
        "sigmoid" => (EXACT, unary(golden, ops::activation::sigmoid)),
        "mean_time" => (EXACT, unary(golden, ops::pool::mean_time)),
        "masked_mean_time" => (EXACT, masked_mean_time(golden)),
        "conv1d" => (EXACT, conv1d(golden)),
        "conv2d" => (EXACT, conv2d(golden)),
        "pairwise" => (EXACT, pairwise(golden)),
        "linear" => (EXACT, linear(golden)),
        "mse" => (EXACT, loss(golden, "p", ops::loss::mse)),
        "bce" => (EXACT, loss(golden, "p", ops::loss::bce)),
        "bce_logits" => (EXACT, loss(golden, "x", ops::loss::bce_with_logits)),
        "batch_norm" => (OPTION, batch_norm(golden)),
        "contrastive" => (OPTION, contrastive(golden)),
        "contrastive_hvp" => (OPTION, contrastive_hvp(golden)),
        "info_nce" => (EXACT, info_nce(golden)),
        "pair_loss" => (EXACT, pair_loss(golden)),
        "rank_n_contrast" => (EXACT, rank_n_contrast(golden)),
        "sgd" => (OPTION, sgd(golden)),
        "adam" => (OPTION, adam(golden, false)),
        "adamw" => (OPTION, adam(golden, true)),
        "pcconvnet" => (OPTION, pcconvnet(golden)),
        other => return Err(format!("unknown op {other}").into()),
    };
    let results = results?;
    let mut worst = 0.0f64;
    for name in golden.entry.outputs.iter().chain(&golden.entry.gradients) {
        let want = golden.get(name)?.1;
        let got = results.get(name).ok_or_else(|| format!("nothing to compare with {name}"))?;
        let error = relative_above(got, &want);
        // Not `error > tolerance`: a NaN is over any.
        if got.len() != want.len() || error > tolerance || error.is_nan() {
            return Err(
                format!("{name} is off by {error:e}, over {tolerance:e}: {got:?}, want {want:?}").into()
            );
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

#[test]
fn every_op_agrees_with_pytorch() {
    let read = |name: &str| vectors::read(&format!("pytorch/{name}"));
    let index: Index = serde_json::from_slice(&read("cases.json")).unwrap();
    let mut files: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let (mut faults, mut worst) = (Vec::new(), BTreeMap::<&str, f64>::new());
    for entry in &index.cases {
        let bytes = files.entry(&entry.file).or_insert_with(|| read(&entry.file));
        let file = SafeTensors::deserialize(bytes).unwrap();
        match check(&Golden { entry, file }) {
            Ok(error) => {
                let worst = worst.entry(&entry.op).or_default();
                *worst = worst.max(error);
            }
            Err(e) => faults.push(format!("{}: {e}", entry.case)),
        }
    }
    println!("worst relative error of each op: {worst:?}");
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), index.cases.len(), faults.join("\n"));
    assert!(index.cases.len() > 100, "the index lists {} cases", index.cases.len());
}
