//! What the Python package calls: launches on memory that NumPy or PyTorch owns, given by address; and the grader.
//!
//! Nothing here checks that an address is what it is said to be: `etude/_numpy.py` and `etude/_torch/` do.

mod grader;
mod step;

use cudarc::driver::CudaContext;
use etude::contrastive::{ContrastiveOptions, Metric};
use etude::device::{Buf, Cpu, Cuda, cuda};
use etude::embed::{self, Buffers, ConvGradients, OfRows, PairLoss, Pairs, PairwiseSimilarity};
use etude::kernel::Elem;
use etude::ops::conv1d::ConvOptions1d;
use etude::ops::conv2d::ConvOptions2d;
use etude::ops::info_nce::InfoNceOptions;
use etude::ops::pair_loss::PairLossOptions;
use etude::similarity::Similarity;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::ffi::c_void;
use std::io::Write;

/// As Python's exceptions: bad arguments, by the function's name in Python, or a device that failed.
fn raised(error: etude::Error) -> PyErr {
    match error {
        etude::Error::Shape { op, argument, message } => {
            let op = match op {
                "contrastive" | "contrastive_cross" | "contrastive_rows" => "contrastive_loss",
                "info_nce" => "info_nce_loss",
                "pair_loss" => "contrastive_loss",
                "rank_n_contrast" => "rank_n_contrast_loss",
                "similarity" => "pairwise_similarity",
                op => op,
            };
            PyValueError::new_err(format!("{op}: {argument}: {message}"))
        }
        error => PyRuntimeError::new_err(error.to_string()),
    }
}

/// Address, what is stored there (`etude/_device.py` numbers it) and how many.
type Memory = (usize, u8, usize);

/// Where launches run: threads of this process, or a stream of a card's.
#[pyclass(frozen, module = "etude._native")]
pub struct Device(On);

enum On {
    F32(Cpu<f32>),
    F64(Cpu<f64>),
    Cuda(Cuda),
}

impl On {
    fn device(&self) -> &dyn etude::device::Device {
        match self {
            Self::F32(cpu) => cpu,
            Self::F64(cpu) => cpu,
            Self::Cuda(cuda) => cuda,
        }
    }

    fn import(&self, (address, elem, len): Memory) -> etude::Result<Buf> {
        let elem = match elem {
            0 => Elem::Real,
            1 => Elem::F16,
            _ => Elem::Bf16,
        };
        // SAFETY: the caller holds the array or tensor until the launch is done (on a card, PyTorch reuses its memory in the
        // order of the stream), and nothing that is written is shared.
        unsafe {
            match self {
                Self::F32(cpu) => cpu.import(address as *mut c_void, elem, len),
                Self::F64(cpu) => cpu.import(address as *mut c_void, elem, len),
                Self::Cuda(cuda) => cuda.import(address as u64, elem, len, ()),
            }
        }
    }
}

/// Imports, and launches without holding the interpreter.
macro_rules! launch {
    ($py:ident, $on:expr, [$($memory:ident),*], [$($optional:ident),*], $device:ident => $launch:expr) => {{
        let on = &$on;
        $py.detach(|| {
            let $device = on.device();
            $(let $memory = &on.import($memory)?;)*
            $(let $optional = $optional.map(|m| on.import(m)).transpose()?;
              let $optional = $optional.as_ref();)*
            $launch
        })
        .map_err(raised)
    }};
}

fn metric(number: u8) -> Metric {
    if number == 0 { Metric::Euclidean } else { Metric::Cosine }
}

fn options(of: u8, margin: f32, tau: f32) -> ContrastiveOptions {
    ContrastiveOptions { metric: metric(of), margin, tau, ..Default::default() }
}

fn of_pairs(of: u8, margin: f32, tau: f32) -> PairLossOptions {
    PairLossOptions { metric: metric(of), margin, tau }
}

/// What is asked of each row's loss: gradients where there is an upstream one, else the losses.
fn of_rows<'a>(to: &'a Buf, upstream: Option<&'a Buf>, by_others: Option<&'a Buf>) -> OfRows<'a> {
    match upstream {
        Some(upstream) => OfRows::Gradients { upstream, by: [Some(to), by_others] },
        None => OfRows::Losses(to),
    }
}

fn similarity(kind: u8) -> Similarity {
    match kind {
        0 => Similarity::Dot,
        1 => Similarity::Cosine,
        2 => Similarity::SquaredEuclidean,
        _ => Similarity::Euclidean,
    }
}

fn of<const N: usize>(values: &[usize]) -> PyResult<[usize; N]> {
    values.try_into().map_err(|_| PyValueError::new_err(format!("{N} numbers, not {}", values.len())))
}

/// A convolution whose shapes fit together.
#[pyclass(frozen, module = "etude._native")]
struct Conv(Dims);

enum Dims {
    One(embed::Conv1d),
    Two(embed::Conv2d),
}

#[pymethods]
impl Conv {
    /// Shapes of `x` and `weight`, and the options of each dimension.
    #[new]
    fn new(
        x: Vec<usize>,
        weight: Vec<usize>,
        stride: Vec<usize>,
        padding: Vec<usize>,
        dilation: Vec<usize>,
        groups: usize,
    ) -> PyResult<Self> {
        if x.len() == 3 {
            let ([stride], [padding], [dilation]) = (of(&stride)?, of(&padding)?, of(&dilation)?);
            let options = ConvOptions1d { stride, padding, dilation, groups, ..Default::default() };
            return Ok(Self(Dims::One(embed::Conv1d::new(of(&x)?, of(&weight)?, options).map_err(raised)?)));
        }
        let (stride, padding, dilation) = (of(&stride)?, of(&padding)?, of(&dilation)?);
        let options = ConvOptions2d { stride, padding, dilation, groups, ..Default::default() };
        Ok(Self(Dims::Two(embed::Conv2d::new(of(&x)?, of(&weight)?, options).map_err(raised)?)))
    }

    /// The output's shape.
    #[getter]
    fn output(&self) -> Vec<usize> {
        match &self.0 {
            Dims::One(conv) => conv.output().to_vec(),
            Dims::Two(conv) => conv.output().to_vec(),
        }
    }
}

#[pymethods]
#[expect(clippy::too_many_arguments, reason = "one for each tensor")]
impl Device {
    /// Threads of this process, 0 for one a core; for float64 where `double` says so, else for float32.
    #[staticmethod]
    fn cpu(threads: usize, double: bool) -> PyResult<Self> {
        let on = if double { Cpu::new(threads).map(On::F64) } else { Cpu::new(threads).map(On::F32) };
        on.map(Self).map_err(raised)
    }

    /// The stream at address `stream` of the card `ordinal`, in its primary context.
    #[staticmethod]
    fn cuda(ordinal: usize, stream: usize) -> PyResult<Self> {
        // Without a driver the next call panics.
        cuda::cards().map_err(raised)?;
        let context = CudaContext::new(ordinal)
            .map_err(|e| PyRuntimeError::new_err(format!("cuda: card {ordinal} cannot be used: {e}")))?;
        // SAFETY: PyTorch never destroys its streams.
        let stream = unsafe { context.wrap_borrowed_stream(stream as *mut _) };
        let cuda = Cuda::from_parts(stream).map_err(raised)?;
        // Up to a minute without a sign otherwise. Where standard error is closed, it goes unsaid.
        cuda.on_compile(|stems| {
            let stems = stems.join(", ");
            let _ = writeln!(
                std::io::stderr(),
                "etude: compiling kernels for this card with NVRTC, once, which may take a minute: {stems}"
            );
        });
        Ok(Self(On::Cuda(cuda)))
    }

    /// How many threads compute; on a card 0.
    #[getter]
    fn threads(&self) -> usize {
        match &self.0 {
            On::F32(cpu) => cpu.threads(),
            On::F64(cpu) => cpu.threads(),
            On::Cuda(_) => 0,
        }
    }

    /// The loss over all pairs of rows of `z` `[n, d]` into `loss`, and its gradient into `dz`.
    fn contrastive(
        &self,
        py: Python<'_>,
        n: [usize; 2],
        z: Memory,
        labels: Memory,
        weights: Option<Memory>,
        metric: u8,
        margin: f32,
        tau: f32,
        loss: Memory,
        dz: Memory,
    ) -> PyResult<()> {
        let options = options(metric, margin, tau);
        launch!(py, self.0, [z, labels, loss, dz], [weights], device => {
            let samples = Buffers { embeddings: z, labels, weights };
            embed::Contrastive::all(n, options)?.run(device, &[samples], loss, &[dz])
        })
    }

    /// The loss across the rows of `z` `[n, d]` and those of `o` `[m, d]`, and its gradients by both.
    fn contrastive_cross(
        &self,
        py: Python<'_>,
        n: [usize; 2],
        m: [usize; 2],
        z: Memory,
        labels: Memory,
        weights: Option<Memory>,
        o: Memory,
        labels_o: Memory,
        weights_o: Option<Memory>,
        metric: u8,
        margin: f32,
        tau: f32,
        loss: Memory,
        dz: Memory,
        d_o: Memory,
    ) -> PyResult<()> {
        let options = options(metric, margin, tau);
        launch!(py, self.0, [z, labels, o, labels_o, loss, dz, d_o], [weights, weights_o], device => {
            let samples = Buffers { embeddings: z, labels, weights };
            let others = Buffers { embeddings: o, labels: labels_o, weights: weights_o };
            embed::Contrastive::cross(n, m, options)?.run(device, &[samples, others], loss, &[dz, d_o])
        })
    }

    /// Sums `[2, n, d]` of the gradient at dual rows `z` `[2, n, d]`, and of how it moves: over the pairs across to `m` others,
    /// or without them those of each two.
    fn contrastive_hvp(
        &self,
        py: Python<'_>,
        n: [usize; 2],
        z: Memory,
        labels: Memory,
        weights: Option<Memory>,
        m: usize,
        o: Option<Memory>,
        labels_o: Option<Memory>,
        weights_o: Option<Memory>,
        metric: u8,
        margin: f32,
        tau: f32,
        sums: Memory,
    ) -> PyResult<()> {
        let options = options(metric, margin, tau);
        launch!(py, self.0, [z, labels, sums], [weights, o, labels_o, weights_o], device => {
            let own = Buffers { embeddings: z, labels, weights };
            let others = o.zip(labels_o);
            let others = others.map(|(embeddings, labels)| (m, Buffers { embeddings, labels, weights: weights_o }));
            embed::contrastive_hvp(device, n, own, others, options, sums)
        })
    }

    /// Rank-N-Contrast's loss of the rows of `z` `[n, d]` into `loss`, and its gradient into `dz` where there is one.
    fn rank_n_contrast(
        &self,
        py: Python<'_>,
        n: [usize; 2],
        z: Memory,
        labels: Memory,
        temperature: f32,
        loss: Memory,
        dz: Option<Memory>,
    ) -> PyResult<()> {
        launch!(py, self.0, [z, labels, loss], [dz], device => {
            embed::rank_n_contrast(device, n, z, labels, temperature, loss, dz)
        })
    }

    /// InfoNCE of the rows of `z` `[n, d]` with their labels, against each other or `m` others with theirs, into `loss`, and its
    /// gradients into `dz` and `d_others` where there are such.
    fn info_nce(
        &self,
        py: Python<'_>,
        n: [usize; 2],
        z: Memory,
        labels: Memory,
        m: usize,
        others: Option<Memory>,
        other_labels: Option<Memory>,
        sigma: f32,
        temperature: f32,
        loss: Memory,
        dz: Option<Memory>,
        d_others: Option<Memory>,
    ) -> PyResult<()> {
        let options = InfoNceOptions { sigma, temperature };
        launch!(py, self.0, [z, labels, loss], [others, other_labels, dz, d_others], device => {
            let others = others.zip(other_labels).map(|(rows, labels)| (m, [rows, labels]));
            embed::info_nce(device, n, [z, labels], others, options, loss, [dz, d_others])
        })
    }

    /// Of the rows of `z` `[n, d]`, against each other or `m` others, the losses `to`, not yet over what their pairs weigh,
    /// `totals`; or with an upstream gradient `to` the gradient by them, and that by the others.
    fn contrastive_rows(
        &self,
        py: Python<'_>,
        n: [usize; 2],
        z: Memory,
        labels: Memory,
        weights: Option<Memory>,
        m: usize,
        o: Option<Memory>,
        labels_o: Option<Memory>,
        weights_o: Option<Memory>,
        metric: u8,
        margin: f32,
        tau: f32,
        to: Memory,
        totals: Option<Memory>,
        upstream: Option<Memory>,
        d_o: Option<Memory>,
    ) -> PyResult<()> {
        let options = of_pairs(metric, margin, tau);
        launch!(py, self.0, [z, labels, to], [weights, o, labels_o, weights_o, totals, upstream, d_o], device => {
            let own = Buffers { embeddings: z, labels, weights };
            let others = o.zip(labels_o);
            let others = others.map(|(embeddings, labels)| (m, Buffers { embeddings, labels, weights: weights_o }));
            embed::contrastive_rows(device, n, own, others, options, of_rows(to, upstream, d_o), totals)
        })
    }

    /// As `contrastive_rows`, of Rank-N-Contrast.
    fn rank_n_contrast_rows(
        &self,
        py: Python<'_>,
        n: [usize; 2],
        z: Memory,
        labels: Memory,
        temperature: f32,
        to: Memory,
        upstream: Option<Memory>,
    ) -> PyResult<()> {
        launch!(py, self.0, [z, labels, to], [upstream], device => {
            embed::rank_n_contrast_rows(device, n, z, labels, temperature, of_rows(to, upstream, None))
        })
    }

    /// As `contrastive_rows`, of InfoNCE.
    fn info_nce_rows(
        &self,
        py: Python<'_>,
        n: [usize; 2],
        z: Memory,
        labels: Memory,
        m: usize,
        others: Option<Memory>,
        other_labels: Option<Memory>,
        sigma: f32,
        temperature: f32,
        to: Memory,
        upstream: Option<Memory>,
        d_others: Option<Memory>,
    ) -> PyResult<()> {
        let options = InfoNceOptions { sigma, temperature };
        launch!(py, self.0, [z, labels, to], [others, other_labels, upstream, d_others], device => {
            let others = others.zip(other_labels).map(|(rows, labels)| (m, [rows, labels]));
            embed::info_nce_rows(device, n, [z, labels], others, options, of_rows(to, upstream, d_others))
        })
    }

    /// The losses of the anchors from `first` on of Rank-N-Contrast; their `distances` `[rows, n]` become the gradient of the
    /// mean over all.
    fn rank_n_contrast_of_distances(
        &self,
        py: Python<'_>,
        shape: [usize; 2],
        first: usize,
        labels: Memory,
        temperature: f32,
        distances: Memory,
        losses: Memory,
    ) -> PyResult<()> {
        launch!(py, self.0, [labels, distances, losses], [], device => {
            embed::rank_n_contrast_of_distances(device, shape, first, labels, temperature, distances, losses)
        })
    }

    /// The losses of the anchors from `first` on of InfoNCE, held against their own set or another; their `cosines` `[rows, m]`
    /// become the gradient of the mean over all.
    fn info_nce_of_cosines(
        &self,
        py: Python<'_>,
        shape: [usize; 2],
        first: usize,
        own: bool,
        labels: Memory,
        other_labels: Memory,
        sigma: f32,
        temperature: f32,
        cosines: Memory,
        losses: Memory,
    ) -> PyResult<()> {
        let options = InfoNceOptions { sigma, temperature };
        launch!(py, self.0, [labels, other_labels, cosines, losses], [], device => {
            embed::info_nce_of_cosines(device, shape, (first, own), [labels, other_labels], options, cosines, losses)
        })
    }

    /// Of a block `[rows, m]` of pairs, the rows from `own` on of the columns' own set where it says so: their losses into
    /// `sums`, and what they weigh into `totals`.
    fn pair_loss(
        &self,
        py: Python<'_>,
        shape: [usize; 2],
        own: Option<usize>,
        metric: u8,
        margin: f32,
        tau: f32,
        similarities: Memory,
        apart: Memory,
        weights: Option<Memory>,
        sums: Memory,
        totals: Memory,
    ) -> PyResult<()> {
        launch!(py, self.0, [similarities, apart, sums, totals], [weights], device => {
            let pairs = Pairs { similarities, apart, weights };
            PairLoss::new(shape, own, of_pairs(metric, margin, tau))?.forward(device, pairs, sums, totals)
        })
    }

    /// The gradient by the similarities into `slopes`, from that by the rows' losses.
    fn pair_loss_backward(
        &self,
        py: Python<'_>,
        shape: [usize; 2],
        own: Option<usize>,
        metric: u8,
        margin: f32,
        tau: f32,
        similarities: Memory,
        apart: Memory,
        weights: Option<Memory>,
        upstream: Memory,
        slopes: Memory,
    ) -> PyResult<()> {
        launch!(py, self.0, [similarities, apart, upstream, slopes], [weights], device => {
            let pairs = Pairs { similarities, apart, weights };
            PairLoss::new(shape, own, of_pairs(metric, margin, tau))?.backward(device, pairs, upstream, slopes)
        })
    }

    /// The matrices `y` of the rows of `a` and `b`, `batch` of each one after another.
    fn similarity(
        &self,
        py: Python<'_>,
        batch: usize,
        n: [usize; 2],
        m: [usize; 2],
        kind: u8,
        a: Memory,
        b: Memory,
        y: Memory,
    ) -> PyResult<()> {
        launch!(py, self.0, [a, b, y], [], device => {
            PairwiseSimilarity::new(n, m, similarity(kind))?.batch(batch).forward(device, a, b, y)
        })
    }

    /// The gradients of `a` and `b` by the matrices', `dy`.
    fn similarity_backward(
        &self,
        py: Python<'_>,
        batch: usize,
        n: [usize; 2],
        m: [usize; 2],
        kind: u8,
        a: Memory,
        b: Memory,
        dy: Memory,
        da: Memory,
        db: Memory,
    ) -> PyResult<()> {
        launch!(py, self.0, [a, b, dy, da, db], [], device => {
            PairwiseSimilarity::new(n, m, similarity(kind))?.batch(batch).backward(device, [a, b, dy], [da, db])
        })
    }

    /// The convolution of `x` with `w`, and `b` where there is one, into `y`.
    fn conv(
        &self,
        py: Python<'_>,
        conv: &Conv,
        x: Memory,
        w: Memory,
        b: Option<Memory>,
        y: Memory,
    ) -> PyResult<()> {
        launch!(py, self.0, [x, w, y], [b], device => match &conv.0 {
            Dims::One(conv) => conv.forward(device, x, w, b, y),
            Dims::Two(conv) => conv.forward(device, x, w, b, y),
        })
    }

    /// Those gradients of a convolution that are asked for.
    fn conv_backward(
        &self,
        py: Python<'_>,
        conv: &Conv,
        x: Memory,
        w: Memory,
        dy: Memory,
        dx: Option<Memory>,
        dw: Option<Memory>,
        db: Option<Memory>,
    ) -> PyResult<()> {
        launch!(py, self.0, [x, w, dy], [dx, dw, db], device => {
            let gradients = ConvGradients { x: dx, weight: dw, bias: db };
            match &conv.0 {
                Dims::One(conv) => conv.backward(device, x, w, dy, gradients),
                Dims::Two(conv) => conv.backward(device, x, w, dy, gradients),
            }
        })
    }
}

/// The bin of each rating.
#[pyfunction]
fn bins(ratings: Vec<f64>, k: usize) -> PyResult<Vec<f32>> {
    etude::contrastive::bins(&ratings, k).map_err(raised)
}

#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<Device>()?;
    m.add_class::<Conv>()?;
    m.add_class::<step::Step>()?;
    m.add_function(wrap_pyfunction!(bins, m)?)?;
    grader::register(m)
}
