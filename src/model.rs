//! A model file: safetensors with everything that is needed to grade again in its metadata.

use crate::audio::{HOP, Scale};
use crate::data::input_options::{InputKind, InputOptions};
use crate::data::inputs::Inputs;
use crate::data::known::KnownTakes;
use crate::data::split::SplitIndices;
use crate::device::{Device, block_on};
use crate::names::quoted;
use crate::net::{NetConfig, PcConvNet};
use crate::optim::Tensor;
use crate::report::calibration::Calibration;
use crate::report::interval::Interval;
use crate::tensor_file::TensorFile;
use crate::train::{Protocol, TrainOptions, Windows};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// The model that comes with the crate, a file's bytes: the share of a take's notes that are performed without an error, learned
/// from synthetic takes. `models/README.md` is its card.
pub const PLANTED: &[u8] = include_bytes!("../models/planted.safetensors");

const MODEL: TensorFile = TensorFile { name: "model", key: "etude", format: 3 };

/// What a model file says beside its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// Version of the crate that wrote it.
    pub version: String,
    /// Shape of the network.
    pub net: NetConfig,
    /// What the network sees.
    pub input: InputKind,
    /// How MIDI pitch became a number.
    pub scale: Scale,
    /// Seconds per frame of the contours.
    pub hop: f64,
    /// At most this many references per take.
    pub max_references: usize,
    /// What the ratings are for; the names of several criteria with commas between them.
    pub criterion: String,
    /// Of several criteria each, in the order of the network's ratings; none of one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<Criterion>,
    /// How it was trained.
    pub protocol: Protocol,
    /// Epochs it was trained for, through all phases.
    pub epochs: usize,
    /// Predicted rating from which on a take passes.
    pub threshold: Option<f32>,
    /// What a prediction is worth on the graders' scale, where that was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// How far predictions are off, where enough takes were tested to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Label bins of the embedding's metrics.
    pub bins: usize,
    /// Seed of the run, and of the synthetic set where it was trained on that.
    pub seed: u64,
    /// This model's own fold, from 1, and how many there were, where there were folds.
    pub fold: Option<(usize, usize)>,
    /// What it was trained on, in numbers; none in files of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_on: Option<TrainedOn>,
    /// The takes that it was trained, validated and tested on; none where the model is not to tell.
    pub takes: KnownTakes,
}

/// One of several criteria that a model rates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// What it is called.
    pub name: String,
    /// How far predictions by it are off, where enough takes were tested to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
}

/// What a model was trained on, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedOn {
    /// What the data is called: the last part of its path.
    pub data: String,
    /// Takes that it was trained and validated on.
    pub takes: usize,
    /// How many performed them.
    pub performers: usize,
}

impl ModelInfo {
    /// Of a network that was fitted to a split of inputs, which were made with `shown` and are called `data`, in so many epochs;
    /// nothing that is learned from its predictions, and no fold.
    pub fn of(
        (inputs, data): (&Inputs, &str),
        split: &SplitIndices,
        shown: &InputOptions,
        options: &TrainOptions,
        epochs: usize,
    ) -> Self {
        let known = split.train.iter().chain(&split.val);
        let performers: BTreeSet<&str> = known.map(|&e| inputs.examples[e].performer.as_str()).collect();
        Self {
            version: env!("CARGO_PKG_VERSION").to_string(),
            net: options.net.clone(),
            input: inputs.kind,
            scale: shown.scale,
            hop: HOP,
            max_references: shown.max_references,
            criterion: inputs.criterion(),
            criteria: Vec::new(),
            protocol: options.protocol,
            epochs,
            threshold: None,
            calibration: None,
            interval: None,
            bins: options.contrast.label_bins(),
            seed: options.seed,
            fold: None,
            trained_on: Some(TrainedOn {
                data: data.to_string(),
                takes: split.train.len() + split.val.len(),
                performers: performers.len(),
            }),
            takes: KnownTakes::of(inputs, split),
        }
    }

    /// How rows become columns.
    pub fn windows(&self) -> Windows {
        Windows::of(self.input, self.scale.semitone())
    }

    /// The names of what it rates by, in the order of the network's ratings.
    pub fn criteria(&self) -> Vec<String> {
        match self.criteria.is_empty() {
            true => vec![self.criterion.clone()],
            false => self.criteria.iter().map(|criterion| criterion.name.clone()).collect(),
        }
    }

    /// Checks that every field is within its range.
    fn check(&self) -> Result<()> {
        self.net.check()?;
        let within = |fits: bool, what: &str, value: &dyn std::fmt::Display| match fits {
            true => Ok(()),
            false => Err(Error::config(format!("{what} {value} is out of range"))),
        };
        within(self.net.channels == self.input.channels(), "input channels:", &self.net.channels)?;
        let features = self.net.notes.map_or(0, |notes| notes.features);
        within(features == self.input.features(), "features of notes:", &features)?;
        within(self.hop > 0.0 && self.hop <= 1.0, "hop", &self.hop)?;
        let least = usize::from(self.input.needs_reference());
        within(self.max_references >= least, "references per take:", &self.max_references)?;
        within((1..=1 << 40).contains(&(self.epochs as u64)), "epochs:", &self.epochs)?;
        if let Some(threshold) = self.threshold {
            within((0.0..=1.0).contains(&threshold), "threshold", &threshold)?;
        }
        self.calibration.as_ref().map_or(Ok(()), Calibration::check)?;
        let of_criteria = self.criteria.iter().filter_map(|criterion| criterion.interval.as_ref());
        self.interval.iter().chain(of_criteria).try_for_each(Interval::check)?;
        within(self.net.criteria == self.criteria().len(), "criteria:", &self.net.criteria)?;
        within((2..=1 << 24).contains(&self.bins), "bins:", &self.bins)?;
        if let Some((fold, folds)) = self.fold {
            within((1..=folds).contains(&fold), "fold", &format!("{fold} of {folds}"))?;
        }
        Ok(())
    }

    /// Checks that `tensors` are those of the network, before anything as large as it says is made.
    fn check_shapes(&self, tensors: &[Tensor]) -> Result<()> {
        let wanted = self.net.tensors().concat();
        if wanted.len() != tensors.len() {
            return Err(Error::config(format!("{} tensors, but {} are named", tensors.len(), wanted.len())));
        }
        for (name, shape) in &wanted {
            match tensors.iter().find(|t| t.name == *name) {
                Some(t) if t.shape == *shape => {}
                Some(t) => {
                    let message = format!("{} should have shape {shape:?}, has {:?}", quoted(name), t.shape);
                    return Err(Error::config(message));
                }
                None => return Err(Error::config(format!("{} is missing", quoted(name)))),
            }
        }
        Ok(())
    }
}

/// Writes a model file, whole or not at all. The same model gives the same bytes.
///
/// # Errors
/// When a field is out of range, or the device or the file system fails.
pub fn save(path: &Path, device: &dyn Device, net: &PcConvNet, info: &ModelInfo) -> Result<()> {
    info.check()?;
    MODEL.write(path, &net.tensors(device)?, info)
}

/// The bytes that [`save`] writes; `path` is what errors name.
///
/// # Errors
/// When a field is out of range, or the device fails.
pub fn to_bytes(path: &Path, device: &dyn Device, net: &PcConvNet, info: &ModelInfo) -> Result<Vec<u8>> {
    block_on(to_bytes_async(path, device, net, info))
}

/// [`to_bytes`] for code that runs in browsers too.
///
/// # Errors
/// As there.
pub async fn to_bytes_async(
    path: &Path,
    device: &dyn Device,
    net: &PcConvNet,
    info: &ModelInfo,
) -> Result<Vec<u8>> {
    info.check()?;
    MODEL.bytes(path, &net.tensors_async(device).await?, info)
}

/// Reads a model file's record and weights.
///
/// # Errors
/// When the file cannot be read, is truncated or damaged, is no safetensors file or not a model of ours, when a field of its
/// record is out of range or a weight not finite, or when its tensors are not those of the network that it describes.
pub fn read(path: &Path) -> Result<(ModelInfo, Vec<Tensor>)> {
    checked(path, MODEL.read(path)?)
}

/// [`read`] of the bytes of a file; `path` is what errors name.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<(ModelInfo, Vec<Tensor>)> {
    checked(path, MODEL.parse(path, bytes)?)
}

fn checked(path: &Path, (info, tensors): (ModelInfo, Vec<Tensor>)) -> Result<(ModelInfo, Vec<Tensor>)> {
    info.check().map_err(|e| Error::data(path, None, format!("has a record that cannot be right: {e}")))?;
    info.check_shapes(&tensors).map_err(|e| disagree(path, e))?;
    Ok((info, tensors))
}

fn disagree(path: &Path, e: Error) -> Error {
    Error::data(path, None, format!("weights and configuration disagree: {e}"))
}

/// Reads a model file onto a device.
///
/// # Errors
/// As [`read`]; or when the device refuses.
pub fn load(path: &Path, device: &dyn Device) -> Result<(ModelInfo, PcConvNet)> {
    onto(device, path, read(path)?)
}

/// [`load`] of the bytes of a file; `path` is what errors name.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(path: &Path, bytes: &[u8], device: &dyn Device) -> Result<(ModelInfo, PcConvNet)> {
    onto(device, path, parse(path, bytes)?)
}

fn onto(
    device: &dyn Device,
    path: &Path,
    (info, tensors): (ModelInfo, Vec<Tensor>),
) -> Result<(ModelInfo, PcConvNet)> {
    let net = PcConvNet::new(device, info.net.clone(), 0).map_err(|e| disagree(path, e))?;
    net.load(device, &tensors).map_err(|e| disagree(path, e))?;
    Ok((info, net))
}
