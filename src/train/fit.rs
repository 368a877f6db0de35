//! Fitting one network to one split.

use super::checkpoint::{Position, Snapshot, State};
use super::data_id::DataId;
use super::feed::EpochInputs;
use super::fitted::{Fit, initial};
use super::history::Epoch;
use super::options::TrainOptions;
use super::phase::{Phase, phases};
use super::predict::Predictor;
use super::record::Training;
use super::resident::{Resident, View, check_examples};
use super::validate::Validation;
use crate::data::inputs::{Example, Inputs};
use crate::data::random::Random;
use crate::data::split::SplitIndices;
use crate::device::{Device, Traffic, block_on};
use crate::graph::Step;
use crate::net::PcConvNet;
use crate::optim::{Schedule, Tensor};
use crate::{Error, Result};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Told of each epoch as it ends; it may ask for the run's state, to keep it, and for predictions.
///
/// [`ControlFlow::Break`] ends the run there, see [`Fit::stopped`]; an error ends it with that error.
pub type Progress<'a> = &'a mut dyn FnMut(&Epoch, &mut Snapshot<'_>) -> Result<ControlFlow<()>>;

/// Where [`fit()`] begins and who watches it; by default anew, and nobody.
#[derive(Default)]
pub struct Hooks<'a> {
    /// Go on from here, with the same inputs, split and options: the result has the same bits as that
    /// of a run that was never interrupted.
    pub resume: Option<State>,
    /// Called after each epoch.
    pub progress: Option<Progress<'a>>,
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
    let Hooks { resume, mut progress } = hooks;
    let progress = async |epoch: &Epoch, snapshot: &mut Snapshot<'_>| match &mut progress {
        Some(progress) => progress(epoch, snapshot),
        None => Ok(ControlFlow::Continue(())),
    };
    block_on(fit_async(device, inputs, split, options, resume, progress))
}

/// [`fit()`] for code that runs in browsers too: there nobody may wait for the GPU, but one may await it.
///
/// `progress` is told of each epoch as [`Progress`] is, and may await what it likes, the run's state for one.
///
/// # Errors
/// As there.
pub async fn fit_async(
    device: &dyn Device,
    inputs: &Inputs,
    split: &SplitIndices,
    options: &TrainOptions,
    mut resume: Option<State>,
    mut progress: impl AsyncFnMut(&Epoch, &mut Snapshot<'_>) -> Result<ControlFlow<()>>,
) -> Result<Fit> {
    options.check()?;
    if split.train.len() < 2 {
        return Err(Error::config(format!("{} training takes: at least 2 are needed", split.train.len())));
    }
    let phases = phases(options);
    let data_id = OnceCell::new();
    let position = match &resume {
        Some(state) => {
            state.check_data(data_id.get_or_init(|| DataId::of(inputs)))?;
            state.position(split, &phases)?.clone()
        }
        None => Position::default(),
    };
    let most_epochs = phases.iter().map(|p| p.epochs).sum();
    let mut run = Run::new(device, (inputs, data_id), split, options, most_epochs, position).await?;
    let (mut last, mut stopped) = (None, false);
    for (number, phase) in phases.iter().enumerate().skip(run.position.phase) {
        let mut training = run.begin(number, phase, resume.take())?;
        stopped = run.phase(phase, &mut training, &mut progress).await?;
        last = Some(training.step);
        if stopped {
            break;
        }
    }
    Ok(run.end(last, stopped))
}

/// A run between two epochs.
struct Run<'a> {
    device: &'a dyn Device,
    inputs: &'a Inputs,
    /// Made when a checkpoint asks for it: it reads every row.
    data_id: OnceCell<DataId>,
    split: &'a SplitIndices,
    options: &'a TrainOptions,
    net: PcConvNet,
    data: Resident,
    predictor: Predictor,
    /// Samples of a step, and steps of an epoch.
    batch: usize,
    steps: usize,
    /// The degraded takes of the melodies that are sung in training: others would tell of the test's.
    degraded: Vec<usize>,
    /// How many of them an epoch has.
    beside: usize,
    /// Most epochs that all phases together may take.
    most_epochs: usize,
    position: Position,
    /// The weights of the phase's best epoch, if there is one.
    best: Vec<Tensor>,
    /// What the last epoch's steps asked the device for.
    traffic: Option<Traffic>,
}

impl<'a> Run<'a> {
    async fn new(
        device: &'a dyn Device,
        (inputs, data_id): (&'a Inputs, OnceCell<DataId>),
        split: &'a SplitIndices,
        options: &'a TrainOptions,
        most_epochs: usize,
        position: Position,
    ) -> Result<Self> {
        let net = initial(device, inputs, split, options)?;
        check_examples(&split.val, inputs.examples.len())?;
        let data = Resident::new(device, inputs, options.windows, &net, options.contrast.bins).await?;
        let predictor = Predictor::new(device, &net, &data)?;
        let batch = options.batch.min(split.train.len());
        let sung: BTreeSet<&str> =
            split.train.iter().filter_map(|&e| inputs.examples[e].melody.as_deref()).collect();
        let of_sung = |take: &Example| take.melody.as_deref().is_some_and(|melody| sung.contains(melody));
        let degraded = (inputs.examples.len()..).zip(&inputs.degraded);
        let degraded: Vec<usize> = degraded.filter(|(_, take)| of_sung(take)).map(|(e, _)| e).collect();
        let beside = (options.degraded * split.train.len() as f64).round() as usize;
        if beside > 0 && degraded.is_empty() {
            return Err(Error::config("degraded takes to learn from: the inputs have none"));
        }
        let steps = (split.train.len() + beside) / batch;
        let (best, traffic) = (Vec::new(), None);
        Ok(Self {
            device,
            inputs,
            data_id,
            split,
            options,
            net,
            data,
            predictor,
            batch,
            steps,
            degraded,
            beside,
            most_epochs,
            position,
            best,
            traffic,
        })
    }

    /// Records a phase's step; the phase begins anew, or where `state` left it.
    fn begin(&mut self, number: usize, phase: &Phase, state: Option<State>) -> Result<Training> {
        let sizes = [self.steps, self.batch];
        let method = self.options.method;
        let mut training = Training::record(self.device, &self.net, &self.data, phase, method, sizes)?;
        match state {
            Some(state) => {
                self.best = state.restore(self.device, &self.net, &mut training.optimizer, self.steps)?
            }
            None => {
                let done = self.position.done;
                self.position = Position { phase: number, done, ..Position::default() };
                self.best = Vec::new();
            }
        }
        Ok(training)
    }

    /// Runs what is left of a phase, and tells whether `progress` ended the run.
    async fn phase(
        &mut self,
        phase: &Phase,
        training: &mut Training,
        progress: &mut impl AsyncFnMut(&Epoch, &mut Snapshot<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<bool> {
        let mut stopped = false;
        while !stopped && self.goes_on(phase) {
            let epoch = self.epoch(phase, training).await?;
            stopped = progress(&epoch, &mut self.snapshot(training)).await?.is_break();
        }
        if self.position.best.is_some() {
            self.net.load(self.device, &self.best)?;
        }
        Ok(stopped)
    }

    fn goes_on(&self, phase: &Phase) -> bool {
        let Position { epoch, since, .. } = self.position;
        epoch < phase.epochs && (since == 0 || since < self.options.patience)
    }

    /// Trains for an epoch, validates, and notes what that gave.
    async fn epoch(&mut self, phase: &Phase, training: &mut Training) -> Result<Epoch> {
        let (train_loss, lr) = self.train(phase, training).await?;
        let Validation { loss: val_loss, r2: val_r2 } = self.validate(phase).await?;
        if let Some(loss) = val_loss {
            if !loss.is_finite() {
                return Err(self.not_finite("validation", loss, self.steps, lr));
            }
            self.judge(loss).await?;
        }
        let epoch = Epoch {
            epoch: self.position.done + 1,
            phase: phase.name.to_string(),
            lr,
            train_loss,
            val_loss,
            val_r2,
            of: self.most_epochs,
        };
        self.position.epoch += 1;
        self.position.done += 1;
        Ok(epoch)
    }

    /// Runs the steps of an epoch: their mean loss, and the learning rate of the last.
    async fn train(&mut self, phase: &Phase, training: &mut Training) -> Result<(f64, f64)> {
        let (inputs, lr) = self.epoch_inputs(phase, training)?;
        training.feed.upload(self.device, &inputs)?;
        let before = self.device.traffic();
        for _ in 0..self.steps {
            if self.options.checked {
                training.step.run_checked_async(self.device).await?;
            } else {
                training.step.run_async().await?;
            }
        }
        self.traffic = self.device.traffic().zip(before).map(|(after, before)| after.since(before));
        let losses = training.feed.losses(self.device).await?;
        if let Some(step) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(self.not_finite("training", losses[step], step, lr));
        }
        let loss = losses.iter().sum::<f64>() / self.steps as f64;
        Ok((loss, lr))
    }

    /// The inputs of an epoch's steps, and the learning rate of the last.
    fn epoch_inputs(&self, phase: &Phase, training: &mut Training) -> Result<(EpochInputs, f64)> {
        let Position { phase: number, epoch, .. } = self.position;
        let (steps, seed) = (self.steps as u64, self.options.seed);
        // The schedule's warm-up counts epochs, its rate goes by steps.
        let mut schedule = self.options.schedule;
        let (Schedule::Constant { warm_up, .. } | Schedule::Cosine { warm_up, .. }) = &mut schedule;
        *warm_up *= steps;
        // A stream of its own for each epoch, so that the order depends on nothing before it.
        let mut rng = Random::new(seed, 1 + ((number as u64) << 32) + epoch as u64);
        let mut order = self.split.train.clone();
        order.extend((0..self.beside).map(|_| self.degraded[rng.below(self.degraded.len())]));
        rng.shuffle(&mut order);
        let (mut inputs, mut lr) = (EpochInputs::default(), 0.0);
        for (step, examples) in (epoch as u64 * steps..).zip(order.chunks_exact(self.batch)) {
            let views: Vec<View> = examples.iter().map(|&e| self.data.random_view(e, &mut rng)).collect();
            let valid = |v: &View| self.net.config.valid_frames(self.data.valid_frames(v));
            let batch = training.feed.batch.values(&views, valid)?;
            let dropout = training.feed.dropout.is_some();
            let dropout = dropout.then_some([seed as u32, (seed >> 32) as u32, step as u32]);
            let pairing = training.feed.pairing.is_some().then(|| {
                let mut pairing: Vec<u32> = (0..self.batch as u32).collect();
                rng.shuffle(&mut pairing);
                pairing
            });
            lr = schedule.lr_at(step, phase.epochs as u64 * steps);
            inputs.push(&batch, dropout, pairing.as_deref(), training.optimizer.next_hyper(lr)?);
        }
        Ok((inputs, lr))
    }

    async fn validate(&mut self, phase: &Phase) -> Result<Validation> {
        let examples = &self.split.val;
        if examples.is_empty() {
            return Ok(Validation::default());
        }
        let predictions = self.predictor.run(self.device, &self.net, &self.data, examples).await?;
        Validation::of(self.device, self.inputs, &self.data, phase, examples, &predictions).await
    }

    /// Keeps the weights if the validation loss is the phase's lowest.
    async fn judge(&mut self, loss: f64) -> Result<()> {
        if self.position.best.is_none_or(|best| loss < best) {
            self.best = self.net.tensors_async(self.device).await?;
            (self.position.best, self.position.since) = (Some(loss), 0);
        } else {
            self.position.since += 1;
        }
        Ok(())
    }

    /// Why a run ends whose loss is NaN or infinite after `updates` of the epoch, at most at this learning rate.
    fn not_finite(&self, what: &str, loss: f64, updates: usize, lr: f64) -> Error {
        let Position { phase, epoch, .. } = self.position;
        let why = if (phase, epoch, updates) == (0, 0, 0) {
            "before the first update: an input, a rating or an option of the loss is out of range".to_string()
        } else {
            let update = epoch * self.steps + updates;
            let lr = lr as f32;
            format!(
                "after update {update} of this phase, at a learning rate of {lr:e}: where weights grow without bound, a lower \
                 rate or weight decay helps"
            )
        };
        Error::config(format!(
            "the {what} loss became {loss} in epoch {}, {why}; with checked steps (ETUDE_DEBUG=1 on the command line) the \
             kernel that made it is named",
            epoch + 1
        ))
    }

    fn snapshot<'b>(&'b mut self, training: &'b Training) -> Snapshot<'b> {
        Snapshot {
            device: self.device,
            inputs: self.inputs,
            data_id: &self.data_id,
            split: self.split,
            net: &self.net,
            data: &self.data,
            predictor: &mut self.predictor,
            optimizer: &training.optimizer,
            best: &self.best,
            position: &self.position,
        }
    }

    /// What it came to; `step` is the last phase's.
    fn end(self, step: Option<Step>, stopped: bool) -> Fit {
        Fit {
            launches_per_step: step.as_ref().map_or(0, Step::launches),
            traffic: self.traffic.map(|traffic| (traffic, self.steps)),
            net: self.net,
            epochs: self.position.done,
            stopped,
            data: self.data,
            predictor: self.predictor,
            step,
        }
    }
}
