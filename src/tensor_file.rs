//! Files of tensors: safetensors, with a record of what they are, and a checksum of the whole file, in the metadata.

use crate::fs::{self, write_atomic};
use crate::hash::Fnv1a;
use crate::names::quoted;
use crate::optim::Tensor;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;

/// Largest file read: the network has some thousand parameters, a checkpoint a few copies of them.
const MAX_BYTES: u64 = 1 << 30;

/// A kind of safetensors file of ours: F32 tensors, and a JSON record, with its version, in the metadata.
pub(crate) struct TensorFile {
    /// What messages call it.
    pub name: &'static str,
    /// The metadata key of its record.
    pub key: &'static str,
    /// The record's version: the one written, and the only one read.
    pub format: u32,
}

/// What stands under the key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<R> {
    format: u32,
    /// Of every byte of the file, its own 16 hexadecimal digits taken as zeros.
    checksum: String,
    record: R,
}

/// The version alone, of a record that may have anything else in it.
#[derive(Deserialize)]
struct Version {
    format: Option<u64>,
}

const ZEROS: [u8; 16] = [b'0'; 16];

/// Where the checksum's digits stand. A text in the record cannot look like this: its quotation marks are escaped twice.
fn digits(file: &[u8]) -> Option<usize> {
    let before = br#"\"checksum\":\""#;
    let at = file.windows(before.len()).position(|bytes| bytes == before)? + before.len();
    (at + ZEROS.len() <= file.len()).then_some(at)
}

/// The checksum of a file whose digits stand at `at`.
fn checksum(file: &[u8], at: usize) -> String {
    let mut hash = Fnv1a::default();
    for part in [&file[..at], &ZEROS, &file[at + ZEROS.len()..]] {
        hash.add(part);
    }
    format!("{:016x}", hash.get())
}

impl TensorFile {
    /// Writes a file, whole or not at all.
    pub(crate) fn write(&self, path: &Path, tensors: &[Tensor], record: &impl Serialize) -> Result<()> {
        write_atomic(path, &self.bytes(path, tensors, record)?)
    }

    /// The contents of a file; `path` is what errors name.
    pub(crate) fn bytes(&self, path: &Path, tensors: &[Tensor], record: &impl Serialize) -> Result<Vec<u8>> {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|t| t.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let fault = |e: &dyn Display| Error::data(path, None, format!("cannot write the {}: {e}", self.name));
        let views = tensors
            .iter()
            .zip(&bytes)
            .map(|(t, b)| Ok((t.name.as_str(), TensorView::new(Dtype::F32, t.shape.clone(), b)?)))
            .collect::<Result<Vec<_>, SafeTensorError>>()
            .map_err(|e| fault(&e))?;
        let checksum_later = String::from_utf8_lossy(&ZEROS).into_owned();
        let envelope = Envelope { format: self.format, checksum: checksum_later, record };
        let json = serde_json::to_string(&envelope).map_err(|e| fault(&e))?;
        let metadata = HashMap::from([(self.key.to_string(), json)]);
        let mut file = safetensors::serialize(views, Some(metadata)).map_err(|e| fault(&e))?;
        let at = digits(&file).ok_or_else(|| fault(&"its record has no place for the checksum"))?;
        let sum = checksum(&file, at);
        file[at..at + ZEROS.len()].copy_from_slice(sum.as_bytes());
        Ok(file)
    }

    /// Reads a file; errors name what it is instead.
    pub(crate) fn read<R: DeserializeOwned>(&self, path: &Path) -> Result<(R, Vec<Tensor>)> {
        self.parse(path, &fs::read(path, MAX_BYTES)?)
    }

    /// What [`TensorFile::bytes`] made; `path` is what errors name.
    pub(crate) fn parse<R: DeserializeOwned>(&self, path: &Path, bytes: &[u8]) -> Result<(R, Vec<Tensor>)> {
        let Self { name, key, .. } = self;
        let fault = |message: String| Error::data(path, None, message);
        let foreign = |e: SafeTensorError| fault(format!("is no {name} file, or a truncated one: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(foreign)?;
        let json = header.metadata().as_ref().and_then(|m| m.get(*key)).ok_or_else(|| {
            fault(format!("is a safetensors file, but not a {name} of etude's: its metadata lacks `{key}`"))
        })?;
        self.check_version(json).map_err(fault)?;
        let envelope: Envelope<R> = serde_json::from_str(json)
            .map_err(|e| fault(format!("has metadata that cannot be read: {}", quoted(&e.to_string()))))?;
        if digits(bytes).is_none_or(|at| checksum(bytes, at) != envelope.checksum) {
            let message = "is damaged: its bytes are not those that were written, as its checksum tells; \
                           take another copy of it";
            return Err(fault(message.into()));
        }
        let file = SafeTensors::deserialize(bytes).map_err(foreign)?;
        let mut tensors = Vec::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(fault(format!("tensor {} is {:?}, not F32", quoted(&name), view.dtype())));
            }
            let values: Vec<f32> =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if values.iter().any(|v| !v.is_finite()) {
                return Err(fault(format!("tensor {} holds a value that is not finite", quoted(&name))));
            }
            tensors.push(Tensor { name, shape: view.shape().to_vec(), values });
        }
        Ok((envelope.record, tensors))
    }

    /// Says what to do with a file of another version.
    fn check_version(&self, json: &str) -> Result<(), String> {
        let found = serde_json::from_str::<Version>(json).ok().and_then(|version| version.format);
        match found.map(|found| found.cmp(&u64::from(self.format))) {
            Some(Ordering::Greater) => Err("was written by a newer version of etude: update".into()),
            Some(Ordering::Less) => Err(format!(
                "is a {} of an older version of etude, which this one cannot read: train anew",
                self.name
            )),
            Some(Ordering::Equal) | None => Ok(()),
        }
    }
}
