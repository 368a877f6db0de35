//! A model file: safetensors with everything that is needed to grade again in its metadata.

use crate::audio::Scale;
use crate::data::inputs::InputKind;
use crate::device::Device;
use crate::fs::write_atomic;
use crate::nn::{NetConfig, PcConvNet};
use crate::optim::Tensor;
use crate::train::{Protocol, Windows};
use crate::{Error, Result};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Version of [`ModelInfo`]; a reader refuses a newer one.
const FORMAT: u32 = 1;

/// Which takes a model was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitInfo {
    /// Seed of the split.
    pub seed: u64,
    /// Share of the performers validated on.
    pub val_fraction: f64,
    /// Share of the performers tested on, without folds.
    pub test_fraction: f64,
    /// Number of folds and this model's own, from 1.
    pub fold: Option<(usize, usize)>,
}

/// What a model file says beside its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Version of this record.
    pub format: u32,
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
    /// What the ratings are for.
    pub criterion: String,
    /// How it was trained.
    pub protocol: Protocol,
    /// Epochs it was trained for, through all phases.
    pub epochs: usize,
    /// Predicted rating from which on a take passes.
    pub threshold: Option<f32>,
    /// Label bins of the embedding's metrics.
    pub bins: usize,
    /// Which takes it was trained on.
    pub split: SplitInfo,
}

impl ModelInfo {
    /// The format written today.
    pub const FORMAT: u32 = FORMAT;

    /// How rows become columns.
    pub fn windows(&self) -> Windows {
        Windows::of(self.input, self.scale.semitone())
    }
}

/// Writes a model file, whole or not at all. The same model gives the same bytes.
///
/// # Errors
/// When the device or the file system fails.
pub fn save(path: &Path, device: &dyn Device, net: &PcConvNet, info: &ModelInfo) -> Result<()> {
    MODEL.write(path, &net.tensors(device)?, info)
}

/// Reads a model file's record and weights.
///
/// # Errors
/// When the file cannot be read, is truncated, is no safetensors file, or is not a model of ours.
pub fn read(path: &Path) -> Result<(ModelInfo, Vec<Tensor>)> {
    let (info, tensors) = MODEL.read(path)?;
    if let Some(t) = tensors.iter().find(|t| t.values.iter().any(|v| !v.is_finite())) {
        let message = format!("tensor `{}` holds a value that is not finite", t.name);
        return Err(Error::data(path, None, message));
    }
    Ok((info, tensors))
}

/// A kind of safetensors file of ours: F32 tensors, and a JSON record, with a `format`, in the metadata.
pub(crate) struct Kind {
    /// What messages call it.
    pub name: &'static str,
    /// The metadata key of its record.
    pub key: &'static str,
    /// The record's version written today; a newer one is refused.
    pub format: u32,
}

const MODEL: Kind = Kind { name: "model", key: "etude", format: FORMAT };

impl Kind {
    /// Writes a file, whole or not at all.
    pub(crate) fn write(&self, path: &Path, tensors: &[Tensor], record: &impl Serialize) -> Result<()> {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|t| t.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let fault = |e: &dyn std::fmt::Display| {
            Error::data(path, None, format!("cannot write the {}: {e}", self.name))
        };
        let views = tensors
            .iter()
            .zip(&bytes)
            .map(|(t, b)| Ok((t.name.as_str(), TensorView::new(Dtype::F32, t.shape.clone(), b)?)))
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| fault(&e))?;
        let json = serde_json::to_string(record).map_err(|e| fault(&e))?;
        let metadata = HashMap::from([(self.key.to_string(), json)]);
        let file = safetensors::serialize(views, Some(metadata)).map_err(|e| fault(&e))?;
        write_atomic(path, &file)
    }

    /// Reads a file; errors name what it is instead.
    pub(crate) fn read<R: DeserializeOwned>(&self, path: &Path) -> Result<(R, Vec<Tensor>)> {
        let Self { name, key, format } = self;
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let fault = |message: String| Error::data(path, None, message);
        let foreign =
            |e: safetensors::SafeTensorError| fault(format!("is no {name} file, or a truncated one: {e}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(foreign)?;
        let json = header.metadata().as_ref().and_then(|m| m.get(*key)).ok_or_else(|| {
            fault(format!(
                "is a safetensors file, but not a {name} that `etude train` wrote: its metadata lacks `{key}`"
            ))
        })?;
        let found = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v["format"].as_u64());
        if found.is_some_and(|f| f > u64::from(*format)) {
            return Err(fault("was written by a newer version of etude: update".into()));
        }
        let record = serde_json::from_str(json)
            .map_err(|e| fault(format!("has metadata that cannot be read: {e}")))?;
        let file = SafeTensors::deserialize(&bytes).map_err(foreign)?;
        let mut tensors = Vec::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(fault(format!("tensor `{name}` is {:?}, not F32", view.dtype())));
            }
            let values =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            tensors.push(Tensor { name, shape: view.shape().to_vec(), values });
        }
        Ok((record, tensors))
    }
}

/// Reads a model file onto a device.
///
/// # Errors
/// As [`read`]; or when weights and configuration disagree, or the device refuses.
pub fn load(path: &Path, device: &dyn Device) -> Result<(ModelInfo, PcConvNet)> {
    let (info, tensors) = read(path)?;
    let fault = |e: Error| Error::data(path, None, format!("weights and configuration disagree: {e}"));
    let net = PcConvNet::new(device, info.net.clone(), 0).map_err(fault)?;
    net.load(device, &tensors).map_err(fault)?;
    Ok((info, net))
}
