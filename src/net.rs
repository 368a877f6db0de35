//! The music performance assessment network (`PCConvNet`): its shape, its parameters, and how a graph records it.
//!
//! It has one head or two. The **path head** is the paper's network: an encoder of convolutions, the mean over time, two linear
//! layers. The **note head** rates features of a take's notes ([`crate::audio::notes::FEATURES`]), standardised over the
//! training takes, in three linear layers. Where there are both they share no parameter, each learns by its own error, and the
//! rating is the mean of the two. Of several criteria a head rates each: its last layer has an output for each, all else is
//! shared.

use crate::device::{Device, block_on};
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

/// Most criteria that one network rates.
const MAX_CRITERIA: usize = 1024;

/// The linear layers of the note head.
const NOTE_LAYERS: [&str; 3] = ["notes1", "notes2", "notes3"];

/// The mean of each feature over the training takes.
const NOTE_MEAN: &str = "notes.mean";

/// The deviation of each feature over the training takes.
const NOTE_DEVIATION: &str = "notes.deviation";

/// Standardised features lie within this.
const CLIP: f32 = 2.5;

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

/// The note head: two hidden layers that end in a ReLU, then one to the rating.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoteHeadConfig {
    /// Features of a take, F.
    pub features: usize,
    /// Width of each hidden layer.
    pub hidden: usize,
    /// Dropout of the features, while training.
    pub feature_dropout: f32,
    /// Dropout before each other layer, while training.
    pub dropout: f32,
}

impl NoteHeadConfig {
    /// Two layers of 32; dropout of 0.2 and 0.3.
    pub fn new(features: usize) -> Self {
        Self { features, hidden: 32, feature_dropout: 0.2, dropout: 0.3 }
    }
}

/// What the network is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Input channels, C; 0 without a path head.
    pub channels: usize,
    /// Input frames, T; 0 without a path head.
    pub frames: usize,
    /// The encoder: Conv1d → BatchNorm → ReLU each, then the mean over time. None without a path head.
    pub layers: Vec<LayerConfig>,
    /// Width of the path head's hidden layer.
    pub hidden: usize,
    /// Whether the hidden layer ends in a ReLU.
    pub hidden_relu: bool,
    /// Dropout before each layer of the path head, while training.
    pub dropout: f32,
    /// The note head, if there is one.
    pub notes: Option<NoteHeadConfig>,
    /// Criteria that are rated, K.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub criteria: usize,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

impl NetConfig {
    /// The paper's network: 4, 8, 16 channels, 7 taps, stride 3; Linear 16→8→1.
    pub fn paper(channels: usize, frames: usize) -> Self {
        let layers = [4, 8, 16].map(|channels| LayerConfig { channels, taps: 7, stride: 3 }).to_vec();
        let (hidden, hidden_relu, dropout) = (8, false, 0.0);
        Self { channels, frames, layers, hidden, hidden_relu, dropout, notes: None, criteria: 1 }
    }

    /// The network for alignment paths: 32, 64, 64 channels, 7, 5, 3 taps, stride 2; head 64→32→1 with
    /// ReLU and dropout.
    pub fn alignment(channels: usize, frames: usize) -> Self {
        let layers =
            [(32, 7), (64, 5), (64, 3)].map(|(channels, taps)| LayerConfig { channels, taps, stride: 2 });
        let layers = layers.to_vec();
        let (hidden, hidden_relu, dropout) = (32, true, 0.2);
        Self { channels, frames, layers, hidden, hidden_relu, dropout, notes: None, criteria: 1 }
    }

    /// A note head alone.
    pub fn notes(features: usize) -> Self {
        let notes = Some(NoteHeadConfig::new(features));
        let (channels, frames, hidden, hidden_relu, dropout) = (0, 0, 0, true, 0.0);
        Self { channels, frames, layers: Vec::new(), hidden, hidden_relu, dropout, notes, criteria: 1 }
    }

    /// Whether there is an encoder, and its head.
    pub fn has_path(&self) -> bool {
        !self.layers.is_empty()
    }

    /// Whether values are dropped in training.
    pub fn drops(&self) -> bool {
        let of_notes = self.notes.is_some_and(|notes| notes.feature_dropout.max(notes.dropout) > 0.0);
        self.dropout > 0.0 || of_notes
    }

    /// Width of the embedding: the last layer's of the encoder, or of the note head's hidden layers where there is no other.
    pub fn embedding(&self) -> usize {
        let hidden = self.notes.map_or(self.channels, |notes| notes.hidden);
        self.layers.last().map_or(hidden, |l| l.channels)
    }

    /// Frames that the mean over time sees when `frames` of the input are valid; at least 1.
    pub fn valid_frames(&self, frames: usize) -> usize {
        self.layers.iter().fold(frames, |t, l| frames_after(t, l.taps, l.stride)).max(1)
    }

    /// Name and shape of every tensor of the encoder, of the head, and of the statistics.
    ///
    /// Without a path head the note head's hidden layers are the encoder: what makes the embedding.
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
        let mut head = Vec::new();
        let linear = |name: &str, outputs: usize, inputs: usize| {
            [(format!("{name}.weight"), vec![outputs, inputs]), (format!("{name}.bias"), vec![outputs])]
        };
        if self.has_path() {
            head.extend(linear("hidden", self.hidden, cin));
            head.extend(linear("out", self.criteria, self.hidden));
        }
        if let Some(NoteHeadConfig { features, hidden, .. }) = self.notes {
            let layers = if self.has_path() { &mut head } else { &mut encoder };
            layers.extend(linear(NOTE_LAYERS[0], hidden, features));
            layers.extend(linear(NOTE_LAYERS[1], hidden, hidden));
            head.extend(linear(NOTE_LAYERS[2], self.criteria, hidden));
            running.push((NOTE_MEAN.to_string(), vec![features]));
            running.push((NOTE_DEVIATION.to_string(), vec![features]));
        }
        [encoder, head, running]
    }

    /// Checks that every width is at least 1, the number of frames, that some are left after each layer, and the probability of
    /// dropout.
    ///
    /// # Errors
    /// Naming what does not fit.
    pub fn check(&self) -> Result<()> {
        if self.criteria == 0 || self.criteria > MAX_CRITERIA {
            let message = format!("{} criteria to rate: 1 to {MAX_CRITERIA} are taken", self.criteria);
            return Err(Error::config(message));
        }
        if !self.has_path() && self.notes.is_none() {
            return Err(Error::config("the network needs at least one layer, or a note head"));
        }
        if let Some(notes) = self.notes {
            if notes.features == 0 || notes.hidden == 0 {
                return Err(Error::config("the note head needs features and a hidden width"));
            }
            for dropout in [notes.feature_dropout, notes.dropout] {
                if !(0.0..1.0).contains(&dropout) {
                    return Err(Error::config(format!("dropout must be in [0, 1), is {dropout}")));
                }
            }
        }
        if self.has_path() && (self.channels == 0 || self.hidden == 0) {
            return Err(Error::config("the network needs input channels and a hidden width"));
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
    /// `hidden.weight`, `hidden.bias`, `out.weight`, `out.bias`, and those of the note head.
    pub head: ParamSet,
    /// Statistics: `norm1.running_mean`, `norm1.running_var`, ..., and `notes.mean`, `notes.deviation`.
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
        let (split, all) = (encoder.len(), encoder.len() + head.len());
        let params = set(&[encoder, head].concat())?;
        let (encoder, head) = (params.part(0..split)?, params.part(split..all)?);
        let net = Self { params, encoder, head, running: set(&running)?, config };
        // Drawn in the order of the tensors: a seed stands for one network.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut fan_in = 1; // a bias has that of the weight before it
        for (name, shape) in net.config.tensors().into_iter().flatten() {
            let kind = name.rsplit('.').next().unwrap_or_default();
            if kind == "weight" {
                fan_in = shape[1..].iter().product();
            }
            let bound = 1.0 / (fan_in as f32).sqrt();
            let value = || match kind {
                "gamma" | "running_var" | "deviation" => 1.0,
                "beta" | "running_mean" | "mean" => 0.0,
                _ => bound * (2.0 * rng.random::<f32>() - 1.0),
            };
            let values: Vec<f32> = std::iter::repeat_with(value).take(shape.iter().product()).collect();
            net.set_of(&name).write(device, &name, &values)?;
        }
        Ok(net)
    }

    fn sets(&self) -> [&ParamSet; 2] {
        [&self.params, &self.running]
    }

    fn set_of(&self, name: &str) -> &ParamSet {
        if self.running.names().any(|known| known == name) { &self.running } else { &self.params }
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
        block_on(self.tensors_async(device))
    }

    /// [`PcConvNet::tensors`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    pub async fn tensors_async(&self, device: &dyn Device) -> Result<Vec<Tensor>> {
        let mut all = self.params.read_all_async(device).await?;
        all.extend(self.running.read_all_async(device).await?);
        Ok(all)
    }

    /// Overwrites every tensor with what [`PcConvNet::tensors`] gave.
    ///
    /// # Errors
    /// When one is missing, unknown or of another shape, a variance or deviation is NaN, infinite or negative, or the device
    /// fails.
    pub fn load(&self, device: &dyn Device, tensors: &[Tensor]) -> Result<()> {
        for tensor in tensors {
            let what = match &tensor.name {
                name if name.ends_with(".running_var") => "variance",
                name if name == NOTE_DEVIATION => "deviation",
                _ => continue,
            };
            if let Some(v) = tensor.values.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
                let message = format!("{} holds {v}: a {what} is finite and not negative", tensor.name);
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

    /// Learns how features are standardised, from the rows `[n, F]` of training takes; nothing without a note head.
    ///
    /// # Errors
    /// When there is no row, rows are of another width, a feature is not finite, or the device fails.
    pub fn fit_standardisation(&self, device: &dyn Device, rows: &[&[f32]]) -> Result<()> {
        let Some(NoteHeadConfig { features, .. }) = self.config.notes else { return Ok(()) };
        if rows.is_empty() || rows.iter().any(|row| row.len() != features) {
            return Err(Error::config(format!("the note head takes takes of {features} features")));
        }
        let n = rows.len() as f64;
        let (mut means, mut deviations) = (Vec::with_capacity(features), Vec::with_capacity(features));
        for feature in 0..features {
            let values = || rows.iter().map(|row| f64::from(row[feature]));
            let mean = values().sum::<f64>() / n;
            let deviation = (values().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            if !deviation.is_finite() {
                return Err(Error::config(format!("feature {feature} of a take is not a finite number")));
            }
            means.push(mean as f32);
            deviations.push(deviation as f32);
        }
        self.running.write(device, NOTE_MEAN, &means)?;
        self.running.write(device, NOTE_DEVIATION, &deviations)
    }

    /// Rows of features as the note head takes them: `(x − mean)/(deviation + 1e-6)`, clipped to ±2.5.
    ///
    /// # Errors
    /// When there is no note head, rows are of another width, or the device fails.
    pub fn standardise(&self, device: &dyn Device, rows: &[&[f32]]) -> Result<Vec<f32>> {
        block_on(self.standardise_async(device, rows))
    }

    /// [`PcConvNet::standardise`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    pub async fn standardise_async(&self, device: &dyn Device, rows: &[&[f32]]) -> Result<Vec<f32>> {
        let means = device.download_async(self.running.buf(NOTE_MEAN)?).await?;
        let deviations = device.download_async(self.running.buf(NOTE_DEVIATION)?).await?;
        if let Some(row) = rows.iter().find(|row| row.len() != means.len()) {
            return Err(Error::config(format!(
                "the note head takes {} features, a take has {}",
                means.len(),
                row.len()
            )));
        }
        let standard = |(x, (mean, deviation)): (&f32, (&f32, &f32))| {
            ((x - mean) / (deviation + 1e-6)).clamp(-CLIP, CLIP)
        };
        Ok(rows.iter().flat_map(|row| row.iter().zip(means.iter().zip(&deviations)).map(standard)).collect())
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

    /// Records the path head: ratings between 0 and 1, `[batch, K]`, of an embedding. With `random`, the state that
    /// [`dropout`](crate::ops::dropout::dropout) takes, values are dropped as in training.
    ///
    /// # Errors
    /// When shapes do not fit, or there is no path head.
    pub fn rate(&self, g: &mut Graph, vars: &NetVars, embedding: Var, random: Option<Var>) -> Result<Var> {
        let probability = self.config.dropout;
        let activation = if self.config.hidden_relu { Activation::Relu } else { Activation::None };
        let x = vars.linear(g, "hidden", embedding, dropped(random, probability, 0), activation)?;
        vars.linear(g, "out", x, dropped(random, probability, 1), Activation::Sigmoid)
    }

    /// Records the hidden layers of the note head, `[batch, hidden]`, of standardised features `[batch, F]`; `random` as in
    /// [`PcConvNet::rate`].
    ///
    /// # Errors
    /// When shapes do not fit, or there is no note head.
    pub fn encode_notes(
        &self,
        g: &mut Graph,
        vars: &NetVars,
        features: Var,
        random: Option<Var>,
    ) -> Result<Var> {
        let config = self.note_head()?;
        let x = dropped(random, config.feature_dropout, 2);
        let x = vars.linear(g, NOTE_LAYERS[0], features, x, Activation::Relu)?;
        vars.linear(g, NOTE_LAYERS[1], x, dropped(random, config.dropout, 3), Activation::Relu)
    }

    /// Records the last layer of the note head: ratings between 0 and 1, `[batch, K]`, of its hidden layers.
    ///
    /// # Errors
    /// As [`PcConvNet::encode_notes`].
    pub fn rate_notes(&self, g: &mut Graph, vars: &NetVars, hidden: Var, random: Option<Var>) -> Result<Var> {
        let dropped = dropped(random, self.note_head()?.dropout, 4);
        vars.linear(g, NOTE_LAYERS[2], hidden, dropped, Activation::Sigmoid)
    }

    fn note_head(&self) -> Result<NoteHeadConfig> {
        self.config.notes.ok_or_else(|| Error::config("the network has no note head"))
    }
}

/// How the input of a layer is dropped: each layer has a stream of its own.
fn dropped(random: Option<Var>, probability: f32, stream: u32) -> Option<(Var, DropoutOptions)> {
    random.filter(|_| probability > 0.0).map(|state| (state, DropoutOptions { probability, stream }))
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

impl NetVars {
    /// Records a linear layer, wherever its parameters are.
    fn linear(
        &self,
        g: &mut Graph,
        layer: &str,
        x: Var,
        dropped: Option<(Var, DropoutOptions)>,
        activation: Activation,
    ) -> Result<Var> {
        let get = |part: &str| {
            let name = format!("{layer}.{part}");
            self.head.get(&name).or_else(|_| self.encoder.get(&name))
        };
        let (w, b) = (get("weight")?, get("bias")?);
        dropped_linear(g, x, dropped, w, Some(b), activation)
    }
}
