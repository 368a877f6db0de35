//! The label-distance-weighted contrastive loss alone: slices or device buffers in, loss and gradient out, no graph.
//!
//! Embeddings are rows `[N, D]`, labels numbers `[N]`, not negative: ratings as they are, or their [`bins`]. Value and gradient
//! come out of one pass over the pairs, in memory of the size of the embeddings. [`crate::kernels::contrastive`] has the
//! definition, the accuracy and the range of numbers; [`crate::ops::contrastive`] is the same as a part of a graph.
//!
//! - [`all`] and [`cross`]: one call, slices in, on every core.
//! - [`CpuLoss`]: the same again and again, into memory of the caller's, with progress and checks.
//! - [`check`]: labels and weights alone.
//! - [`DeviceLoss`]: buffers of any [`Device`], compiled once.
//!
//! A label or weight that is NaN, infinite or negative is an error where it lies in slices, and makes the loss NaN in a buffer. A
//! row that is not finite makes the loss NaN, wherever it lies. A weight of 0 masks all of that.
//!
//! ```
//! use etude::contrastive::{ContrastiveOptions, Samples, all, bins};
//!
//! let embeddings = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]; // three rows of two
//! let labels = bins(&[0.0, 0.5, 1.0], 5)?;
//! let (loss, gradient) = all(Samples::new(&embeddings, 2, &labels), ContrastiveOptions::default())?;
//! assert!(loss > 0.0 && gradient.len() == 6);
//!
//! // The last sample masked out: one pair is left.
//! let weights = [1.0, 1.0, 0.0];
//! let masked = Samples::new(&embeddings, 2, &labels).weighted(&weights);
//! let (_, gradient) = all(masked, ContrastiveOptions::default())?;
//! assert_eq!(gradient[4..], [0.0, 0.0]);
//! # Ok::<_, etude::Error>(())
//! ```

use crate::device::cpu::Cpu;
use crate::device::{Buf, Device};
use crate::graph::{Graph, Step, Var};
use crate::kernel::Elem;
use crate::kernels::contrastive::{self as k, Set};
use crate::ops::contrastive as ops;
pub use crate::ops::contrastive::{ContrastiveOptions, Metric, bins};
use crate::{Error, Result};
use std::ops::ControlFlow;

/// Hears how many pairs of how many are done, a few dozen times in a run, and may end it.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) -> ControlFlow<()> + Send);

/// A set of samples: rows of embeddings, their labels, and weights where they do not count alike.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    embeddings: &'a [f32],
    dim: usize,
    labels: &'a [f32],
    weights: Option<&'a [f32]>,
}

impl<'a> Samples<'a> {
    /// Rows `[N, dim]` one after the other, and `N` labels.
    pub fn new(embeddings: &'a [f32], dim: usize, labels: &'a [f32]) -> Self {
        Self { embeddings, dim, labels, weights: None }
    }

    /// With `N` weights, finite and not negative: a pair counts as the product of its two samples' weights. A weight of 0
    /// masks a sample out, whatever its row and label hold.
    #[must_use]
    pub fn weighted(self, weights: &'a [f32]) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// `[N, D]`, when everything is as long as that says.
    fn size(&self, op: &'static str, names: Names) -> Result<[u32; 2]> {
        let (n, d) = (self.labels.len(), self.dim);
        if n.checked_mul(d) != Some(self.embeddings.len()) {
            let given = self.embeddings.len();
            let message = format!("{given} elements, but {n} labels and rows of {d} make [{n}, {d}]");
            return Err(Error::shape(op, names.rows, message));
        }
        let size = ops::size(op, names.rows, [n, d])?;
        match self.weights {
            Some(w) if w.len() != n => {
                Err(Error::shape(op, names.weights, format!("{} weights for {n} rows", w.len())))
            }
            _ => Ok(size),
        }
    }

    /// Whether labels and weights that count are numbers, and with `rows` whether the rows are.
    fn check(&self, op: &'static str, names: Names, rows: bool) -> Result<()> {
        check_as(op, names, 0, self.labels, self.weights)?;
        let all = self.embeddings.chunks_exact(self.dim).enumerate().filter(|_| rows);
        for (i, row) in all.filter(|(i, _)| self.weights.is_none_or(|w| w[*i] > 0.0)) {
            if let Some(column) = row.iter().position(|v| !v.is_finite()) {
                let message = format!("row {i}, column {column} is {}, must be finite", row[column]);
                return Err(Error::shape(op, names.rows, message));
            }
        }
        Ok(())
    }

    fn into_set(self, dz: &'a mut [f32]) -> Set<'a> {
        Set { z: self.embeddings, labels: self.labels, weights: self.weights, dz }
    }
}

/// What messages call the parts of a set.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub rows: &'static str,
    pub labels: &'static str,
    pub weights: &'static str,
    pub gradient: &'static str,
}

pub(crate) const SAMPLES: Names =
    Names { rows: "embeddings", labels: "labels", weights: "weights", gradient: "gradient" };
pub(crate) const OTHERS: Names = Names {
    rows: "others' embeddings",
    labels: "others' labels",
    weights: "others' weights",
    gradient: "others' gradient",
};

/// Whether `labels` and `weights`, where there are any, are ones that the loss takes: finite and not negative. The label of a
/// sample whose weight is 0 is not looked at. `op` is what the error is to name.
///
/// # Errors
/// Naming `labels` or `weights` and the first row that is not so, or when there are not as many of both.
pub fn check<T: Copy + Into<f64>>(op: &'static str, labels: &[T], weights: Option<&[T]>) -> Result<()> {
    check_as(op, SAMPLES, 0, labels, weights)
}

/// [`check`] with names for the arguments, of samples from number `first` on.
pub(crate) fn check_as<T: Copy + Into<f64>>(
    op: &'static str,
    names: Names,
    first: usize,
    labels: &[T],
    weights: Option<&[T]>,
) -> Result<()> {
    let bad = |v: T| {
        let v: f64 = v.into();
        (!(v.is_finite() && v >= 0.0)).then_some(v)
    };
    let wrong = |argument, i: usize, v: f64, help: &str| {
        let message = format!("row {} is {v}, must be finite and not negative{help}", first + i);
        Err(Error::shape(op, argument, message))
    };
    if let Some(weights) = weights {
        if weights.len() != labels.len() {
            let message = format!("{} weights for {} labels", weights.len(), labels.len());
            return Err(Error::shape(op, names.weights, message));
        }
        if let Some((i, v)) = weights.iter().enumerate().find_map(|(i, &w)| Some((i, bad(w)?))) {
            return wrong(names.weights, i, v, "");
        }
    }
    let masked = |i: usize| weights.is_some_and(|w| w[i].into() == 0.0);
    match labels.iter().enumerate().find_map(|(i, &l)| Some((i, bad(l).filter(|_| !masked(i))?))) {
        // Mostly -1, for what was never rated; who means a number below 0 has lost nothing.
        Some((i, v)) if v < 0.0 => {
            wrong(names.labels, i, v, ": weigh what has no label 0, or add a constant to all")
        }
        Some((i, v)) => wrong(names.labels, i, v, ""),
        None => Ok(()),
    }
}

/// The mean over all pairs of `samples`, and its gradient `[N, D]` by the embeddings, on every core.
///
/// # Errors
/// As [`CpuLoss::all`].
pub fn all(samples: Samples<'_>, options: ContrastiveOptions) -> Result<(f32, Vec<f32>)> {
    let mut gradient = vec![0.0; samples.embeddings.len()];
    let loss = CpuLoss::new(0)?.all(samples, options, &mut gradient, None)?;
    Ok((loss, gradient))
}

/// The mean over all pairs of one of `samples` and one of `others`, and its gradients by the embeddings of both.
///
/// # Errors
/// As [`CpuLoss::cross`].
pub fn cross(
    samples: Samples<'_>,
    others: Samples<'_>,
    options: ContrastiveOptions,
) -> Result<(f32, [Vec<f32>; 2])> {
    let mut gradients = [samples, others].map(|s| vec![0.0; s.embeddings.len()]);
    let [of_samples, of_others] = &mut gradients;
    let loss = CpuLoss::new(0)?.cross(samples, others, options, [of_samples, of_others], None)?;
    Ok((loss, gradients))
}

/// The loss of slices, again and again: threads are started once, and gradients go where the caller says.
///
/// The same bits come out whatever the number of threads.
pub struct CpuLoss {
    cpu: Cpu<f32>,
    check: bool,
}

impl CpuLoss {
    /// On `threads` threads; 0 takes every core.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(threads: usize) -> Result<Self> {
        Ok(Self::on(Cpu::new(threads)?))
    }

    /// On the threads and with the instruction set of `cpu`.
    pub fn on(cpu: Cpu<f32>) -> Self {
        Self { cpu, check: false }
    }

    /// Looks for NaN and infinities in the rows first, in time proportional to the embeddings, and says where the first is.
    /// Without, they make the loss NaN.
    #[must_use]
    pub fn checked(self) -> Self {
        Self { check: true, ..self }
    }

    /// The mean over all pairs of `samples`; its gradient by the embeddings into `gradient` `[N, D]`.
    ///
    /// # Errors
    /// When there is no pair; when lengths or an option do not fit; when a label or weight is NaN, infinite or negative; when
    /// a row is not finite, where that is [checked](Self::checked); when `progress` ends the run, which leaves the gradient
    /// unspecified.
    pub fn all(
        &self,
        samples: Samples<'_>,
        options: ContrastiveOptions,
        gradient: &mut [f32],
        progress: Option<Progress<'_>>,
    ) -> Result<f32> {
        let op = "contrastive";
        let [n, d] = samples.size(op, SAMPLES)?;
        ops::two_or_more(op, SAMPLES.rows, [n, d])?;
        let p = ops::params(op, [n, 0, d], u32::from(samples.weights.is_some()), options)?;
        self.look_at(op, samples, SAMPLES, gradient)?;
        let set = samples.into_set(gradient);
        self.heard(progress, |hear| self.cpu.install(|work| k::loss_all(work, &p, set, hear)))
    }

    /// The mean over all pairs of one of `samples` and one of `others`; its gradients by the embeddings of
    /// both into `gradients`.
    ///
    /// # Errors
    /// As [`Self::all`], and when the two have rows of different length.
    pub fn cross(
        &self,
        samples: Samples<'_>,
        others: Samples<'_>,
        options: ContrastiveOptions,
        [of_samples, of_others]: [&mut [f32]; 2],
        progress: Option<Progress<'_>>,
    ) -> Result<f32> {
        let op = "contrastive_cross";
        let ([n, d], [m, columns]) = (samples.size(op, SAMPLES)?, others.size(op, OTHERS)?);
        if d != columns {
            let message = format!("shape [{m}, {columns}] against embeddings of shape [{n}, {d}]");
            return Err(Error::shape(op, OTHERS.rows, message));
        }
        ops::both_sides(op, n, m)?;
        let weighted = u32::from(samples.weights.is_some()) | u32::from(others.weights.is_some()) << 1;
        let p = ops::params(op, [n, m, d], weighted, options)?;
        self.look_at(op, samples, SAMPLES, of_samples)?;
        self.look_at(op, others, OTHERS, of_others)?;
        let (z, others) = (samples.into_set(of_samples), others.into_set(of_others));
        self.heard(progress, |hear| self.cpu.install(|work| k::loss_cross(work, &p, z, others, hear)))
    }

    fn look_at(&self, op: &'static str, samples: Samples<'_>, names: Names, gradient: &[f32]) -> Result<()> {
        if gradient.len() != samples.embeddings.len() {
            let message =
                format!("{} elements for embeddings of {}", gradient.len(), samples.embeddings.len());
            return Err(Error::shape(op, names.gradient, message));
        }
        samples.check(op, names, self.check)
    }

    /// Runs `f` and says how far it came when the caller ended it.
    fn heard(
        &self,
        progress: Option<Progress<'_>>,
        f: impl FnOnce(Progress<'_>) -> Option<f32>,
    ) -> Result<f32> {
        let mut last = (0, 0);
        let mut progress = progress;
        let mut hear = |done, total| {
            last = (done, total);
            progress.as_mut().map_or(ControlFlow::Continue(()), |p| p(done, total))
        };
        let loss = f(&mut hear);
        loss.ok_or_else(|| {
            Error::config(format!("the run was ended by its caller after {} of {} pairs", last.0, last.1))
        })
    }
}

/// A set of samples on a device: rows `[N, D]` in f32 or 16 bits, labels `[N]`, and weights `[N]` where there are any.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    /// Rows of embeddings.
    pub embeddings: &'a Buf,
    /// Labels.
    pub labels: &'a Buf,
    /// Weights, finite and not negative; 0 masks a sample out.
    pub weights: Option<&'a Buf>,
}

impl Buffers<'_> {
    fn bind(self, g: &mut Graph, op: &'static str, names: Names, dim: usize) -> Result<(Var, ops::Labels)> {
        let (n, count) = (self.labels.len(), self.embeddings.len());
        if n.checked_mul(dim) != Some(count) {
            let message = format!("{count} elements, but {n} labels and rows of {dim} make [{n}, {dim}]");
            return Err(Error::shape(op, names.rows, message));
        }
        let z = g.leaf(self.embeddings, None, &[n, dim])?;
        let labels = g.bind(self.labels, &[n])?;
        let labels = match self.weights {
            None => labels.into(),
            Some(weights) => ops::Labels::weighted(labels, g.bind(weights, &[weights.len()])?),
        };
        Ok((z, labels))
    }
}

/// The loss of buffers of a device, compiled once and run as often as their contents change: one launch.
pub struct DeviceLoss<'d> {
    device: &'d dyn Device,
    op: &'static str,
    step: Step,
    dim: usize,
    loss: Buf,
    gradients: Vec<Buf>,
    inputs: Vec<(Names, Buf, Buf, Option<Buf>)>,
}

impl<'d> DeviceLoss<'d> {
    /// The mean over all pairs of `samples` with rows of `dim`.
    ///
    /// # Errors
    /// As [`CpuLoss::all`], or when the device refuses.
    pub fn all(
        device: &'d dyn Device,
        dim: usize,
        samples: Buffers<'_>,
        options: ContrastiveOptions,
    ) -> Result<Self> {
        let (op, mut g) = ("contrastive", Graph::new());
        let (z, labels) = samples.bind(&mut g, op, SAMPLES, dim)?;
        let loss = ops::contrastive(&mut g, z, labels, options)?;
        Self::compile(device, op, dim, g, loss, &[(SAMPLES, z, samples)])
    }

    /// The mean over all pairs of one of `samples` and one of `others`.
    ///
    /// # Errors
    /// As [`CpuLoss::cross`], or when the device refuses.
    pub fn cross(
        device: &'d dyn Device,
        dim: usize,
        samples: Buffers<'_>,
        others: Buffers<'_>,
        options: ContrastiveOptions,
    ) -> Result<Self> {
        let (op, mut g) = ("contrastive_cross", Graph::new());
        let (z, of_z) = samples.bind(&mut g, op, SAMPLES, dim)?;
        let (o, of_o) = others.bind(&mut g, op, OTHERS, dim)?;
        let loss = ops::contrastive_cross(&mut g, z, of_z, o, of_o, options)?;
        Self::compile(device, op, dim, g, loss, &[(SAMPLES, z, samples), (OTHERS, o, others)])
    }

    fn compile(
        device: &'d dyn Device,
        op: &'static str,
        dim: usize,
        mut g: Graph,
        loss: Var,
        sides: &[(Names, Var, Buffers<'_>)],
    ) -> Result<Self> {
        g.backward(loss)?;
        let gradients: Vec<Var> = sides.iter().filter_map(|(_, z, _)| g.grad(*z)).collect();
        let step = g.compile(device, &[&[loss], &gradients[..]].concat())?;
        let inputs = sides
            .iter()
            .map(|(names, _, b)| (*names, b.embeddings.clone(), b.labels.clone(), b.weights.cloned()));
        Ok(Self {
            device,
            op,
            dim,
            inputs: inputs.collect(),
            loss: step.buf(loss)?.clone(),
            gradients: gradients.iter().map(|&v| step.buf(v).cloned()).collect::<Result<_>>()?,
            step,
        })
    }

    /// Computes loss and gradients of what the buffers hold now; what is no number makes the loss NaN.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&mut self) -> Result<()> {
        self.step.run()
    }

    /// As [`Self::run`], after looking for what is no number in a copy of the inputs.
    ///
    /// # Errors
    /// Naming the argument, row and column that is not finite, or the label or weight that is NaN, infinite or negative; or
    /// when the device fails.
    pub fn run_checked(&mut self) -> Result<()> {
        for (names, embeddings, labels, weights) in &self.inputs {
            let read = |buf: &Buf| self.device.download(buf);
            let weights = weights.as_ref().map(read).transpose()?;
            let (embeddings, labels) = (read(embeddings)?, read(labels)?);
            let samples = Samples::new(&embeddings, self.dim, &labels);
            Samples { weights: weights.as_deref(), ..samples }.check(self.op, *names, true)?;
        }
        self.step.run()
    }

    /// The loss of the last run.
    ///
    /// # Errors
    /// When the device fails.
    pub fn loss(&self) -> Result<f32> {
        Ok(self.device.download(&self.loss)?[0])
    }

    /// Where the loss is, one element.
    pub fn loss_buf(&self) -> &Buf {
        &self.loss
    }

    /// Where the gradients are, f32: by the embeddings `[N, D]`, and across two sets by the others' `[M, D]`.
    pub fn gradients(&self) -> &[Buf] {
        debug_assert!(self.gradients.iter().all(|g| g.elem() == Elem::Real));
        &self.gradients
    }
}
