//! The contrastive loss.

use super::context::{Call, EtudeContext};
use super::status::{EtudeStatus, entry};
use super::types::{ETUDE_F32, EtudeMetric, EtudeType, elem, pick};
use crate::Result;
use crate::device::Buf;
use crate::embed::{self, Buffers};
use crate::kernel::Elem;
use crate::ops::contrastive::{ContrastiveOptions, Metric};
use std::ffi::c_void;

/// The label-distance-weighted contrastive loss. Start from etude_contrastive_defaults() and set d.
///
/// `weight` times the mean over pairs, 0 where no pair counts: with D the distance of two embeddings and w that of their labels,
/// a pair with w <= tau (1.00025 tau + 1e-6, which leaves room for roundings) costs D^2/2, any other max(0, margin·w - D)^2/2.
/// Labels and weights are finite and not negative: on the CPU another one is ETUDE_INVALID_ARGUMENT; on CUDA, where the host does
/// not see it, the loss is NaN.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EtudeContrastive {
    /// Columns of the embeddings; 0 until set.
    pub d: usize,
    /// An EtudeType, of all embeddings; ETUDE_F32. The loss and all gradients are f32.
    pub dtype: EtudeType,
    /// An EtudeMetric; ETUDE_METRIC_EUCLIDEAN.
    pub metric: EtudeMetric,
    /// A negative pair of label distance w should be margin·w apart; positive; 0.5.
    pub margin: f32,
    /// Largest label distance of a positive pair; 0, for labels that are bins.
    pub tau: f32,
    /// Multiplies the loss, and so its gradient; 1.
    pub weight: f32,
    /// Multiplies the gradient alone; 1.
    pub grad_scale: f32,
}

/// A set of samples: memory of the caller's, on the context's device.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EtudeSamples {
    /// How many there are.
    pub n: usize,
    /// `[n, d]` of the loss's dtype, read.
    pub embeddings: *const c_void,
    /// `[n]`, finite, read.
    pub labels: *const f32,
    /// `[n]`, finite and not negative, read: a pair counts as the product of its two, so that 0 masks a sample out, whatever its
    /// row and label hold. May be null: all samples count alike.
    pub weights: *const f32,
    /// `[n, d]`, written: the loss's gradient by the embeddings, which comes in the same pass.
    pub gradient: *mut f32,
}

/// Defaults; d is 0.
#[unsafe(no_mangle)]
pub extern "C" fn etude_contrastive_defaults() -> EtudeContrastive {
    let ContrastiveOptions { metric, margin, tau, weight, grad_scale } = ContrastiveOptions::default();
    EtudeContrastive { d: 0, dtype: ETUDE_F32, metric: metric as u32, margin, tau, weight, grad_scale }
}

impl EtudeContrastive {
    fn options(&self, op: &'static str) -> Result<(ContrastiveOptions, Elem)> {
        let &Self { margin, tau, weight, grad_scale, .. } = self;
        let metric = pick(op, "metric", self.metric, &[Metric::Euclidean, Metric::Cosine])?;
        Ok((ContrastiveOptions { metric, margin, tau, weight, grad_scale }, elem(op, self.dtype)?))
    }
}

/// What messages call a set's memory.
const SAMPLES: [&str; 4] =
    ["samples->embeddings", "samples->labels", "samples->weights", "samples->gradient"];
const OTHERS: [&str; 4] = ["others->embeddings", "others->labels", "others->weights", "others->gradient"];

/// A set's memory as buffers.
struct Set {
    embeddings: Buf,
    labels: Buf,
    weights: Option<Buf>,
    gradient: Buf,
}

impl Set {
    /// # Safety
    /// Pointers are null or as [`EtudeSamples`] says.
    unsafe fn new(
        call: &Call<'_>,
        [embeddings, labels, weights, gradient]: [&'static str; 4],
        given: &EtudeSamples,
        elem: Elem,
        d: usize,
    ) -> Result<Self> {
        let (rows, matrix) = ([given.n], [given.n, d]);
        // SAFETY: the caller's promise.
        let set = unsafe {
            Self {
                embeddings: call.buf(embeddings, given.embeddings, elem, &matrix)?,
                labels: call.buf(labels, given.labels, Elem::Real, &rows)?,
                weights: call.optional(weights, given.weights, Elem::Real, &rows)?,
                gradient: call.buf(gradient, given.gradient, Elem::Real, &matrix)?,
            }
        };
        if call.on_host() {
            let slice = |pointer: *const f32| {
                // SAFETY: the caller's promise; aligned, as importing saw.
                (!pointer.is_null()).then(|| unsafe { std::slice::from_raw_parts(pointer, given.n) })
            };
            let given_weights = slice(given.weights);
            let bad = |w: &f32| !(w.is_finite() && *w >= 0.0);
            if let Some((i, w)) = given_weights.and_then(|all| all.iter().enumerate().find(|(_, w)| bad(w))) {
                let message = format!("row {i} is {w}, must be finite and not negative");
                return Err(call.wrong(weights, message));
            }
            // What is masked out may hold anything.
            let counts = |i: usize| given_weights.is_none_or(|w| w[i] > 0.0);
            let mut numbers = slice(given.labels).into_iter().flatten().enumerate();
            if let Some((i, label)) = numbers.find(|(i, label)| !label.is_finite() && counts(*i)) {
                return Err(call.wrong(labels, format!("row {i} is {label}, must be finite")));
            }
        }
        Ok(set)
    }

    fn inputs(&self) -> Buffers<'_> {
        Buffers { embeddings: &self.embeddings, labels: &self.labels, weights: self.weights.as_ref() }
    }
}

/// The loss over all unordered pairs of `samples`, two at least, into `loss`, one float on the context's device, and its gradient
/// into `samples->gradient`. Memory stays O(n·d): no matrix of pairs is stored.
///
/// # Safety
/// Pointers are null or as described, those to floats on the context's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_contrastive(
    context: *const EtudeContext,
    contrastive: *const EtudeContrastive,
    samples: *const EtudeSamples,
    loss: *mut f32,
) -> EtudeStatus {
    const OP: &str = "etude_contrastive";
    // SAFETY: the caller's promise.
    entry(|| unsafe {
        let call = Call::new(OP, context)?;
        let given = call.described("contrastive", contrastive)?;
        let (options, elem) = given.options(OP)?;
        let samples = call.described("samples", samples)?;
        let of = embed::Contrastive::all([samples.n, given.d], options)?;
        let set = Set::new(&call, SAMPLES, samples, elem, given.d)?;
        let loss = call.buf("loss", loss, Elem::Real, &[1])?;
        of.run(call.device(), &[set.inputs()], &loss, &[&set.gradient])
    })
}

/// The loss over every one of `samples` with every one of `others`, into `loss`, one float on the context's device, and its
/// gradients into both sets' `gradient`.
///
/// # Safety
/// As etude_contrastive().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_contrastive_cross(
    context: *const EtudeContext,
    contrastive: *const EtudeContrastive,
    samples: *const EtudeSamples,
    others: *const EtudeSamples,
    loss: *mut f32,
) -> EtudeStatus {
    const OP: &str = "etude_contrastive_cross";
    // SAFETY: the caller's promise.
    entry(|| unsafe {
        let call = Call::new(OP, context)?;
        let given = call.described("contrastive", contrastive)?;
        let (options, elem) = given.options(OP)?;
        let (samples, others) = (call.described("samples", samples)?, call.described("others", others)?);
        let of = embed::Contrastive::cross([samples.n, given.d], [others.n, given.d], options)?;
        let set = Set::new(&call, SAMPLES, samples, elem, given.d)?;
        let other = Set::new(&call, OTHERS, others, elem, given.d)?;
        let loss = call.buf("loss", loss, Elem::Real, &[1])?;
        of.run(call.device(), &[set.inputs(), other.inputs()], &loss, &[&set.gradient, &other.gradient])
    })
}
