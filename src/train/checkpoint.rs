//! A run between two epochs, in memory and in a file.

use crate::data::inputs::Inputs;
use crate::device::Device;
use crate::hash::Fnv1a;
use crate::net::PcConvNet;
use crate::optim::{Optimizer, Tensor};
use crate::tensor_file::TensorFile;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;

const CHECKPOINT: TensorFile = TensorFile { name: "checkpoint", key: "etude-checkpoint", format: 2 };

/// The phases, epochs and losses that a run has behind it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// What a run was fitted on, to tell when that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct DataId {
    examples: usize,
    channels: usize,
    /// Of names, performers and ratings.
    digest: u64,
}

impl DataId {
    fn of(inputs: &Inputs) -> Self {
        let mut digest = Fnv1a::default();
        let mut add = |bytes: &[u8]| {
            digest.add(bytes);
            digest.add(&[0]);
        };
        for e in &inputs.examples {
            add(e.id.as_bytes());
            add(e.performer.as_bytes());
            add(&e.rating.to_bits().to_le_bytes());
            add(&[e.pass.map_or(2, u8::from)]);
        }
        Self { examples: inputs.examples.len(), channels: inputs.channels, digest: digest.get() }
    }
}

/// Everything a run needs to go on, bit for bit, from the end of an epoch: `fit` takes it back.
///
/// Holds single precision, what every device but the f64 oracle computes in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    position: Position,
    /// Steps the optimizer of the phase took.
    steps: u32,
    data: DataId,
    /// `net/…`, `best/…` and `optimizer/…`.
    #[serde(skip)]
    tensors: Vec<Tensor>,
}

/// The file's record: the state, and what the caller adds.
#[derive(Serialize, Deserialize)]
struct Record<S, R> {
    format: u32,
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
        let version = env!("CARGO_PKG_VERSION").to_string();
        let record = Record { format: CHECKPOINT.format, version, state: self, run };
        CHECKPOINT.write(path, &self.tensors, &record)
    }

    /// Reads a checkpoint and what the caller added.
    ///
    /// # Errors
    /// When the file cannot be read, is truncated, is something else, or is of another version.
    pub fn read<R: DeserializeOwned>(path: &Path) -> Result<(Self, R)> {
        let (record, tensors) = CHECKPOINT.read::<Record<Self, R>>(path)?;
        Ok((Self { tensors, ..record.state }, record.run))
    }

    /// Checks that `inputs` are what the run began with.
    ///
    /// # Errors
    /// Saying what differs.
    pub fn check(&self, inputs: &Inputs) -> Result<()> {
        let (then, now) = (self.data, DataId::of(inputs));
        if then == now {
            return Ok(());
        }
        let what = if (then.examples, then.channels) == (now.examples, now.channels) {
            "its takes, performers or ratings differ".to_string()
        } else {
            format!(
                "it had {} takes in {} channels, now {} in {}",
                then.examples, then.channels, now.examples, now.channels
            )
        };
        Err(Error::config(format!(
            "the data has changed since the checkpoint was written: {what}; restore the data, or train anew"
        )))
    }

    /// The run so far, once its phase is known to exist.
    pub(super) fn position(&self, phases: usize) -> Result<&Position> {
        if self.position.phase >= phases {
            return Err(misfit(format!("it is in phase {} of {phases}", self.position.phase + 1)));
        }
        Ok(&self.position)
    }

    fn part(&self, prefix: &str) -> Vec<Tensor> {
        let strip = |t: &Tensor| Some(Tensor { name: t.name.strip_prefix(prefix)?.to_string(), ..t.clone() });
        self.tensors.iter().filter_map(strip).collect()
    }

    /// Writes network and optimizer; gives the weights of the best epoch, if there is one.
    pub(super) fn restore(
        &self,
        device: &dyn Device,
        net: &PcConvNet,
        optimizer: &mut Optimizer,
    ) -> Result<Vec<Tensor>> {
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

fn misfit(what: String) -> Error {
    Error::config(format!("the checkpoint does not fit the options: {what}"))
}

/// A run between two epochs, as whoever watches it sees it.
pub struct Snapshot<'a> {
    pub(super) device: &'a dyn Device,
    pub(super) inputs: &'a Inputs,
    pub(super) net: &'a PcConvNet,
    pub(super) optimizer: &'a Optimizer,
    pub(super) best: &'a [Tensor],
    pub(super) position: &'a Position,
}

impl Snapshot<'_> {
    /// Copies what the run needs to go on from here.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<State> {
        let mut tensors: Vec<Tensor> =
            named("net/", &self.net.tensors(self.device)?).chain(named("best/", self.best)).collect();
        for (name, buf) in self.optimizer.states() {
            tensors.push(Tensor {
                name: format!("optimizer/{name}"),
                shape: vec![buf.len()],
                values: self.device.download(buf)?,
            });
        }
        Ok(State {
            position: self.position.clone(),
            steps: self.optimizer.steps(),
            data: DataId::of(self.inputs),
            tensors,
        })
    }
}
