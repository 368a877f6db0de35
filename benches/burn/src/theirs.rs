//! burn's side, written as burn's users write it: modules, autodiff, its SGD.

use crate::{CONV, FRAMES, LEARNING_RATE, MARGIN, MOMENTUM, Result, Side, WEIGHT_DECAY, embeddings, ours};
use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, DeviceKind, Gradients, Tensor, TensorData, activation, module};
use etude::cases::{normal, uniform};
use std::cell::RefCell;
use std::rc::Rc;

/// The best hardware, or the processor.
pub fn device(software: bool) -> Result<Device> {
    let kind = if software { DeviceKind::Cpu } else { DeviceKind::DefaultDevice };
    Ok(Device::wgpu_options().device_kind(kind).init()?.autodiff())
}

/// The adapter's name.
pub fn name(device: &Device) -> String {
    device.identity().map(|i| i.name).unwrap_or_default()
}

fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn norm(squares: impl IntoIterator<Item = Tensor<1>>) -> f64 {
    squares.into_iter().map(|s| f64::from(s.into_scalar::<f32>())).sum::<f64>().sqrt()
}

fn squares<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.powi_scalar(2).sum()
}

#[derive(Module, Debug)]
struct Net {
    convs: Vec<Conv1d>,
    norms: Vec<BatchNorm>,
    hidden: Linear,
    out: Linear,
}

impl Net {
    fn new(device: &Device) -> Result<Self> {
        let weights = ours::weights()?;
        let find = |name: &str| {
            let found = weights.iter().find(|t| t.name == name);
            found.map(|t| t.values.clone()).ok_or_else(|| format!("no {name}"))
        };
        let (mut convs, mut norms) = (Vec::new(), Vec::new());
        for (i, [cin, cout]) in [[1, 4], [4, 8], [8, 16]].into_iter().enumerate() {
            let mut conv = Conv1dConfig::new(cin, cout, 7).with_stride(3).with_bias(false).init(device);
            let weight = find(&format!("conv{}.weight", i + 1))?;
            conv.weight = Param::from_tensor(upload(weight, [cout, cin, 7], device));
            convs.push(conv);
            norms.push(BatchNormConfig::new(cout).init(device));
        }
        let linear = |name: &str, inputs: usize, outputs: usize| -> Result<Linear> {
            let mut linear = LinearConfig::new(inputs, outputs).init(device);
            let weight = upload(find(&format!("{name}.weight"))?, [outputs, inputs], device);
            linear.weight = Param::from_tensor(weight.transpose());
            linear.bias = Some(Param::from_tensor(upload(find(&format!("{name}.bias"))?, [outputs], device)));
            Ok(linear)
        };
        Ok(Self { convs, norms, hidden: linear("hidden", 16, 8)?, out: linear("out", 8, 1)? })
    }

    fn forward(&self, mut x: Tensor<3>) -> Tensor<1> {
        for (conv, norm) in self.convs.iter().zip(&self.norms) {
            x = activation::relu(norm.forward(conv.forward(x)));
        }
        let embedding = x.mean_dim(2).squeeze_dim::<2>(2);
        activation::sigmoid(self.out.forward(self.hidden.forward(embedding))).squeeze_dim(1)
    }

    /// The sums of squares of everything that is learned.
    fn squares(&self) -> Vec<Tensor<1>> {
        let convs = self.convs.iter().map(|c| squares(c.weight.val()));
        let norms = self.norms.iter().flat_map(|n| [squares(n.gamma.val()), squares(n.beta.val())]);
        let linears = [&self.hidden, &self.out].into_iter().flat_map(|l| {
            let bias = l.bias.as_ref().map(|b| squares(b.val()));
            [Some(squares(l.weight.val())), bias].into_iter().flatten()
        });
        convs.chain(norms).chain(linears).collect()
    }
}

pub fn step(device: &Device, batch: usize) -> Result<Side> {
    let as_f32 = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect::<Vec<_>>();
    let x: Tensor<3> = upload(as_f32(normal(1, batch * FRAMES)), [batch, 1, FRAMES], device);
    let y: Tensor<1> = upload(as_f32(uniform(2, batch)), [batch], device);
    let mut optimizer: ModuleOptimizer = SgdConfig::new()
        .with_momentum(Some(MomentumConfig::new().with_momentum(MOMENTUM.into()).with_dampening(0.0)))
        .with_weight_decay(Some(WeightDecayConfig::new(WEIGHT_DECAY)))
        .init();
    let net = Rc::new(RefCell::new(Some(Net::new(device)?)));
    let (own, device) = (net.clone(), device.clone());
    Ok(Side {
        run: Box::new(move || {
            let current = net.borrow_mut().take().ok_or("a run failed before")?;
            let loss = (current.forward(x.clone()) - y.clone()).powi_scalar(2).mean();
            let grads = GradientsParams::from_grads(loss.backward(), &current);
            *net.borrow_mut() = Some(optimizer.step(LEARNING_RATE, current, grads));
            device.sync()?;
            Ok(f64::from(loss.into_scalar::<f32>()))
        }),
        gradient: Box::new(move || Ok(norm(own.borrow().as_ref().ok_or("a run failed before")?.squares()))),
    })
}

type Kept = Rc<RefCell<Option<Gradients>>>;

pub fn conv(device: &Device) -> Result<Side> {
    let as_f32 = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect::<Vec<_>>();
    let (shape, weight) = ([CONV.batch, CONV.cin, CONV.frames], [CONV.cout, CONV.cin, CONV.taps]);
    let x: Tensor<3> = upload(as_f32(normal(1, shape.iter().product())), shape, device).require_grad();
    let w: Tensor<3> = upload(as_f32(normal(2, weight.iter().product())), weight, device).require_grad();
    let kept = Kept::default();
    let (store, device, leaves) = (kept.clone(), device.clone(), (x.clone(), w.clone()));
    Ok(Side {
        run: Box::new(move || {
            let options = ConvOptions::new([1], [CONV.padding], [1], 1);
            let y = module::conv1d(x.clone(), w.clone(), None, options);
            let first = y.clone().slice([0..1, 0..1, 0..1]);
            // Backward starts at a scalar: the sum hands down ones.
            *store.borrow_mut() = Some(y.sum().backward());
            device.sync()?;
            Ok(f64::from(first.into_scalar::<f32>()))
        }),
        gradient: Box::new(move || {
            let kept = kept.borrow();
            let grads = kept.as_ref().ok_or("no run yet")?;
            let of = |t: &Tensor<3>| t.grad(grads).map(squares);
            Ok(norm([of(&leaves.0), of(&leaves.1)].into_iter().flatten()))
        }),
    })
}

/// Distances through a Gram matrix, the fastest form here; the mean over ordered pairs is that over
/// unordered ones, as the diagonal is 0.
pub fn loss(device: &Device, d: usize) -> Result<Side> {
    let n = 1024;
    let (z, labels) = embeddings(n, d);
    let z: Tensor<2> = upload(z, [n, d], device).require_grad();
    let labels: Tensor<2> = upload(labels, [n, 1], device);
    let kept = Kept::default();
    let (store, device, leaf) = (kept.clone(), device.clone(), z.clone());
    Ok(Side {
        run: Box::new(move || {
            let sq = z.clone().powi_scalar(2).sum_dim(1);
            let gram = z.clone().matmul(z.clone().transpose());
            let d2 = (sq.clone() + sq.transpose() - gram * 2.0).clamp_min(1e-12);
            let w = (labels.clone() - labels.clone().transpose()).abs();
            let hinge = (w.clone() * MARGIN - d2.clone().sqrt()).clamp_min(0.0).powi_scalar(2);
            let terms = hinge.mask_where(w.equal_elem(0.0), d2);
            let loss = terms.sum() * (0.5 / (n as f64 * (n as f64 - 1.0)));
            *store.borrow_mut() = Some(loss.backward());
            device.sync()?;
            Ok(f64::from(loss.into_scalar::<f32>()))
        }),
        gradient: Box::new(move || {
            let kept = kept.borrow();
            Ok(norm(leaf.grad(kept.as_ref().ok_or("no run yet")?).map(squares)))
        }),
    })
}
