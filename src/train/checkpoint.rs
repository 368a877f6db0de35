//! A run between two epochs, in memory and in a file.

use super::data_id::DataId;
use super::phase::Phase;
use super::predict::{Prediction, Predictor};
use super::resident::Resident;
use crate::data::inputs::Inputs;
use crate::data::split::SplitIndices;
use crate::device::{Device, block_on};
use crate::hash::Fnv1a;
use crate::net::PcConvNet;
use crate::optim::{Optimizer, Tensor};
use crate::tensor_file::TensorFile;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::path::Path;

const CHECKPOINT: TensorFile = TensorFile { name: "checkpoint", key: "etude-checkpoint", format: 4 };

/// The phases, epochs and losses that a run has behind it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// Index of the phase.
    pub phase: usize,
    /// Epochs done in it.
    pub epoch: usize,
    /// Its lowest validation loss.
    pub best: Option<f64>,
    /// Epochs since then.
    pub since: usize,
    /// Epochs done in all phases.
    pub done: usize,
}

/// Everything a run needs to go on, bit for bit, from the end of an epoch: `fit` takes it back.
///
/// Holds single precision, what every device but the f64 oracle computes in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    position: Position,
    /// Steps the optimizer of the phase took.
    steps: u32,
    data: DataId,
    /// Digest of the examples that are trained and validated on.
    split: u64,
    /// `net/…`, `best/…` and `optimizer/…`.
    #[serde(skip)]
    tensors: Vec<Tensor>,
}

/// The file's record: the state, and what the caller adds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<S, R> {
    version: String,
    state: S,
    run: R,
}

fn named(prefix: &str, tensors: &[Tensor]) -> impl Iterator<Item = Tensor> {
    tensors.iter().map(move |t| Tensor { name: format!("{prefix}{}", t.name), ..t.clone() })
}

impl State {
    /// Epochs done, through all phases.
    pub fn epochs(&self) -> usize {
        self.position.done
    }

    /// Writes a checkpoint, whole or not at all; `run` is what else the caller needs to go on.
    ///
    /// # Errors
    /// When the file system fails, or `run` cannot be told in JSON.
    pub fn save(&self, path: &Path, run: &impl Serialize) -> Result<()> {
        CHECKPOINT.write(path, &self.tensors, &self.record(run))
    }

    /// The bytes that [`State::save`] writes; `path` is what errors name.
    ///
    /// # Errors
    /// When `run` cannot be told in JSON.
    pub fn to_bytes(&self, path: &Path, run: &impl Serialize) -> Result<Vec<u8>> {
        CHECKPOINT.bytes(path, &self.tensors, &self.record(run))
    }

    fn record<'a, R>(&'a self, run: &'a R) -> Record<&'a Self, &'a R> {
        Record { version: env!("CARGO_PKG_VERSION").to_string(), state: self, run }
    }

    /// Reads a checkpoint and what the caller added.
    ///
    /// # Errors
    /// When the file cannot be read, is truncated or damaged, is something else, or is of another version.
    pub fn read<R: DeserializeOwned>(path: &Path) -> Result<(Self, R)> {
        Ok(Self::of_record(CHECKPOINT.read(path)?))
    }

    /// [`State::read`] of the bytes of a file; `path` is what errors name.
    ///
    /// # Errors
    /// As there.
    pub fn parse<R: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<(Self, R)> {
        Ok(Self::of_record(CHECKPOINT.parse(path, bytes)?))
    }

    fn of_record<R>((record, tensors): (Record<Self, R>, Vec<Tensor>)) -> (Self, R) {
        (Self { tensors, ..record.state }, record.run)
    }

    /// Checks that `inputs` are what the run began with.
    ///
    /// # Errors
    /// Saying what differs.
    pub fn check(&self, inputs: &Inputs) -> Result<()> {
        self.check_data(&DataId::of(inputs))
    }

    /// [`State::check`] of the inputs' digests.
    pub(super) fn check_data(&self, now: &DataId) -> Result<()> {
        match self.data.differs(now) {
            None => Ok(()),
            Some(what) => Err(Error::config(format!(
                "the data has changed since the checkpoint was written: {what}; restore the data, or train anew"
            ))),
        }
    }

    /// The run so far, once it is known to fit the split and the phases, of so many epochs at most.
    pub(super) fn position(&self, split: &SplitIndices, phases: &[Phase]) -> Result<&Position> {
        let Position { phase, epoch, since, done, .. } = &self.position;
        let Some(most) = phases.get(*phase).map(|phase| phase.epochs) else {
            return Err(misfit(format!("it is in phase {} of {}", phase.saturating_add(1), phases.len())));
        };
        if *epoch > most {
            return Err(misfit(format!("it is in epoch {epoch} of {most}")));
        }
        // Counted through all phases, the last of them in this one.
        let before: usize = phases[..*phase].iter().map(|phase| phase.epochs).sum();
        if done < epoch || done - epoch > before || since > epoch {
            return Err(misfit(format!("it counts {done} epochs in all")));
        }
        if self.split != split_digest(split) {
            return Err(misfit("it was trained and validated on other parts of the data".into()));
        }
        Ok(&self.position)
    }

    fn part(&self, prefix: &str) -> Vec<Tensor> {
        let strip = |t: &Tensor| Some(Tensor { name: t.name.strip_prefix(prefix)?.to_string(), ..t.clone() });
        self.tensors.iter().filter_map(strip).collect()
    }

    /// Writes network and optimizer, of `steps` steps an epoch; gives the weights of the best epoch, if there is one.
    pub(super) fn restore(
        &self,
        device: &dyn Device,
        net: &PcConvNet,
        optimizer: &mut Optimizer,
        steps: usize,
    ) -> Result<Vec<Tensor>> {
        if self.steps as usize != (self.position.epoch * steps).min(u32::MAX as usize) {
            return Err(misfit(format!(
                "{} steps are not {} epochs of {steps}",
                self.steps, self.position.epoch
            )));
        }
        for (name, buf) in optimizer.states() {
            let full = format!("optimizer/{name}");
            let found = self.tensors.iter().find(|t| t.name == full && t.values.len() == buf.len());
            let Some(tensor) = found else {
                return Err(misfit(format!("it lacks `{full}` of {} values", buf.len())));
            };
            device.write(buf, (&tensor.values).into())?;
        }
        optimizer.set_steps(self.steps);
        let best = self.part("best/");
        // Loaded first for its check alone, so that a misfit shows now and not when the phase is over.
        if self.position.best.is_some() {
            net.load(device, &best)?;
        }
        net.load(device, &self.part("net/"))?;
        Ok(best)
    }
}

/// Digest of the examples trained and validated on.
fn split_digest(split: &SplitIndices) -> u64 {
    let mut digest = Fnv1a::default();
    for part in [&split.train, &split.val] {
        digest.add(&(part.len() as u64).to_le_bytes());
        part.iter().for_each(|&e| digest.add(&(e as u64).to_le_bytes()));
    }
    digest.get()
}

fn misfit(what: String) -> Error {
    Error::config(format!("the checkpoint does not fit the options: {what}"))
}

/// A run between two epochs, as whoever watches it sees it.
pub struct Snapshot<'a> {
    pub(super) device: &'a dyn Device,
    pub(super) inputs: &'a Inputs,
    pub(super) data_id: &'a OnceCell<DataId>,
    pub(super) split: &'a SplitIndices,
    pub(super) net: &'a PcConvNet,
    pub(super) data: &'a Resident,
    pub(super) predictor: &'a mut Predictor,
    pub(super) optimizer: &'a Optimizer,
    pub(super) best: &'a [Tensor],
    pub(super) position: &'a Position,
}

impl Snapshot<'_> {
    /// What the network, as it is now, makes of examples of the inputs.
    ///
    /// # Errors
    /// When there is no such example, or the device fails.
    pub fn predict(&mut self, examples: &[usize]) -> Result<Vec<Prediction>> {
        block_on(self.predict_async(examples))
    }

    /// [`Snapshot::predict`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    pub async fn predict_async(&mut self, examples: &[usize]) -> Result<Vec<Prediction>> {
        self.predictor.run(self.device, self.net, self.data, examples).await
    }

    /// Copies what the run needs to go on from here.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<State> {
        block_on(self.state_async())
    }

    /// [`Snapshot::state`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    pub async fn state_async(&self) -> Result<State> {
        let net = self.net.tensors_async(self.device).await?;
        let mut tensors: Vec<Tensor> = named("net/", &net).chain(named("best/", self.best)).collect();
        for (name, buf) in self.optimizer.states() {
            tensors.push(Tensor {
                name: format!("optimizer/{name}"),
                shape: vec![buf.len()],
                values: self.device.download_async(buf).await?,
            });
        }
        Ok(State {
            position: self.position.clone(),
            steps: self.optimizer.steps(),
            data: self.data_id.get_or_init(|| DataId::of(self.inputs)).clone(),
            split: split_digest(self.split),
            tensors,
        })
    }
}
