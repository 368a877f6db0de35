//! Fitting one network to one split.

use super::batch::{Resident, View};
use super::checkpoint::{Position, Snapshot, State};
use super::feed::{self, Feed};
use super::predict::{Prediction, Predictor, batch_input};
use super::{Contrast, Pairs, Protocol, TrainOptions};
use crate::data::inputs::Inputs;
use crate::data::random::Random;
use crate::data::split::SplitIndices;
use crate::device::{Device, Traffic};
use crate::graph::{Graph, Step, Var};
use crate::kernel::{Cost, Kernel};
use crate::nn::{Learn, PcConvNet};
use crate::ops::contrastive::{ContrastiveOptions, contrastive, contrastive_halves};
use crate::ops::gather::gather_rows;
use crate::ops::loss::{LossOptions, mse};
use crate::optim::{Optimizer, Schedule};
use crate::report::metrics;
use crate::{Error, Result, ops};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// What one epoch gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Epoch from 1, counted through all phases.
    pub epoch: usize,
    /// `mse`, `joint`, `encoder` or `head`.
    pub phase: String,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean loss over the epoch's steps.
    pub train_loss: f64,
    /// Validation loss; `None` without validation data.
    pub val_loss: Option<f64>,
    /// Validation R², where ratings are trained and it is defined.
    pub val_r2: Option<f64>,
    /// Most epochs that all phases together may take.
    pub of: usize,
}

/// Told of each epoch as it ends, and of the run's state if it wants to keep it.
///
/// [`ControlFlow::Break`] ends the run there, see [`Fit::stopped`]; an error ends it with that error.
pub type Progress<'a> = &'a mut dyn FnMut(&Epoch, &Snapshot<'_>) -> Result<ControlFlow<()>>;

/// Where [`fit()`] begins and who watches it; by default anew, and nobody.
#[derive(Default)]
pub struct Hooks<'a> {
    /// Go on from here, with the same inputs, split and options: the result has the same bits as that
    /// of a run that was never interrupted.
    pub resume: Option<State>,
    /// Called after each epoch.
    pub progress: Option<Progress<'a>>,
}

/// How often [`Fit::profile`] runs a step after the first.
const PROFILE_RUNS: usize = 30;

/// A fitted network.
pub struct Fit {
    /// The network, with the weights of its best epoch.
    pub net: PcConvNet,
    /// Every epoch.
    pub history: Vec<Epoch>,
    /// Launches of one step of the last phase.
    pub launches_per_step: usize,
    /// What the steps of the last epoch asked the device for, and how many steps those were; nothing where the device does not
    /// count, or no epoch was run.
    pub traffic: Option<(Traffic, usize)>,
    /// Whether [`Progress`] ended it before its time; the phases that were to follow are missing.
    pub stopped: bool,
    data: Resident,
    predictor: Predictor,
    /// The last phase's.
    step: Option<Step>,
}

impl Fit {
    /// Predictions for examples of the inputs it was fitted on.
    ///
    /// # Errors
    /// When there is no such example, or the device fails.
    pub fn predict(&mut self, device: &dyn Device, examples: &[usize]) -> Result<Vec<Prediction>> {
        self.predictor.run(device, &self.net, &self.data, examples)
    }

    /// One training step of the last phase launch by launch: kernel, cost and the least seconds of some
    /// runs, in order; nothing for [`Fit::of`]. The network stays as it is.
    ///
    /// # Errors
    /// When the device fails.
    pub fn profile(&mut self, device: &dyn Device) -> Result<Vec<(&'static Kernel, Cost, f64)>> {
        let Some(step) = &mut self.step else { return Ok(Vec::new()) };
        let tensors = self.net.tensors(device)?;
        let mut rows = step.profile()?;
        for _ in 0..PROFILE_RUNS {
            for (row, again) in rows.iter_mut().zip(step.profile()?) {
                row.2 = row.2.min(again.2);
            }
        }
        self.net.load(device, &tensors)?;
        Ok(rows)
    }

    /// A network at hand, to predict on `inputs`.
    ///
    /// # Errors
    /// When the network does not take the inputs, or the device refuses.
    pub fn of(device: &dyn Device, net: PcConvNet, inputs: &Inputs, windows: super::Windows) -> Result<Self> {
        let data = resident(device, inputs, windows, &net, None)?;
        let predictor = Predictor::new(device, &net, &data)?;
        let (history, launches_per_step, traffic, stopped, step) = (Vec::new(), 0, None, false, None);
        Ok(Self { net, history, launches_per_step, traffic, stopped, data, predictor, step })
    }
}

fn resident(
    device: &dyn Device,
    inputs: &Inputs,
    windows: super::Windows,
    net: &PcConvNet,
    bins: Option<usize>,
) -> Result<Resident> {
    if inputs.channels != net.config.channels {
        return Err(Error::config(format!(
            "the network takes {} input channels, the data has {} ({})",
            net.config.channels,
            inputs.channels,
            inputs.kind.name()
        )));
    }
    Resident::new(device, inputs, windows, net.config.frames, bins)
}

/// What a phase minimises and what it changes.
struct Phase {
    name: &'static str,
    mse: bool,
    contrast: Option<Contrast>,
    encoder: Learn,
    head: Learn,
    epochs: usize,
}

fn phases(o: &TrainOptions) -> Vec<Phase> {
    let (yes, no) = (Learn::Yes, Learn::No);
    let one = |name, contrast| Phase { name, mse: true, contrast, encoder: yes, head: yes, epochs: o.epochs };
    match o.protocol {
        Protocol::Mse => vec![one("mse", None)],
        Protocol::Joint => vec![one("joint", Some(o.contrast))],
        Protocol::TwoPhase => {
            let contrast = Some(Contrast { weight: 1.0, ..o.contrast });
            let encoder = if o.freeze_encoder { no } else { yes };
            vec![
                Phase {
                    name: "encoder",
                    mse: false,
                    contrast,
                    encoder: yes,
                    head: no,
                    epochs: o.encoder_epochs,
                },
                Phase { name: "head", mse: true, contrast: None, encoder, head: yes, epochs: o.epochs },
            ]
        }
    }
}

/// A recorded training step and what it is fed from.
struct Training {
    step: Step,
    feed: Feed,
    optimizer: Optimizer,
}

fn contrast_op(g: &mut Graph, c: Contrast, z: Var, labels: Var, pairing: Option<Var>) -> Result<Var> {
    let (metric, margin, tau, weight) = (c.metric, c.margin, c.tau, c.weight);
    let opts = ContrastiveOptions { metric, margin, tau, weight, ..Default::default() };
    match pairing {
        Some(pairing) => contrastive_halves(g, z, labels, pairing, opts),
        None => contrastive(g, z, labels, opts),
    }
}

fn record(
    device: &dyn Device,
    net: &PcConvNet,
    data: &Resident,
    phase: &Phase,
    options: &TrainOptions,
    [steps, batch]: [usize; 2],
) -> Result<Training> {
    let mut g = Graph::new();
    let dropout = phase.mse && net.config.dropout > 0.0;
    let halves = phase.contrast.is_some_and(|c| c.pairs == Pairs::Halves);
    let feed = Feed::new(device, [steps, batch], data.padded(), dropout, halves)?;
    let vars = net.bind(&mut g, phase.encoder, phase.head)?;
    let (x, lengths) = batch_input(&mut g, data, &feed.batch, net, batch)?;
    let embedding = net.encode(&mut g, &vars, x, batch, lengths)?;
    let examples = g.bind(&feed.batch.examples, &[batch])?;
    let mut losses = Vec::new();
    if phase.mse {
        let state = feed.dropout.as_ref().map(|buf| g.bind(buf, &[3])).transpose()?;
        let rating = net.rate(&mut g, &vars, embedding, state)?;
        let table = g.bind(&data.ratings, &[data.ratings.len()])?;
        let target = gather_rows(&mut g, table, examples)?;
        losses.push(mse(&mut g, rating, target, LossOptions::default())?);
    }
    if let Some(c) = phase.contrast {
        let table = g.bind(&data.labels, &[data.labels.len()])?;
        let labels = gather_rows(&mut g, table, examples)?;
        let pairs = feed.pairing.as_ref().map(|buf| g.bind(buf, &[batch])).transpose()?;
        losses.push(contrast_op(&mut g, c, embedding, labels, pairs)?);
    }
    let loss = match losses[..] {
        [a, b] => ops::add(&mut g, a, b)?,
        [a] => a,
        _ => return Err(Error::config("a phase without a loss")),
    };
    g.backward(loss)?;
    let optimizer = net.optimizer(device, &vars, options.method)?.with_hyper(&feed.hyper)?;
    net.update(&mut g, &vars, &optimizer)?;
    feed.record(&mut g, loss)?;
    let step = g.compile(device, &[])?;
    Ok(Training { step, feed, optimizer })
}

/// The contrastive loss over all pairs of a validation set.
fn validation_contrast(
    device: &dyn Device,
    c: Contrast,
    predictions: &[Prediction],
    labels: &[f32],
) -> Result<f64> {
    let mut g = Graph::new();
    let flat: Vec<f32> = predictions.iter().flat_map(|p| p.embedding.iter().copied()).collect();
    let (z, l) = (device.upload(&flat)?, device.upload(labels)?);
    let z = g.bind(&z, &[predictions.len(), flat.len() / predictions.len().max(1)])?;
    let l = g.bind(&l, &[labels.len()])?;
    let loss = contrast_op(&mut g, c, z, l, None)?;
    let mut step = g.compile(device, &[loss])?;
    step.run()?;
    Ok(device.download_f64(step.buf(loss)?)?[0])
}

/// Fits a new network to the training part of `split`, keeping the weights of the epoch with the
/// lowest validation loss of each phase (the last epoch's, without validation data).
///
/// The result depends on `options.seed` and the device, neither on the number of threads nor on whether
/// the run was interrupted and taken up again.
///
/// # Errors
/// When options contradict each other, the data or the state to go on from, a loss is not finite, the
/// device fails, or `hooks.progress` says so.
pub fn fit(
    device: &dyn Device,
    inputs: &Inputs,
    split: &SplitIndices,
    options: &TrainOptions,
    hooks: Hooks<'_>,
) -> Result<Fit> {
    let Hooks { mut resume, mut progress } = hooks;
    if options.batch == 0 || options.epochs == 0 {
        return Err(Error::config("batch and epochs must be at least 1"));
    }
    if split.train.len() < 2 {
        return Err(Error::config(format!("{} training takes: at least 2 are needed", split.train.len())));
    }
    let phases = phases(options);
    let of = phases.iter().map(|p| p.epochs).sum();
    let mut at = match &resume {
        Some(state) => {
            state.check(inputs)?;
            state.position(phases.len())?.clone()
        }
        None => Position::default(),
    };
    let net = PcConvNet::new(device, options.net.clone(), options.seed)?;
    let data = resident(device, inputs, options.windows, &net, options.contrast.bins)?;
    data.check(&split.train)?;
    data.check(&split.val)?;
    let mut predictor = Predictor::new(device, &net, &data)?;
    let (mut last, mut stopped, mut traffic) = (None, false, None::<Traffic>);
    let batch = options.batch.min(split.train.len());
    let steps = split.train.len() / batch;
    for (number, phase) in phases.iter().enumerate().skip(at.phase) {
        let mut training = record(device, &net, &data, phase, options, [steps, batch])?;
        let mut best = match resume.take() {
            Some(state) => state.restore(device, &net, &mut training.optimizer)?,
            None => {
                at = Position { phase: number, history: at.history, ..Position::default() };
                Vec::new()
            }
        };
        let total = (phase.epochs * steps) as u64;
        let schedule = match options.schedule {
            Schedule::Constant { lr, warm_up } => Schedule::Constant { lr, warm_up: warm_up * steps as u64 },
            Schedule::Cosine { lr, warm_up } => Schedule::Cosine { lr, warm_up: warm_up * steps as u64 },
        };
        while !stopped && at.epoch < phase.epochs && (at.since == 0 || at.since < options.patience) {
            let epoch = at.epoch;
            // A stream of its own for each epoch, so that the order depends on nothing before it.
            let mut rng = Random::new(options.seed, 1 + ((number as u64) << 32) + epoch as u64);
            let mut order = split.train.clone();
            rng.shuffle(&mut order);
            let (mut inputs_of, mut lr) = (feed::Epoch::default(), 0.0);
            for (i, examples) in order.chunks_exact(batch).enumerate() {
                let at = (epoch * steps + i) as u64;
                let views: Vec<View> = examples.iter().map(|&e| data.random_view(e, &mut rng)).collect();
                let valid = |v: &View| net.config.valid_frames(data.valid_frames(v));
                let values = training.feed.batch.values(&views, valid)?;
                let seed = options.seed;
                let state = training.feed.dropout.is_some();
                let state = state.then_some([seed as u32, (seed >> 32) as u32, at as u32]);
                let pairs = training.feed.pairing.is_some().then(|| {
                    let mut pairs: Vec<u32> = (0..batch as u32).collect();
                    rng.shuffle(&mut pairs);
                    pairs
                });
                lr = schedule.lr_at(at, total);
                inputs_of.push(&values, state, pairs.as_deref(), training.optimizer.next_hyper(lr)?);
            }
            training.feed.upload(device, &inputs_of)?;
            let before = device.traffic();
            for _ in 0..steps {
                if options.checked {
                    training.step.run_checked(device)?;
                } else {
                    training.step.run()?;
                }
            }
            traffic = device.traffic().zip(before).map(|(after, before)| after.since(before));
            let train_loss = training.feed.losses(device)?.iter().sum::<f64>() / steps as f64;
            finite("training", train_loss, epoch)?;
            let (mut val_loss, mut val_r2) = (None, None);
            if !split.val.is_empty() {
                let predictions = predictor.run(device, &net, &data, &split.val)?;
                let ratings: Vec<f32> = split.val.iter().map(|&e| inputs.examples[e].rating).collect();
                if phase.mse {
                    let made: Vec<f32> = predictions.iter().map(|p| p.rating).collect();
                    let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
                    val_loss = Some(made.iter().zip(&ratings).map(square).sum::<f64>() / made.len() as f64);
                    val_r2 = metrics::r2(&made, &ratings);
                } else if let (Some(c), 2..) = (phase.contrast, predictions.len()) {
                    let labels: Vec<f32> = split.val.iter().map(|&e| data.label_values[e]).collect();
                    val_loss = Some(validation_contrast(device, c, &predictions, &labels)?);
                }
            }
            if let Some(loss) = val_loss {
                finite("validation", loss, epoch)?;
                if at.best.is_none_or(|best| loss < best) {
                    best = net.tensors(device)?;
                    (at.best, at.since) = (Some(loss), 0);
                } else {
                    at.since += 1;
                }
            }
            let (phase, number) = (phase.name.to_string(), at.history.len() + 1);
            let now = Epoch { epoch: number, phase, lr, train_loss, val_loss, val_r2, of };
            at.epoch += 1;
            at.history.push(now.clone());
            if let Some(progress) = &mut progress {
                let optimizer = &training.optimizer;
                let snapshot = Snapshot { device, inputs, net: &net, optimizer, best: &best, at: &at };
                stopped = progress(&now, &snapshot)?.is_break();
            }
        }
        if at.best.is_some() {
            net.load(device, &best)?;
        }
        last = Some(training.step);
        if stopped {
            break;
        }
    }
    let launches_per_step = last.as_ref().map_or(0, Step::launches);
    let traffic = traffic.map(|t| (t, steps));
    Ok(Fit { net, history: at.history, launches_per_step, traffic, stopped, data, predictor, step: last })
}

fn finite(what: &str, loss: f64, epoch: usize) -> Result<()> {
    if loss.is_finite() {
        return Ok(());
    }
    Err(Error::config(format!(
        "the {what} loss became {loss} in epoch {}: lower the learning rate, or set ETUDE_DEBUG=1 to find the \
         kernel that made it",
        epoch + 1
    )))
}
