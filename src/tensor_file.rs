//! Files of tensors: safetensors, with a record of what they are in the metadata.

use crate::fs::{self, write_atomic};
use crate::names::quoted;
use crate::optim::Tensor;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;

/// Largest file read: the network has some thousand parameters, a checkpoint a few copies of them.
const MAX_BYTES: u64 = 1 << 30;

/// A kind of safetensors file of ours: F32 tensors, and a JSON record, with a `format`, in the metadata.
pub(crate) struct TensorFile {
    /// What messages call it.
    pub name: &'static str,
    /// The metadata key of its record.
    pub key: &'static str,
    /// The record's version: the one written, and the only one read.
    pub format: u32,
}

impl TensorFile {
    /// Writes a file, whole or not at all.
    pub(crate) fn write(&self, path: &Path, tensors: &[Tensor], record: &impl Serialize) -> Result<()> {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|t| t.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let fault = |e: &dyn Display| Error::data(path, None, format!("cannot write the {}: {e}", self.name));
        let views = tensors
            .iter()
            .zip(&bytes)
            .map(|(t, b)| Ok((t.name.as_str(), TensorView::new(Dtype::F32, t.shape.clone(), b)?)))
            .collect::<Result<Vec<_>, SafeTensorError>>()
            .map_err(|e| fault(&e))?;
        let json = serde_json::to_string(record).map_err(|e| fault(&e))?;
        let metadata = HashMap::from([(self.key.to_string(), json)]);
        let file = safetensors::serialize(views, Some(metadata)).map_err(|e| fault(&e))?;
        write_atomic(path, &file)
    }

    /// Reads a file; errors name what it is instead.
    pub(crate) fn read<R: DeserializeOwned>(&self, path: &Path) -> Result<(R, Vec<Tensor>)> {
        let Self { name, key, format } = self;
        let bytes = fs::read(path, MAX_BYTES)?;
        let fault = |message: String| Error::data(path, None, message);
        let foreign = |e: SafeTensorError| fault(format!("is no {name} file, or a truncated one: {e}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(foreign)?;
        let json = header.metadata().as_ref().and_then(|m| m.get(*key)).ok_or_else(|| {
            fault(format!("is a safetensors file, but not a {name} of etude's: its metadata lacks `{key}`"))
        })?;
        let found = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v["format"].as_u64());
        match found.map(|found| found.cmp(&u64::from(*format))) {
            Some(Ordering::Greater) => {
                return Err(fault("was written by a newer version of etude: update".into()));
            }
            Some(Ordering::Less) => {
                let message = format!(
                    "is a {name} of an older version of etude, which this one cannot read: train anew"
                );
                return Err(fault(message));
            }
            Some(Ordering::Equal) | None => {}
        }
        let record = serde_json::from_str(json)
            .map_err(|e| fault(format!("has metadata that cannot be read: {e}")))?;
        let file = SafeTensors::deserialize(&bytes).map_err(foreign)?;
        let mut tensors = Vec::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(fault(format!("tensor {} is {:?}, not F32", quoted(&name), view.dtype())));
            }
            let values =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            tensors.push(Tensor { name, shape: view.shape().to_vec(), values });
        }
        Ok((record, tensors))
    }
}
