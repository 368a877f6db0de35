//! Etude's side.

use crate::{CONV, FRAMES, LEARNING_RATE, MARGIN, MOMENTUM, Result, Side, WEIGHT_DECAY, embeddings};
use etude::cases::{normal, uniform};
use etude::device::Device;
use etude::device::wgpu::{Select, Wgpu};
use etude::graph::{Graph, Step, Var};
use etude::net::{Learn, NetConfig, PcConvNet};
use etude::ops::contrastive::{ContrastiveOptions, contrastive};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::loss::{LossOptions, mse};
use etude::ops::optim::Sgd;
use etude::optim::{Method, Tensor};

/// Hardware, else a software adapter; `ETUDE_ADAPTER` chooses.
pub fn device() -> Result<Wgpu> {
    Ok(Wgpu::new(&Select::Auto).or_else(|_| Wgpu::new(&Select::Software))?)
}

/// A side that replays `step` and reads `value`, one element, which ends the wait; `grads` are its gradients.
fn side(device: &Wgpu, mut step: Step, value: Var, grads: &[Var]) -> Result<Side> {
    let value = step.buf(value)?.window(0, 1)?;
    let grads = grads.iter().map(|&v| Ok(step.buf(v)?.clone())).collect::<Result<Vec<_>>>()?;
    let (own, other) = (device.clone(), device.clone());
    Ok(Side {
        run: Box::new(move || {
            step.run()?;
            Ok((&own as &dyn Device).download_f64(&value)?[0])
        }),
        gradient: Box::new(move || {
            let mut sum = 0.0;
            for grad in &grads {
                sum += (&other as &dyn Device).download_f64(grad)?.iter().map(|v| v * v).sum::<f64>();
            }
            Ok(sum.sqrt())
        }),
    })
}

/// What the network starts from, on both sides.
pub fn weights() -> Result<Vec<Tensor>> {
    let cpu = etude::device::Cpu::<f32>::new(1)?;
    Ok(PcConvNet::new(&cpu, NetConfig::paper(1, FRAMES), 0)?.tensors(&cpu)?)
}

pub fn step(wgpu: &Wgpu, batch: usize) -> Result<Side> {
    let device: &dyn Device = wgpu;
    let net = PcConvNet::new(device, NetConfig::paper(1, FRAMES), 0)?;
    net.load(device, &weights()?)?;
    let blocks = batch.div_ceil(16);
    // Both sides take the batch from resident memory, each in the layout that suits it.
    let samples = normal(1, batch * FRAMES);
    let mut x = vec![0.0; blocks * FRAMES * 16];
    for (at, v) in samples.iter().enumerate() {
        let (b, t) = (at / FRAMES, at % FRAMES);
        x[(b / 16 * FRAMES + t) * 16 + b % 16] = *v;
    }
    let (x, y) = (device.upload(&x)?, device.upload(&uniform(2, batch))?);
    let mut g = Graph::new();
    let vars = net.bind(&mut g, Learn::Yes, Learn::Yes)?;
    let (x, y) = (g.bind(&x, &[blocks, 1, FRAMES, 16])?, g.bind(&y, &[batch])?);
    let embedding = net.encode(&mut g, &vars, x, batch, None)?;
    let rating = net.rate(&mut g, &vars, embedding, None)?;
    let loss = mse(&mut g, rating, y, LossOptions::default())?;
    g.backward(loss)?;
    let method = Method::Sgd(Sgd { momentum: MOMENTUM, weight_decay: WEIGHT_DECAY });
    let mut optimizer = net.optimize(device, &mut g, &vars, method)?;
    optimizer.before_step(device, LEARNING_RATE)?;
    let step = g.compile(device, &[loss])?;
    let own = wgpu.clone();
    let mut side = side(wgpu, step, loss, &[])?;
    // All parameters stand for the gradients that moved them.
    side.gradient = Box::new(move || {
        let tensors = net.tensors(&own)?;
        let learned = tensors.iter().filter(|t| !t.name.contains("running"));
        let squares = learned.flat_map(|t| &t.values).map(|v| f64::from(v * v));
        Ok(squares.sum::<f64>().sqrt())
    });
    Ok(side)
}

pub fn conv(wgpu: &Wgpu) -> Result<Side> {
    let device: &dyn Device = wgpu;
    let (shape, weight) = ([CONV.batch, CONV.cin, CONV.frames], [CONV.cout, CONV.cin, CONV.taps]);
    let x = device.upload(&normal(1, shape.iter().product()))?;
    let w = device.upload(&normal(2, weight.iter().product()))?;
    let mut g = Graph::new();
    let (x, w) = (g.leaf(&x, None, &shape)?, g.leaf(&w, None, &weight)?);
    let options = ConvOptions1d { padding: CONV.padding, ..Default::default() };
    let y = conv1d(&mut g, x, w, None, options)?;
    let ones = device.upload(&vec![1f32; g.shape(y).iter().product()])?;
    let out = g.shape(y).to_vec();
    let up = g.bind(&ones, &out)?;
    g.backward_from(y, up)?;
    let grads = [x, w].map(|v| g.grad(v)).into_iter().collect::<Option<Vec<_>>>().ok_or("no gradient")?;
    let keep = [vec![y], grads.clone()].concat();
    let step = g.compile(device, &keep)?;
    side(wgpu, step, y, &grads)
}

pub fn loss(wgpu: &Wgpu, d: usize) -> Result<Side> {
    let device: &dyn Device = wgpu;
    let n = 1024;
    let (z, labels) = embeddings(n, d);
    let (z, labels) = (device.upload(&z)?, device.upload(&labels)?);
    let mut g = Graph::new();
    let (z, labels) = (g.leaf(&z, None, &[n, d])?, g.bind(&labels, &[n])?);
    let loss = contrastive(&mut g, z, labels, ContrastiveOptions { margin: MARGIN, ..Default::default() })?;
    g.backward(loss)?;
    let grad = g.grad(z).ok_or("no gradient")?;
    let step = g.compile(device, &[loss, grad])?;
    side(wgpu, step, loss, &[grad])
}
