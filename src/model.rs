//! A model file: safetensors with everything that is needed to grade again in its metadata.

use crate::audio::Scale;
use crate::data::inputs::InputKind;
use crate::device::Device;
use crate::net::{NetConfig, PcConvNet};
use crate::optim::Tensor;
use crate::tensor_file::TensorFile;
use crate::train::{Protocol, Windows};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

const MODEL: TensorFile = TensorFile { name: "model", key: "etude", format: ModelInfo::FORMAT };

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
    /// The version written today, and the only one read.
    pub const FORMAT: u32 = 1;

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
