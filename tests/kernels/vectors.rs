//! The files of `tests/golden`, as numbers.

use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// A file's bytes.
pub fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Shape and values of a tensor, whatever its type.
pub fn tensor(file: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f64>), String> {
    let view = file.tensor(name).map_err(|e| format!("{name}: {e}"))?;
    let bytes = view.data();
    let values = match view.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
        other => return Err(format!("{name}: {other:?} elements")),
    };
    Ok((view.shape().to_vec(), values))
}
