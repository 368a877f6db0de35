//! The music performance assessment network (`PCConvNet`): its shape, its parameters, and how a graph records it.

use crate::device::Device;
use crate::graph::{Graph, Var};
use crate::ops::conv_block::{ConvBlock, Features, Mode, conv_block, frames_after, mean_over_time};
use crate::ops::dropout::DropoutOptions;
use crate::ops::linear::{Activation, dropped_linear};
use crate::optim::{Leaves, Method, Optimizer, ParamSet, Tensor};
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Most input frames: six minutes at the default hop. What a batch takes grows with them.
const MAX_FRAMES: usize = 1 << 16;

/// One layer of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerConfig {
    /// Output channels.
    pub channels: usize,
    /// Taps of the convolution.
    pub taps: usize,
    /// Stride of the convolution.
    pub stride: usize,
}

/// What the network is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Input channels, C.
    pub channels: usize,
    /// Input frames, T.
    pub frames: usize,
    /// The encoder: Conv1d → BatchNorm → ReLU each, then the mean over time.
    pub layers: Vec<LayerConfig>,
    /// Width of the head's hidden layer.
    pub hidden: usize,
    /// Whether the hidden layer ends in a ReLU.
    pub hidden_relu: bool,
    /// Dropout before each layer of the head, while training.
    pub dropout: f32,
}

impl NetConfig {
    /// The paper's network: 4, 8, 16 channels, 7 taps, stride 3; Linear 16→8→1.
    pub fn paper(channels: usize, frames: usize) -> Self {
        let layers = [4, 8, 16].map(|channels| LayerConfig { channels, taps: 7, stride: 3 }).to_vec();
        Self { channels, frames, layers, hidden: 8, hidden_relu: false, dropout: 0.0 }
    }

    /// The network for alignment paths: 32, 64, 64 channels, 7, 5, 3 taps, stride 2; head 64→32→1 with
    /// ReLU and dropout.
    pub fn alignment(channels: usize, frames: usize) -> Self {
        let layers =
            [(32, 7), (64, 5), (64, 3)].map(|(channels, taps)| LayerConfig { channels, taps, stride: 2 });
        Self { channels, frames, layers: layers.to_vec(), hidden: 32, hidden_relu: true, dropout: 0.2 }
    }

    /// Width of the embedding.
    pub fn embedding(&self) -> usize {
        self.layers.last().map_or(self.channels, |l| l.channels)
    }

    /// Frames that the mean over time sees when `frames` of the input are valid; at least 1.
    pub fn valid_frames(&self, frames: usize) -> usize {
        self.layers.iter().fold(frames, |t, l| frames_after(t, l.taps, l.stride)).max(1)
    }

    /// Name and shape of every tensor of the encoder, of the head, and of the running statistics.
    pub fn tensors(&self) -> [Vec<(String, Vec<usize>)>; 3] {
        let (mut encoder, mut running) = (Vec::new(), Vec::new());
        let mut cin = self.channels;
        for (i, l) in self.layers.iter().enumerate() {
            let i = i + 1;
            encoder.push((format!("conv{i}.weight"), vec![l.channels, cin, l.taps]));
            encoder.push((format!("norm{i}.gamma"), vec![l.channels]));
            encoder.push((format!("norm{i}.beta"), vec![l.channels]));
            running.push((format!("norm{i}.running_mean"), vec![l.channels]));
            running.push((format!("norm{i}.running_var"), vec![l.channels]));
            cin = l.channels;
        }
        let head = vec![
            ("hidden.weight".to_string(), vec![self.hidden, cin]),
            ("hidden.bias".to_string(), vec![self.hidden]),
            ("out.weight".to_string(), vec![1, self.hidden]),
            ("out.bias".to_string(), vec![1]),
        ];
        [encoder, head, running]
    }

    /// Checks that every width is at least 1, the number of frames, that some are left after each layer, and the probability of
    /// dropout.
    ///
    /// # Errors
    /// Naming what does not fit.
    pub fn check(&self) -> Result<()> {
        if self.layers.is_empty() || self.channels == 0 || self.hidden == 0 {
            return Err(Error::config(
                "the network needs input channels, at least one layer and a hidden width",
            ));
        }
        if self.frames > MAX_FRAMES {
            return Err(Error::config(format!(
                "{} input frames: at most {MAX_FRAMES} are taken",
                self.frames
            )));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::config(format!("dropout must be in [0, 1), is {}", self.dropout)));
        }
        let mut t = self.frames;
        for (i, l) in self.layers.iter().enumerate() {
            if l.channels == 0 || l.taps == 0 || l.stride == 0 {
                return Err(Error::config(format!(
                    "layer {}: channels, taps and stride must be at least 1",
                    i + 1
                )));
            }
            if l.stride > self.frames {
                return Err(Error::config(format!(
                    "layer {}: stride {} is longer than all {} frames",
                    i + 1,
                    l.stride,
                    self.frames
                )));
            }
            if frames_after(t, l.taps, l.stride) == 0 {
                return Err(Error::config(format!(
                    "layer {}: {t} frames are fewer than its {} taps: use longer chunks (now {} frames)",
                    i + 1,
                    l.taps,
                    self.frames
                )));
            }
            t = frames_after(t, l.taps, l.stride);
        }
        Ok(())
    }
}

/// Added to the variance in batch normalisation: PyTorch's default.
const EPS: f32 = 1e-5;

/// The batch's share in the running statistics: PyTorch's default.
const MOMENTUM: f32 = 0.1;

/// The network's parameters on a device.
pub struct PcConvNet {
    /// What it is made of.
    pub config: NetConfig,
    /// All that is learned, in one buffer: the encoder, then the head.
    pub params: ParamSet,
    /// Convolutions and normalisations: `conv1.weight`, `norm1.gamma`, `norm1.beta`, ...
    pub encoder: ParamSet,
    /// `hidden.weight`, `hidden.bias`, `out.weight`, `out.bias`.
    pub head: ParamSet,
    /// Running statistics: `norm1.running_mean`, `norm1.running_var`, ...
    pub running: ParamSet,
}

/// Whether a part of the network learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learn {
    /// Gradients flow to its parameters.
    Yes,
    /// Its parameters are constants; normalisation uses the running statistics.
    No,
}

impl PcConvNet {
    /// A network with PyTorch's default initialisation: weights and biases uniform in ±1/√fan_in,
    /// scales and running variances 1, shifts and running means 0.
    ///
    /// # Errors
    /// When the configuration does not fit, or the device refuses.
    pub fn new(device: &dyn Device, config: NetConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let [encoder, head, running] = config.tensors();
        let set = |tensors: &[(String, Vec<usize>)]| {
            ParamSet::new(device, &tensors.iter().map(|(n, s)| (n, s.as_slice())).collect::<Vec<_>>())
        };
        let split = encoder.len();
        let params = set(&[encoder, head].concat())?;
        let (encoder, head) = (params.part(0..split)?, params.part(split..split + 4)?);
        let net = Self { params, encoder, head, running: set(&running)?, config };
        // Drawn in the order of the tensors: a seed stands for one network.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for mut tensor in net.tensors(device)? {
            let fan_in = match tensor.name.as_str() {
                "hidden.bias" => net.config.embedding(),
                "out.bias" => net.config.hidden,
                _ => tensor.shape[1..].iter().product(),
            };
            let bound = 1.0 / (fan_in as f32).sqrt();
            let kind = tensor.name.rsplit('.').next().unwrap_or_default();
            for v in &mut tensor.values {
                *v = match kind {
                    "gamma" | "running_var" => 1.0,
                    "beta" | "running_mean" => 0.0,
                    _ => bound * (2.0 * rng.random::<f32>() - 1.0),
                };
            }
            net.set_of(&tensor.name).write(device, &tensor.name, &tensor.values)?;
        }
        Ok(net)
    }

    fn sets(&self) -> [&ParamSet; 2] {
        [&self.params, &self.running]
    }

    fn set_of(&self, name: &str) -> &ParamSet {
        if name.contains("running") { &self.running } else { &self.params }
    }

    /// How many numbers are learned.
    pub fn parameters(&self) -> usize {
        self.params.count()
    }

    /// Every tensor, statistics included.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tensors(&self, device: &dyn Device) -> Result<Vec<Tensor>> {
        Ok(self.sets().map(|s| s.read_all(device)).into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// Overwrites every tensor with what [`PcConvNet::tensors`] gave.
    ///
    /// # Errors
    /// When one is missing, unknown or of another shape, a running variance is NaN, infinite or negative, or the device fails.
    pub fn load(&self, device: &dyn Device, tensors: &[Tensor]) -> Result<()> {
        for tensor in tensors.iter().filter(|t| t.name.ends_with(".running_var")) {
            if let Some(v) = tensor.values.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
                let message = format!("{} holds {v}: a variance is finite and not negative", tensor.name);
                return Err(Error::config(message));
            }
        }
        for set in self.sets() {
            let own: Vec<Tensor> =
                tensors.iter().filter(|t| std::ptr::eq(self.set_of(&t.name), set)).cloned().collect();
            set.write_all(device, &own)?;
        }
        Ok(())
    }

    /// Binds the parameters in a graph; what does not learn is constant, and its normalisation uses
    /// the running statistics.
    ///
    /// # Errors
    /// None at present; see [`Graph::leaf`].
    pub fn bind(&self, g: &mut Graph, encoder: Learn, head: Learn) -> Result<NetVars> {
        let vars = |g: &mut Graph, set: &ParamSet, learn| match learn {
            Learn::Yes => set.leaves(g),
            Learn::No => set.constants(g),
        };
        Ok(NetVars {
            encoder: vars(g, &self.encoder, encoder)?,
            head: vars(g, &self.head, head)?,
            running: self.running.constants(g)?,
            learn: [encoder, head],
        })
    }

    /// What learns, and as what the graph knows it.
    fn learning(&self, vars: &NetVars) -> Result<(&ParamSet, Leaves)> {
        match vars.learn {
            [Learn::Yes, Learn::Yes] => Ok((&self.params, vars.encoder.join(&vars.head))),
            [Learn::Yes, Learn::No] => Ok((&self.encoder, vars.encoder.clone())),
            [Learn::No, Learn::Yes] => Ok((&self.head, vars.head.clone())),
            [Learn::No, Learn::No] => Err(Error::config("no part of the network learns")),
        }
    }

    /// An optimizer of everything that learns.
    ///
    /// # Errors
    /// When nothing learns, an option is out of range, or the device has no memory.
    pub fn optimizer(&self, device: &dyn Device, vars: &NetVars, method: Method) -> Result<Optimizer> {
        Optimizer::new(device, self.learning(vars)?.0, method)
    }

    /// Appends the one launch that updates everything that learns, after [`Graph::backward`].
    ///
    /// # Errors
    /// When nothing learns, the optimizer is of another part, or a parameter received no gradient.
    pub fn update(&self, g: &mut Graph, vars: &NetVars, optimizer: &Optimizer) -> Result<()> {
        let (set, leaves) = self.learning(vars)?;
        optimizer.record(g, set, &leaves)
    }

    /// [`PcConvNet::optimizer`] and [`PcConvNet::update`] in one.
    ///
    /// # Errors
    /// As those.
    pub fn optimize(
        &self,
        device: &dyn Device,
        g: &mut Graph,
        vars: &NetVars,
        method: Method,
    ) -> Result<Optimizer> {
        let optimizer = self.optimizer(device, vars, method)?;
        self.update(g, vars, &optimizer)?;
        Ok(optimizer)
    }

    /// Records the encoder: the embedding `[batch, embedding]` of `x`, which lies in Nct16n.
    ///
    /// `lengths`, `[batch]`, counts the frames that the mean over time includes; see
    /// [`NetConfig::valid_frames`].
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn encode(
        &self,
        g: &mut Graph,
        vars: &NetVars,
        x: Var,
        batch: usize,
        lengths: Option<Var>,
    ) -> Result<Var> {
        let mode = if vars.learn[0] == Learn::Yes { Mode::Train } else { Mode::Eval };
        let mut features = Features::input(g, x, batch)?;
        for (i, l) in self.config.layers.iter().enumerate() {
            let i = i + 1;
            let layer = ConvBlock {
                weight: vars.encoder.get(&format!("conv{i}.weight"))?,
                gamma: vars.encoder.get(&format!("norm{i}.gamma"))?,
                beta: vars.encoder.get(&format!("norm{i}.beta"))?,
                running_mean: vars.running.get(&format!("norm{i}.running_mean"))?,
                running_var: vars.running.get(&format!("norm{i}.running_var"))?,
                stride: l.stride,
                eps: EPS,
                momentum: MOMENTUM,
            };
            features = conv_block(g, features, &layer, mode)?;
        }
        mean_over_time(g, features, lengths)
    }

    /// Records the head: ratings between 0 and 1, `[batch, 1]`, of an embedding. With `random`, the state that
    /// [`dropout`](crate::ops::dropout::dropout) takes, values are dropped as in training.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn rate(&self, g: &mut Graph, vars: &NetVars, embedding: Var, random: Option<Var>) -> Result<Var> {
        let probability = self.config.dropout;
        let dropped = |stream| {
            random.filter(|_| probability > 0.0).map(|state| (state, DropoutOptions { probability, stream }))
        };
        let of = |layer: &str| -> Result<(Var, Option<Var>)> {
            let (w, b) = (format!("{layer}.weight"), format!("{layer}.bias"));
            Ok((vars.head.get(&w)?, Some(vars.head.get(&b)?)))
        };
        let activation = if self.config.hidden_relu { Activation::Relu } else { Activation::None };
        let (w, b) = of("hidden")?;
        let x = dropped_linear(g, embedding, dropped(0), w, b, activation)?;
        let (w, b) = of("out")?;
        dropped_linear(g, x, dropped(1), w, b, Activation::Sigmoid)
    }
}

/// The network's parameters in one graph.
#[derive(Debug, Clone)]
pub struct NetVars {
    /// Of [`PcConvNet::encoder`].
    pub encoder: Leaves,
    /// Of [`PcConvNet::head`].
    pub head: Leaves,
    running: Leaves,
    /// Encoder and head.
    learn: [Learn; 2],
}
