//! Similarities.

use super::context::{Call, EtudeContext};
use super::status::{EtudeStatus, entry};
use super::types::{ETUDE_DOT, ETUDE_F32, EtudeSimilarityKind, EtudeType, elem, pick};
use crate::kernel::Elem;
use crate::ops::similarity::Similarity;
use crate::{Result, embed};
use std::ffi::c_void;

/// Every row of `a [n, d]` against every row of `b [m, d]`. Start from etude_similarity_defaults() and set the shapes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EtudeSimilarity {
    /// Rows of a; 0 until set.
    pub n: usize,
    /// Rows of b; 0 until set.
    pub m: usize,
    /// Columns of both; 0 until set.
    pub d: usize,
    /// An EtudeSimilarityKind; ETUDE_DOT.
    pub kind: EtudeSimilarityKind,
    /// An EtudeType, of a and b alike; ETUDE_F32. The matrix and all gradients are f32.
    pub dtype: EtudeType,
}

/// Defaults; every shape is 0.
#[unsafe(no_mangle)]
pub extern "C" fn etude_similarity_defaults() -> EtudeSimilarity {
    EtudeSimilarity { n: 0, m: 0, d: 0, kind: ETUDE_DOT, dtype: ETUDE_F32 }
}

impl EtudeSimilarity {
    fn embed(&self, op: &'static str) -> Result<(embed::PairwiseSimilarity, Elem)> {
        use Similarity::{Cosine, Dot, Euclidean, SquaredEuclidean};
        let kind = pick(op, "kind", self.kind, &[Dot, Cosine, SquaredEuclidean, Euclidean])?;
        let of = embed::PairwiseSimilarity::new([self.n, self.d], [self.m, self.d], kind)?;
        Ok((of, elem(op, self.dtype)?))
    }
}

/// The matrix `y [n, m]` from `a [n, d]` and `b [m, d]`.
///
/// # Safety
/// Pointers are null or as described, on the context's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_similarity_forward(
    context: *const EtudeContext,
    similarity: *const EtudeSimilarity,
    a: *const c_void,
    b: *const c_void,
    y: *mut f32,
) -> EtudeStatus {
    const OP: &str = "etude_similarity_forward";
    // SAFETY: the caller's promise.
    entry(|| unsafe {
        let call = Call::new(OP, context)?;
        let given = call.described("similarity", similarity)?;
        let (of, elem) = given.embed(OP)?;
        let a = call.buf("a", a, elem, &[given.n, given.d])?;
        let b = call.buf("b", b, elem, &[given.m, given.d])?;
        let y = call.buf("y", y, Elem::Real, &of.output())?;
        of.forward(call.device(), &a, &b, &y)
    })
}

/// From `dy [n, m]`, the gradient by the matrix, those by `a` and `b`: `da [n, d]` and `db [m, d]`, both f32.
///
/// # Safety
/// As etude_similarity_forward().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_similarity_backward(
    context: *const EtudeContext,
    similarity: *const EtudeSimilarity,
    a: *const c_void,
    b: *const c_void,
    dy: *const f32,
    da: *mut f32,
    db: *mut f32,
) -> EtudeStatus {
    const OP: &str = "etude_similarity_backward";
    // SAFETY: the caller's promise.
    entry(|| unsafe {
        let call = Call::new(OP, context)?;
        let given = call.described("similarity", similarity)?;
        let (of, elem) = given.embed(OP)?;
        let (left, right) = ([given.n, given.d], [given.m, given.d]);
        let a = call.buf("a", a, elem, &left)?;
        let b = call.buf("b", b, elem, &right)?;
        let dy = call.buf("dy", dy, Elem::Real, &of.output())?;
        let da = call.buf("da", da, Elem::Real, &left)?;
        let db = call.buf("db", db, Elem::Real, &right)?;
        of.backward(call.device(), [&a, &b, &dy], [&da, &db])
    })
}
