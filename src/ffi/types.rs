//! Numbers that stand for types and options.

use crate::kernel::{Elem, Precision};
use crate::{Error, Result};

/// How embeddings and the rows of similarities are stored: one of ETUDE_F32, ETUDE_F16 and ETUDE_BF16.
pub type EtudeType = u32;
/// Single precision.
pub const ETUDE_F32: EtudeType = 0;
/// IEEE half precision, read and computed on in f32.
pub const ETUDE_F16: EtudeType = 1;
/// The upper half of an f32, read and computed on in f32.
pub const ETUDE_BF16: EtudeType = 2;

/// How exact products are: ETUDE_PRECISION_F32, ETUDE_PRECISION_TF32 or ETUDE_PRECISION_EXACT.
pub type EtudePrecision = u32;
/// Factors as they are; the CPU takes fewer products than a wide convolution has terms, where that is faster.
pub const ETUDE_PRECISION_F32: EtudePrecision = 0;
/// CUDA may round them to ten bits for the tensor cores (an error of 2^-11 each), with sums in f32; the CPU computes in f32.
pub const ETUDE_PRECISION_TF32: EtudePrecision = 1;
/// Factors as they are, and each term of a sum a product of its own.
pub const ETUDE_PRECISION_EXACT: EtudePrecision = 2;

/// What is computed of two rows: one of ETUDE_DOT, ETUDE_COSINE, ETUDE_SQUARED_EUCLIDEAN and ETUDE_EUCLIDEAN.
pub type EtudeSimilarityKind = u32;
/// a·b
pub const ETUDE_DOT: EtudeSimilarityKind = 0;
/// a·b / (|a| |b|)
pub const ETUDE_COSINE: EtudeSimilarityKind = 1;
/// |a - b|^2
pub const ETUDE_SQUARED_EUCLIDEAN: EtudeSimilarityKind = 2;
/// |a - b|
pub const ETUDE_EUCLIDEAN: EtudeSimilarityKind = 3;

/// How far apart two embeddings are: ETUDE_METRIC_EUCLIDEAN or ETUDE_METRIC_COSINE.
pub type EtudeMetric = u32;
/// |a - b|
pub const ETUDE_METRIC_EUCLIDEAN: EtudeMetric = 0;
/// 1 - a·b / (|a| |b|), and 1 where a row is zero
pub const ETUDE_METRIC_COSINE: EtudeMetric = 1;

/// The variant that a number from C stands for.
pub(super) fn pick<T: Copy>(op: &'static str, argument: &'static str, value: u32, of: &[T]) -> Result<T> {
    let variant = of.get(value as usize).copied();
    variant.ok_or_else(|| Error::shape(op, argument, format!("must be below {}, is {value}", of.len())))
}

pub(super) fn elem(op: &'static str, dtype: EtudeType) -> Result<Elem> {
    pick(op, "dtype", dtype, &[Elem::Real, Elem::F16, Elem::Bf16])
}

pub(super) fn precision(op: &'static str, value: EtudePrecision) -> Result<Precision> {
    pick(op, "precision", value, &[Precision::F32, Precision::Tf32, Precision::Exact])
}
